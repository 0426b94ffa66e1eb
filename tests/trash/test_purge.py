"""`todo purge`: what has expired is purged, once, in batches, and nothing else is."""

import threading
from contextlib import closing

import psycopg2
import pytest
from fakes.postgres_proxy import PostgresProxy
from support import assert_problem, config_for, new_database, new_user, open_app
from wire.server import DEADLINE_S, query, start

from todo import create_app
from todo.extensions import db
from todo.trash import purging

MADE = """
    WITH list AS (INSERT INTO task_lists (user_id, revision) VALUES (%(user)s, %(number)s))
    INSERT INTO trash (user_id, id, revision, deleted_at, expires_at, task)
    SELECT %(user)s, n, n, now() - make_interval(days => %(age)s),
           CASE WHEN %(full)s THEN now() - make_interval(days => %(age)s - 30) END,
           CASE WHEN %(full)s THEN '{"title": "secret"}'::jsonb END
    FROM generate_series(1, %(number)s) AS n
"""
LEFT = "SELECT count(*), count(task) FROM trash WHERE user_id = %s"
FORGOTTEN = "SELECT forgotten FROM task_lists WHERE user_id = %s"


@pytest.fixture
def purge(app):
    """Return a function that purges, as an operator does, after purging what other tests left."""

    def purge():
        return app.test_cli_runner().invoke(args=["purge"])

    assert purge().exit_code == 0
    return purge


@pytest.fixture
def filled(database_url):
    """Return a function that makes a user with deleted tasks of an age in days, or with their tombstones."""

    def fill(number, age, *, full=True):
        user = new_user()
        query_with(database_url, MADE, {"user": user, "number": number, "age": age, "full": full})
        return user

    return fill


def query_with(url, sql, values):
    """Run a statement with named parameters."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql, values)


def left(url, user):
    """Return the number of a user's deleted tasks and tombstones, and of those of them with contents."""
    return query(url, LEFT, user)[0]


def aged(url, user, days):
    """Age everything in the trash of a user."""
    aged = "{0} = timezone('UTC', timezone('UTC', {0}) - make_interval(days => %s))"
    moved = f"{aged.format('deleted_at')}, {aged.format('expires_at')}"
    query(url, f"UPDATE trash SET {moved} WHERE user_id = %s", days, days, user)


def test_purge_with_nothing_to_do_prints_that(purge, filled, database_url):
    user = filled(3, 29)
    done = purge()
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "Nothing has expired.")
    assert left(database_url, user) == (3, 3)


@pytest.mark.parametrize(
    ("age", "full", "remaining"),
    [
        pytest.param(29, True, (4, 4), id="deleted-lately"),
        pytest.param(31, True, (4, 0), id="contents-expired"),
        pytest.param(89, True, (4, 0), id="contents-expired-long-ago"),
        pytest.param(91, True, (0, 0), id="tombstone-expired"),
        pytest.param(89, False, (4, 0), id="tombstone"),
        pytest.param(91, False, (0, 0), id="old-tombstone"),
    ],
)
def test_purge_purges_what_has_expired_and_nothing_else(purge, filled, database_url, age, full, remaining):
    user = filled(4, age, full=full)
    assert purge().exit_code == 0
    assert left(database_url, user) == remaining
    assert query(database_url, FORGOTTEN, user) == [(4 if remaining == (0, 0) else 0,)]


def test_purge_prints_how_many_it_purged_and_a_second_run_finds_nothing(purge, filled, database_url):
    users = [filled(3, 31), filled(2, 91, full=False)]
    first, second = purge(), purge()
    assert first.output.splitlines()[-1] == "Purged 5 deleted tasks and tombstones."
    assert second.output.splitlines()[-1] == "Nothing has expired."
    assert [left(database_url, user) for user in users] == [(3, 0), (0, 0)]


def test_purge_works_in_batches_and_shows_its_progress(purge, filled, database_url, app, monkeypatch):
    monkeypatch.setattr(purging, "BATCH", 2)
    tasks, tombstones = filled(5, 31), filled(5, 91, full=False)
    with app.app_context():
        assert list(purging.purge(tasks, 90)) == [2, 2, 1]
        assert list(purging.purge(tombstones, 90)) == [2, 2, 1]
    both = filled(3, 91)
    assert "Purging" in purge().output
    assert [left(database_url, user) for user in (tasks, tombstones, both)] == [(5, 0), (0, 0), (0, 0)]


def test_purge_that_is_interrupted_keeps_what_it_did(purge, filled, database_url, monkeypatch):
    monkeypatch.setattr(purging, "BATCH", 2)
    purge_user = purging.purge

    def interrupted(user, days):
        yield next(purge_user(user, days))
        raise KeyboardInterrupt

    user = filled(5, 31)
    with monkeypatch.context() as patched:
        patched.setattr(purging, "purge", interrupted)
        aborted = purge()
    assert (aborted.exit_code, aborted.output.splitlines()[-1]) == (1, "Aborted!")
    assert left(database_url, user) == (5, 3)
    assert purge().output.splitlines()[-1] == "Purged 3 deleted tasks and tombstones."
    assert left(database_url, user) == (5, 0)


@pytest.mark.parametrize(("age", "full", "remaining"), [(31, True, (400, 0)), (91, False, (0, 0))])
def test_purge_by_four_threads_at_once_does_everything_once(
    purge, filled, database_url, app, monkeypatch, age, full, remaining
):
    monkeypatch.setattr(purging, "BATCH", 7)
    users = [filled(400, age, full=full) for _ in range(3)]
    gate = threading.Barrier(4)
    counts = []

    def forget():
        with app.app_context():
            expired = purging.list_expired(90).expired
            gate.wait()
            counts.append(sum(sum(purging.purge(one.user, 90)) for one in expired))

    threads = [threading.Thread(target=forget) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 4
    assert sum(counts) == 1200
    assert [left(database_url, user) for user in users] == [remaining] * 3
    assert purge().output.splitlines()[-1] == "Nothing has expired."


@pytest.mark.process
def test_purge_by_two_processes_at_once_does_everything_once(purge, filled, database_url):
    users = [filled(1500, 91, full=full) for full in (True, False, True)]
    processes = [start("flask", "purge", DATABASE_URL=database_url) for _ in range(2)]
    ended = [(*process.communicate(timeout=DEADLINE_S), process.returncode) for process in processes]
    assert [(stderr, status) for _, stderr, status in ended] == [("", 0)] * 2
    reported = [stdout.splitlines()[-1] for stdout, _, _ in ended]
    assert sum(int(line.split()[1]) for line in reported if line != "Nothing has expired.") == 7500
    assert [left(database_url, user) for user in users] == [(0, 0)] * 3


def test_purge_does_not_wait_for_a_restore_in_progress(purge, filled, database_url):
    user = filled(2, 31)
    with closing(psycopg2.connect(database_url)) as other:
        other.cursor().execute("SELECT 1 FROM trash WHERE user_id = %s AND id = 1 FOR UPDATE", (user,))
        assert purge().output.splitlines()[-1] == "Purged 1 deleted tasks and tombstones."
    assert left(database_url, user) == (2, 1)


@pytest.mark.parametrize(("days", "remaining"), [("1", (0, 0)), ("200", (2, 0)), ("3650", (2, 0))])
def test_purge_keeps_tombstones_for_as_long_as_is_set(purge, filled, database_url, days, remaining):
    user = filled(2, 100)
    app = create_app(config_for(database_url, TOMBSTONE_DAYS=days))
    assert app.test_cli_runner().invoke(args=["purge"]).exit_code == 0
    assert left(database_url, user) == remaining
    with app.app_context():
        db.engine.dispose()


def test_purge_lets_an_expired_task_no_longer_come_back(purge, call, database_url, user):
    task = call("POST", "/tasks", title="secret").json
    call("DELETE", f"/tasks/{task['id']}")
    aged(database_url, user, 31)
    assert len(call("GET", "/trash").json) == 1
    purge()
    assert call("GET", "/trash").json == []
    assert_problem(call("POST", f"/trash/{task['id']}/restore"), 404, "Task not found")
    assert query(database_url, "SELECT id FROM trash WHERE user_id = %s AND task::text LIKE '%%secret%%'", user) == []


def test_cursors_expire_with_the_tombstones_alone_and_only_those_before_them(purge, call, database_url, user):
    tasks = [call("POST", "/tasks", title=title).json for title in "abc"]
    cursors = [call("GET", "/tasks/changes").json["next"]]
    for task in tasks[:2]:
        call("DELETE", f"/tasks/{task['id']}")
        cursors.append(call("GET", "/tasks/changes").json["next"])

    def followed():
        return [call("GET", f"/tasks/changes?since={cursor}").status_code for cursor in cursors]

    aged(database_url, user, 31)
    purge()
    assert left(database_url, user) == (2, 0)
    assert followed() == [200, 200, 200]
    query(
        database_url,
        "UPDATE trash SET deleted_at = now() - interval '91 days' WHERE user_id = %s AND id = %s",
        user,
        tasks[0]["id"],
    )
    purge()
    assert left(database_url, user) == (1, 0)
    assert followed() == [410, 200, 200]
    problem = assert_problem(call("GET", f"/tasks/changes?since={cursors[0]}"), 410)
    assert problem["code"] == "cursor_expired"
    changes = call("GET", f"/tasks/changes?since={cursors[1]}").json
    assert [tombstone["id"] for tombstone in changes["deleted"]] == [tasks[1]["id"]]
    fresh = call("GET", "/tasks/changes").json
    assert [task["id"] for task in fresh["tasks"]] == [tasks[2]["id"]]
    assert call("GET", f"/tasks/changes?since={fresh['next']}").status_code == 200


def test_cursor_of_a_first_page_expires_with_no_tombstone_from_before_it(purge, call, database_url, user):
    for title in "abc":
        call("POST", "/tasks", title=title)
    call("DELETE", f"/tasks/{call('GET', '/tasks').json[0]['id']}")
    first = call("GET", "/tasks/changes?limit=1").json
    assert first["has_more"]
    aged(database_url, user, 91)
    purge()
    assert left(database_url, user) == (0, 0)
    assert call("GET", f"/tasks/changes?since={first['next']}").status_code == 200


def test_purge_on_an_empty_database_prints_what_to_do(postgres):
    app = create_app(config_for(new_database(postgres, "todo_purge_unmigrated")))
    refused = app.test_cli_runner().invoke(args=["purge"])
    assert refused.exit_code == 1
    assert refused.output == "Error: the database has no tables yet, or older ones: run `todo migrate` first.\n"
    with app.app_context():
        db.engine.dispose()


def test_purge_without_a_database_prints_one_line(socket_path):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    refused = create_app(config_for(proxy.url("todo"))).test_cli_runner().invoke(args=["purge"])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: the database cannot be used: ")
    assert len(refused.output.splitlines()) == 1


AWAY = """
    CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE 'connection to the remote node failed' USING ERRCODE = '08006'; END
    $$;
    CREATE TRIGGER away BEFORE UPDATE OR DELETE ON trash FOR EACH ROW WHEN (OLD.user_id = '{}') EXECUTE FUNCTION away()
"""


@pytest.fixture
def cluster(standin_url):
    """Return the URL of a database whose tables are distributed, and a function that purges it."""
    query(
        standin_url, "INSERT INTO pg_dist_partition VALUES ('task_lists', 'h', 1), ('tasks', 'h', 1), ('trash', 'h', 1)"
    )
    with open_app(standin_url) as app:
        yield standin_url, lambda: app.test_cli_runner().invoke(args=["purge"])


def fill_cluster(url, number):
    """Make as many users, each with two deleted tasks that have expired."""
    users = [new_user() for _ in range(number)]
    for user in users:
        query_with(url, MADE, {"user": user, "number": 2, "age": 31, "full": True})
    return users


def test_purge_of_a_cluster_purges_the_users_of_all_machines(cluster):
    url, purge = cluster
    users = fill_cluster(url, 10)
    done = purge()
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "Purged 20 deleted tasks and tombstones.")
    assert [left(url, user) for user in users] == [(2, 0)] * 10


def test_purge_of_a_cluster_goes_on_without_the_machine_that_is_away(cluster):
    url, purge = cluster
    users = fill_cluster(url, 20)
    query(url, "UPDATE pg_dist_node SET answers = false WHERE nodeid = 2")
    done = purge()
    assert done.exit_code == 1
    assert done.output.endswith(
        "Error: a machine of the cluster is away, and its users are left out: run it again later.\n"
    )
    purged = [left(url, user) == (2, 0) for user in users]
    assert any(purged)
    assert not all(purged)
    query(url, "UPDATE pg_dist_node SET answers = true")
    assert purge().exit_code == 0
    assert [left(url, user) for user in users] == [(2, 0)] * 20


def test_purge_of_a_cluster_goes_on_when_a_machine_goes_away(cluster):
    url, purge = cluster
    users = fill_cluster(url, 5)
    query(url, AWAY.format(min(users)))
    done = purge()
    assert done.exit_code == 1
    assert "Purged 8 deleted tasks and tombstones.\n" in done.output
    assert sorted(left(url, user) for user in users) == [(2, 0)] * 4 + [(2, 2)]
