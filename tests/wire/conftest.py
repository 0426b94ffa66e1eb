"""Servers that tests share or start for themselves."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import migrate, start_postgres
from wire.server import Server, start_database, wait_until

# Their assertions explain themselves as those of test modules do.
pytest.register_assert_rewrite("wire.calls", "wire.listener", "wire.people", "wire.revisions")


@contextmanager
def servers(folder: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts servers, each with its own environment; at the end all must stop cleanly."""
    started: list[Server] = []

    def start(**changes: Any) -> Server:
        server = Server(folder / f"gunicorn-{len(started)}.log", **changes)
        started.append(server)
        stack.callback(server.kill)
        server.wait_until_healthy()
        # The first process may answer before the others have been started.
        wait_until(lambda: len(server.workers()) >= int(changes.get("WEB_CONCURRENCY", 1)), "all at work")
        return server

    with ExitStack() as stack:
        yield start
        assert [server.stop() for server in started] == [0] * len(started)
    for server in started:
        # An export whose session a test ends is logged with its exception.
        tracebacks = [line for line in server.log.read_text().splitlines() if "Traceback" in line]
        assert [line for line in tracebacks if "todo.database.failures.ConnectionLost" not in line] == []


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts servers for one test."""
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Return a function that starts servers for the tests of one module."""
    with servers(tmp_path_factory.mktemp("gunicorn")) as start:
        yield start


@pytest.fixture(scope="module")
def own_postgres(servers_folder: Path) -> Iterator[Any]:
    """Return a migrated PostgreSQL that tests may stop."""
    postgres = start_postgres(Path(tempfile.mkdtemp(dir=servers_folder)))
    migrate(postgres.get_uri())
    yield postgres
    start_database(postgres)
    postgres.cleanup()


@pytest.fixture(scope="session")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server as production runs it, for all tests that leave it in service."""
    with servers(tmp_path_factory.mktemp("gunicorn")) as start:
        yield start(DATABASE_URL=database_url, WEB_CONCURRENCY="2", WEB_THREADS="4")
