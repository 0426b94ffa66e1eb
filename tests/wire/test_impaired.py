"""PostgreSQL is far away, asleep or read-only, or its responses break off: requests that can succeed do."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fakes.postgres_proxy import PostgresProxy
from support import assert_problem, bearer
from wire.server import Load, Server, assert_kept, query, titles, wait_until

from todo.database.timeouts import REQUEST_LIMITS

THREADS = 4


@pytest.fixture(scope="module")
def shared(socket_path: str, start_server: Callable[..., Server]) -> Iterator[tuple[PostgresProxy, Server]]:
    """Return a proxy, and a server with one worker that reaches PostgreSQL through it."""
    proxy = PostgresProxy(socket_path)
    yield proxy, start_server(DATABASE_URL=proxy.url("todo_test"), WEB_THREADS=str(THREADS))
    proxy.close()


@pytest.fixture
def proxy(shared: tuple[PostgresProxy, Server]) -> Iterator[PostgresProxy]:
    """Return the proxy, and repair it afterwards."""
    proxy, _ = shared
    yield proxy
    proxy.delay_s = 0.0
    proxy.awake.set()


@pytest.fixture
def server(shared: tuple[PostgresProxy, Server], database_url: str) -> Server:
    """Return the server once it is in service."""
    _, server = shared
    wait_until(lambda: server.call("GET", "/health/ready").status_code == 200, "in service")
    return server


def create(server: Server, user: str, title: str) -> Any:
    return server.call("POST", "/api/me/tasks", bearer(user), {"title": title})


def assert_alive(server: Server) -> None:
    """Assert that a request without a statement is served at once."""
    started = time.monotonic()
    assert server.call("GET", "/health").status_code == 200
    assert time.monotonic() - started < 2


@pytest.mark.slow
def test_database_200_ms_away_serves_everybody(server, proxy, database_url, user):
    proxy.delay_s = 0.2
    with Load(server, user, clients=THREADS) as load:
        wait_until(lambda: len(load.acknowledged) > 10, "under load")
    task = create(server, user, "last").headers["Location"]
    calls = [("PUT", "", {"title": "x"}), ("PATCH", "", {"tags": ["a"]}), ("PATCH", "/complete", None)]
    statuses = [server.call(method, task + path, bearer(user), body).status_code for method, path, body in calls]

    assert statuses == [200, 200, 200]
    assert server.call("DELETE", task, bearer(user)).status_code == 204
    assert server.call("GET", "/api/me/export", bearer(user)).status_code == 200
    assert server.call("GET", "/health/ready").status_code == 200
    assert set(load.statuses) == {200, 201}
    assert_kept(database_url, user, load)


@pytest.mark.slow
def test_database_5_s_away_keeps_nobody_longer_than_promised(server, proxy, database_url, user):
    sent = [f"far {number}" for number in range(2)]

    def timed(method: str, body: Any) -> tuple[int, float]:
        started = time.monotonic()
        answer = server.call(method, "/api/me/tasks", bearer(user), body)
        return answer.status_code, time.monotonic() - started

    def all_at_once() -> list[tuple[int, float]]:
        with ThreadPoolExecutor(4) as clients:
            running = [clients.submit(timed, "POST", {"title": title}) for title in sent]
            running += [clients.submit(timed, "GET", None) for _ in sent]
            return [one.result() for one in running]

    with ThreadPoolExecutor(THREADS) as clients:
        assert {status for status, _ in clients.map(lambda _: timed("GET", None), range(THREADS))} == {200}
    proxy.delay_s = 5.0
    warm = all_at_once()
    proxy.cut()
    cold = all_at_once()
    assert_alive(server)
    proxy.delay_s = 0.0

    assert {status for status, _ in warm + cold} <= {200, 201, 503}
    assert max(seconds for _, seconds in warm + cold) < 20
    wait_until(lambda: create(server, user, "near").status_code == 201, "in service again", deadline_s=10)
    kept = titles(database_url, user)
    assert [status for status, _ in warm + cold].count(201) <= len(kept) - 1
    assert all(kept.count(title) <= 2 for title in sent)


def test_database_that_wakes_up_slowly_loses_nothing_and_is_in_service_by_itself(server, proxy, database_url, user):
    """A suspended database drops its connections, and new ones wait until it has started."""
    with Load(server, user, clients=THREADS) as load:
        wait_until(lambda: len(load.acknowledged) > 20, "under load")
        proxy.awake.clear()
        proxy.cut()
        wait_until(lambda: load.statuses[-20:] == [503] * 20, "unavailable")
        assert_alive(server)
        assert_problem(server.call("GET", "/health/ready"), 503)
        acknowledged = len(load.acknowledged)
        proxy.awake.set()
        wait_until(lambda: len(load.acknowledged) > acknowledged + 20, "in service again", deadline_s=10)
        wait_until(lambda: 503 not in load.statuses[-20:], "in service for all", deadline_s=10)

    assert set(load.statuses) == {200, 201, 503}
    assert_kept(database_url, user, load)


@pytest.mark.parametrize("size", [1, 700, 5_000], ids=["in the first head", "in the first row", "between rows"])
def test_answer_that_breaks_off_is_asked_for_once_more_by_a_read_and_never_by_a_write(
    server, proxy, database_url, user, size
):
    text = "x" * 1000
    assert {create(server, user, f"{n} {text[:190]}").status_code for n in range(20)} == {201}
    # By another query, of which a page may be kept.
    whole = server.call("GET", "/api/me/tasks?limit=100", bearer(user)).data
    proxy.queries.clear()

    proxy.answer_bytes = size
    assert server.call("GET", "/api/me/tasks", bearer(user)).data == whole
    reads = [sql for sql in proxy.queries if "EXECUTE page_by_id" in sql]
    assert len(reads) == 2

    proxy.queries.clear()
    proxy.answer_bytes = min(size, 100)
    assert_problem(create(server, user, "written"), 503)
    assert len([sql for sql in proxy.queries if sql.startswith(REQUEST_LIMITS.settings)]) == 1
    assert titles(database_url, user).count("written") == 1


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """Return a role that owns no table and may read and write all of them."""
    role = f"role_{uuid.uuid4().hex}"
    query(database_url, f"CREATE ROLE {role} LOGIN")
    query(database_url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    yield role
    query(database_url, f"DROP OWNED BY {role}")
    query(database_url, f"DROP ROLE {role}")


def test_database_that_is_read_only_is_read_and_written_again_as_soon_as_it_can_be(serve, database_url, role, user):
    """As on a standby, or on a server that some providers set read-only when its disk fills up."""
    server = serve(DATABASE_URL=database_url.replace("//postgres:@", f"//{role}@"), WEB_THREADS=str(THREADS))
    path = create(server, user, "x").headers["Location"]
    writes = [
        ("POST", "/api/me/tasks", {"title": "y"}),
        ("PUT", path, {"title": "y"}),
        ("PATCH", path, {"completed": True}),
        ("PATCH", f"{path}/complete", None),
        ("DELETE", path, None),
        ("DELETE", "/api/me/trash", None),
    ]
    read_only = "default_transaction_read_only"
    query(database_url, f"ALTER ROLE {role} SET {read_only} = on")
    query(database_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", role)

    def everything(_: int) -> None:
        for method, where, body in writes:
            assert_problem(server.call(method, where, bearer(user), body), 503)
        for where in (path, "/api/me/tasks", "/api/me/tasks?search=x", "/api/me/tasks/changes"):
            assert server.call("GET", where, bearer(user)).status_code == 200

    with ThreadPoolExecutor(THREADS) as clients:
        list(clients.map(everything, range(THREADS)))
    # A user has one export at a time.
    for where in ("/api/me/export", "/health/ready"):
        assert server.call("GET", where, bearer(user)).status_code == 200
    assert titles(database_url, user) == ["x"]

    query(database_url, f"ALTER ROLE {role} RESET {read_only}")
    # A connection is dropped when a write on it fails as read-only.
    statuses = [create(server, user, "y").status_code for _ in range(THREADS * 4)]
    assert statuses[-THREADS:] == [201] * THREADS
    assert len(titles(database_url, user)) == 1 + statuses.count(201)
