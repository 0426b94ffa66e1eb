"""The options of the run, and a server that it may disturb."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fakes.postgres_proxy import PostgresProxy
from wire.conftest import own_postgres, start_server
from wire.people import Field
from wire.server import Server

__all__ = ["own_postgres", "start_server"]

# Without it there are no tools for assistants.
PUBLIC_URL = "https://todo.example.com"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, which are known where this directory is named on the command line."""
    parser.addoption("--seed", type=int, default=1, help="what chooses the operations and the faults")
    parser.addoption("--operations", type=int, default=10_000, help="how many operations there are in all")
    parser.addoption("--report", action="store_true", help="write the run's picture and figures for the documentation")


@pytest.fixture(scope="module")
def field(own_postgres: Any, start_server: Callable[..., Server]) -> Iterator[Field]:
    """Return a server that tests may disturb, with a PostgreSQL of its own."""
    proxy = PostgresProxy(str(own_postgres.get_postmaster_info().socket_path))
    yield Field(own_postgres, proxy, partial(start_server, COVERAGE_PROCESS_CONFIG="", PUBLIC_URL=PUBLIC_URL))
    proxy.close()
