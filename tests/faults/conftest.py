"""Faults that require root and Debian's packages: poolers, stores and networks that tests may break."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.pooler import Pooler
from support import new_database
from wire.conftest import own_postgres, serve, servers, start_server
from wire.server import Server, run

__all__ = ["own_postgres", "serve", "start_server"]

POOLED = "todo_pooled"


@pytest.fixture(scope="session")
def make_pooler(servers_folder: Path) -> Iterator[Callable[..., Pooler]]:
    """Return a function that starts a pooler in front of a PostgreSQL."""
    made: list[Pooler] = []

    def make(postgres: Any, *place: Any) -> Pooler:
        made.append(Pooler(Path(tempfile.mkdtemp(dir=servers_folder)), postgres, *place))
        return made[-1]

    yield make
    for pooler in made:
        pooler.kill()


@pytest.fixture(scope="session")
def pooler(postgres: Any, make_pooler: Callable[..., Pooler]) -> Pooler:
    """Return a pooler in front of the PostgreSQL of all tests."""
    return make_pooler(postgres)


@pytest.fixture(scope="session")
def direct_url(postgres: Any, pooler: Pooler) -> str:
    """Return the direct URL of a database that was migrated through the pooler."""
    url = new_database(postgres, POOLED)
    upgraded = run("flask", "db", "upgrade", DATABASE_URL=pooler.url(POOLED))
    assert (upgraded.returncode, upgraded.stderr) == (0, "")
    return url


@pytest.fixture(scope="session")
def pooled_url(pooler: Pooler, direct_url: str) -> str:
    """Return the URL of that database through the pooler."""
    return pooler.url(POOLED)


@pytest.fixture(scope="session")
def pooled_server(pooled_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with four times as many threads as the pooler has sessions."""
    with servers(tmp_path_factory.mktemp("gunicorn")) as start:
        yield start(DATABASE_URL=pooled_url, WEB_CONCURRENCY="1", WEB_THREADS="8")
