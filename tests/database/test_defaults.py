"""What a role or a database sets for its sessions changes nothing that a client sees."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import click
import flask_migrate
import pytest
from support import TASK_MEMBERS, assert_problem, bearer, call_as, config_for, migrate, new_database, new_user
from wire.server import query

from todo import create_app
from todo.database import statements
from todo.database.ownership import newest
from todo.database.timeouts import BATCH_LIMITS, NO_LIMITS, REQUEST_LIMITS
from todo.extensions import db
from todo.tasks import seeds
from todo.trash import purging
from todo.users import queries

NAME = "todo_defaults"
# Letters beyond Latin-1 and the Basic Multilingual Plane, and what means something in SQL, in patterns or in arrays.
TITLE = r"žluť 🎂 O'Brien \ \' \n %s _ {NULL}"

DEFAULTS = [
    ("client_encoding", "latin1"),
    ("client_encoding", "sql_ascii"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_deferrable", "on"),
    ("lock_timeout", "1"),
    ("idle_in_transaction_session_timeout", "300"),
    ("idle_session_timeout", "300"),
    ("timezone", "Asia/Kathmandu"),
    ("datestyle", "SQL, DMY"),
    ("intervalstyle", "sql_standard"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("escape_string_warning", "off"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("row_security", "off"),
    ("client_min_messages", "debug5"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("xmloption", "document"),
]


@pytest.fixture(scope="module")
def url(postgres, migrated_template):
    """Return the URL of a migrated database of these tests alone."""
    return new_database(postgres, NAME, migrated_template)


@contextmanager
def app_on(url, **defaults):
    """Yield the application on the database, of which these are the defaults for sessions that begin now."""
    for name, value in defaults.items():
        query(url, f"ALTER DATABASE {NAME} SET {name} = '{value}'")
    app = create_app(config_for(url, WEB_THREADS="8"))
    try:
        yield app
    finally:
        with app.app_context():
            db.engine.dispose()
        query(url.replace(NAME, "postgres"), f"ALTER DATABASE {NAME} RESET ALL")


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_calls_do_the_same_whatever_the_default_is(url, name, value):
    user = new_user()
    with app_on(url, **{name: value}) as app:
        call = call_as(app.test_client(), user)
        members = {"title": TITLE, "description": TITLE, "tags": [TITLE], "due_date": "2026-03-04", "priority": "high"}
        made = call("POST", "/tasks", **members)
        assert made.status_code == 201
        assert list(made.json) == TASK_MEMBERS
        assert {name: made.json[name] for name in members} == members
        path = f"/tasks/{made.json['id']}"
        assert call("GET", path).json == made.json
        completed = call("PATCH", f"{path}/complete").json
        assert completed["completed_at"] >= made.json["created_at"]
        for question in ({"search": "ZLUT"}, {"search": r"\ "}, {"tag": TITLE}, {"due_after": "2026-03-03"}):
            assert [task["title"] for task in call("GET", "/tasks", query=question).json] == [TITLE], question
        summary = call("GET", "/tasks/summary").json
        assert (summary["total"], summary["by_tag"]) == (1, [{"tag": TITLE, "count": 1}])
        assert call("DELETE", path).status_code == 204
        trashed = call("GET", "/trash").json[0]
        assert trashed["title"] == TITLE
        assert call("POST", f"/trash/{made.json['id']}/restore").json["created_at"] == made.json["created_at"]
        changes = call("GET", "/tasks/changes").json
        (task,) = changes["tasks"]
        assert task["title"] == TITLE
        assert changes["checksum"] == hashlib.sha256(f"{task['id']}:{task['revision']}\n".encode()).hexdigest()
        _, exported = map(json.loads, call("GET", "/export").get_data().splitlines())
        assert exported["task"]["title"] == TITLE
        with app.app_context():
            with seeds.planting(user, 3) as (missing, batches):
                assert (missing, sum(batches)) == (2, 2)
            assert purging.list_expired(1).expired == []
            assert queries.erase(user).tasks == 3


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_writes_of_one_user_at_once_all_succeed_whatever_the_isolation_level_is(url, level):
    user = new_user()
    with app_on(url, default_transaction_isolation=level) as app:

        def create(number):
            return call_as(app.test_client(), user)("POST", "/tasks", title=f"task {number}").status_code

        with ThreadPoolExecutor(8) as clients:
            assert list(clients.map(create, range(64))) == [201] * 64


SHOWN = {
    "transaction_isolation": ("read committed", "read committed", "read committed"),
    "client_encoding": ("UTF8", "UTF8", "UTF8"),
    "lock_timeout": ("3s", "3s", "0"),
    "statement_timeout": ("5s", "1min", "0"),
    "idle_in_transaction_session_timeout": ("9s", "1min", "0"),
    "transaction_timeout": ("9s", "0", "0"),
}
SHOW = "SELECT " + ", ".join(f"current_setting('{name}', true) AS {name}" for name in SHOWN)


def test_session_says_what_each_kind_of_statement_needs_and_keeps_nothing(url):
    timeouts = [name for name in SHOWN if name.endswith("_timeout")]
    defaults = {"default_transaction_isolation": "serializable", "client_encoding": "latin1"}
    with app_on(url, **dict.fromkeys(timeouts, "9s"), **defaults) as app, app.app_context():
        found = [statements.read(SHOW, {})[0]]
        for within in (BATCH_LIMITS, NO_LIMITS):
            with statements.transaction(within) as transaction:
                found.append(transaction.read(SHOW, {})[0])
        assert {name: tuple(getattr(row, name) for row in found) for name in SHOWN} == SHOWN
        with statements.transaction(BATCH_LIMITS, "REPEATABLE READ") as transaction:
            assert transaction.read(SHOW, {})[0].transaction_isolation == "repeatable read"
        with db.engine.connect() as connection:
            kept = connection.exec_driver_sql(SHOW).one()._asdict()
    assert kept == {
        "transaction_isolation": "serializable",
        "client_encoding": "UTF8",
        **dict.fromkeys(timeouts, "9s"),
    }


def test_migrations_run_whatever_the_defaults_are(postgres):
    url = new_database(postgres, "todo_defaults_migrated")
    defaults = {
        "client_encoding": "latin1",
        "default_transaction_isolation": "serializable",
        "standard_conforming_strings": "off",
        "datestyle": "SQL, DMY",
        "lock_timeout": "1",
        "idle_in_transaction_session_timeout": "300",
        "transaction_timeout": "700",
    }
    for name, value in defaults.items():
        query(url, f"ALTER DATABASE todo_defaults_migrated SET {name} = '{value}'")
    migrate(url)
    assert query(url, "SELECT count(*) FROM alembic_version") == [(1,)]


def test_database_that_is_read_only_by_default_serves_reads_and_refuses_writes(url, user):
    with app_on(url) as app:
        assert call_as(app.test_client(), user)("POST", "/tasks", title="x").status_code == 201
    with app_on(url, default_transaction_read_only="on") as app:
        call = call_as(app.test_client(), user)
        assert [task["title"] for task in call("GET", "/tasks").json] == ["x"]
        assert_problem(call("POST", "/tasks", title="y"), 503)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1250", "EUC_JP"])
def test_database_of_another_encoding_is_refused(postgres, encoding, user):
    name = f"todo_{encoding.lower()}"
    query(postgres.get_uri(), f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    url = postgres.get_uri(database=name)
    app = create_app(config_for(url))
    with app.app_context():
        with pytest.raises(click.ClickException, match=f"encoded in {encoding}, .* must be UTF8"):
            flask_migrate.upgrade()
        db.engine.dispose()
    assert query(url, "SELECT to_regclass('tasks'), to_regclass('alembic_version')") == [(None, None)]

    # It was migrated by an older version, which did not look.
    query(url, "CREATE TABLE alembic_version (version_num text)")
    query(url, "INSERT INTO alembic_version VALUES (%s)", newest())
    problem = assert_problem(app.test_client().get("/health/ready"), 503)
    assert problem["checks"] == {"database": "ok", "schema": "failed"}
    checked = app.test_cli_runner().invoke(args=["doctor"]).output
    assert f"✗ encoding: the database is encoded in {encoding}" in checked
    assert "ENCODING 'UTF8'" in checked
    with app.app_context():
        db.engine.dispose()


def test_limits_of_a_request_say_the_isolation_level_first():
    assert REQUEST_LIMITS.settings.startswith("SET TRANSACTION ISOLATION LEVEL READ COMMITTED;\n")


def test_call_says_all_of_it_in_its_one_round_trip(proxied, proxy, user):
    client = proxied.test_client()
    client.get("/api/me/tasks", headers=bearer(user))
    proxy.queries.clear()
    client.get("/api/me/tasks", headers=bearer(user))
    (sent,) = proxy.queries
    assert sent.startswith(REQUEST_LIMITS.settings)
