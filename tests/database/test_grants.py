"""The database role of docs/operate/database.md: with these rights alone everything works, and nothing else does."""

import re
from contextlib import closing

import psycopg2
import pytest
from flask import request
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import make_url
from support import bearer, config_for, new_database, new_user
from wire.server import query
from wire.server import run as run_process

from todo import create_app
from todo.extensions import db

ROLE = "todo_service"


@pytest.fixture(scope="module")
def grants(root):
    """Return the statements that the documentation tells an operator to run."""
    (block,) = re.findall(
        r"^ *```sql\n(.*?)^ *```$", (root / "docs/operate/database.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return block


@pytest.fixture(scope="module")
def owned_url(postgres, migrated_template, grants):
    """Return the owner's URL of a database with a role for the service, created by the documented statements."""
    url = new_database(postgres, "todo", migrated_template)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(grants)
    return url


@pytest.fixture(scope="module")
def url(owned_url):
    """Return the URL of the service's own role."""
    return make_url(owned_url).set(username=ROLE, drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def service(url):
    """Return the application in that role."""
    app = create_app(config_for(url))
    yield app
    with app.app_context():
        db.engine.dispose()


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
    (204, "DELETE", "/tasks/1", {}, None),
    (200, "GET", "/trash", {}, None),
    (200, "POST", "/trash/1/restore", {}, None),
    (204, "DELETE", "/tasks/1", {}, None),
    (204, "DELETE", "/tasks/2", {}, None),
    (204, "DELETE", "/trash/1", {}, None),
    (204, "DELETE", "/trash", {}, None),
    (200, "GET", "/tasks/changes", {}, None),
    (200, "GET", "/export", {}, None),
    (204, "DELETE", "", {"Confirm": "me"}, None),
]


def test_service_role_can_make_every_call(service, user):
    called = set()

    with service.test_client() as client:
        for status, method, path, headers, body in CALLS:
            sent = bearer(user) | headers
            sent |= {"Confirm": user} if "Confirm" in headers else {}
            answer = client.open(f"/api/{user}{path}", method=method, headers=sent, json=body)
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
    assert "must be owner of" in done.stderr
    assert query(owned_url, "SELECT version_num FROM alembic_version") == before
