"""How long a statement may take, in PostgreSQL and until its answer is here."""

import subprocess
import sys
import threading

import psycopg2
import pytest
from wire.server import query, wait_until

from todo.database import engine, failures, statements, timeouts
from todo.database.timeouts import CALL, UNBOUNDED, WORK, Bounds, NoAnswer, Watch
from todo.extensions import db

SETTINGS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
BOUNDS = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in SETTINGS)
SLEEP = "SELECT pg_sleep(60)"


@pytest.fixture
def warm(proxied, proxy):
    """Give an application context with one warm connection in the pool, and forget how it got there."""
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
    with statements.transaction(WORK) as transaction:
        transaction.read("SELECT 1", {})
        assert transaction.read(BOUNDS, {}) == [("3s", "1min", "1min")]
    assert [query.count("SET LOCAL") for query in proxy.queries] == [3, 0, 0]
    with statements.transaction(UNBOUNDED) as transaction:
        assert transaction.read(BOUNDS, {}) == [("0", "0", "0")]


def test_statement_that_takes_longer_is_given_up_by_postgresql_and_not_run_again(warm, proxy):
    with pytest.raises(failures.DatabaseUnavailable, match="57014"):
        statements.read(SLEEP, {}, Bounds("SET LOCAL statement_timeout = 50;\n", 10))
    assert len(proxy.queries) == 1


@pytest.mark.parametrize("within", [CALL, WORK], ids=["call", "work"])
def test_answer_is_awaited_for_longer_than_postgresql_takes_to_give_up(app, within):
    with app.app_context():
        (row,) = statements.read("SELECT current_setting('statement_timeout')::interval", {}, within)
    assert row[0].total_seconds() < within.answer_s


def test_answer_that_does_not_come_is_awaited_once_and_the_connection_is_replaced(warm, proxy):
    proxy.awake.clear()
    with pytest.raises(failures.DatabaseUnavailable, match=r"no answer within 0\.1 s"):
        statements.read(BOUNDS, {}, Bounds("", 0.1))
    assert len(proxy.queries) == 1
    proxy.awake.set()
    assert statements.read(BOUNDS, {})[0].statement_timeout == "5s"


@pytest.mark.slow
def test_connection_that_does_not_answer_a_ping_is_replaced(warm, proxy, monkeypatch):
    monkeypatch.setattr(engine, "PING_S", 0.1)
    monkeypatch.setattr(engine, "TRUSTED_IDLE_S", -1)
    monkeypatch.setattr(proxy, "delay_s", 1.0)
    threading.Timer(1.0, setattr, (proxy, "delay_s", 0.0)).start()
    assert statements.read(BOUNDS, {})[0].statement_timeout == "5s"
    assert sum(query.startswith(CALL.settings) for query in proxy.queries) == 1


def test_watch_lets_go_of_what_ended_by_itself():
    watch = Watch()
    watch.begin()
    watch.wait(None, 60, lambda: None)
    with pytest.raises(ZeroDivisionError):
        watch.wait(None, 60, lambda: 1 / 0)
    assert watch._waiting == {}


def test_watch_leaves_a_connection_alone_that_is_closed_already(database_url):
    connection = psycopg2.connect(database_url)
    connection.close()
    watch = Watch()
    watch.begin()
    with pytest.raises(NoAnswer):
        watch.wait(connection, 0, lambda: wait_until(lambda: not watch._waiting, "noticed"))


FORKING = """
import os
from todo.database.timeouts import watch

watch.begin()
first = watch._watcher
watch.begin()
assert watch._watcher is first
if os.fork() == 0:
    assert not watch._watcher.is_alive()
    watch.begin()
    os._exit(0 if watch._watcher.is_alive() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.process
def test_watch_begins_again_in_a_process_that_was_forked(root):
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], cwd=root, timeout=60, check=True)


def test_hanging_up_wakes_whoever_reads(database_url):
    connection = psycopg2.connect(database_url)
    backend = connection.info.backend_pid
    threading.Timer(0.1, timeouts._hang_up, (connection,)).start()
    with pytest.raises(psycopg2.OperationalError):
        connection.cursor().execute("SET client_connection_check_interval = 50; SELECT pg_sleep(60)")
    assert connection.closed
    # PostgreSQL looks whether somebody is there only because it was told to.
    wait_until(lambda: not query(database_url, "SELECT FROM pg_stat_activity WHERE pid = %s", backend), "gone")
