"""One statement a request, and what happens when PostgreSQL is not there."""

import threading
import time
from contextlib import closing

import psycopg2
import pytest
from sqlalchemy import bindparam, literal, literal_column, select, text
from structlog.testing import capture_logs
from support import assert_problem, bearer, config_for

from todo import create_app
from todo.database import engine, failures, statements
from todo.database.statements import Prepared, prepared
from todo.database.timeouts import CALL
from todo.extensions import db
from todo.telemetry.logs import stack

NUMBER = text("SELECT 1 AS number")
ASKED = f"{CALL.settings}SELECT 1 AS number"


def as_it_is(statement):
    """Give a statement that SQLAlchemy compiles and runs."""
    return statement


# Both ways in which statements are run.
both_ways = pytest.mark.parametrize("made", [as_it_is, prepared])


@pytest.fixture
def warm(proxied, proxy):
    """Give an application context with one warm connection in the pool, and forget how it got there."""
    with proxied.app_context():
        statements.read(NUMBER, {})
        proxy.queries.clear()
        yield proxied


@both_ways
def test_read_warm_is_one_round_trip(warm, proxy, made):
    assert statements.read(made(NUMBER), {})[0].number == 1
    assert proxy.queries == [ASKED]


@both_ways
def test_read_after_a_long_rest_pings_first(warm, proxy, monkeypatch, made):
    monkeypatch.setattr(engine, "TRUSTED_IDLE_S", -1)
    statements.read(made(NUMBER), {})
    assert len(proxy.queries) == 2
    assert proxy.queries[1] == ASKED


@both_ways
@pytest.mark.parametrize("run", [statements.read, statements.write])
def test_connection_closed_while_idle_is_replaced_before_use(warm, proxy, run, made):
    proxy.cut()
    time.sleep(0.05)
    assert run(made(NUMBER), {})[0].number == 1
    assert proxy.queries.count(ASKED) == 1


@both_ways
def test_connection_that_the_server_spoke_on_is_pinged_and_kept(warm, proxy, made):
    proxy.notice()
    time.sleep(0.05)
    assert statements.read(made(NUMBER), {})[0].number == 1
    assert len(proxy.queries) == 2


@both_ways
def test_read_that_met_a_dead_connection_is_run_once_more(warm, proxy, monkeypatch, made):
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.cut()
    assert statements.read(made(NUMBER), {})[0].number == 1


@both_ways
def test_connections_that_rested_when_another_was_lost_are_replaced_without_a_word(warm, proxy, monkeypatch, made):
    with db.engine.connect(), db.engine.connect():
        pass
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.cut()
    assert statements.read(made(NUMBER), {})[0].number == 1
    with db.engine.connect():
        assert statements.write(made(NUMBER), {})[0].number == 1


@both_ways
def test_read_whose_second_attempt_fails_too_is_unavailable(warm, proxy, monkeypatch, made):
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.refuse = True
    proxy.cut()
    with pytest.raises(failures.DatabaseUnavailable):
        statements.read(made(NUMBER), {})


@both_ways
def test_write_that_met_a_dead_connection_is_never_run_again(warm, proxy, monkeypatch, made):
    monkeypatch.setattr(engine, "_has_something_to_read", lambda _: False)
    proxy.cut()
    with pytest.raises(failures.DatabaseUnavailable):
        statements.write(made(NUMBER), {})
    assert ASKED not in proxy.queries
    assert statements.write(made(NUMBER), {})[0].number == 1


@both_ways
@pytest.mark.parametrize("run", [statements.read, statements.write])
def test_every_connection_in_use_is_unavailable_and_passes(database_url, monkeypatch, run, made):
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.1)
    app = create_app(config_for(database_url, WEB_THREADS="1"))
    with app.app_context():
        with (
            db.engine.connect(),
            db.engine.connect(),
            pytest.raises(failures.DatabaseUnavailable, match="in use"),
        ):
            run(made(NUMBER), {})
        assert run(made(NUMBER), {})[0].number == 1
        db.engine.dispose()


def test_nobody_waits_longer_than_10_s_for_a_connection():
    dying_s = engine.CONNECT_ARGS["tcp_user_timeout"] / 1000
    assert engine.POOL_TIMEOUT_S + max(dying_s, engine.PING_S) + engine.CONNECT_TIMEOUT_S < 10


def test_connection_on_which_nothing_comes_any_more_is_given_up_soon():
    given = engine.CONNECT_ARGS
    assert given["keepalives_idle"] + given["keepalives_interval"] * given["keepalives_count"] < 15


@both_ways
@pytest.mark.parametrize("run", [statements.read, statements.write])
@pytest.mark.parametrize(
    ("statement", "sqlstate"),
    [
        pytest.param("SELECT * FROM nothing_here", "42P01", id="no such table"),
        pytest.param("SELECT nothing_here FROM tasks", "42703", id="no such column"),
    ],
)
def test_schema_that_lacks_something_is_unavailable(app, run, statement, sqlstate, made):
    with app.app_context(), pytest.raises(failures.SchemaLacking, match=sqlstate):
        run(made(text(statement)), {})


@both_ways
@pytest.mark.parametrize(
    "sqlstate", ["08006", "25006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "58030"]
)
def test_passing_trouble_of_the_server_is_unavailable(app, sqlstate, made):
    trouble = text(f"DO $$ BEGIN RAISE 'trouble with a secret' USING ERRCODE = '{sqlstate}'; END $$")
    with app.app_context(), pytest.raises(failures.DatabaseUnavailable, match=sqlstate):
        statements.write(made(trouble), {})


def test_prepared_statement_holds_its_text_and_its_constants():
    statement = select(bindparam("asked"), literal(7).label("always"), literal(None))
    made = prepared(statement)
    assert made == Prepared(str(statement.compile(dialect=statements.PGDialect_psycopg2())), made.constants)
    assert "%(asked)s" in made.sql
    assert list(made.constants.values()) == [7]


def test_prepared_statement_is_run_with_constants_and_parameters(warm, proxy):
    made = prepared(select((bindparam("asked") + literal(7)).label("number"), literal_column("'100 %'").label("text")))
    for run in (statements.read, statements.write):
        assert [tuple(row) for row in run(made, {"asked": 3})] == [(10, "100 %")]
    assert len(proxy.queries) == 2


def test_prepared_statements_are_one_message_and_give_the_rows_of_the_last(warm, proxy):
    asked = bindparam("asked")
    made = prepared(select((asked + literal(1)).label("first")), select((asked + literal(2)).label("second")))
    assert [row._asdict() for row in statements.write(made, {"asked": 40})] == [{"second": 42}]
    (query,) = proxy.queries
    assert query.count("SELECT") == 2


def test_prepared_statements_take_effect_together_or_not_at_all(app, user):
    insertion = text("INSERT INTO task_lists (user_id, revision) VALUES (:asked, 1)")
    with app.app_context():
        with pytest.raises(failures.InternalError):
            statements.write(prepared(insertion, text("SELECT 1 / 0")), {"asked": user})
        there = text("SELECT 1 FROM task_lists WHERE user_id = :asked")
        assert statements.read(there, {"asked": user}) == []
        both = prepared(insertion, text("SELECT revision FROM task_lists WHERE user_id = :asked"))
        assert statements.write(both, {"asked": user}) == [(1,)]


@pytest.fixture
def stumbling(warm, proxy):
    """Give a statement that fails with a SQLSTATE so many times, and then says at which attempt it did not."""
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
    return text("SELECT pg_temp.stumble(:failures, :code) AS attempt")


@both_ways
@pytest.mark.parametrize("run", [statements.read, statements.write])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_statement_that_was_taken_back_is_run_once_more(stumbling, proxy, run, sqlstate, made):
    assert run(made(stumbling), {"failures": 1, "code": sqlstate})[0].attempt == 2
    assert len(proxy.queries) == 2


@both_ways
@pytest.mark.parametrize("run", [statements.read, statements.write])
@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_statement_that_was_taken_back_twice_is_unavailable(stumbling, proxy, run, sqlstate, made):
    with pytest.raises(failures.RolledBack, match=sqlstate):
        run(made(stumbling), {"failures": 2, "code": sqlstate})
    assert len(proxy.queries) == 2


@both_ways
@pytest.mark.parametrize("sqlstate", ["40002", "40003", "55P03", "57014", "23505"])
def test_write_that_failed_otherwise_is_never_run_again(stumbling, proxy, sqlstate, made):
    with pytest.raises((failures.DatabaseUnavailable, failures.InternalError), match=sqlstate):
        statements.write(made(stumbling), {"failures": 1, "code": sqlstate})
    assert len(proxy.queries) == 1


def test_transaction_that_ends_well_is_kept_and_any_other_is_taken_back(app, user):
    insertion = text("INSERT INTO task_lists (user_id, revision) VALUES (:user, :revision)")
    there = text("SELECT revision FROM task_lists WHERE user_id = :user")
    with app.app_context():
        with pytest.raises(RuntimeError):
            with statements.transaction() as connection:
                statements.execute(connection, insertion, {"user": user, "revision": 1})
                raise RuntimeError
        with statements.transaction("REPEATABLE READ") as connection:
            statements.execute(connection, insertion, {"user": user, "revision": 2})
            assert statements.read(there, {"user": user}) == []
        assert statements.read(there, {"user": user}) == [(2,)]


def test_bug_is_logged_without_what_users_wrote(client, app, user, monkeypatch):
    broken = text("INSERT INTO tasks (user_id, title) VALUES (:caller, repeat(:new_title, 100)) RETURNING 1")
    monkeypatch.setattr("todo.tasks.queries.CREATE", broken)
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


@both_ways
def test_breaker_does_not_pause_after_a_quick_refusal(warm, proxy, made):
    proxy.refuse = True
    proxy.cut()
    time.sleep(0.05)
    with pytest.raises(failures.DatabaseUnavailable):
        statements.read(made(NUMBER), {})
    proxy.refuse = False
    assert statements.read(made(NUMBER), {})[0].number == 1


def test_mistake_of_ours_is_a_bug_and_stays_one(client, app, user, monkeypatch):
    monkeypatch.setattr("todo.tasks.queries.GET", text("SELEC"))
    with capture_logs():
        assert_problem(client.get("/api/me/tasks/1", headers=bearer(user)), 500)


@both_ways
def test_wrong_password_or_database_is_unavailable(postgres, made):
    app = create_app(config_for(postgres.get_uri(database="not_there")))
    with app.app_context(), pytest.raises(failures.DatabaseUnavailable):
        statements.read(made(NUMBER), {})


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
    ahead = text(
        "UPDATE tasks SET updated_at = now() + interval '1 hour' WHERE user_id = :u"
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


@both_ways
def test_engine_uses_the_embedded_server_when_no_url_is_set(monkeypatch, made):
    def start(path):
        raise engine.embedded.EmbeddedUnavailable(f"asked for {path}")

    monkeypatch.setattr(engine.embedded, "start", start)
    app = create_app(config_for(None))
    with app.app_context(), pytest.raises(failures.DatabaseUnavailable, match=r"asked for .*instance.postgres"):
        statements.read(made(NUMBER), {})
