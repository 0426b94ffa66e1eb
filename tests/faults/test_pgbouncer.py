"""PgBouncer in transaction mode, as behind Neon's pooled address: no session keeps a setting of another client."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg2
import pytest
from faults.pooler import POOL_SIZE
from support import assert_problem, bearer, new_database, new_user
from wire.server import (
    Load,
    assert_kept,
    assert_survives_the_end_of_sessions,
    log_from_now,
    query,
    run,
    start_database,
    stop_database,
    titles,
    wait_until,
)

# No call is promised to take less, whatever happens to the database: see docs/operate/database.md.
PATIENCE_S = 20

SETTINGS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_isolation")


def created(server, user, title="x"):
    return server.call("POST", "/api/me/tasks", bearer(user), {"title": title})


def timed_call(server, user, method, path, body=None):
    """Send a request, assert that the response came in time, and return it."""
    started = time.monotonic()
    answer = server.call(method, path, bearer(user), body)
    assert time.monotonic() - started < PATIENCE_S
    return answer


def sessions(url) -> list[tuple[str, ...]]:
    """Return the settings of each session behind the pooler."""
    shown = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    with ExitStack() as stack:
        # Each stays in its transaction until all have begun, so each has a session of its own.
        connections = [stack.enter_context(closing(psycopg2.connect(url))) for _ in range(POOL_SIZE)]
        found = []
        for connection in connections:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_backend_pid(), {shown}")
                found.append(cursor.fetchone())
    assert len({pid for pid, *_ in found}) == POOL_SIZE
    return [tuple(settings) for _, *settings in found]


def test_pooler_takes_our_connections_and_shares_its_sessions_between_them(pooled_server, direct_url, pooler, user):
    logged = log_from_now(pooler.log)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda n: created(pooled_server, user, f"task {n}"), range(80)))

    assert [answer.status_code for answer in answers] == [201] * 80
    assert query(direct_url, "SELECT count(*) FROM tasks WHERE user_id = %s", user) == [(80,)]
    assert "unsupported startup parameter" not in logged()


def test_pooler_refuses_options_which_is_why_the_bounds_are_sent_along(pooled_url):
    with pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter"):
        psycopg2.connect(pooled_url, options="-c statement_timeout=5000")


def test_commands_through_the_pooler_work(pooled_url, direct_url, user):
    def flask(*command: str) -> str:
        done = run("flask", *command, DATABASE_URL=pooled_url)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert flask("db", "upgrade") == ""
    assert "Added 12000 tasks" in flask("seed", "--user", user, "--count", "12000")
    assert len(titles(direct_url, user)) == 12_000
    assert flask("user", "export", user).count("\n") == 12_001
    flask("purge")
    flask("user", "erase", "--yes", user)
    assert titles(direct_url, user) == []
    assert "pooled" in run("flask", "doctor", DATABASE_URL=pooled_url).stdout


@pytest.fixture
def slow_user(direct_url) -> Iterator[str]:
    """Return a user with one task, which PostgreSQL takes a minute to read."""
    user = new_user()
    query(direct_url, "INSERT INTO task_lists (user_id, revision) VALUES (%s, 1)", user)
    query(direct_url, "INSERT INTO tasks (user_id, title, revision) VALUES (%s, 'slow', 1)", user)
    query(direct_url, "ALTER TABLE tasks RENAME TO quick_tasks")
    slow = f"CASE WHEN user_id = '{user}' THEN pg_sleep(60) IS NOT NULL ELSE true END"
    query(direct_url, f"CREATE VIEW tasks AS SELECT * FROM quick_tasks WHERE {slow}")
    yield user
    query(direct_url, "DROP VIEW tasks")
    query(direct_url, "ALTER TABLE quick_tasks RENAME TO tasks")


def test_statement_that_takes_too_long_is_503_and_the_session_is_as_it_was(
    pooled_server, pooled_url, direct_url, slow_user, user
):
    logged = log_from_now(pooled_server.log)
    ((task,),) = query(direct_url, "SELECT id FROM quick_tasks WHERE user_id = %s", slow_user)
    with ThreadPoolExecutor(2) as clients:
        read = clients.submit(timed_call, pooled_server, slow_user, "GET", "/api/me/tasks?search=x")
        write = clients.submit(timed_call, pooled_server, slow_user, "DELETE", f"/api/me/tasks/{task}")
        assert_problem(read.result(), 503)
        assert_problem(write.result(), 503)

    assert logged().count("57014") == 2
    assert query(direct_url, "SELECT id FROM quick_tasks WHERE user_id = %s", slow_user) == [(task,)]
    assert timed_call(pooled_server, user, "GET", "/api/me/tasks").status_code == 200
    assert sessions(pooled_url) == [("0", "0", "0", "read committed")] * POOL_SIZE


def test_write_that_waits_for_another_session_is_503_and_the_session_is_as_it_was(
    pooled_server, pooled_url, direct_url, user
):
    logged = log_from_now(pooled_server.log)
    assert created(pooled_server, user).status_code == 201
    with closing(psycopg2.connect(direct_url)) as other:
        other.cursor().execute("SELECT FROM task_lists WHERE user_id = %s FOR UPDATE", [user])
        assert_problem(timed_call(pooled_server, user, "POST", "/api/me/tasks", {"title": "y"}), 503)
        assert "55P03" in logged()

    assert created(pooled_server, user, "y").status_code == 201
    assert titles(direct_url, user) == ["x", "y"]
    assert sessions(pooled_url) == [("0", "0", "0", "read committed")] * POOL_SIZE


def test_writers_and_readers_at_once_lose_nothing(pooled_server, direct_url, user):
    with Load(pooled_server, user, clients=8) as load:
        wait_until(lambda: len(load.acknowledged) > 300, "under load")

    assert set(load.statuses) == {200, 201}
    assert_kept(direct_url, user, load)


def test_pooler_that_is_killed_and_started_under_load_loses_nothing_acknowledged(
    pooled_server, pooler, direct_url, user
):
    with Load(pooled_server, user, clients=8) as load:
        wait_until(lambda: len(load.acknowledged) > 50, "under load")
        pooler.kill()
        wait_until(lambda: load.statuses[-20:] == [503] * 20, "unavailable")
        pooler.start()
        acknowledged = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > acknowledged + 50, "in service again", deadline_s=10)

    assert set(load.statuses) == {200, 201, 503}
    assert_kept(direct_url, user, load)


def test_pooler_whose_sessions_are_ended_under_load_is_never_a_500(pooled_server, direct_url, user):
    assert_survives_the_end_of_sessions(pooled_server, direct_url, user, times=10)


def test_pooler_that_stands_still_keeps_no_thread_for_long(pooled_server, pooler, direct_url, user):
    """The kernel still acknowledges every packet, so only the service can detect the fault."""
    assert created(pooled_server, user).status_code == 201
    pooler.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as clients:
            calls = [("GET", "/api/me/tasks", None), ("POST", "/api/me/tasks", {"title": "y"})] * 4
            running = [clients.submit(timed_call, pooled_server, user, *call) for call in calls]
            assert pooled_server.call("GET", "/health").status_code == 200
            for one in running:
                assert_problem(one.result(), 503)
    finally:
        pooler.process.send_signal(signal.SIGCONT)

    wait_until(lambda: created(pooled_server, user, "z").status_code == 201, "in service again", deadline_s=10)
    assert titles(direct_url, user).count("x") == 1


def test_postgresql_that_stops_behind_the_pooler_is_503_soon_and_loses_nothing(own_postgres, make_pooler, serve, user):
    """The pooler itself would let every client wait for two minutes."""
    url = own_postgres.get_uri()
    server = serve(DATABASE_URL=make_pooler(own_postgres).url("postgres"), WEB_THREADS="4")
    with Load(server, user, clients=4) as load:
        wait_until(lambda: len(load.acknowledged) > 50, "under load")
        stop_database(own_postgres, "immediate")
        wait_until(lambda: 503 in load.statuses[-1:], "unavailable", deadline_s=PATIENCE_S)
        assert server.call("GET", "/health").status_code == 200
        start_database(own_postgres)
        acknowledged = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > acknowledged + 50, "in service again", deadline_s=PATIENCE_S)

    assert set(load.statuses) <= {200, 201, 503}
    assert_kept(url, user, load)


def test_defaults_of_the_database_change_nothing_through_the_pooler_either(pooler, postgres, serve, user):
    """PgBouncer shares sessions that began with these defaults, and passes no `options` on that would replace them."""
    logged = log_from_now(pooler.log)
    url = new_database(postgres, "todo_pooled_defaults")
    for name, value in (("client_encoding", "latin1"), ("default_transaction_isolation", "serializable")):
        query(url, f"ALTER DATABASE todo_pooled_defaults SET {name} = '{value}'")
    pooled = pooler.url("todo_pooled_defaults")
    upgraded = run("flask", "db", "upgrade", DATABASE_URL=pooled)
    assert (upgraded.returncode, upgraded.stderr) == (0, "")
    server = serve(DATABASE_URL=pooled, WEB_THREADS="8")

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda n: created(server, user, f"žluť 🎂 {n}"), range(80)))

    assert [answer.status_code for answer in answers] == [201] * 80
    found = server.call("GET", "/api/me/tasks", bearer(user)).get_json()
    assert {task["title"] for task in found} == {f"žluť 🎂 {n}" for n in range(80)}
    # Another client of the pooler that asks for nothing has what the database gives.
    with closing(psycopg2.connect(pooled)) as other, other.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_isolation'), current_setting('client_encoding')")
        assert cursor.fetchone() == ("serializable", "LATIN1")
    assert "unsupported startup parameter" not in logged()
