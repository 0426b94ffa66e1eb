"""The breaker for nodes of a cluster, with a stand-in for Citus: two workers, of which one stops answering."""

import threading
from contextlib import closing

import psycopg2
import pytest
from support import WAITING, call_as, new_database, new_user, open_app
from wire.server import query, wait_until

from todo.database import nodes, statements
from todo.database.failures import DatabaseUnavailable, NodeUnavailable
from todo.database.timeouts import BATCH_LIMITS, TimeLimits

# What a statement for a user does: it is answered, or fails after some time and when nobody holds the advisory lock.
STATEMENT = "SELECT ask(%(caller)s) AS number"
ASK = """
    CREATE TABLE frozen (user_id text, takes_s float);
    CREATE FUNCTION ask(asking text) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM frozen WHERE user_id = asking) THEN
            PERFORM pg_sleep(takes_s), pg_advisory_xact_lock_shared(1) FROM frozen;
            RAISE 'connection to the remote node failed' USING ERRCODE = '08006';
        END IF;
        RETURN 1;
    END
    $$
"""
SLOW_S = 0.2
BY_NODE, BY_BREAKER = "connection to the remote node failed", "127.0.0.1:5433 has not answered other statements"


@pytest.fixture
def url(standin_url):
    query(standin_url, ASK)
    return standin_url


@pytest.fixture
def lookups(monkeypatch):
    """Return the list of users whose node is looked up, and count a failure as slow after 0.1 s."""
    monkeypatch.setattr(nodes, "SLOW_FAILURE_S", SLOW_S / 2)
    look_up, users = nodes._look_up, []

    def spy(cursor, sql, *parameters):
        users.extend(parameters)
        return look_up(cursor, sql, *parameters)

    monkeypatch.setattr(nodes, "_look_up", spy)
    return users


@pytest.fixture
def app(url, lookups):
    with open_app(url) as app, app.app_context():
        yield app


def user_on(url, node):
    """Return a user whose rows are on the worker with this number."""
    shard = "SELECT get_shard_id_for_distribution_column('task_lists', %s)"
    while query(url, shard, user := new_user()) != [(100 + node,)]:
        pass
    return user


def freeze(url, takes_s=SLOW_S):
    """Return a user of the first worker whose statements fail."""
    user = user_on(url, 1)
    query(url, "INSERT INTO frozen VALUES (%s, %s)", user, takes_s)
    return user


def ask(user, limits=BATCH_LIMITS):
    return statements.read(STATEMENT, {"caller": user}, limits)[0].number


def assert_fails(user, reason=BY_NODE):
    with pytest.raises(NodeUnavailable) as refused:
        ask(user)
    assert reason in refused.value.reason


def test_one_statement_at_a_time_is_let_through_to_a_silent_node(app, url):
    frozen, beside, elsewhere = freeze(url), user_on(url, 1), user_on(url, 2)
    call = call_as(app.test_client(), beside)
    assert_fails(frozen)

    def probe():
        with app.app_context():
            assert_fails(frozen)

    with closing(psycopg2.connect(url)) as holder:
        holder.cursor().execute("SELECT pg_advisory_lock(1)")
        probing = threading.Thread(target=probe)
        probing.start()
        wait_until(lambda: query(url, WAITING), "waiting for the node")

        assert_fails(frozen, BY_BREAKER)
        assert_fails(beside, BY_BREAKER)
        assert call("GET", "/tasks").status_code == 503
        with pytest.raises(NodeUnavailable), statements.transaction(BATCH_LIMITS) as transaction:
            transaction.read(STATEMENT, {"caller": beside})
        assert ask(elsewhere) == 1
        with statements.transaction(BATCH_LIMITS) as transaction:
            assert [transaction.read(STATEMENT, {"caller": elsewhere})[0].number for _ in range(2)] == [1, 1]
        assert statements.read("SELECT 1 AS number", {})[0].number == 1
    probing.join()

    assert_fails(frozen)
    assert ask(beside) == 1
    # The session was not taken for one that has the statements which were not let through.
    assert call("GET", "/tasks").status_code == 200
    assert statements.read("SELECT name FROM pg_prepared_statements WHERE name LIKE 'page_by_id_%%'", {})


def test_node_that_has_answered_is_looked_up_no_more(app, url, lookups):
    frozen, beside = freeze(url), user_on(url, 1)
    assert_fails(frozen)
    assert ask(beside) == 1
    assert lookups == [frozen, beside]

    assert ask(beside) == 1
    assert lookups == [frozen, beside]


def test_node_that_nobody_has_asked_for_since_is_forgotten(app, url, lookups, monkeypatch):
    monkeypatch.setattr(nodes, "FORGET_S", 0)
    frozen = freeze(url)
    assert_fails(frozen)
    for _ in range(3):
        assert ask(user_on(url, 2)) == 1
    # It was looked up to find out that it is silent, and nothing else was.
    assert lookups == [frozen]


def test_failure_of_a_statement_of_nobody_or_a_quick_one_is_no_reason_to_look_a_node_up(app, url, lookups):
    frozen = freeze(url)
    with pytest.raises(NodeUnavailable):
        statements.read(STATEMENT.replace("%(caller)s", f"'{frozen}'"), {})
    quick = freeze(url, 0)
    query(url, "DELETE FROM frozen WHERE user_id = %s", frozen)
    assert_fails(quick)
    assert ask(user_on(url, 1)) == 1
    assert lookups == []


def test_failures_of_a_node_are_remembered_for_few_users(app, url, lookups, monkeypatch):
    monkeypatch.setattr(nodes, "SUSPECTS_MAX", 0)
    assert_fails(freeze(url))
    assert ask(new_user()) == 1
    assert lookups == []


def test_statement_without_an_answer_is_a_slow_failure(app, url, lookups):
    user = new_user()
    with pytest.raises(DatabaseUnavailable):
        statements.read("SELECT pg_sleep(60), %(caller)s", {"caller": user}, TimeLimits("", SLOW_S))
    assert ask(new_user()) == 1
    assert lookups[0] == user


def test_books_that_cannot_be_read_stop_nobody(app, url, lookups):
    query(url, "UPDATE pg_dist_node SET noderole = 'secondary'")
    assert_fails(freeze(url))
    assert ask(user_on(url, 1)) == 1
    assert_fails(freeze(url))
    query(url, "DROP FUNCTION get_shard_id_for_distribution_column")
    assert ask(new_user()) == 1
    assert len(lookups) == 2


def test_without_citus_no_node_is_looked_up(postgres, migrated_template, lookups):
    url = new_database(postgres, new_user(), migrated_template)
    query(url, ASK)
    user = new_user()
    query(url, "INSERT INTO frozen VALUES (%s, %s)", user, SLOW_S)
    with open_app(url) as app, app.app_context():
        assert_fails(user)
        assert ask(new_user()) == 1
    assert lookups == []
