"""A database that other applications use too: nothing of theirs is taken over, changed or dropped."""

import re
from contextlib import closing
from itertools import pairwise

import click
import flask_migrate
import psycopg2
import pytest
from alembic.script import ScriptDirectory
from flask import current_app
from support import config_for, new_database
from wire.server import query

from todo import create_app
from todo.database import ownership
from todo.extensions import db
from todo.health import database_state

LATEST = ownership.newest()

# Every name in the schemas that are no part of PostgreSQL, with what stands behind it.
EVERYTHING = """
    SELECT nspname || '.' || name, kind, detail FROM (
        SELECT relnamespace AS namespace, relname AS name, relkind::text AS kind, oid::text AS detail FROM pg_class
        UNION ALL SELECT typnamespace, typname, 'type', oid::text FROM pg_type
        UNION ALL SELECT pronamespace, proname, 'function', md5(prosrc) FROM pg_proc
        UNION ALL SELECT pg_class.relnamespace, tgname, 'trigger', tgrelid::text
                  FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    ) AS found JOIN pg_namespace ON pg_namespace.oid = namespace
    WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' ORDER BY 1, 2, 3
"""

# What somebody else may have, by a part of the message that refuses it.
FOREIGN = {
    "enumeration": ("CREATE TYPE priority AS ENUM ('p1', 'p2')", "type priority"),
    "enumeration like ours": ("CREATE TYPE priority AS ENUM ('low', 'medium', 'high')", "type priority"),
    "domain": ("CREATE DOMAIN priority AS text", "type priority"),
    "composite type": ("CREATE TYPE priority AS (rank int)", "type priority"),
    "table of a type's name": ("CREATE TABLE priority (id int)", "type priority"),
    "table": ("CREATE TABLE tasks (id int, title text)", "table tasks"),
    "table like ours": ("CREATE TABLE tasks (user_id text, id bigint, title text)", "table tasks"),
    "later table": ("CREATE TABLE trash (id int)", "table trash"),
    "lists": ("CREATE TABLE task_lists (id int)", "table task_lists"),
    "view": ("CREATE VIEW tasks AS SELECT 1 AS id", "table tasks"),
    "materialised view": ("CREATE MATERIALIZED VIEW trash AS SELECT 1 AS id", "table trash"),
    "sequence": ("CREATE SEQUENCE trash", "table trash"),
    "type of a table's name": ("CREATE TYPE trash AS ENUM ('full')", "table trash"),
    "index": ("CREATE TABLE theirs (id int); CREATE INDEX ix_tasks_user_id_revision ON theirs (id)", "index ix_tasks"),
    "key": ("CREATE TABLE theirs (id int CONSTRAINT pk_tasks PRIMARY KEY)", "index pk_tasks"),
    "table of an index's name": ("CREATE TABLE pk_trash (id int)", "index pk_trash"),
    "function": (
        "CREATE FUNCTION number_older_write() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "function number_older_write",
    ),
    "procedure": ("CREATE PROCEDURE number_older_write() LANGUAGE sql AS 'SELECT 1'", "function number_older_write"),
}


@pytest.fixture
def shared(postgres, request):
    """Return the URL of an empty database, within the context of an application on it."""
    digest = abs(hash(request.node.name))
    url = new_database(postgres, f"todo_shared_{digest}")
    app = create_app(config_for(url))
    with app.app_context():
        yield url
        db.engine.dispose()


def test_every_migration_declares_the_names_that_it_creates(shared):
    """Names that PostgreSQL derives, and makes distinct by itself, are left out."""
    script = ScriptDirectory(current_app.extensions["migrate"].directory)
    kinds = {"r": "table", "i": "index", "S": "sequence", "type": "type", "function": "function"}
    seen = set()
    for revision in ownership.revisions():
        flask_migrate.upgrade(revision=revision)
        found = {
            (kinds[kind], name.removeprefix("public.")) for name, kind, _ in query(shared, EVERYTHING) if kind in kinds
        }
        tables = {name for kind, name in found if kind == "table"}
        created = {
            (kind, name)
            for kind, name in found - seen
            if not (kind == "type" and name.lstrip("_") in tables)
            and not name.startswith(("_", "alembic_version"))
            and kind != "sequence"
        }
        names = getattr(script.get_revision(revision).module, "CREATES", {})
        assert created == {(kind, name) for kind, all_of_it in names.items() for name in all_of_it}
        seen = found


@pytest.mark.parametrize("name", FOREIGN)
def test_upgrade_refuses_a_name_that_is_taken_before_it_does_anything(shared, name):
    statement, said = FOREIGN[name]
    query(shared, statement)
    before = query(shared, EVERYTHING)
    with pytest.raises(click.ClickException, match=said) as refused:
        flask_migrate.upgrade()
    assert "\n" not in refused.value.message
    assert query(shared, EVERYTHING) == before


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("CREATE TYPE priority AS ENUM ('p1')", id="type"),
        pytest.param("CREATE FUNCTION number_older_write() RETURNS int LANGUAGE sql AS 'SELECT 1'", id="function"),
        pytest.param("CREATE TABLE x (id int); CREATE INDEX ix_tasks_user_id_revision ON x (id)", id="index"),
        pytest.param("CREATE TABLE trash (id int)", id="table"),
    ],
)
def test_upgrade_of_an_older_schema_refuses_a_name_that_is_taken(shared, statement):
    flask_migrate.upgrade(revision="0001_create_tasks")
    query(shared, statement)
    before = query(shared, EVERYTHING)
    with pytest.raises(click.ClickException, match="not of this service"):
        flask_migrate.upgrade()
    assert query(shared, EVERYTHING) == before


def test_names_that_are_no_obstacle_are_left_alone_up_and_down(shared):
    query(
        shared,
        """
        CREATE TABLE users (id serial PRIMARY KEY, priority text, CONSTRAINT ck_tasks_title_length CHECK (id > 0));
        CREATE SEQUENCE tasks_id_seq;
        CREATE FUNCTION number_older_write(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE TYPE low AS ENUM ('low', 'medium', 'high');
        CREATE SCHEMA theirs;
        CREATE TABLE theirs.tasks (id int);
        CREATE TABLE theirs.alembic_version (version_num text);
        CREATE TYPE theirs.priority AS ENUM ('p1');
        """,
    )
    before = query(shared, EVERYTHING)
    for _ in range(2):
        flask_migrate.upgrade()
        assert database_state()[1] is None
        assert query(shared, "SELECT pg_get_serial_sequence('tasks', 'id') <> 'public.tasks_id_seq'") == [(True,)]
        flask_migrate.check()
        flask_migrate.downgrade(revision="base")
        left = query(shared, EVERYTHING)
        assert [found for found in left if "alembic_version" not in found[0]] == [
            found for found in before if "alembic_version" not in found[0]
        ]


@pytest.mark.parametrize("labels", ["'p1', 'p2'", "'low', 'medium', 'high'"])
@pytest.mark.parametrize("column", ["priority", "priority[]", None])
def test_downgrade_keeps_a_type_that_an_earlier_version_took_over(shared, labels, column):
    """A type with our values that nobody else uses cannot be told from ours."""
    flask_migrate.upgrade()
    query(shared, "ALTER TABLE tasks ALTER priority TYPE text; DROP TYPE priority")
    query(shared, f"CREATE TYPE priority AS ENUM ({labels})")
    query(shared, "ALTER TABLE tasks ALTER priority TYPE priority USING priority::priority")
    if column:
        query(shared, f"CREATE TABLE theirs (level {column})")
    flask_migrate.downgrade(revision="base")
    kept = query(shared, "SELECT count(*) FROM pg_type WHERE typname = 'priority'")
    assert kept == [(0 if column is None and "low" in labels else 1,)]


ALEMBIC = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
VERSIONS = {
    "revision": [ALEMBIC, "INSERT INTO alembic_version VALUES ('5f3c2a1b9d0e')"],
    "revision that sorts after ours": [ALEMBIC, "INSERT INTO alembic_version VALUES ('f00000000000')"],
    "numbered revision": [ALEMBIC, "INSERT INTO alembic_version VALUES ('9999_add_users')"],
    "numbered revision before ours": [ALEMBIC, "INSERT INTO alembic_version VALUES ('0001_initial')"],
    "two revisions": [ALEMBIC, "INSERT INTO alembic_version VALUES ('5f3c2a1b9d0e'), ('0001_create_tasks')"],
    "two of our revisions": [
        ALEMBIC,
        "INSERT INTO alembic_version VALUES ('0002_organise_tasks'), ('0001_create_tasks')",
    ],
    "table of another kind": ["CREATE TABLE alembic_version (id int)"],
    "view": ["CREATE VIEW alembic_version AS SELECT 1 AS version"],
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(flask_migrate.upgrade, id="upgrade"),
        pytest.param(lambda: flask_migrate.downgrade(revision="base"), id="downgrade"),
        pytest.param(flask_migrate.stamp, id="stamp"),
        pytest.param(lambda: flask_migrate.stamp(purge=True), id="purge"),
        pytest.param(flask_migrate.current, id="current"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_version_table_of_another_application_is_refused_and_kept(shared, version, command):
    for statement in VERSIONS[version]:
        query(shared, statement)
    before = query(shared, EVERYTHING), query(shared, "SELECT * FROM alembic_version ORDER BY 1")
    with pytest.raises(
        click.ClickException, match="alembic_version in the schema public is that of another application"
    ):
        command()
    assert (query(shared, EVERYTHING), query(shared, "SELECT * FROM alembic_version ORDER BY 1")) == before
    _, problem = database_state()
    assert problem is not None


def test_downgrade_of_another_application_is_refused_before_the_question(shared):
    for statement in VERSIONS["revision"]:
        query(shared, statement)
    refused = current_app.test_cli_runner().invoke(args=["db", "downgrade", "--yes"])
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "is that of another application (it is at 5f3c2a1b9d0e)" in refused.output


def test_schema_of_a_later_version_is_named_and_left_alone(shared):
    flask_migrate.upgrade()
    query(shared, "UPDATE alembic_version SET version_num = '9999_newer'")
    for command in (flask_migrate.upgrade, flask_migrate.downgrade):
        with pytest.raises(click.ClickException, match=f"the schema is at 9999_newer, .* after {LATEST}"):
            command()


@pytest.fixture
def paths(postgres, shared):
    """Return a function that returns the URL of the database with a search_path."""

    def paths(*schemas):
        for schema in schemas:
            query(shared, f"CREATE SCHEMA IF NOT EXISTS {schema}")
        separator = "&" if "?" in shared else "?"
        return f"{shared}{separator}options=-csearch_path%3D{','.join(schemas)}"

    return paths


@pytest.fixture
def on(paths):
    """Return a function that calls another one in the context of an application with a search_path."""
    apps = []

    def on(schemas, function, *arguments, **options):
        app = create_app(config_for(paths(*schemas)))
        apps.append(app)
        with app.app_context():
            try:
                return function(*arguments, **options)
            finally:
                db.engine.dispose()

    return on


def test_schema_of_its_own_before_a_shared_one_is_enough(shared, on):
    for statement, _ in (FOREIGN["enumeration"], FOREIGN["table"], FOREIGN["function"], FOREIGN["key"]):
        query(shared, statement)
    before = query(shared, EVERYTHING)
    for _ in range(2):
        on(["todo", "public"], flask_migrate.upgrade)
        assert on(["todo", "public"], database_state)[1] is None
        on(["todo", "public"], flask_migrate.downgrade, revision="base")
        left = query(shared, EVERYTHING)
        assert [found for found in left if found[0].startswith("public.")] == before
        assert {found[0] for found in left} - {found[0] for found in before} <= {
            "todo.alembic_version",
            "todo._alembic_version",
            "todo.alembic_version_pkc",
        }


def test_downgrade_drops_nothing_of_a_schema_that_comes_first_by_mistake(shared, on):
    on(["todo"], flask_migrate.upgrade)
    query(shared, "CREATE TABLE tasks (id int); CREATE TYPE priority AS ENUM ('p1')")
    before = query(shared, EVERYTHING)
    for command in (flask_migrate.upgrade, lambda: flask_migrate.downgrade(revision="base")):
        with pytest.raises(click.ClickException, match="put todo first in the search_path"):
            on(["public", "todo"], command)
    assert query(shared, EVERYTHING) == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE trash", "has no table trash"),
        ("ALTER TABLE trash SET SCHEMA elsewhere", "has no table trash"),
        ("ALTER TABLE tasks ALTER priority TYPE text; DROP TYPE priority", "has no type priority"),
    ],
)
def test_schema_that_lacks_what_it_should_have_is_refused(shared, damage, said):
    flask_migrate.upgrade()
    query(shared, "CREATE SCHEMA elsewhere")
    query(shared, damage)
    for command in (flask_migrate.upgrade, lambda: flask_migrate.downgrade(revision="base")):
        with pytest.raises(click.ClickException, match=f"is said to be at {LATEST}, and {said}"):
            command()


def test_stamp_says_what_it_did(shared, capsys):
    said = []
    for revision in ("head", "head", "0003_fold_texts", "base", "base"):
        flask_migrate.stamp(revision=revision)
        said.append(capsys.readouterr().out)
    stamped = [LATEST, LATEST, "0003_fold_texts", "no revision", "no revision"]
    assert said == [
        f"Stamped {after}, after {before}. No migration ran.\n" for before, after in pairwise(["no revision", *stamped])
    ]
    flask_migrate.stamp(revision="head", purge=True)
    assert capsys.readouterr().out == f"Stamped {LATEST}, after no revision. No migration ran.\n"


def test_upgrade_of_a_schema_that_was_only_stamped_says_what_is_missing_and_can_be_repaired(shared):
    flask_migrate.stamp()
    with pytest.raises(click.ClickException, match=r"has no table \w+"):
        flask_migrate.upgrade()
    flask_migrate.stamp(revision="base")
    flask_migrate.upgrade()
    assert database_state()[1] is None


def test_stamp_of_tables_that_have_lost_their_version_is_possible(shared):
    flask_migrate.upgrade()
    query(shared, "DROP TABLE alembic_version")
    with pytest.raises(click.ClickException, match="already, which is not of this service"):
        flask_migrate.upgrade()
    flask_migrate.stamp()
    flask_migrate.upgrade()
    assert database_state()[1] is None


def test_drafts_of_migrations_leave_tables_of_others_out(shared, capsys):
    flask_migrate.upgrade()
    query(shared, "CREATE TABLE theirs (id int PRIMARY KEY, name text UNIQUE)")
    flask_migrate.check()
    with closing(psycopg2.connect(shared)) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tasks ADD COLUMN ours int")
        connection.commit()
    with pytest.raises(SystemExit):
        flask_migrate.check()


def test_names_in_refusals_are_short(shared):
    query(shared, "CREATE TABLE alembic_version (version_num text)")
    query(shared, "INSERT INTO alembic_version VALUES (repeat('x', 10000))")
    with pytest.raises(click.ClickException) as refused:
        flask_migrate.upgrade()
    assert len(refused.value.message) < 300
    assert re.search("x{50}\\)", refused.value.message)
