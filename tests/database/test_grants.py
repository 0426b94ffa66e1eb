"""The role of migrations/roles.sql: with its rights alone everything works, and nothing else does.

PostgreSQL's log has nothing of what its statements hold.
"""

import re
import subprocess
import uuid
from contextlib import ExitStack, closing, suppress
from threading import Thread

import psycopg2
import pytest
from flask import request
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import make_url
from support import bearer, config_for, migrate, new_database, new_user, open_app
from wire.server import locked, query, wait_until
from wire.server import run as run_process

from todo import create_app
from todo.extensions import db

ROLE = "todo_service"
PASSWORD = "it's a 'password' of \\ the service"

GRANT = re.compile(r"^GRANT (?!CONNECT).*;$", re.MULTILINE)
RIGHTS = """
    SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = 'todo_service'
    ORDER BY table_name, privilege_type
"""


@pytest.fixture(scope="module")
def run_script(postgres, root):
    """Return a function that runs the script as the owner of a database."""

    def run_script(url, **variables):
        return subprocess.run(
            [postgres.bin_path / "psql", "--no-psqlrc", "--quiet", f"--file={root / 'migrations' / 'roles.sql'}", url],
            env={"POSTGRES_SERVICE_PASSWORD": PASSWORD} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run_script


@pytest.fixture(scope="module")
def owned_url(postgres, migrated_template, run_script):
    """Return the owner's URL of a database with a role for the service."""
    url = new_database(postgres, "todo", migrated_template)
    done = run_script(url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return url


def test_documented_rights_are_those_of_the_script(root):
    documented = GRANT.findall((root / "docs" / "operate" / "database.md").read_text())
    assert documented
    assert documented == GRANT.findall((root / "migrations" / "roles.sql").read_text())


def test_script_that_runs_again_leaves_the_same_rights_and_takes_others_away(owned_url, run_script):
    before = query(owned_url, RIGHTS)
    query(owned_url, "GRANT TRUNCATE, REFERENCES ON tasks TO todo_service")
    query(owned_url, "GRANT CREATE ON SCHEMA public TO PUBLIC")

    done = run_script(owned_url)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert query(owned_url, RIGHTS) == before
    assert query(owned_url, "SELECT has_schema_privilege('todo_service', 'public', 'CREATE')") == [(False,)]
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'todo_service'"
    assert query(owned_url, stored)[0][0].startswith("SCRAM-SHA-256$")


def test_script_without_a_password_changes_nothing(postgres, migrated_template, run_script):
    url = new_database(postgres, new_user(), migrated_template)
    done = run_script(url, POSTGRES_SERVICE_PASSWORD="")
    assert done.returncode == 3
    assert "ERROR:  POSTGRES_SERVICE_PASSWORD is not set" in done.stderr
    assert query(url, RIGHTS) == []


def test_script_on_a_database_without_tables_changes_nothing(postgres, run_script):
    url = new_database(postgres, new_user())
    done = run_script(url)
    assert done.returncode == 3
    assert 'relation "task_lists" does not exist' in done.stderr


def test_script_of_an_owner_who_is_no_superuser_grants_the_rights_alone(postgres, owned_url, run_script):
    """As at a provider. The role exists in the whole cluster, so this owner needs the right to change it."""
    owner = f"owner_{uuid.uuid4().hex}"
    query(postgres.get_uri(), f"CREATE ROLE {owner} LOGIN CREATEROLE")
    query(postgres.get_uri(), f"CREATE DATABASE {owner} OWNER {owner}")
    query(postgres.get_uri(), f"GRANT todo_service TO {owner} WITH ADMIN OPTION")
    query(postgres.get_uri(), "ALTER ROLE todo_service SET log_statement = ddl")
    url = make_url(postgres.get_uri(database=owner)).set(username=owner).render_as_string(hide_password=False)
    migrate(url)

    done = run_script(url)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    settings = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'todo_service'::regrole"
    assert "log_statement=ddl" in query(url, settings)[0][0]
    query(postgres.get_uri(), f"GRANT SET ON PARAMETER log_statement TO {owner}")
    assert run_script(url).returncode == 0
    assert "log_statement=none" in query(url, settings)[0][0]


@pytest.fixture(scope="module")
def url(owned_url):
    """Return the URL of the service's own role."""
    return make_url(owned_url).set(username=ROLE, drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def service(url):
    """Return the application in that role."""
    with open_app(url) as app:
        yield app


QUEUE = [
    {"op": "create", "key": "b", "task": {"title": "x"}},
    {"op": "delete", "id": 2},
    {"op": "restore", "id": 2},
    {"op": "update", "id": 1, "task": {"title": "z"}},
]

# In this order: status, method, path below the user's own, headers, body. The tasks have the ids 1 and 2.
CALLS = [
    (201, "POST", "/tasks", {"Idempotency-Key": "a"}, {"title": "x", "tags": ["y"]}),
    (201, "POST", "/tasks", {"Idempotency-Key": "a"}, {"title": "x", "tags": ["y"]}),
    (201, "POST", "/tasks", {}, {"title": "z"}),
    (200, "GET", "/tasks", {}, None),
    (200, "GET", "/tasks?search=x&sort=-title&count=true&overdue=false", {}, None),
    (304, "GET", "/tasks/1", {"If-None-Match": '"1"'}, None),
    (200, "GET", "/tasks/summary", {}, None),
    (200, "PUT", "/tasks/1", {"If-Match": '"1"'}, {"title": "y"}),
    (412, "PATCH", "/tasks/1", {"If-Match": '"1"'}, {"title": "z"}),
    (200, "PATCH", "/tasks/1", {}, {"title": "z"}),
    (200, "PATCH", "/tasks/1/complete", {}, None),
    (200, "POST", "/tasks/batch", {}, {"operations": QUEUE[:2]}),
    (200, "POST", "/tasks/batch", {}, {"operations": QUEUE[2:]}),
    (204, "DELETE", "/tasks/1", {}, None),
    (200, "GET", "/trash", {}, None),
    (200, "POST", "/trash/1/restore", {}, None),
    (204, "DELETE", "/tasks/1", {}, None),
    (204, "DELETE", "/tasks/2", {}, None),
    (204, "DELETE", "/trash/1", {}, None),
    (204, "DELETE", "/trash", {}, None),
    (200, "GET", "/tasks/changes", {}, None),
    (200, "GET", "/tasks/events", {}, None),
    (200, "GET", "/export", {}, None),
    (200, "POST", "/import", {"Content-Type": "text/csv"}, "title"),
    (200, "POST", "/import", {"Content-Type": "text/csv"}, "title\nx"),
    (201, "PUT", "/calendar", {}, None),
    (200, "GET", "/calendar", {}, None),
    (204, "DELETE", "/calendar", {}, None),
    (204, "DELETE", "", {"Confirm": "me"}, None),
]


def test_service_role_can_make_every_call(service, owned_url, user):
    # The calls name the tasks of a new database: 1, 2 and so on.
    query(owned_url, "TRUNCATE tasks RESTART IDENTITY")
    called = set()

    with service.test_client() as client:
        for status, method, path, headers, body in CALLS:
            sent = bearer(user) | headers
            sent |= {"Confirm": user} if "Confirm" in headers else {}
            content = {"data": body} if isinstance(body, str) else {"json": body}
            answer = client.open(f"/api/{user}{path}", method=method, headers=sent, **content)
            assert answer.status_code == status, (method, path, answer.text)
            called.add(request.endpoint)
        assert client.get("/health/ready").status_code == 200

    guarded = {rule.endpoint for rule in service.url_map.iter_rules() if rule.rule.startswith("/api/")}
    assert called == guarded


def test_service_role_can_run_every_command(service, owned_url, tmp_path):
    user, other = new_user(), new_user()
    run = service.test_cli_runner().invoke

    assert run(args=["seed", "--user", user, "--count", "3"]).exit_code == 0
    with service.test_client() as client:
        assert client.post(f"/api/{other}/tasks", headers=bearer(other), json={"title": "x"}).status_code == 201
        task = client.get(f"/api/{other}/tasks", headers=bearer(other)).json[0]["id"]
        assert client.delete(f"/api/{other}/tasks/{task}", headers=bearer(other)).status_code == 204
    for age, left in (("31 days", 1), ("91 days", 0)):
        aged = f"deleted_at = deleted_at - interval '{age}', expires_at = expires_at - interval '{age}'"
        query(owned_url, f"UPDATE trash SET {aged} WHERE user_id = %s", other)
        assert run(args=["purge"]).exit_code == 0
        assert query(owned_url, "SELECT count(*) FROM trash WHERE user_id = %s", other) == [(left,)]
    assert run(args=["user", "export", user, "--output", str(tmp_path / "exported")]).exit_code == 0
    assert run(args=["user", "import", other, str(tmp_path / "exported")]).exit_code == 0
    assert run(args=["user", "erase", "--yes", user]).exit_code == 0


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "DROP TABLE tasks",
        "DELETE FROM task_lists",
        "TRUNCATE tasks",
        "ALTER TABLE tasks DISABLE TRIGGER ALL",
        "ALTER TABLE tasks DROP CONSTRAINT ck_tasks_updated_at_order",
        "CREATE INDEX ON tasks (title)",
        "CREATE OR REPLACE FUNCTION number_older_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "UPDATE alembic_version SET version_num = '0001_create_tasks'",
        "COMMENT ON TABLE alembic_version IS '9999'",
        "COPY tasks TO '/tmp/tasks'",
        "COPY tasks FROM PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "SET ROLE postgres",
        "CREATE ROLE another",
        "ALTER ROLE todo_service SUPERUSER",
        "ALTER SYSTEM SET log_statement = 'all'",
        "DROP DATABASE postgres",
    ],
    ids=lambda statement: " ".join(statement.split()[:3]),
)
def test_service_role_can_do_nothing_else(url, statement):
    with pytest.raises(InsufficientPrivilege):
        query(url, statement)


@pytest.mark.process
def test_service_role_cannot_migrate(url, owned_url):
    before = query(owned_url, "SELECT version_num FROM alembic_version")

    done = run_process("flask", "db", "downgrade", "--yes", "0004_add_revisions", DATABASE_URL=url)

    assert done.returncode == 1
    assert re.search("permission denied for table|must be owner of table", done.stderr)
    assert query(owned_url, "SELECT version_num FROM alembic_version") == before


@pytest.fixture
def log(postgres):
    """Return a function that returns PostgreSQL's log from the beginning of the test."""
    begin = postgres.log.stat().st_size

    def log():
        with postgres.log.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")

    return log


@pytest.fixture
def secret():
    """Return a text that nothing else has."""
    return f"title-{uuid.uuid4().hex}"


@pytest.mark.slow
@pytest.mark.parametrize("role", [ROLE, "postgres"])
def test_log_of_postgresql_has_no_title_of_a_call_that_waited_too_long_for_a_lock(owned_url, url, log, secret, role):
    """With the settings of the service's role it has only that a statement was cancelled; the owner has no settings."""
    app = create_app(config_for(url if role == ROLE else owned_url))
    headers = bearer(new_user())
    with app.test_client() as client:
        task = client.post("/api/me/tasks", headers=headers, json={"title": "x"}).json
        with locked(owned_url, task):
            answer = client.patch(f"/api/me/tasks/{task['id']}", headers=headers, json={"title": secret})
    with app.app_context():
        db.engine.dispose()

    assert answer.status_code == 503
    wait_until(lambda: "canceling statement due to lock timeout" in log(), "logged")
    assert (secret in log()) == (role != ROLE)


FAILURES = {
    "row": "INSERT INTO tasks (user_id, title, completed, completed_at) VALUES ('{secret}', '{secret}', NULL, NULL)",
    "time-out": "SET LOCAL statement_timeout = 50; SELECT pg_sleep(5), '{secret}'",
    "syntax": "SELECT '{secret}' FROM WHERE",
    "division": "SELECT 1 / 0, '{secret}'",
    "terminated": "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5), '{secret}'",
    "message": "DO $$ BEGIN RAISE LOG 'careful'; END $$ /* {secret} */",
}


@pytest.mark.parametrize("role", [ROLE, "postgres"])
@pytest.mark.parametrize("failure", FAILURES)
def test_log_of_postgresql_has_no_text_of_a_statement_that_fails(owned_url, url, log, secret, role, failure):
    with suppress(psycopg2.Error):
        query(url if role == ROLE else owned_url, FAILURES[failure].format(secret=secret))

    assert re.search("ERROR|FATAL|LOG", log())
    assert (secret in log()) == (role != ROLE)


@pytest.mark.parametrize("role", [ROLE, "postgres"])
def test_log_of_postgresql_has_no_text_of_statements_that_wait_for_each_other(owned_url, url, log, secret, role):
    """The report of a deadlock has the statements of all sessions in it."""
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(closing(psycopg2.connect(url if role == ROLE else owned_url))).cursor() for _ in "12"
        )
        one.execute("SELECT pg_advisory_xact_lock(1)")
        two.execute("SELECT pg_advisory_xact_lock(2)")
        crossed = f"SELECT pg_advisory_xact_lock(%s) /* {secret} */"
        waiting = Thread(target=refused, args=(two, crossed, [1]))
        waiting.start()
        refused(one, crossed, [2])
        one.connection.rollback()
        waiting.join()

    assert "deadlock detected" in log()
    assert (secret in log()) == (role != ROLE)


def refused(cursor, statement, values):
    with suppress(psycopg2.Error):
        cursor.execute(statement, values)


def test_log_of_postgresql_has_no_text_where_slow_statements_are_logged(owned_url, url, log, secret):
    database = make_url(owned_url).database
    try:
        query(owned_url, f"ALTER DATABASE {database} SET log_min_duration_statement = 0")
        query(owned_url, f"ALTER DATABASE {database} SET log_transaction_sample_rate = 1")
        query(url, "SELECT %s", secret)
        assert secret not in log()
        query(owned_url, "SELECT %s", secret)
        assert secret in log()
    finally:
        query(owned_url, f"ALTER DATABASE {database} RESET ALL")
