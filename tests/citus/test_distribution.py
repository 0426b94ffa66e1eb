"""What clients see of a list while its tables are being distributed; only `make test-citus` runs this."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from support import WAITING, assert_problem, call_as, migrate, open_app
from wire.server import query, wait_until

from todo.database import distribution

PIECES = 4
WRITES = 30


@pytest.fixture
def moving_url(database_url):
    """Return the URL of tables beside those of the other tests that are not distributed yet."""
    url = f"{database_url}?options=-csearch_path%3Dmoving"
    query(url, "CREATE SCHEMA moving")
    migrate(url)
    yield url
    query(url, "DROP SCHEMA moving CASCADE")


@pytest.fixture
def moving(moving_url):
    """Return the application on these tables."""
    with open_app(moving_url) as app:
        yield app


def follow(call, known, page):
    """Apply a page of changes to the revisions of tasks that a client knows, and assert that its checksum holds."""
    known |= {task["id"]: task["revision"] for task in page["tasks"]}
    for task in page["deleted"]:
        known.pop(task["id"], None)
    lines = "".join(f"{number}:{revision}\n" for number, revision in sorted(known.items(), key=lambda item: item[1]))
    assert page["checksum"] == hashlib.sha256(lines.encode()).hexdigest()
    return call("GET", f"/tasks/changes?since={page['next']}").json


def write(call):
    """Write to all tables of a user, by calls that take effect on one table after the other."""
    for number in range(WRITES):
        made = call("POST", "/tasks", title=f"task {number}").json
        call("PATCH", f"/tasks/{made['id']}", title="changed")
        assert call("DELETE", f"/tasks/{made['id']}").status_code == 204
        if number % 2:
            assert call("POST", f"/trash/{made['id']}/restore").status_code == 200


def assert_followed(app, user):
    """Assert that each page that a client reads beside writes has the right checksum."""
    call, known = call_as(app.test_client(), user), {}
    page = call("GET", "/tasks/changes").json
    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write, call_as(app.test_client(), user))
        while not writer.done():
            page = follow(call, known, page)
        writer.result()
    follow(call, known, follow(call, known, page))
    assert known == {task["id"]: task["revision"] for task in call("GET", "/tasks").json}


def waits(app, url, user):
    """Check whether a page of changes waits for the write that is at work on the list."""
    call = call_as(app.test_client(), user)
    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(url)) as writer:
        writer.cursor().execute("UPDATE task_lists SET revision = revision + 1 WHERE user_id = %s", (user,))
        page = pool.submit(call, "GET", "/tasks/changes")
        wait_until(lambda: page.done() or query(url, WAITING), "the page")
        is_waiting = not page.done()
        writer.rollback()
        assert page.result().status_code == 200
    return is_waiting


def test_clients_see_one_moment_while_tables_are_distributed(moving, moving_url, user):
    call = call_as(moving.test_client(), user)
    states = []
    assert_followed(moving, user)
    with moving.app_context():
        distribution._make_known()
        assert_followed(moving, user)
        for name in distribution.tables():
            distribution._distribute(name, PIECES, print)
            assert_followed(moving, user)
            assert_followed(moving, f"{user}-{name}")
            states.append((name, waits(moving, moving_url, user), call("GET", "/export").status_code))
    assert states == [("task_lists", True, 503), ("tasks", True, 503), ("trash", False, 200)]
    operations = [{"op": "create", "key": "a", "task": {"title": "x"}}]
    assert call("POST", "/tasks/batch", operations=operations).status_code == 200


def test_batch_is_refused_while_tables_are_distributed(moving, user):
    call = call_as(moving.test_client(), user)
    with moving.app_context():
        distribution._make_known()
        distribution._distribute("task_lists", PIECES, print)
    operations = [{"op": "create", "key": "a", "task": {"title": "x"}}]
    problem = assert_problem(call("POST", "/tasks/batch", operations=operations), 503)
    assert problem["detail"] == "The database is being moved. Please try again in a moment."
    assert moving.test_cli_runner().invoke(args=["db", "distribute"]).exit_code == 0
    assert call("POST", "/tasks/batch", operations=operations).status_code == 200
