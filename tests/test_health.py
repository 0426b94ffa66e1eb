"""The root page, and the liveness and readiness probes."""

import uuid

import pytest
from alembic.script import ScriptDirectory
from flask import current_app
from support import assert_problem, config_for, new_database

from todo import create_app
from todo.auth.fetch import FetchFailed
from todo.auth.jwks import KeyCache
from todo.auth.keys import Key, KeySet
from todo.database.ownership import newest
from todo.extensions import db
from todo.health import database_state


def test_root_names_the_service_and_every_link_works(client):
    response = client.get("/")
    assert response.status_code == 200
    assert response.json["name"] == "todo"
    assert response.json["version"]
    for link in response.json["links"].values():
        assert client.get(link).status_code == 200


def test_health_does_without_the_database(proxied, proxy):
    proxy.refuse = True
    response = proxied.test_client().get("/health")
    assert response.status_code == 200
    assert response.json == {"status": "healthy"}
    assert proxy.queries == []


def test_ready_with_database_and_schema_is_200(proxied, proxy):
    client = proxied.test_client()
    client.get("/health/ready")
    proxy.queries.clear()
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json == {"status": "ready", "checks": {"database": "ok", "schema": "ok"}}
    assert len(proxy.queries) == 1


def test_ready_without_database_names_the_check(proxied, proxy):
    proxy.refuse = True
    problem = assert_problem(proxied.test_client().get("/health/ready"), 503, "The database does not answer.")
    assert problem["checks"] == {"database": "failed", "schema": "unknown"}


@pytest.fixture
def versioned(postgres, migrated_template):
    """Return a function that creates an application on a migrated database that says it is at these revisions.

    None drops their table.
    """
    apps = []

    def build(*revisions, serves_from=None):
        app = create_app(config_for(new_database(postgres, f"todo_{uuid.uuid4().hex}", migrated_template)))
        apps.append(app)
        with app.app_context(), db.engine.connect() as connection:
            connection.exec_driver_sql("DELETE FROM alembic_version")
            connection.exec_driver_sql("ALTER TABLE alembic_version DROP CONSTRAINT alembic_version_pkc")
            for revision in filter(None, revisions):
                connection.exec_driver_sql("INSERT INTO alembic_version VALUES (%s)", (revision,))
            if serves_from is not None:
                connection.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS '{serves_from}'")
            if None in revisions:
                connection.exec_driver_sql("DROP TABLE alembic_version")
        return app

    yield build
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.mark.parametrize(
    ("revisions", "serves_from"),
    [
        pytest.param([None], None, id="no migration ever ran"),
        pytest.param([], None, id="every migration was reverted"),
        pytest.param(["0000_older"], None, id="an older schema"),
        pytest.param(["9999_newer"], "9998_contracted", id="a newer schema that excludes this version"),
        pytest.param(["9999_newer", "9999_other"], None, id="two schemas at once"),
        pytest.param(["5f3c2a1b9d0e"], None, id="the schema of another application"),
        pytest.param(["f00000000000"], None, id="the schema of another application, which sorts after ours"),
        pytest.param(["9999"], None, id="a number alone"),
        pytest.param(["9999_Newer"], None, id="a name that no revision has"),
        pytest.param([newest(), "5f3c2a1b9d0e"], None, id="our schema beside that of another application"),
    ],
)
def test_ready_with_an_incompatible_schema_names_the_check(versioned, revisions, serves_from):
    problem = assert_problem(versioned(*revisions, serves_from=serves_from).test_client().get("/health/ready"), 503)

    assert problem["checks"] == {"database": "ok", "schema": "failed"}


@pytest.mark.parametrize("serves_from", [None, "0001_create_tasks", newest()])
def test_ready_with_a_newer_compatible_schema_is_200_and_reports_it(versioned, serves_from):
    response = versioned("9999_newer", serves_from=serves_from).test_client().get("/health/ready")

    assert (response.status_code, response.json["checks"]) == (200, {"database": "ok", "schema": "newer"})


@pytest.mark.parametrize("revision", ["9999_newer", newest()])
@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE tasks, task_lists, trash",
        "DROP TABLE trash",
        "ALTER TABLE tasks DROP COLUMN description",
        "ALTER TABLE tasks RENAME TO tasks_of_somebody_else",
        "ALTER TABLE tasks SET SCHEMA elsewhere",
    ],
)
def test_ready_without_our_tables_is_503_whatever_the_revision(versioned, revision, damage):
    app = versioned(revision)
    with app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA elsewhere")
        connection.exec_driver_sql(damage)
    problem = assert_problem(app.test_client().get("/health/ready"), 503)
    assert problem["checks"] == {"database": "ok", "schema": "failed"}


def test_ready_with_a_newer_schema_that_has_dropped_our_columns_names_what_it_serves(versioned):
    app = versioned("9999_newer", serves_from="9998_contracted")
    with app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE tasks DROP COLUMN description")
        connection.commit()
        _, problem = database_state()
    assert "the schema is at 9999_newer" in problem.reason
    assert problem.reason.endswith("and the schema is for 9998_contracted and later")


def test_newest_is_the_head_of_the_migrations(app):
    with app.app_context():
        assert newest() == ScriptDirectory(current_app.extensions["migrate"].directory).get_current_head()


def test_ready_reports_the_state_of_the_issuers_keys(database_url):
    app = create_app(config_for(database_url, BETTER_AUTH_URL="http://127.0.0.1:1"))
    issuer = {"fault": FetchFailed("connection refused"), "now": 0.0}

    def fetch() -> KeySet:
        if issuer["fault"]:
            raise issuer["fault"]
        return KeySet({"k1": Key("k1", "EdDSA", (), None)})

    keys = app.extensions["issuer_keys"] = KeyCache(fetch, clock=lambda: issuer["now"])
    client = app.test_client()
    problem = assert_problem(client.get("/health/ready"), 503, "The keys of the token issuer could not be fetched yet.")
    assert problem["checks"] == {"database": "ok", "schema": "ok", "issuer": "failed"}
    issuer |= {"fault": None, "now": 20.0}
    assert client.get("/health/ready").json["checks"]["issuer"] == "ok"
    issuer |= {"fault": FetchFailed("status 503"), "now": 2000.0}
    client.get("/health/ready")
    keys.refresh().finished.wait()
    later = client.get("/health/ready")
    assert (later.status_code, later.json["checks"]["issuer"]) == (200, "stale")


def test_ready_without_database_and_keys_reports_both(proxied, proxy):
    proxy.refuse = True
    proxied.extensions["issuer_keys"] = KeyCache(lambda: 1 / 0)
    problem = assert_problem(proxied.test_client().get("/health/ready"), 503, "The database does not answer.")
    assert problem["checks"] == {"database": "failed", "schema": "unknown", "issuer": "failed"}
