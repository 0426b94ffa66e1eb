"""Statements that sessions keep prepared: when they are, and that nothing is lost or doubled when they cannot be."""

from contextlib import closing

import psycopg2
import pytest
from structlog.testing import capture_logs
from support import call_as, config_for, new_user

from todo import create_app
from todo.database import prepared, statements
from todo.database.prepared import PREPARED_MAX, Prepared, forms_of
from todo.database.timeouts import REQUEST_LIMITS
from todo.extensions import db

SUM = Prepared("SELECT %(number)s + 1 AS number, '100 %%' AS text", "add_one")
((SUM_FORM,), _) = forms_of(SUM)
HELD = "SELECT name FROM pg_prepared_statements ORDER BY prepare_time"


@pytest.fixture
def warm(proxied, proxy):
    """Enter an application context with one warm connection in the pool; the recorded queries begin after that."""
    with proxied.app_context():
        statements.read("SELECT 1 AS number", {})
        proxy.queries.clear()
        yield proxied


def run(number=41):
    ((found, text),) = statements.read(SUM, {"number": number})
    assert text == "100 %"
    return found


def held():
    """Return the names that the session keeps, oldest first."""
    return [name for (name,) in statements.read(HELD, {})]


def in_session(sql):
    """Run SQL in the session behind the service's back."""
    connection = db.engine.raw_connection()
    with connection.cursor() as cursor:
        cursor.execute(sql)
    connection.close()


def without_settings(proxy):
    return [query.removeprefix(REQUEST_LIMITS.settings) for query in proxy.queries]


def test_first_use_prepares_in_the_same_message_and_later_ones_execute(warm, proxy):
    assert [run(1), run(2), run(3)] == [2, 3, 4]
    first, *later = without_settings(proxy)
    assert first == f"{SUM_FORM.preparation % {}};\nEXECUTE {SUM_FORM.name} (1)"
    assert later == [f"EXECUTE {SUM_FORM.name} (2)", f"EXECUTE {SUM_FORM.name} (3)"]
    assert SUM_FORM.name.startswith("add_one_")


def test_new_session_prepares_anew(warm, proxy):
    run()
    db.engine.dispose()
    proxy.queries.clear()
    assert run() == 42
    assert sum("PREPARE" in query for query in proxy.queries) == 1


def test_statement_that_is_not_to_be_prepared_is_sent_as_it_is(warm):
    statements.read(str(SUM), {"number": 1})
    assert held() == []


def test_setting_prepares_nothing(database_url):
    app = create_app(config_for(database_url, DATABASE_PREPARE="false"))
    with app.app_context():
        assert (run(), held()) == (42, [])
        db.engine.dispose()


def test_session_keeps_a_bounded_number_and_the_last_used(warm):
    many = [Prepared(f"SELECT %(number)s + {n} AS number", "add") for n in range(PREPARED_MAX + 10)]
    run()
    for n, sql in enumerate(many):
        assert statements.read(sql, {"number": 1})[0].number == n + 1
        run()
    names = held()
    assert len(names) == PREPARED_MAX
    assert SUM_FORM.name in names
    assert names[-1] == forms_of(many[-1])[0][0].name


def test_argument_has_the_cast_of_its_parameter(warm):
    sql = Prepared("SELECT %(texts)s::priority[] AS found, %(texts)s::priority[] IS NULL AS is_null", "cast")
    for texts in (["high", "low"], [], None):
        (row,) = statements.read(sql, {"texts": texts})
        assert row.is_null is (texts is None)


def test_several_statements_of_one_message_are_prepared_each_and_see_each_other(warm, proxy):
    text = f"SELECT %(number)s + 1 AS first{prepared.SEPARATOR}SELECT %(number)s + 2 AS second"
    sql = Prepared(text, "two")
    for _ in range(2):
        assert [row._asdict() for row in statements.write(sql, {"number": 40})] == [{"second": 42}]
    assert len(proxy.queries) == 2
    assert len(held()) == 2


def test_session_that_lacks_the_statement_is_shared_so_nothing_is_prepared_any_more(warm, proxy):
    run()
    in_session("DEALLOCATE ALL")
    proxy.queries.clear()
    with capture_logs() as logs:
        assert [run(1), run(2), run(3)] == [2, 3, 4]
    assert [query.count("EXECUTE") for query in proxy.queries] == [1, 0, 0, 0]
    assert [entry["event"] for entry in logs] == [
        "statements are not prepared: the sessions of PostgreSQL are shared with other clients"
    ]


def test_session_that_has_the_statement_already_ends_and_the_next_one_prepares_it(warm, proxy):
    in_session(SUM_FORM.preparation % {})
    assert run() == 42
    proxy.queries.clear()
    assert [run(), run()] == [42, 42]
    assert [("EXECUTE" in query, "PREPARE" in query) for query in proxy.queries[-2:]] == [(True, True), (True, False)]


def test_migration_that_changes_the_type_of_a_result_is_survived(warm, database_url):
    name = f"changing_{new_user().replace('-', '_')}"
    sql = Prepared(f"SELECT value FROM {name} WHERE value = %(value)s", "changing")
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        other.autocommit = True
        cursor.execute(f"CREATE TABLE {name} (value int); INSERT INTO {name} VALUES (7)")
        assert statements.read(sql, {"value": 7})[0].value == 7
        cursor.execute(f"ALTER TABLE {name} ALTER value TYPE text")
        assert [statements.read(sql, {"value": "7"})[0].value for _ in range(2)] == ["7", "7"]
        cursor.execute(f"DROP TABLE {name}")


def test_creation_in_a_session_that_lost_its_statement_is_done_once(proxied, user):
    call = call_as(proxied.test_client(), user)
    assert call("POST", "/tasks", title="first").status_code == 201
    with proxied.app_context():
        in_session("DEALLOCATE ALL")
    assert call("POST", "/tasks", title="second").status_code == 201
    assert [task["title"] for task in call("GET", "/tasks").json] == ["first", "second"]
    assert call("GET", "/tasks/summary").json["total"] == 2


def test_statement_that_fails_stays_prepared(warm, proxy):
    sql = Prepared("SELECT 1 / %(number)s AS number", "divide")
    with pytest.raises(Exception, match="22012"):
        statements.read(sql, {"number": 0})
    proxy.queries.clear()
    assert statements.read(sql, {"number": 1})[0].number == 1
    assert without_settings(proxy) == [f"EXECUTE {forms_of(sql)[0][0].name} (1)"]


def test_statement_that_is_wrong_is_reported_as_itself(warm):
    with pytest.raises(Exception, match="42P01"):
        statements.read(Prepared("SELECT * FROM nothing", "wrong"), {})
    assert run() == 42
