"""One statement a request, and what happens when PostgreSQL is not there."""

import select
import threading
import time
from contextlib import closing

import psycopg2
import pytest
from structlog.testing import capture_logs
from support import assert_problem, bearer, config_for

from todo import create_app
from todo.database import engine, failures, statements
from todo.database.timeouts import BATCH_LIMITS, REQUEST_LIMITS
from todo.extensions import db
from todo.tasks import queries
from todo.telemetry.logs import stack

NUMBER = "SELECT 1 AS number"
ASKED = f"{REQUEST_LIMITS.settings}SELECT 1 AS number"


@pytest.fixture
def warm(proxied, proxy):
    """Enter an application context with one warm connection in the pool; the recorded queries begin after that."""
    with proxied.app_context():
        statements.read(NUMBER, {})
        proxy.queries.clear()
        yield proxied


def test_read_warm_is_one_round_trip(warm, proxy):
    assert statements.read(NUMBER, {})[0].number == 1
    assert proxy.queries == [ASKED]


def test_read_after_a_long_rest_pings_first(warm, proxy, monkeypatch):
    monkeypatch.setattr(engine, "TRUSTED_IDLE_S", -1)
    statements.read(NUMBER, {})
    assert len(proxy.queries) == 2
    assert proxy.queries[1] == ASKED


def borrow_through_sqlalchemy(sql, _parameters):
    with db.engine.connect() as connection:
        return connection.exec_driver_sql(sql).fetchall()


@pytest.mark.parametrize("run", [statements.read, statements.write, borrow_through_sqlalchemy])
def test_connection_closed_while_idle_is_replaced_before_use(warm, proxy, run):
    with db.engine.connect() as connection:
        idle = connection.connection.dbapi_connection.fileno()
    proxy.cut()
    # The end of the connection has arrived.
    assert select.select([idle], [], [], 10)[0]
    assert run(NUMBER, {})[0].number == 1
    assert sum(NUMBER in query for query in proxy.queries) == 1


def test_connection_that_the_server_spoke_on_is_pinged_and_kept(warm, proxy):
    with db.engine.connect() as connection:
        idle = connection.connection.dbapi_connection.fileno()
    proxy.notice()
    assert select.select([idle], [], [], 10)[0]
    assert statements.read(NUMBER, {})[0].number == 1
    assert len(proxy.queries) == 2


def test_read_that_met_a_dead_connection_is_run_once_more(warm, proxy, monkeypatch):
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.cut()
    assert statements.read(NUMBER, {})[0].number == 1


def test_connections_that_rested_when_another_was_lost_are_replaced_without_a_word(warm, proxy, monkeypatch):
    with db.engine.connect(), db.engine.connect():
        pass
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.cut()
    assert statements.read(NUMBER, {})[0].number == 1
    with db.engine.connect():
        assert statements.write(NUMBER, {})[0].number == 1


def test_read_whose_second_attempt_fails_too_is_unavailable(warm, proxy, monkeypatch):
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.refuse = True
    proxy.cut()
    with pytest.raises(failures.DatabaseUnavailable):
        statements.read(NUMBER, {})


def test_write_that_met_a_dead_connection_is_never_run_again(warm, proxy, monkeypatch):
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.cut()
    with pytest.raises(failures.DatabaseUnavailable):
        statements.write(NUMBER, {})
    assert ASKED not in proxy.queries
    assert statements.write(NUMBER, {})[0].number == 1


@pytest.mark.parametrize("run", [statements.read, statements.write])
def test_every_connection_in_use_is_unavailable_and_passes(database_url, monkeypatch, run):
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.1)
    app = create_app(config_for(database_url, WEB_THREADS="1"))
    with app.app_context():
        with (
            db.engine.connect(),
            db.engine.connect(),
            pytest.raises(failures.DatabaseUnavailable, match="in use"),
        ):
            run(NUMBER, {})
        assert run(NUMBER, {})[0].number == 1
        db.engine.dispose()


def test_nobody_waits_longer_than_10_s_for_a_connection():
    dying_s = engine.CONNECT_ARGS["tcp_user_timeout"] / 1000
    assert engine.POOL_TIMEOUT_S + max(dying_s, engine.PING_S) + engine.CONNECT_TIMEOUT_S < 10


def test_connection_on_which_nothing_comes_any_more_is_given_up_soon():
    given = engine.CONNECT_ARGS
    assert given["keepalives_idle"] + given["keepalives_interval"] * given["keepalives_count"] < 15


@pytest.mark.parametrize("run", [statements.read, statements.write])
@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        pytest.param("SELECT * FROM nothing_here", "42P01", id="no such table"),
        pytest.param("SELECT nothing_here FROM tasks", "42703", id="no such column"),
    ],
)
def test_schema_that_lacks_something_is_unavailable(app, run, statement, sqlstate):
    with app.app_context(), pytest.raises(failures.SchemaLacking, match=sqlstate):
        run(statement, {})


@pytest.mark.parametrize(
    "sqlstate", ["08006", "25006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "58030"]
)
def test_passing_trouble_of_the_server_is_unavailable(app, sqlstate):
    trouble = f"DO $$ BEGIN RAISE 'trouble with a secret' USING ERRCODE = '{sqlstate}'; END $$"
    with app.app_context(), pytest.raises(failures.DatabaseUnavailable, match=sqlstate):
        statements.write(trouble, {})


def test_statement_is_run_with_its_parameters_and_a_percent_sign_of_its_own(warm, proxy):
    sql = "SELECT %(number)s + 7 AS number, '100 %%' AS text"
    for run in (statements.read, statements.write):
        assert [tuple(row) for row in run(sql, {"number": 3})] == [(10, "100 %")]
    assert len(proxy.queries) == 2


def test_statements_under_one_name_are_one_message_and_give_the_rows_of_the_last(warm, proxy):
    sql = statements.SEPARATOR.join(("SELECT %(number)s + 1 AS first", "SELECT %(number)s + 2 AS second"))
    assert [row._asdict() for row in statements.write(sql, {"number": 40})] == [{"second": 42}]
    (query,) = proxy.queries
    assert query.count("SELECT") == 2


INSERTION = "INSERT INTO task_lists (user_id, revision) VALUES (%(user)s, %(revision)s)"
REVISION = "SELECT revision FROM task_lists WHERE user_id = %(user)s"


def test_statements_of_one_message_take_effect_together_or_not_at_all(app, user):
    values = {"user": user, "revision": 1}
    with app.app_context():
        with pytest.raises(failures.InternalError):
            statements.write(f"{INSERTION};\nSELECT 1 / 0", values)
        assert statements.read(REVISION, values) == []
        assert statements.write(f"{INSERTION};\n{REVISION}", values) == [(1,)]


def test_load_reads_named_statements_without_comments_and_with_their_fragments(tmp_path):
    file = tmp_path / "queries.sql"
    file.write_text(
        "-- What these are.\n\n-- Why.\n-- name: first\nSELECT {columns}\n    -- Why.\nFROM tasks;\n\n"
        "-- name: second\nSELECT 1;\nSELECT {later};\n"
    )
    assert statements.load(str(file.with_suffix(".py")), columns="a, b") == {
        "first": "SELECT a, b\nFROM tasks",
        "second": "SELECT 1;\nSELECT {later}",
    }
    assert statements.fill("SELECT {later}", later="2") == "SELECT 2"


@pytest.fixture
def stumbling(warm, proxy):
    """Return a statement that fails with a SQLSTATE this many times, and then returns the number of the attempt."""
    body = """
        DECLARE attempt bigint := nextval('pg_temp.attempts');
        BEGIN
            IF attempt <= failures THEN RAISE 'in the way' USING ERRCODE = code; END IF;
            RETURN attempt;
        END
    """
    with db.engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY SEQUENCE attempts")
        function = "pg_temp.stumble(failures int, code text) RETURNS bigint LANGUAGE plpgsql"
        connection.exec_driver_sql(f"CREATE FUNCTION {function} AS $${body}$$")
    proxy.queries.clear()
    return "SELECT pg_temp.stumble(%(failures)s, %(code)s) AS attempt"


@pytest.mark.parametrize("run", [statements.read, statements.write])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_statement_that_was_taken_back_is_run_once_more(stumbling, proxy, run, sqlstate):
    assert run(stumbling, {"failures": 1, "code": sqlstate})[0].attempt == 2
    assert len(proxy.queries) == 2


@pytest.mark.parametrize("run", [statements.read, statements.write])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_statement_that_was_taken_back_twice_is_unavailable(stumbling, proxy, run, sqlstate):
    with pytest.raises(failures.RolledBack, match=sqlstate):
        run(stumbling, {"failures": 2, "code": sqlstate})
    assert len(proxy.queries) == 2


@pytest.mark.parametrize("sqlstate", ["40002", "40003", "55P03", "57014", "23505"])
def test_write_that_failed_otherwise_is_never_run_again(stumbling, proxy, sqlstate):
    with pytest.raises((failures.DatabaseUnavailable, failures.InternalError), match=sqlstate):
        statements.write(stumbling, {"failures": 1, "code": sqlstate})
    assert len(proxy.queries) == 1


def test_transaction_that_ends_well_is_kept_and_any_other_is_rolled_back(app, user):
    with app.app_context():
        with pytest.raises(RuntimeError):
            with statements.transaction(BATCH_LIMITS) as transaction:
                assert transaction.write(INSERTION, {"user": user, "revision": 1}) == 1
                raise RuntimeError
        with statements.transaction(BATCH_LIMITS, "REPEATABLE READ") as transaction:
            transaction.write(INSERTION, {"user": user, "revision": 2})
            assert statements.read(REVISION, {"user": user}) == []
            assert transaction.read(REVISION, {"user": user}) == [(2,)]
        assert statements.read(REVISION, {"user": user}) == [(2,)]


def test_transaction_without_a_statement_is_no_round_trip(warm, proxy):
    with statements.transaction(BATCH_LIMITS):
        pass
    assert proxy.queries == []


def test_transaction_leaves_its_connection_as_it_was(app):
    isolation = "SELECT current_setting('transaction_isolation') AS level"
    with app.app_context():
        with statements.transaction(BATCH_LIMITS, "REPEATABLE READ") as transaction:
            assert transaction.read(isolation, {}) == [("repeatable read",)]
        assert statements.read(isolation, {}) == [("read committed",)]


def test_transaction_whose_connection_dies_is_unavailable_and_the_connection_is_replaced(warm, proxy):
    with pytest.raises(failures.ConnectionLost):
        with statements.transaction(BATCH_LIMITS) as transaction:
            transaction.read(NUMBER, {})
            proxy.cut()
            transaction.read(NUMBER, {})
    assert statements.read(NUMBER, {})[0].number == 1


def test_transaction_of_a_bug_whose_connection_died_reports_the_bug(warm, proxy):
    with pytest.raises(ZeroDivisionError):
        with statements.transaction(BATCH_LIMITS) as transaction:
            transaction.read(NUMBER, {})
            proxy.cut()
            raise ZeroDivisionError
    assert statements.read(NUMBER, {})[0].number == 1


@pytest.mark.parametrize("number", [0, 1, 3, 4, 7])
def test_stream_yields_all_rows_in_batches(app, number):
    with app.app_context(), statements.transaction(BATCH_LIMITS) as transaction:
        for _ in range(2):
            batches = list(transaction.stream("SELECT n FROM generate_series(1, %(number)s) n", {"number": number}, 3))
            assert [row.n for rows in batches for row in rows] == list(range(1, number + 1))
            assert all(len(rows) == 3 for rows in batches[:-1])


def test_bug_is_logged_without_what_users_wrote(client, app, user, monkeypatch):
    broken = "INSERT INTO tasks (user_id, title) VALUES (%(caller)s, repeat(%(title)s, 100)) RETURNING 1"
    monkeypatch.setitem(queries.SQL, "create_task", broken)
    with capture_logs() as logs:
        response = client.post("/api/me/tasks", headers=bearer(user), json={"title": "a private matter"})
    assert_problem(response, 500)
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert entry["reason"].startswith("23514: INSERT INTO tasks")
    assert "private" not in str({name: value for name, value in entry.items() if name != "exc_info"})
    shown = stack((type(entry["exc_info"]), entry["exc_info"], entry["exc_info"].__traceback__))
    assert "psycopg2.errors.CheckViolation" in shown
    assert "todo/tasks/queries.py" in shown
    for secret in ("private", user, "DETAIL"):
        assert secret not in shown


def test_breaker_fails_at_once_after_an_attempt_that_failed_slowly(monkeypatch):
    now, attempts = [100.0], []

    class Dialect:
        def connect(self, *_, **__):
            attempts.append(now[0])
            now[0] += self.takes_s
            if self.fails:
                raise psycopg2.OperationalError("timeout expired")
            return "connection"

    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    breaker, dialect = engine.Breaker(), Dialect()
    dialect.takes_s, dialect.fails = 3, True
    for _ in range(5):
        with pytest.raises(psycopg2.OperationalError):
            breaker(dialect, None, [], {})
    assert attempts == [100.0]
    now[0] += engine.PAUSE_S
    dialect.takes_s, dialect.fails = 0, False
    assert breaker(dialect, None, [], {}) == "connection"


def test_first_connection_that_is_lost_while_it_is_set_up_is_unavailable(proxied, proxy):
    proxy.lose_answers = True
    with proxied.app_context():
        with pytest.raises(failures.DatabaseUnavailable):
            statements.read(NUMBER, {})
        proxy.lose_answers = False
        assert statements.read(NUMBER, {})[0].number == 1


def test_breaker_does_not_pause_after_a_quick_refusal(warm, proxy):
    proxy.refuse = True
    proxy.cut()
    time.sleep(0.05)
    with pytest.raises(failures.DatabaseUnavailable):
        statements.read(NUMBER, {})
    proxy.refuse = False
    assert statements.read(NUMBER, {})[0].number == 1


def test_mistake_of_ours_is_a_bug_and_stays_one(client, app, user, monkeypatch):
    monkeypatch.setitem(queries.SQL, "get_task", "SELEC")
    with capture_logs():
        assert_problem(client.get("/api/me/tasks/1", headers=bearer(user)), 500)


def test_wrong_password_or_database_is_unavailable(postgres):
    app = create_app(config_for(postgres.get_uri(database="not_there")))
    with app.app_context(), pytest.raises(failures.DatabaseUnavailable):
        statements.read(NUMBER, {})


@pytest.mark.parametrize("zone", ["Europe/Prague", "Asia/Kathmandu", "America/Caracas"])
def test_times_are_utc_whatever_the_zone_of_the_server(postgres, database_url, user, zone):
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"ALTER DATABASE todo_test SET timezone TO '{zone}'")
    app = create_app(config_for(database_url))
    client = app.test_client()
    created = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json["created_at"]
    with app.app_context():
        db.engine.dispose()
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("ALTER DATABASE todo_test RESET timezone")
        cursor.execute("SELECT abs(extract(epoch FROM %s::timestamptz - now()))", (created,))
        assert cursor.fetchone()[0] < 60


def test_updated_at_never_goes_back_even_when_the_clock_does(app, client, user):
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json
    ahead = (
        "UPDATE tasks SET updated_at = now() + interval '1 hour' WHERE user_id = %(u)s"
        " RETURNING updated_at AT TIME ZONE 'UTC'"
    )
    with app.app_context():
        future = statements.write(ahead, {"u": user})[0][0]
    changed = client.patch(f"/api/me/tasks/{task['id']}/complete", headers=bearer(user)).json
    assert changed["updated_at"] > f"{future.isoformat()}Z"


def test_writers_of_one_task_lose_no_toggle(app, user):
    client = app.test_client()
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json
    seen = []

    def toggle():
        with app.test_client() as own:
            path = f"/api/me/tasks/{task['id']}/complete"
            seen.extend(own.patch(path, headers=bearer(user)).json for _ in range(20))

    writers = [threading.Thread(target=toggle) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({state["updated_at"] for state in seen}) == 80
    assert sum(state["completed"] for state in seen) == 40


def test_engine_uses_the_embedded_server_when_no_url_is_set(monkeypatch):
    def start(path):
        raise engine.embedded.EmbeddedUnavailable(f"asked for {path}")

    monkeypatch.setattr(engine.embedded, "start", start)
    app = create_app(config_for(None))
    with app.app_context(), pytest.raises(failures.DatabaseUnavailable, match=r"asked for .*instance.postgres"):
        statements.read(NUMBER, {})


def test_role_with_the_time_outs_gets_the_statement_alone(proxy, embedded_url):
    app = create_app(config_for(proxy.url("todo_test"), DATABASE_ROLE_LIMITS="true"))
    with app.app_context():
        statements.read(NUMBER, {})
        proxy.queries.clear()
        statements.read(NUMBER, {})
        statements.read(NUMBER, {}, BATCH_LIMITS)
        assert proxy.queries == [NUMBER, f"{BATCH_LIMITS.settings}{NUMBER}"]
        db.engine.dispose()
