"""What a real Citus says of every statement and of the commands; only `make test-citus` runs this."""

from contextlib import closing

import psycopg2
import pytest
from support import call_as, new_user
from tasks.every_statement import STATEMENTS, parameters_of
from wire.server import query

from todo import __main__ as command
from todo.database import distribution
from todo.database.prepared import Prepared, forms_of

# Neither has a row that may be written: the parameters are those of any statement.
INCOMPLETE = {"todo.importing.queries create_tasks", "todo.tasks.seeds insert_tasks"}
# More often than PostgreSQL plans for the values.
EXECUTIONS = 8


@pytest.fixture
def cursor(database_url):
    """Return a cursor whose transaction is rolled back."""
    with closing(psycopg2.connect(database_url)) as connection:
        yield connection.cursor()


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - INCOMPLETE))
def test_statement_is_accepted(cursor, name):
    cursor.execute(STATEMENTS[name][0], parameters_of(name, new_user()))


@pytest.mark.parametrize("name", sorted(name for name, (sql, _) in STATEMENTS.items() if isinstance(sql, Prepared)))
def test_prepared_statement_is_accepted_with_one_plan_for_all_values(cursor, name):
    forms, execution = forms_of(STATEMENTS[name][0])
    for form in forms:
        cursor.execute(form.preparation.replace("%%", "%"))
    for _ in range(EXECUTIONS):
        cursor.execute(f"SAVEPOINT here;\n{execution}", parameters_of(name, new_user()))
        cursor.execute("ROLLBACK TO here")
    for form in forms:
        cursor.execute(f"DEALLOCATE {form.name}")


def test_tables_are_distributed_together(app, database_url):
    with app.app_context():
        assert distribution.is_distributed()
    places = query(database_url, "SELECT DISTINCT colocationid FROM pg_dist_partition WHERE partmethod = 'h'")
    assert len(places) == 1


def test_commands_work_on_the_cluster(app, user):
    runner = app.test_cli_runner()
    for words in (["distribute"], ["migrate"], ["seed", "--user", user], ["purge"], ["doctor"]):
        done = runner.invoke(command.todo, words)
        assert done.exit_code == 0, done.output
    assert len(call_as(app.test_client(), user)("GET", "/tasks").json) == 12


def test_restored_twice_begins_new_numbers_for_new_lists_too(app, database_url, user):
    runner, call = app.test_cli_runner(), call_as(app.test_client(), user)
    before = call("POST", "/tasks", title="x").json
    for _ in range(2):
        done = runner.invoke(command.todo, ["db", "restored"])
        assert done.exit_code == 0, done.output
    ((number,),) = query(database_url, "SELECT revision FROM task_lists WHERE user_id = %s", user)
    assert number > before["revision"]
    created = call_as(app.test_client(), new_user())("POST", "/tasks", title="x").json
    assert created["revision"] > number
    assert created["id"] > before["id"]
    # Other tests want small numbers.
    with closing(psycopg2.connect(database_url)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute("SET citus.enable_unsafe_triggers = on")
        cursor.execute("DROP TRIGGER begin_after_restore ON task_lists")
        cursor.execute("SELECT setval('tasks_id_seq', %s)", [before["id"] + 1])
