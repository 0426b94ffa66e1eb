"""Servers that tests share or have for themselves."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import migrate, start_postgres
from wire.server import Server, start_database

# Their assertions explain themselves as those of test modules do.
pytest.register_assert_rewrite("wire.calls", "wire.revisions")


@contextmanager
def servers(folder: Path) -> Iterator[Callable[..., Server]]:
    """Give a way to start servers, each with an environment of its own; in the end all must stop as they should."""
    started: list[Server] = []

    def start(**changes: Any) -> Server:
        server = Server(folder / f"gunicorn-{len(started)}.log", **changes)
        started.append(server)
        stack.callback(server.kill)
        server.wait_until_healthy()
        return server

    with ExitStack() as stack:
        yield start
        assert [server.stop() for server in started] == [0] * len(started)
    for server in started:
        assert "Traceback" not in server.log.read_text()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Give a way to start servers for one test."""
    with servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Give a way to start servers for the tests of one file."""
    with servers(tmp_path_factory.mktemp("gunicorn")) as start:
        yield start


@pytest.fixture(scope="module")
def own_postgres(servers_folder: Path) -> Iterator[Any]:
    """Give a PostgreSQL that may be stopped, with the schema that the migrations make."""
    postgres = start_postgres(Path(tempfile.mkdtemp(dir=servers_folder)))
    migrate(postgres.get_uri())
    yield postgres
    start_database(postgres)
    postgres.cleanup()


@pytest.fixture(scope="session")
def server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give the application as production runs it, for all tests that do it no harm."""
    with servers(tmp_path_factory.mktemp("gunicorn")) as start:
        yield start(DATABASE_URL=database_url, WEB_CONCURRENCY="2", WEB_THREADS="4")
