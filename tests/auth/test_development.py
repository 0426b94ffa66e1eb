"""The shared secret of a development machine whose settings name none."""

import stat
from concurrent.futures import ThreadPoolExecutor

from todo.auth.development import development_secret


def test_development_secret_is_made_once_and_kept(tmp_path):
    path = tmp_path / "instance" / "secret"
    secret = development_secret(path)
    assert len(secret) >= 32
    assert development_secret(path) == secret
    assert development_secret(tmp_path / "other") != secret


def test_development_secret_can_be_read_by_its_owner_alone(tmp_path):
    development_secret(tmp_path / "secret")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_development_secret_read_by_many_threads_at_once_is_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(development_secret, [tmp_path / "secret"] * 32))
    assert len(secrets) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
