"""Fixtures of all tests: one PostgreSQL for each worker, migrated once, where each test has users of its own."""

import json
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import hypothesis
import psycopg2
import pytest
from fakes.counting_redis import CountingRedis
from fakes.postgres_proxy import PostgresProxy
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from support import (
    CITUS_URL,
    WAITING,
    Call,
    call_as,
    distribute,
    migrate,
    new_database,
    new_user,
    open_app,
    start_postgres,
)

from todo.extensions import db

# A deadline for each example would fail on a busy machine, where a pause of 200 ms proves nothing. `make check` selects
# the other profile, in which a test may try more examples than in `make test`.
hypothesis.settings.register_profile("brief", deadline=None)
hypothesis.settings.register_profile("thorough", deadline=None)
hypothesis.settings.load_profile("brief")

# A shell has the programs that it starts in the background ignore Ctrl-C, and all that these start. Tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every test in these folders starts servers, or needs a program that does.
PROCESS_FOLDERS = (
    "assistant_clients",
    "browser",
    "clients",
    "convergence",
    "example",
    "faults",
    "generators",
    "issuer",
    "schema",
    "wire",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of whole folders; elsewhere each module or test carries its own marker.

    Tests that share servers of their module run in one process of pytest-xdist, so that each server is started once.
    """
    if item.path.relative_to(Path(__file__).parent).parts[0] in PROCESS_FOLDERS:
        item.add_marker("process")
    fixtures = set(getattr(item, "fixturenames", ()))
    if fixtures & {"start_server", "own_postgres"} and item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that start servers: quick tests, which are many, keep all processes busy at the end."""
    slow = {item.path for item in items if item.get_closest_marker("process")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Identify cases that carry no id by the content of dates and collections: `{"title": "x"}`, not `body0`."""
    if isinstance(val, date):
        return val.isoformat()
    if not isinstance(val, dict | list | tuple):
        return None
    try:
        return json.dumps(val)[:60]
    except TypeError:
        # An object would be identified by its address, which differs between the processes of pytest-xdist.
        return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let only tests with the marker `process` start Python, so that `make quick` stays quick."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("process") is None:
            patch.setattr(subprocess, "Popen", NoPython)
        return (yield)


class NoPython(subprocess.Popen):
    """A process that is not Python: PostgreSQL's own programs are allowed to all tests."""

    def __init__(self, arguments: Any, *others: Any, **options: Any) -> None:
        program = arguments if isinstance(arguments, str) else arguments[0]
        if program == sys.executable:
            pytest.fail(f"A test that starts Python needs the marker process: {arguments}")
        super().__init__(arguments, *others, **options)


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Return a folder for the data of servers.

    Under root, PostgreSQL runs as a user of its own, and pytest closes its temporary folders to all others.
    """
    with tempfile.TemporaryDirectory(prefix="todo-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def server_folder(servers_folder: Path) -> Path:
    """Return a folder for the data of one server."""
    return Path(tempfile.mkdtemp(dir=servers_folder))


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[Any]:
    """Return a running PostgreSQL."""
    server = start_postgres(servers_folder / "postgres")
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def socket_path(postgres: Any, embedded_url: str) -> str:
    """Return the path of PostgreSQL's socket, behind which the database of `embedded_url` is."""
    return str(postgres.get_postmaster_info().socket_path)


@pytest.fixture(scope="session")
def migrated_template(postgres: Any) -> str:
    """Return the name of a migrated database that has no connections, so that it can be copied."""
    name = "todo_template"
    migrate(new_database(postgres, name))
    return name


@pytest.fixture(scope="session")
def embedded_url(postgres: Any, migrated_template: str) -> str:
    """Return the URL of a migrated database of the embedded PostgreSQL."""
    return new_database(postgres, "todo_test", migrated_template)


@pytest.fixture
def standin_url(postgres: Any, migrated_template: str) -> str:
    """Return the URL of a migrated database with a stand-in for Citus."""
    url = new_database(postgres, f"todo_citus_{uuid.uuid4().hex}", migrated_template)
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute((Path(__file__).parent / "fakes/citus.sql").read_text())
    return url


@pytest.fixture(scope="session")
def database_url(embedded_url: str) -> str:
    """Return the URL of the migrated database that most tests share: the embedded one, or that of `make test-citus`."""
    if CITUS_URL is None:
        return embedded_url
    migrate(CITUS_URL)
    distribute(CITUS_URL)
    return CITUS_URL


@pytest.fixture(scope="session")
def app(database_url: str) -> Iterator[Flask]:
    """Return the application on a migrated database."""
    with open_app(database_url) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Return a client of the application."""
    return app.test_client()


@pytest.fixture
def user() -> str:
    """Return the id of a user of this test alone."""
    return new_user()


@pytest.fixture
def call(client: FlaskClient, user: str) -> Call:
    """Return a function that makes requests as the user: `call("POST", "/tasks", title="x")`."""
    return call_as(client, user)


@pytest.fixture
def proxy(socket_path: str) -> Iterator[PostgresProxy]:
    """Return a proxy in front of PostgreSQL."""
    proxy = PostgresProxy(socket_path)
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(proxy: PostgresProxy, embedded_url: str, request: pytest.FixtureRequest) -> Iterator[Flask]:
    """Return the application, which reaches the migrated database through the proxy; see `unprepared`."""
    changes = {"DATABASE_PREPARE": "false"} if request.node.get_closest_marker("unprepared") else {}
    with open_app(proxy.url("todo_test"), **changes) as app:
        yield app


@pytest.fixture
def wait_for_lock(app: Flask) -> Callable[[], None]:
    """Return a function that waits until a statement of the service waits for another transaction."""

    def wait() -> None:
        with app.app_context(), db.engine.connect() as connection:
            for _ in range(500):
                if connection.execute(text(WAITING)).first():
                    return
                time.sleep(0.01)
        raise AssertionError("no statement waits for a lock")

    return wait


@pytest.fixture
def counting_redis() -> Iterator[CountingRedis]:
    """Return a stand-in for Redis that counts."""
    with CountingRedis() as redis:
        yield redis
        redis.shutdown()


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root folder of the project."""
    return Path(__file__).resolve().parent.parent
