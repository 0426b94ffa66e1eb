"""Clients that generators make from openapi.json: strictly typed, and working with a real server."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import bearer, new_user
from wire.server import ROOT, Server

HERE = Path(__file__).parent
PYTHON = ROOT / ".venv" / "generators" / "bin"
DOCUMENT = ROOT / "openapi.json"


@pytest.fixture
def run(tmp_path: Path, server: Server) -> Callable[..., None]:
    """Return a function that runs a program in a folder of the test's own, with the server and a new user's token."""
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    token = bearer(new_user())["Authorization"].removeprefix("Bearer ")
    path = f"{PYTHON}:{HERE / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    variables = {"PATH": path, "HOME": str(tmp_path), "API_URL": server.url, "API_TOKEN": token}

    def run(*command: object) -> None:
        done = subprocess.run(
            [shutil.which(str(command[0]), path=path) or "", *map(str, command[1:])],
            cwd=tmp_path,
            env=variables,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture
def typescript(run: Callable[..., None], tmp_path: Path) -> Callable[[str], None]:
    """Return a function that checks the types of a program and what it imports, and runs it."""
    shutil.copy(HERE / "tsconfig.json", tmp_path)

    def check_and_run(name: str) -> None:
        shutil.copy(HERE / f"{name}.ts", tmp_path)
        run("tsc")
        run("node", f"built/{name}.js")

    return check_and_run


def test_openapi_typescript_makes_types_for_openapi_fetch(run, typescript):
    run("openapi-typescript", DOCUMENT, "--output", "fetch/schema.ts")
    typescript("with_openapi_fetch")


def test_hey_api_makes_a_client(run, typescript):
    run("openapi-ts", "--input", DOCUMENT, "--output", "hey", "--no-log-file")
    typescript("with_hey_api")


def test_openapi_python_client_makes_a_client(run, tmp_path):
    config = HERE / "python_client.yaml"
    output = tmp_path / "generated"
    run(
        *("openapi-python-client", "generate", "--path", DOCUMENT, "--config", config),
        *("--meta", "none", "--output-path", output, "--fail-on-warning"),
    )
    shutil.copy(HERE / "with_python_client.py", tmp_path)
    run("mypy", "--config-file", HERE / "mypy.ini")
    run("python", "with_python_client.py")
