"""Time-outs of statements, in PostgreSQL and in the process that waits for the result."""

import subprocess
import sys
import threading

import psycopg2
import pytest
from wire.server import query, wait_until

from todo.database import engine, failures, statements, timeouts
from todo.database.timeouts import BATCH_LIMITS, NO_LIMITS, REQUEST_LIMITS, NoAnswer, TimeLimits, Watch
from todo.extensions import db

SETTINGS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
BOUNDS = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in SETTINGS)
SLEEP = "SELECT pg_sleep(60)"


@pytest.fixture
def warm(proxied, proxy):
    """Yield an application context with one warm connection in the pool, and no recorded queries."""
    with proxied.app_context():
        statements.read(BOUNDS, {})
        proxy.queries.clear()
        yield proxied


@pytest.mark.parametrize("run", [statements.read, statements.write])
def test_statement_has_bounds_in_one_round_trip_and_leaves_the_session_as_it_was(warm, proxy, run):
    assert [tuple(row) for row in run(BOUNDS, {})] == [("3s", "5s", "0")]
    assert len(proxy.queries) == 1
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql(BOUNDS).one() == ("0", "0", "0")


def test_bounds_of_a_transaction_hold_until_it_ends_and_no_longer(warm, proxy):
    with statements.transaction(BATCH_LIMITS) as transaction:
        transaction.read("SELECT 1", {})
        assert transaction.read(BOUNDS, {}) == [("3s", "1min", "1min")]
    assert [query.count("SET LOCAL") for query in proxy.queries] == [3, 0, 0]
    with statements.transaction(NO_LIMITS) as transaction:
        assert transaction.read(BOUNDS, {}) == [("0", "0", "0")]


def test_statement_that_takes_longer_is_cancelled_by_postgresql_and_not_retried(warm, proxy):
    with pytest.raises(failures.DatabaseUnavailable, match="57014"):
        statements.read(SLEEP, {}, TimeLimits("SET LOCAL statement_timeout = 50;\n", 10))
    assert len(proxy.queries) == 1


@pytest.mark.parametrize("within", [REQUEST_LIMITS, BATCH_LIMITS], ids=["call", "work"])
def test_result_is_awaited_for_longer_than_postgresql_takes_to_cancel(app, within):
    with app.app_context():
        (row,) = statements.read("SELECT current_setting('statement_timeout')::interval", {}, within)
    assert row[0].total_seconds() < within.result_s


def test_result_that_does_not_arrive_is_awaited_once_and_the_connection_is_replaced(warm, proxy):
    proxy.awake.clear()
    with pytest.raises(failures.DatabaseUnavailable, match=r"no answer within 0\.1 s"):
        statements.read(BOUNDS, {}, TimeLimits("", 0.1))
    assert len(proxy.queries) == 1
    proxy.awake.set()
    assert statements.read(BOUNDS, {})[0].statement_timeout == "5s"


@pytest.mark.slow
def test_connection_that_does_not_respond_to_a_ping_is_replaced(warm, proxy, monkeypatch):
    monkeypatch.setattr(engine, "PING_S", 0.1)
    monkeypatch.setattr(engine, "TRUSTED_IDLE_S", -1)
    monkeypatch.setattr(proxy, "delay_s", 1.0)
    threading.Timer(1.0, setattr, (proxy, "delay_s", 0.0)).start()
    assert statements.read(BOUNDS, {})[0].statement_timeout == "5s"
    assert sum(query.startswith(REQUEST_LIMITS.settings) for query in proxy.queries) == 1


def test_watch_forgets_calls_that_returned():
    watch = Watch()
    watch.start()
    watch.wait(None, 60, lambda: None)
    with pytest.raises(ZeroDivisionError):
        watch.wait(None, 60, lambda: 1 / 0)
    assert watch._waiting == {}


def test_watch_ignores_a_connection_that_is_already_closed(database_url):
    connection = psycopg2.connect(database_url)
    connection.close()
    watch = Watch()
    watch.start()
    with pytest.raises(NoAnswer):
        watch.wait(connection, 0, lambda: wait_until(lambda: not watch._waiting, "noticed"))


FORKING = """
import os
from todo.database.timeouts import watch

watch.start()
first = watch._thread
watch.start()
assert watch._thread is first
if os.fork() == 0:
    assert not watch._thread.is_alive()
    watch.start()
    os._exit(0 if watch._thread.is_alive() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.process
def test_watch_starts_again_in_a_forked_process(root):
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], cwd=root, timeout=60, check=True)


def test_shutdown_of_a_connection_wakes_its_reader(database_url):
    connection = psycopg2.connect(database_url)
    backend = connection.info.backend_pid
    threading.Timer(0.1, timeouts._shut_down, (connection,)).start()
    with pytest.raises(psycopg2.OperationalError):
        connection.cursor().execute("SET client_connection_check_interval = 50; SELECT pg_sleep(60)")
    assert connection.closed
    # PostgreSQL checks whether the client is still connected only because of client_connection_check_interval.
    wait_until(lambda: not query(database_url, "SELECT FROM pg_stat_activity WHERE pid = %s", backend), "gone")
