"""PostgreSQL goes away in every way: 503 meanwhile, no acknowledged write is lost, and service resumes at once."""

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from fakes.postgres_proxy import PostgresProxy
from support import assert_problem, bearer, migrate, new_database, new_user
from wire.server import (
    ORIGIN,
    Load,
    Server,
    assert_kept,
    assert_survives_the_end_of_sessions,
    query,
    start_database,
    stop_database,
    titles,
    wait_until,
)

from todo.database.prepared import SEPARATOR
from todo.database.timeouts import REQUEST_LIMITS

CALLS = [
    ("GET", "/api/me/tasks", None),
    ("POST", "/api/me/tasks", {"title": "x"}),
    ("GET", "/api/me/tasks/1", None),
    ("PUT", "/api/me/tasks/1", {"title": "x"}),
    ("PATCH", "/api/me/tasks/1", {"completed": True}),
    ("PATCH", "/api/me/tasks/1/complete", None),
    ("DELETE", "/api/me/tasks/1", None),
]


def assert_unavailable(server: Server, user: str) -> None:
    """Assert that each call on tasks is a 503 within 10 seconds."""
    for method, path, body in CALLS:
        started = time.monotonic()
        answer = server.call(method, path, {**bearer(user), "Origin": ORIGIN}, body)

        problem = assert_problem(answer, 503)
        assert time.monotonic() - started < 10
        assert "database" in problem["detail"]
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def assert_in_service(server: Server, user: str) -> None:
    created = server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})
    assert created.status_code == 201
    assert server.call("GET", created.headers["Location"], bearer(user)).get_json() == created.get_json()
    assert server.call("GET", "/health/ready").status_code == 200


@pytest.fixture(scope="module")
def shared(socket_path: str, start_server: Callable[..., Server]) -> Iterator[tuple[PostgresProxy, Server]]:
    """Return a proxy, and a server behind it with one worker and one connection in its pool."""
    proxy = PostgresProxy(socket_path)
    yield proxy, start_server(DATABASE_URL=proxy.url("todo_test"), WEB_THREADS="1")
    proxy.close()


@pytest.fixture
def proxy(shared: tuple[PostgresProxy, Server]) -> Iterator[PostgresProxy]:
    """Return the proxy, and repair it afterwards."""
    proxy, _ = shared
    yield proxy
    proxy.refuse = False
    proxy.lose_answers = False


@pytest.fixture
def proxied_server(shared: tuple[PostgresProxy, Server], proxy: PostgresProxy, user: str) -> Server:
    """Return the server once it is in service and has one task of this user; the recorded queries begin after that."""
    _, server = shared
    assert_in_service(server, user)
    proxy.queries = []
    return server


@pytest.mark.parametrize(
    ("method", "body", "status", "name"),
    [
        pytest.param("GET", None, 200, "page_by_id", id="read"),
        pytest.param("POST", {"title": "y"}, 201, "create_task", id="write"),
    ],
)
def test_call_after_the_idle_connection_was_cut_succeeds(
    proxied_server, proxy, database_url, user, method, body, status, name
):
    proxy.cut()

    assert proxied_server.call(method, "/api/me/tasks", bearer(user), body).status_code == status
    (sql,) = proxy.queries
    assert f"EXECUTE {name}_" in sql
    assert len(titles(database_url, user)) == (2 if body else 1)


def test_writes_after_several_idle_connections_were_cut_all_succeed(serve, proxy, database_url, user):
    server = serve(DATABASE_URL=proxy.url("todo_test"), WEB_CONCURRENCY="1", WEB_THREADS="4")
    sent = [f"task {number}" for number in range(40)]

    with ThreadPoolExecutor(4) as clients:

        def create(title: str) -> int:
            return server.call("POST", "/api/me/tasks", bearer(user), {"title": title}).status_code

        before = list(clients.map(create, sent[:20]))
        proxy.cut()
        after = list(clients.map(create, sent[20:]))

    assert before + after == [201] * 40
    assert sorted(titles(database_url, user)) == sorted(sent)


class MendedAtTheSecond(list[str]):
    """The queries of a proxy, which forwards responses again from the second one on."""

    def __init__(self, proxy: PostgresProxy) -> None:
        super().__init__()
        self._proxy = proxy

    def append(self, sql: str) -> None:
        super().append(sql)
        if len(self) == 2:
            self._proxy.lose_answers = False


@pytest.mark.parametrize("path", ["/api/me/tasks", "/health/ready"])
def test_read_whose_answer_was_lost_is_sent_once_more(proxied_server, proxy, user, path):
    proxy.queries = MendedAtTheSecond(proxy)
    proxy.lose_answers = True

    answer = proxied_server.call("GET", path, bearer(user))

    assert answer.status_code == 200
    first, second = proxy.queries
    assert first.startswith(REQUEST_LIMITS.settings)
    assert second.startswith(REQUEST_LIMITS.settings)
    # Before its last statement, a message may prepare it: the second one does so in a new session.
    assert first.rpartition(SEPARATOR)[2] == second.rpartition(SEPARATOR)[2]


def test_read_whose_answers_are_all_lost_is_given_up_after_the_second(proxied_server, proxy, user):
    proxy.lose_answers = True

    assert_problem(proxied_server.call("GET", "/api/me/tasks", bearer(user)), 503)

    assert len(proxy.queries) == 2
    proxy.lose_answers = False
    assert_in_service(proxied_server, user)


# What each write leaves of the one task, "x" and open, as (title, completed).
WRITES = [
    pytest.param("POST", "/api/me/tasks", {"title": "y"}, [("x", False), ("y", False)], id="create"),
    pytest.param("PUT", "/api/me/tasks/{id}", {"title": "y"}, [("y", False)], id="replace"),
    pytest.param("PATCH", "/api/me/tasks/{id}", {"title": "y"}, [("y", False)], id="change"),
    pytest.param("PATCH", "/api/me/tasks/{id}/complete", None, [("x", True)], id="toggle"),
    pytest.param("DELETE", "/api/me/tasks/{id}", None, [], id="delete"),
]


@pytest.mark.parametrize(("method", "path", "body", "effect"), WRITES)
def test_write_whose_answer_was_lost_is_503_and_never_sent_again(
    proxied_server, proxy, database_url, user, method, path, body, effect
):
    (task,) = proxied_server.call("GET", "/api/me/tasks", bearer(user)).get_json()
    proxy.queries.clear()
    proxy.lose_answers = True

    answer = proxied_server.call(method, path.format(**task), bearer(user), body)

    assert_problem(answer, 503)
    assert len(proxy.queries) == 1
    rows = "SELECT title, completed FROM tasks WHERE user_id = %s ORDER BY id"
    wait_until(lambda: query(database_url, rows, user) == effect, "in effect, once")
    proxy.lose_answers = False
    listed = proxied_server.call("GET", "/api/me/tasks", bearer(user)).get_json()
    assert [(task["title"], task["completed"]) for task in listed] == effect


def test_database_that_refuses_connections_is_503_until_it_accepts_them(proxied_server, proxy, user):
    proxy.refuse = True
    proxy.cut()

    assert_unavailable(proxied_server, user)
    assert proxied_server.call("GET", "/health").get_json() == {"status": "healthy"}
    problem = assert_problem(proxied_server.call("GET", "/health/ready"), 503)
    assert problem["checks"] == {"database": "failed", "schema": "unknown"}
    assert "database" in problem["detail"]

    proxy.refuse = False
    assert_in_service(proxied_server, user)


def test_database_that_is_away_is_not_needed_to_refuse(proxied_server, proxy, user):
    proxy.refuse = True
    proxy.cut()
    good = bearer(user)

    def status(method: str, path: str, headers: dict[str, str], body: Any = None) -> int:
        return proxied_server.call(method, path, headers, body).status_code

    assert status("GET", "/api/me/tasks", {}) == 401
    assert status("GET", f"/api/{new_user()}/tasks", good) == 403
    assert status("GET", "/nowhere", good) == 404
    assert status("GET", f"/api/me/tasks/{2**63}", good) == 404
    assert status("DELETE", "/api/me/tasks", good) == 405
    assert status("POST", "/api/me/tasks", good, b"{") == 400
    assert status("POST", "/api/me/tasks", good, b" " * 65_537) == 413
    assert status("POST", "/api/me/tasks", good | {"Content-Encoding": "gzip"}, {}) == 415
    assert status("POST", "/api/me/tasks", good, {}) == 422
    assert proxy.queries == []


def test_database_that_never_answers_a_new_connection_is_503_within_the_deadline(serve, user):
    """A packet filter that drops everything looks like this: a connection is made, and nothing arrives on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = f"postgresql://postgres@127.0.0.1:{port}/todo_test?sslmode=disable&gssencmode=disable"
        server = serve(DATABASE_URL=url, WEB_CONCURRENCY="1", WEB_THREADS="8")

        with ThreadPoolExecutor(8) as clients:
            started = time.monotonic()
            answers = list(clients.map(lambda call: server.call(call[0], call[1], bearer(user), call[2]), CALLS))

        for answer in answers:
            assert_problem(answer, 503)
        assert time.monotonic() - started < 10


@pytest.fixture(scope="module")
def own_server(own_postgres: Any, start_server: Callable[..., Server]) -> Server:
    """Return a server on the PostgreSQL that tests may stop."""
    return start_server(DATABASE_URL=own_postgres.get_uri(), WEB_CONCURRENCY="2", WEB_THREADS="4")


@pytest.mark.parametrize("mode", ["fast", "immediate"], ids=["restart", "crash"])
def test_database_that_stops_and_starts_under_load_loses_nothing_acknowledged(own_server, own_postgres, user, mode):
    with Load(own_server, user, clients=8) as load:
        wait_until(lambda: len(load.acknowledged) > 100, "under load")
        stop_database(own_postgres, mode)
        wait_until(lambda: load.statuses[-50:] == [503] * 50, "unavailable")
        assert_problem(own_server.call("GET", "/health/ready"), 503)
        start_database(own_postgres)
        acknowledged = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > acknowledged + 100, "in service again", deadline_s=10)
        wait_until(lambda: 503 not in load.statuses[-50:], "in service for all", deadline_s=10)

    assert set(load.statuses) == {200, 201, 503}
    assert_kept(own_postgres.get_uri(), user, load)
    assert own_server.call("GET", "/health/ready").status_code == 200


def test_database_that_ends_sessions_under_load_is_never_a_500(own_server, own_postgres, user):
    """A pooler, a failover or an operator ends sessions in the middle of a statement."""
    assert_survives_the_end_of_sessions(own_server, own_postgres.get_uri(), user, times=20)


@pytest.fixture
def limited_url(postgres, database_url) -> Iterator[str]:
    """Return a URL that allows two connections at most."""
    role = f"limited_{uuid.uuid4().hex}"
    query(database_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
    query(database_url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    yield database_url.replace("//postgres:@", f"//{role}@")
    query(database_url, f"DROP OWNED BY {role}")
    query(database_url, f"DROP ROLE {role}")


def test_database_with_no_connection_left_is_503_until_there_is_one(serve, limited_url, user):
    server = serve(DATABASE_URL=limited_url)

    with closing(psycopg2.connect(limited_url)), closing(psycopg2.connect(limited_url)):
        assert_unavailable(server, user)
        assert server.call("GET", "/health").status_code == 200
        assert assert_problem(server.call("GET", "/health/ready"), 503)["checks"]["database"] == "failed"

    # A session ends a moment after its client has closed the connection.
    wait_until(lambda: server.call("GET", "/health/ready").status_code == 200, "released")
    assert_in_service(server, user)


def test_database_without_tables_is_503_until_it_is_migrated(serve, postgres, user):
    url = new_database(postgres, f"unmigrated_{uuid.uuid4().hex}")
    server = serve(DATABASE_URL=url)

    assert_unavailable(server, user)
    assert server.call("GET", "/health").status_code == 200
    problem = assert_problem(server.call("GET", "/health/ready"), 503)
    assert problem["checks"] == {"database": "ok", "schema": "failed"}
    assert "schema" in problem["detail"]

    migrate(url)
    assert_in_service(server, user)


def test_database_that_does_not_exist_is_503_and_named_nowhere(serve, database_url, user):
    url = database_url.replace("postgres:@/todo_test", "postgres:url-password@/nonexistent_8d1f")
    assert url != database_url
    server = serve(DATABASE_URL=url)

    assert_unavailable(server, user)
    for path in ("/api/me/tasks", "/health/ready"):
        assert b"nonexistent" not in server.call("GET", path, bearer(user)).data
    assert "url-password" not in server.log.read_text()
