"""`todo distribute` and what follows from it, with a stand-in for Citus; tests/citus/ has the real one."""

import re
from contextlib import closing

import flask_migrate
import psycopg2
import pytest
from support import call_as, config_for, new_database, open_app
from wire.server import query

from todo import __main__ as command
from todo import create_app
from todo.database import distribution, failures, statements
from todo.extensions import db
from todo.tasks import renumbering

KNOWN = "SELECT logicalrelid::text, partmethod::text, colocationid FROM pg_dist_partition ORDER BY 1"
# Citus makes the sequence of an identity column anew when it learns of the table.
FORGETFUL = """
    CREATE OR REPLACE FUNCTION citus_add_local_table_to_metadata(
        table_name regclass, cascade_via_foreign_keys boolean DEFAULT false
    ) RETURNS void LANGUAGE sql AS $$
        INSERT INTO pg_dist_partition VALUES (table_name, 'n', 0);
        SELECT setval(pg_get_serial_sequence('tasks', 'id'), 1, false);
    $$
"""
ALL = [(name, "h", 1) for name in ("task_lists", "tasks", "trash")]


@pytest.fixture
def app(standin_url):
    """Return the application on a database with the stand-in."""
    with open_app(standin_url) as app:
        yield app


@pytest.fixture
def distribute(app, monkeypatch):
    """Return a function that runs the command, and does not wait before it tries again."""
    monkeypatch.setattr(distribution, "PAUSE_S", 0)
    return lambda *words: app.test_cli_runner().invoke(command.todo, ["distribute", *words])


def test_distribute_distributes_all_tables_and_a_second_time_none(distribute, standin_url):
    done = distribute("--shards", "8")
    assert done.exit_code == 0
    steps = ["Distributing task_lists ...", "Distributing tasks ...", "Distributing trash ...", "Raising the lists ..."]
    assert done.output.splitlines() == [*steps, "The tables are distributed."]
    assert query(standin_url, KNOWN) == ALL
    assert distribute().output == "The tables are distributed.\n"
    assert query(standin_url, KNOWN) == ALL


def test_distribute_lets_all_clients_read_their_lists_anew_once(distribute, app, standin_url, user):
    call = call_as(app.test_client(), user)
    created = call("POST", "/tasks", title="x").json
    first = call("GET", "/tasks/changes").json
    tag = call("GET", "/tasks").headers["ETag"]
    assert distribute().exit_code == 0
    assert call("GET", f"/tasks/changes?since={first['next']}").status_code == 410
    again = call("GET", "/tasks", {"If-None-Match": tag})
    assert (again.status_code, again.json) == (200, [created])
    revision = query(standin_url, "SELECT revision, forgotten FROM task_lists")
    assert distribute().exit_code == 0
    assert query(standin_url, "SELECT revision, forgotten FROM task_lists") == revision == [(2, 2)]


def test_distribute_lets_no_process_send_a_page_from_before(distribute, app, standin_url, user):
    call = call_as(app.test_client(), user)
    call("POST", "/tasks", title="at first")
    assert call("GET", "/tasks").json[0]["title"] == "at first"
    # As if the list had been visible before the task was.
    query(standin_url, "UPDATE tasks SET title = 'after that'")
    assert distribute().exit_code == 0
    assert call("GET", "/tasks").json[0]["title"] == "after that"


def test_distribute_that_was_interrupted_at_the_end_raises_the_lists(distribute, app, standin_url, user, monkeypatch):
    call_as(app.test_client(), user)("POST", "/tasks", title="x")

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(renumbering, "expire_cursors", interrupted)
        assert distribute().output.endswith("Aborted!\n")
    assert query(standin_url, KNOWN) == ALL
    assert distribute().output == "Raising the lists ...\nThe tables are distributed.\n"
    assert query(standin_url, "SELECT revision, forgotten FROM task_lists") == [(2, 2)]


def test_distribute_keeps_the_ids_of_new_tasks_above_those_of_others(distribute, app, standin_url, user):
    call = call_as(app.test_client(), user)
    before = [call("POST", "/tasks", title="x").json["id"] for _ in range(3)]
    query(standin_url, FORGETFUL)
    assert distribute().exit_code == 0
    assert call("POST", "/tasks", title="x").json["id"] == before[-1] + 1


@pytest.mark.parametrize(
    "interrupted",
    [
        pytest.param("('task_lists', 'n', 0), ('tasks', 'n', 0), ('trash', 'n', 0)", id="all known"),
        pytest.param("('task_lists', 'h', 1), ('tasks', 'n', 0), ('trash', 'n', 0)", id="first distributed"),
        pytest.param("('tasks', 'n', 0)", id="one known"),
    ],
)
def test_distribute_goes_on_where_it_was_interrupted(distribute, standin_url, interrupted):
    query(standin_url, f"INSERT INTO pg_dist_partition VALUES {interrupted}")
    assert distribute().exit_code == 0
    assert query(standin_url, KNOWN) == ALL


def test_distribute_that_goes_on_waits_for_no_table(distribute, standin_url):
    query(
        standin_url, "INSERT INTO pg_dist_partition VALUES ('task_lists', 'h', 1), ('tasks', 'n', 0), ('trash', 'n', 0)"
    )
    with closing(psycopg2.connect(standin_url)) as other:
        other.cursor().execute("SELECT count(*) FROM tasks")
        assert distribute().exit_code == 0
    assert query(standin_url, KNOWN) == ALL


def test_distribute_is_a_command_of_flask_too(app, standin_url):
    assert app.test_cli_runner().invoke(args=["db", "distribute"]).exit_code == 0
    assert query(standin_url, KNOWN) == ALL


def test_distribute_dry_run_describes_and_changes_nothing(distribute, standin_url):
    query(standin_url, "INSERT INTO pg_dist_partition VALUES ('task_lists', 'h', 1), ('tasks', 'n', 0)")
    done = distribute("--dry-run")
    assert done.exit_code == 0
    assert done.output == (
        "Nodes: 127.0.0.1:5432 (coordinator), 127.0.0.1:5433, 127.0.0.1:5434. "
        "Tables: task_lists (distributed), tasks (local), trash (ordinary).\n"
    )
    assert len(query(standin_url, KNOWN)) == 2


@pytest.mark.parametrize("sqlstate", ["55P03", "40P01", "40001"])
def test_distribute_tries_again_where_others_are_in_the_way(distribute, standin_url, sqlstate):
    query(standin_url, "UPDATE busy SET attempts = 3, sqlstate = %s", sqlstate)
    done = distribute()
    assert done.exit_code == 0
    assert done.output.count("Others are in the way; once more in 0 s.") == 3
    assert query(standin_url, KNOWN) == ALL


def test_distribute_waits_for_an_earlier_one_that_is_still_at_work(distribute, standin_url):
    message = "another create_distributed_table_concurrently operation is in progress"
    query(standin_url, "UPDATE busy SET attempts = 3, sqlstate = 'XX000', message = %s", message)
    done = distribute()
    assert done.exit_code == 0
    assert done.output.count("Others are in the way; once more in 0 s.") == 3


def test_distribute_gives_up_where_others_stay_in_the_way(distribute, standin_url, monkeypatch):
    monkeypatch.setattr(distribution, "ATTEMPTS", 2)
    query(standin_url, "UPDATE busy SET attempts = 2")
    done = distribute()
    assert done.exit_code == 1
    assert done.output.endswith("Error: the database cannot be used: canceling statement due to lock timeout\n")
    assert distribute().exit_code == 0


@pytest.mark.parametrize("sqlstate", ["53100", "XX000"])
def test_distribute_does_not_repeat_what_fails_for_another_reason(distribute, standin_url, sqlstate):
    query(standin_url, "UPDATE busy SET attempts = 1, sqlstate = %s, message = 'no space left'", sqlstate)
    done = distribute()
    assert done.exit_code == 1
    assert "Others are in the way" not in done.output


def test_distribute_waits_for_no_lock_for_long(distribute, standin_url, monkeypatch):
    monkeypatch.setattr(distribution, "ATTEMPTS", 1)
    with closing(psycopg2.connect(standin_url)) as other:
        other.cursor().execute("SELECT count(*) FROM tasks")
        refused = distribute()
    assert refused.exit_code == 1
    assert "lock timeout" in refused.output
    assert query(standin_url, KNOWN) == []


def test_distribute_leaves_no_session_without_time_outs(distribute, app, standin_url):
    distribute()
    with app.app_context():
        timeouts = statements.read("SELECT current_setting('statement_timeout') AS statement", {})
    assert timeouts[0].statement == "5s"
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%concurrently%'"
    assert query(standin_url, f"{left} AND pid <> pg_backend_pid()") == [(0,)]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("DELETE FROM pg_dist_node WHERE groupid = 0", "the cluster has no coordinator: run SELECT citus_set_coord"),
        ("UPDATE pg_dist_local_group SET groupid = 1", "this node is a worker: DATABASE_URL has to lead to the coord"),
        ("UPDATE pg_dist_node SET shouldhaveshards = false", "no node may have pieces of tables"),
        ("UPDATE pg_dist_node SET answers = false WHERE nodeid = 2", "the node 127.0.0.1:5433 does not answer"),
        ("UPDATE pg_dist_node SET isactive = false WHERE nodeid = 2", "the node 127.0.0.1:5433 does not answer"),
        (
            """UPDATE pg_dist_node SET settings = '["replica", null, "0"]' WHERE nodeid = 3""",
            "wal_level is replica on 127.0.0.1:5434: set it to logical, and restart it",
        ),
        (
            """UPDATE pg_dist_node SET settings = '["logical", "pgoutput, wal2json", "0"]' WHERE nodeid = 3""",
            "output_plugin_libraries does not name citus on 127.0.0.1:5434: add it",
        ),
        (
            """UPDATE pg_dist_node SET settings = '["logical", null, "5s"]'""",
            "statement_timeout of this role is 5s on 127.0.0.1:5433, and the copy of a table may take longer",
        ),
        ("UPDATE alembic_version SET version_num = '0007_add_feeds'", "run `todo migrate` first"),
    ],
)
def test_distribute_names_what_is_missing(distribute, standin_url, fault, said):
    query(standin_url, fault)
    for words in ((), ("--dry-run",)):
        refused = distribute(*words)
        assert refused.exit_code == 1
        assert refused.output.startswith("Error: ")
        assert said in refused.output
    assert query(standin_url, KNOWN) == []


def test_distribute_accepts_a_node_that_names_the_library(distribute, standin_url):
    query(standin_url, """UPDATE pg_dist_node SET settings = '["logical", "pgoutput, citus", "0"]'""")
    assert distribute("--dry-run").exit_code == 0


def test_distribute_without_citus_says_what_to_do(postgres, migrated_template):
    app = create_app(config_for(new_database(postgres, "todo_without_citus", migrated_template)))
    refused = app.test_cli_runner().invoke(command.todo, ["distribute"])
    assert refused.exit_code == 1
    assert refused.output == "Error: there is no Citus here: run CREATE EXTENSION citus on every node first.\n"
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        pytest.param("('task_lists', 'h', 1), ('tasks', 'h', 1)", ["Distributed trash."], id="distributed"),
        pytest.param("('task_lists', 'h', 1), ('tasks', 'h', 1), ('trash', 'h', 1)", [], id="all distributed"),
        pytest.param("('task_lists', 'n', 0)", [], id="known alone"),
    ],
)
def test_table_of_a_migration_is_distributed_as_the_others_are(app, standin_url, capsys, known, said):
    query(standin_url, f"INSERT INTO pg_dist_partition VALUES {known}")
    with app.app_context():
        flask_migrate.upgrade()
    assert re.findall(r"^Distributed .*$", capsys.readouterr().out, re.MULTILINE) == said


@pytest.mark.parametrize(
    ("sqlstate", "message", "kind"),
    [
        pytest.param(
            "08006",
            "connection to the remote node failed with the following error: server closed the connection unexpectedly",
            failures.NodeUnavailable,
            id="machine away",
        ),
        pytest.param(
            "0A000",
            "direct joins between distributed and local tables are not supported",
            failures.NotSupported,
            id="some tables distributed",
        ),
    ],
)
def test_failure_of_a_cluster_is_temporary_and_keeps_the_connection(app, sqlstate, message, kind):
    failing = f"DO $$ BEGIN RAISE '{message}' USING ERRCODE = '{sqlstate}'; END $$"
    with app.app_context():
        before = statements.read("SELECT pg_backend_pid() AS pid", {})
        with pytest.raises(failures.DatabaseUnavailable) as raised:
            statements.read(failing, {})
        assert type(raised.value) is kind
        assert statements.read("SELECT pg_backend_pid() AS pid", {}) == before
