"""The files and commands of the image, without Docker: run without privileges, in a folder that is read-only."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import bearer
from wire.server import DEADLINE_S, Line, environment, free_port, wait_until


def last_stage(root: Path) -> list[tuple[str, str]]:
    """Return the instructions of the stage that becomes the image, each with its arguments in one line."""
    text = re.sub(r"\\\n\s*", "", (root / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    begin = max(n for n, line in enumerate(lines) if line.startswith("FROM "))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines[begin:])]


def command(root: Path, instruction: str) -> list[str]:
    """Return the command of an instruction in the exec form (JSON), as the other form would need a shell."""
    (arguments,) = [arguments for word, arguments in last_stage(root) if word == instruction]
    return json.loads(arguments[arguments.index("[") :])


@pytest.fixture
def image(root: Path, tmp_path: Path) -> Path:
    """Return the folder of the image, read-only, with the files that are copied there and no others."""
    folder = tmp_path / "image"
    folder.mkdir()
    for word, arguments in last_stage(root):
        if word == "COPY" and "--from" not in arguments:
            *sources, target = arguments.split()
            for source in sources:
                if (root / source).is_dir():
                    shutil.copytree(root / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(root / source, folder / target)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


@pytest.fixture
def surroundings(root: Path, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function that returns the environment of the image with changes, without HOME and without coverage."""
    installer = "deploy/install.py"
    assert f"COPY requirements-image.txt {installer} ./" in (root / "Dockerfile").read_text()
    programs = tmp_path / "bin"
    programs.mkdir()
    subprocess.run([sys.executable, root / installer, programs], check=True)
    (settings,) = [arguments for word, arguments in last_stage(root) if word == "ENV"]
    own = dict(setting.split("=", 1) for setting in settings.split())
    path = f"{programs}:{Path(sys.executable).parent}"

    def surroundings(**changes: str) -> dict[str, str]:
        production = {k: v for k, v in environment(**changes).items() if not k.startswith("COV") and k != "HOME"}
        return production | own | {"PATH": path, "HOST": "127.0.0.1"} | changes

    return surroundings


def powerless(words: list[str]) -> list[str]:
    """Return the command without any privilege, because root can write to what is read-only."""
    setpriv = shutil.which("setpriv")
    if os.getuid() == 0:
        assert setpriv
        return [setpriv, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", *words]
    return words


def contents(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_image_serves_and_is_healthy_where_nothing_can_be_written_and_there_is_no_shell(
    root, image, surroundings, tmp_path, database_url, proxy, user
):
    """The probe uses a host that is not trusted, as in containers, and the environment names an HTTP proxy."""
    before = contents(image)
    environ = surroundings(
        DATABASE_URL=proxy.url("todo_test"),
        PORT=str(free_port()),
        TRUSTED_HOSTS="localhost",
        HTTP_PROXY="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )

    def is_healthy() -> bool:
        probe = powerless(command(root, "HEALTHCHECK"))
        done = subprocess.run(probe, env=environ, cwd=image, capture_output=True, timeout=DEADLINE_S, check=False)
        return done.returncode == 0

    assert not is_healthy()
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(powerless(command(root, "CMD")), env=environ, cwd=image, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_healthy() or server.poll() is not None, "healthy")
        with Line(int(environ["PORT"])) as line:
            assert line.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).status_code == 201
            assert line.call("GET", "/docs").status_code == 200
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE_S) == 0, (tmp_path / "log").read_text()
    assert not is_healthy()
    assert contents(image) == before


def test_image_migrates_where_nothing_can_be_written(image, surroundings, database_url, proxy):
    before = contents(image)

    migrated = subprocess.run(
        powerless(["todo", "migrate"]),
        env=surroundings(DATABASE_URL=proxy.url("todo_test")),
        cwd=image,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert contents(image) == before


def test_image_installs_what_is_pinned_and_only_files_with_a_known_hash(root):
    pin = re.compile(r"^([a-z0-9.-]+==\S+)", re.MULTILINE)
    hashed = (root / "requirements-image.txt").read_text()

    assert pin.findall(hashed) == pin.findall((root / "requirements.txt").read_text())
    assert len(re.findall(r"^\S+==\S+ \\\n +--hash=sha256:", hashed, re.MULTILINE)) == len(pin.findall(hashed))
    assert "--require-hashes -r requirements-image.txt" in (root / "Dockerfile").read_text()


def test_image_runs_as_a_user_without_a_home(root):
    (user,) = [arguments for word, arguments in last_stage(root) if word == "USER"]

    assert int(user) > 0
    assert any(f"--uid {user} --no-create-home" in arguments for word, arguments in last_stage(root) if word == "RUN")
