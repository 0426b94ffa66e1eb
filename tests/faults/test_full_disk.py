"""A disk fills up. Of the database: writes are refused until there is space again. Of the log: lines are dropped."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import assert_problem, bearer
from wire.server import Server, query, run, titles, wait_until


@pytest.fixture
def disk(postgres, server_folder) -> Iterator[Path]:
    """Return a small disk that PostgreSQL may write to."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", server_folder], check=True)
    data = server_folder / "data"
    data.mkdir()
    subprocess.run(["chown", postgres.system_user, data], check=True)
    yield server_folder
    subprocess.run(["umount", server_folder], check=True)


@pytest.fixture
def small_url(postgres, disk) -> Iterator[str]:
    """Return the URL of a migrated database on it."""
    name = f"small_{uuid.uuid4().hex}"
    query(postgres.get_uri(), f"CREATE TABLESPACE {name} LOCATION '{disk / 'data'}'")
    query(postgres.get_uri(), f"CREATE DATABASE {name} TABLESPACE {name}")
    url = postgres.get_uri(database=name)
    assert run("flask", "db", "upgrade", DATABASE_URL=url).returncode == 0
    yield url
    query(postgres.get_uri(), f"DROP DATABASE {name} WITH (FORCE)")
    query(postgres.get_uri(), f"DROP TABLESPACE {name}")


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as output:
        try:
            while True:
                output.write(b"x" * 4096)
        except OSError:
            pass


def test_database_whose_disk_is_full_is_read_and_takes_writes_again_when_it_is_not(serve, small_url, disk, user):
    server = serve(DATABASE_URL=small_url)

    def create(number: int) -> int:
        body = {"title": f"task {number}", "description": "x" * 1000}
        answer = server.call("POST", "/api/me/tasks", bearer(user), body)
        if answer.status_code != 201:
            assert_problem(answer, 503)
        return answer.status_code

    assert create(0) == 201
    fill(disk / "filler")
    statuses = [create(number) for number in range(1, 400)]

    assert set(statuses) == {201, 503}
    assert '"reason":"53100' in server.log.read_text()
    for path in ("/api/me/tasks", "/api/me/tasks?search=x&sort=-title", "/api/me/export", "/health/ready"):
        assert server.call("GET", path, bearer(user)).status_code == 200
    assert len(titles(small_url, user)) == 1 + statuses.count(201)

    (disk / "filler").unlink()
    wait_until(lambda: create(400) == 201, "in service again", deadline_s=10)
    assert len(set(titles(small_url, user))) == 2 + statuses.count(201)


def test_log_whose_disk_is_full_costs_lines_and_no_response(database_url, server_folder):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", server_folder], check=True)
    server = Server(server_folder / "gunicorn.log", DATABASE_URL=database_url)
    try:
        server.wait_until_healthy()
        calls = [server.call("GET", "/", {"X-Request-ID": "r" * 128}).status_code for _ in range(400)]
        assert calls == [200] * 400
        kept = server.log.read_bytes()
        assert len(kept) == 65536

        # The log is rotated as by `copytruncate`, which makes space.
        server.log.write_bytes(b"")
        assert server.call("GET", "/").status_code == 200
        assert server.stop() == 0
        lines = [json.loads(line) for line in (kept + server.log.read_bytes().lstrip(b"\0")).splitlines()]
    finally:
        server.kill()
        subprocess.run(["umount", server_folder], check=True)

    (dropped,) = [line["number"] for line in lines if line["event"] == "log lines dropped"]
    assert sum(line["event"] == "request" for line in lines) + dropped == 401
