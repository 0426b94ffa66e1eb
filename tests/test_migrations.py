"""Migrations: up, down, up; and the catalogue they make is the one that the models describe."""

import threading
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
        SELECT table_name, column_name, ordinal_position, data_type, udt_name, is_nullable, column_default,
               is_identity, identity_generation
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
        ORDER BY table_name, ordinal_position""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
        ORDER BY 1, 2""",
    "types": """
        SELECT typname, array_agg(enumlabel ORDER BY enumsortorder)
        FROM pg_type JOIN pg_enum ON enumtypid = pg_type.oid GROUP BY 1 ORDER BY 1""",
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
    names = ["0001_create_tasks", "0002_organise_tasks", "0003_fold_texts", "0004_add_revisions", "0005_number_tasks"]
    said = [f"Applied {name}." for name in names] + [f"Took back {name}." for name in reversed(names)]
    assert capsys.readouterr().out.splitlines() == said


def test_migrations_leave_nothing_for_check_to_find(empty, capsys):
    flask_migrate.upgrade()
    flask_migrate.check()


def test_migrations_a_second_time_do_nothing(empty):
    flask_migrate.upgrade()
    with db.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO tasks (user_id, title) VALUES ('u', 'kept')")
        flask_migrate.upgrade()
        assert connection.scalar(text("SELECT count(*) FROM tasks")) == 1


def old_tasks(url, number):
    """Write tasks as the first version did, a part of them not in plain ASCII."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(
            """INSERT INTO tasks (user_id, title, description, completed)
               SELECT 'user-' || n %% 7, CASE WHEN n %% 3 = 0 THEN 'Žluťoučký KŮŇ ' ELSE 'Plain ' END || n,
                      CASE WHEN n %% 5 = 0 THEN 'Étude' END, n %% 2 = 0
               FROM generate_series(1, %s) AS n""",
            (number,),
        )


def folded(url):
    """Give the texts of all tasks, and what they are found by."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT title, description, folded_title, folded_description FROM tasks ORDER BY id")
        return cursor.fetchall()


def test_migrations_fold_the_texts_of_older_tasks_in_batches(empty, capsys):
    flask_migrate.upgrade(revision="0001_create_tasks")
    old_tasks(empty, 12_000)
    flask_migrate.upgrade()
    said = capsys.readouterr().out
    assert "Folded the texts of 5000 tasks." in said
    assert "Folded the texts of 5600 tasks." in said
    for title, description, folded_title, folded_description in folded(empty):
        assert folded_title == (title.replace("Žluťoučký KŮŇ", "zlutoucky kun") if "Ž" in title else None)
        assert folded_description == ("etude" if description else None)


def test_migrations_that_were_interrupted_go_on(empty, monkeypatch):
    flask_migrate.upgrade(revision="0001_create_tasks")
    old_tasks(empty, 6_000)
    flask_migrate.upgrade(revision="0002_organise_tasks")
    with closing(psycopg2.connect(empty)) as connection:
        connection.autocommit = True
        connection.cursor().execute(
            "UPDATE tasks SET folded_title = 'zlutoucky kun 3', updated_at = updated_at WHERE id = 3"
        )
    flask_migrate.upgrade()
    assert sum(row[2] is not None for row in folded(empty)) == 2000


def test_migrations_need_no_long_lock(empty):
    """While the texts are folded, whoever reads or writes tasks waits for nobody."""
    flask_migrate.upgrade(revision="0001_create_tasks")
    old_tasks(empty, 12_000)
    waited = []
    done = threading.Event()

    def work():
        with closing(psycopg2.connect(empty)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SET lock_timeout = '2s'")
            while not done.is_set():
                cursor.execute("UPDATE tasks SET completed = NOT completed WHERE user_id = 'user-1' AND id = 1")
                cursor.execute("SELECT count(*) FROM tasks WHERE user_id = 'user-1'")
                waited.append(cursor.fetchone())

    worker = threading.Thread(target=work)
    worker.start()
    flask_migrate.upgrade()
    done.set()
    worker.join()
    assert len(waited) > 1


def test_migrations_with_one_thread_have_two_connections(postgres):
    url = new_database(postgres, "todo_one_thread")
    app = create_app(config_for(url, WEB_THREADS="1"))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    assert catalogue(url)["columns"]


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
