"""Migrations: up, down, up; and the catalogue they make is the one that the models describe."""

from contextlib import closing

import click
import flask_migrate
import psycopg2
import pytest
from sqlalchemy import text
from support import PostgresProxy, config_for, new_database

from todo import create_app
from todo.extensions import db

CATALOGUE = {
    "columns": """
        SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default,
               is_identity, identity_generation
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
        ORDER BY table_name, ordinal_position""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
        ORDER BY 1, 2""",
    "indexes": """
        SELECT tablename, indexname, indexdef
        FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2""",
}


def catalogue(url):
    """Read what a database has, as far as anything of ours could differ."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        found = {}
        for name, query in CATALOGUE.items():
            cursor.execute(query)
            found[name] = cursor.fetchall()
        return found


@pytest.fixture
def empty(postgres, request):
    """Give the application on a database with nothing in it, and the URL."""
    url = new_database(postgres, f"todo_{request.node.name}"[:63])
    app = create_app(config_for(url))
    with app.app_context():
        yield url
        db.engine.dispose()


def test_migrations_up_down_up_make_the_catalogue_of_the_models(postgres, empty):
    flask_migrate.upgrade()
    migrated = catalogue(empty)
    flask_migrate.downgrade(revision="base")
    assert not any(catalogue(empty).values())
    flask_migrate.upgrade()
    assert catalogue(empty) == migrated
    modelled = new_database(postgres, "todo_modelled")
    app = create_app(config_for(modelled))
    with app.app_context():
        db.create_all()
        db.engine.dispose()
    assert catalogue(modelled) == migrated
    assert migrated["columns"]


def test_migrations_say_what_they_did(empty, capsys):
    flask_migrate.upgrade()
    flask_migrate.upgrade()
    flask_migrate.downgrade(revision="base")
    assert capsys.readouterr().out == "Applied 0001_create_tasks.\nTook back 0001_create_tasks.\n"


def test_migrations_leave_nothing_for_check_to_find(empty, capsys):
    flask_migrate.upgrade()
    flask_migrate.check()


def test_migrations_a_second_time_do_nothing(empty):
    flask_migrate.upgrade()
    with db.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO tasks (user_id, title) VALUES ('u', 'kept')")
        flask_migrate.upgrade()
        assert connection.scalar(text("SELECT count(*) FROM tasks")) == 1


def test_migrations_that_cannot_get_a_lock_give_up_and_say_so(empty):
    flask_migrate.upgrade()
    with closing(psycopg2.connect(empty)) as other:
        other.cursor().execute("SELECT count(*) FROM tasks")
        with pytest.raises(click.ClickException, match="lock timeout"):
            flask_migrate.downgrade(revision="base")
    flask_migrate.downgrade(revision="base")


def test_migrations_without_a_database_say_so_in_one_line(socket_path):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    app = create_app(config_for(proxy.url("todo")))
    with app.app_context(), pytest.raises(click.ClickException, match="the database cannot be used: ") as refused:
        flask_migrate.upgrade()
    assert "\n" not in refused.value.message


def test_migrations_can_be_written_as_sql(empty, capsys):
    flask_migrate.upgrade(sql=True)
    script = capsys.readouterr().out
    assert "CREATE TABLE tasks" in script
    assert not any(catalogue(empty).values())


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"user_id": ""}, "user_id_length"),
        ({"user_id": "x" * 256}, "user_id_length"),
        ({"title": ""}, "title_length"),
        ({"title": "é" * 201}, "title_length"),
        ({"description": "é" * 1001}, "description_length"),
        ({"updated_at": "1999-01-01"}, "updated_at_order"),
    ],
)
def test_table_keeps_the_bounds_of_the_schemas(database_url, user, values, constraint):
    good = {"user_id": user, "title": "é" * 200, "description": "é" * 1000, "updated_at": "2999-01-01"}
    insert = (
        "INSERT INTO tasks (user_id, title, description, updated_at)"
        " VALUES (%(user_id)s, %(title)s, %(description)s, %(updated_at)s)"
    )
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(insert, good)
        with pytest.raises(psycopg2.errors.CheckViolation, match=constraint):
            cursor.execute(insert, good | values)
