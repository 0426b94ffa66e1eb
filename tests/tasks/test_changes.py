"""The changes feed: its followers have what the list has, and can prove it."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise

import orjson
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import WAITING, assert_problem, bearer, call_as, new_database, new_user, open_app
from wire.server import query, wait_until

from todo.database import statements
from todo.http import pagination
from todo.tasks import changes
from todo.trash import purging

NOTHING = hashlib.sha256().hexdigest()


class Caller:
    """A user with an empty list."""

    def __init__(self, app, user=None):
        self.client = app.test_client()
        self.user = user or new_user()
        self.headers = bearer(self.user)
        self.call = call_as(self.client, self.user)

    def make(self, **members):
        return self.call("POST", "/tasks", **({"title": "x"} | members)).json

    def delete(self, task):
        assert self.call("DELETE", f"/tasks/{task['id']}").status_code == 204

    def page(self, since=None, limit=None):
        """Return one page of changes."""
        response = self.ask(since, limit)
        assert response.status_code == 200, response.get_data(as_text=True)
        return response.json

    def ask(self, since=None, limit=None, tag=None):
        """Return the response to a request for changes."""
        query = {name: value for name, value in (("since", since), ("limit", limit)) if value is not None}
        headers = self.headers | ({} if tag is None else {"If-None-Match": tag})
        return self.client.get("/api/me/tasks/changes", query_string=query, headers=headers)

    def refused(self, since):
        """Assert that a cursor is refused, and return the reason."""
        (fault,) = assert_problem(self.ask(since), 422)["errors"]
        assert fault["parameter"] == "since"
        return fault["detail"].removeprefix("since ")


@pytest.fixture
def caller(app):
    """Return a user with an empty list."""
    return Caller(app)


def checksum(tasks):
    """Return the checksum of tasks as the document describes it."""
    lines = sorted((task["revision"], task["id"]) for task in tasks)
    return hashlib.sha256("".join(f"{number}:{revision}\n" for revision, number in lines).encode()).hexdigest()


class Follower:
    """A copy of a list that the changes feed alone maintains."""

    def __init__(self, caller):
        self.caller = caller
        self.tasks = {}
        self.since = None

    def follow(self, limit=None):
        """Read one page, check its order, and apply it."""
        page = self.caller.page(self.since, limit)
        found = [*page["tasks"], *page["deleted"]]
        assert len({change["id"] for change in found}) == len(found) <= (limit or 1000)
        for side in (page["tasks"], page["deleted"]):
            assert all(one["revision"] < next_["revision"] for one, next_ in pairwise(side))
        for change in sorted(found, key=lambda change: change["revision"]):
            if "title" in change:
                self.tasks[change["id"]] = change
            else:
                assert list(change) == ["id", "revision", "deleted_at"]
                # A follower receives no deletion of a task that it never had.
                self.tasks.pop(change["id"], None)
        self.since = page["next"]
        assert ("count" in page) == ("checksum" in page) == (not page["has_more"])
        if not page["has_more"]:
            listed = self.caller.call("GET", "/tasks").json
            assert sorted(self.tasks.values(), key=lambda task: task["id"]) == listed
            assert (page["count"], page["checksum"]) == (len(listed), checksum(listed))
        return page


CALLS = {
    "patch": ("PATCH", "/tasks/{}"),
    "same": ("PATCH", "/tasks/{}"),
    "complete": ("PATCH", "/tasks/{}/complete"),
    "delete": ("DELETE", "/tasks/{}"),
    "restore": ("POST", "/trash/{}/restore"),
    "discard": ("DELETE", "/trash/{}"),
}


def change(caller, step, pick, name):
    """Make one change, if there is a task to change."""
    if step == "create":
        caller.make(title=name)
        return
    method, path = CALLS[step]
    there = caller.call("GET", path.partition("/{}")[0]).json
    if there:
        task = there[pick % len(there)]
        body = {"patch": {"title": name}, "same": {"title": task["title"]}}.get(step, {})
        assert caller.call(method, path.format(task["id"]), **body).status_code in (200, 204)


STEPS = st.sampled_from(["create", "create", "page", "page", *CALLS])


@pytest.mark.slow
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 100), st.integers(1, 4)), min_size=10, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_follower_of_any_changes_ends_with_the_list(app, steps):
    caller = Caller(app)
    follower, late = Follower(caller), Follower(caller)
    for number, (step, pick, limit) in enumerate(steps):
        if step == "page":
            follower.follow(limit)
        else:
            change(caller, step, pick, f"task {number}")
    for one, limit in ((follower, 2), (late, 3)):
        while one.follow(limit)["has_more"]:
            pass
    assert follower.tasks == late.tasks


def test_changes_of_somebody_who_never_wrote_are_none(caller):
    page = caller.page()
    following = page.pop("next")
    assert page == {"tasks": [], "deleted": [], "has_more": False, "count": 0, "checksum": NOTHING}
    assert caller.page(following) == page | {"next": following}
    made = caller.make()
    assert caller.page(following)["tasks"] == [made]


def test_changes_without_a_cursor_are_all_tasks_and_no_deletions(caller):
    made = [caller.make() for _ in range(4)]
    caller.delete(made.pop(0))
    first = caller.call("PATCH", f"/tasks/{made[0]['id']}", title="new").json
    page = caller.page()
    assert page["tasks"] == [made[1], made[2], first]
    assert (page["deleted"], page["has_more"], page["count"]) == ([], False, 3)
    assert page["checksum"] == checksum(page["tasks"])
    after = caller.page(page["next"])
    assert after == page | {"tasks": []}


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        pytest.param(1, [1, 1, 1, 1], id="one by one"),
        pytest.param(3, [3, 1], id="a rest"),
        pytest.param(2, [2, 2], id="no rest"),
        pytest.param(4, [4], id="all"),
        pytest.param(1000, [4], id="more than all"),
    ],
)
def test_snapshot_in_pages_ends_with_a_cursor_and_a_proof(caller, limit, sizes):
    made = [caller.make() for _ in range(4)]
    pages = [caller.page(limit=limit)]
    while pages[-1]["has_more"]:
        assert not {"count", "checksum"} & set(pages[-1])
        pages.append(caller.page(pages[-1]["next"], limit))
    assert [len(page["tasks"]) for page in pages] == sizes
    assert [task for page in pages for task in page["tasks"]] == made
    assert (pages[-1]["count"], pages[-1]["checksum"]) == (4, checksum(made))
    assert caller.page(pages[-1]["next"])["tasks"] == []


def test_deletions_while_a_snapshot_is_read_are_told(caller):
    made = [caller.make() for _ in range(4)]
    before = caller.make()
    caller.delete(before)
    first = caller.page(limit=2)
    caller.delete(made[0])
    caller.delete(made[3])
    second = caller.page(first["next"], limit=2)
    assert (second["tasks"], [gone["id"] for gone in second["deleted"]]) == ([made[2]], [made[0]["id"]])
    third = caller.page(second["next"], limit=2)
    assert [gone["id"] for gone in third["deleted"]] == [made[3]["id"]]
    assert (third["has_more"], third["count"], third["checksum"]) == (False, 2, checksum(made[1:3]))


def test_changes_that_meet_one_task_are_told_once_and_at_its_newest(caller):
    since = caller.page()["next"]
    task = caller.make()
    caller.call("PATCH", f"/tasks/{task['id']}", title="new")
    caller.delete(task)
    (gone,) = caller.page(since)["deleted"]
    assert (gone["id"], gone["revision"]) == (task["id"], 3)
    assert gone["deleted_at"].endswith("Z")
    assert gone["deleted_at"] >= task["created_at"]
    caller.call("DELETE", f"/trash/{task['id']}")
    assert caller.page(since)["deleted"] == [gone]
    other = caller.make()
    caller.delete(other)
    restored = caller.call("POST", f"/trash/{other['id']}/restore").json
    page = caller.page(since)
    assert (page["tasks"], page["deleted"]) == ([restored], [gone])


def test_changes_of_another_are_never_told(app, caller):
    stranger = Caller(app)
    stranger.delete(stranger.make())
    stranger.make()
    assert (caller.page()["tasks"], caller.page()["count"]) == ([], 0)
    caller.make()
    since = caller.page()["next"]
    stranger.make()
    assert caller.page(since)["tasks"] == []


def test_changes_with_the_tag_are_not_modified_until_there_is_one(caller):
    task = caller.make()
    since = caller.page()["next"]
    for cursor in (None, since):
        first = caller.ask(cursor)
        tag = first.headers["ETag"]
        for known in (tag, f"W/{tag}", f'"x", {tag}'):
            again = caller.ask(cursor, tag=known)
            assert (again.status_code, again.get_data(), again.headers["ETag"]) == (304, b"", tag)
            assert "Content-Type" not in again.headers
        assert caller.ask(cursor, limit=1, tag=tag).status_code == 200
        task = caller.call("PATCH", f"/tasks/{task['id']}/complete").json
        changed = caller.ask(cursor, tag=tag)
        assert (changed.status_code, changed.json["tasks"]) == (200, [task])


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "1.5", "x", "9" * 30])
def test_limit_out_of_range_is_refused(caller, limit):
    (fault,) = assert_problem(caller.ask(limit=limit), 422)["errors"]
    assert fault == {"parameter": "limit", "detail": "limit must be a whole number from 1 to 1000."}


def test_since_given_twice_is_refused(caller):
    (fault,) = assert_problem(caller.call("GET", "/tasks/changes?since=a&since=b"), 422)["errors"]
    assert fault == {"parameter": "since", "detail": "since must be given once."}


# Cursors.

ALTERED = "is not one that this service gave, or it was altered: begin again without it."
FORGED = "is not one that this service gave: begin again without it."
OTHER_VERSION = "was given by another version of this service: begin again without it."
OTHER_USER = "was given to another user: begin again without it."
AHEAD = "is ahead of this list, so it was given for another one: begin again without it."


def test_cursor_altered_in_any_place_is_refused(caller):
    since = caller.page()["next"]
    for altered in (since[:-1], since + "A", since.swapcase(), "x", "é", "=", "A" * 12):
        assert caller.refused(altered) == ALTERED
    for place, there in enumerate(since):
        assert caller.refused(since[:place] + ("A" if there != "A" else "B") + since[place + 1 :]) == ALTERED


def test_cursor_of_another_user_is_refused(app, caller):
    caller.make()
    stranger = Caller(app)
    stranger.make()
    assert caller.refused(stranger.page()["next"]) == OTHER_USER


@pytest.mark.parametrize("path", ["/tasks", "/trash"])
def test_cursor_of_a_list_is_refused(caller, path):
    for _ in range(2):
        task = caller.make()
        if path == "/trash":
            caller.delete(task)
    link = caller.call("GET", f"{path}?limit=1").headers["Link"]
    assert caller.refused(link.partition("cursor=")[2].partition(">")[0]) == OTHER_VERSION


def test_cursor_of_the_changes_is_none_of_a_list(caller):
    response = caller.call("GET", f"/tasks?cursor={caller.page()['next']}")
    (fault,) = assert_problem(response, 422)["errors"]
    assert fault == {"parameter": "cursor", "detail": f"cursor {OTHER_VERSION}"}


ME = object()


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        pytest.param(["changes 0", ME, 0, 0], OTHER_VERSION, id="another version"),
        pytest.param([1, ME, 0, 0], OTHER_VERSION, id="the version of a list"),
        pytest.param([], OTHER_VERSION, id="nothing"),
        pytest.param({}, ALTERED, id="an object"),
        pytest.param(["changes 1"], FORGED, id="the version alone"),
        pytest.param(["changes 1", ME, 0], FORGED, id="a part too few"),
        pytest.param(["changes 1", ME, 0, 0, 0], FORGED, id="a part too many"),
        pytest.param(["changes 1", ME, -1, 0], FORGED, id="a negative revision"),
        pytest.param(["changes 1", ME, 2**63, 0], FORGED, id="a revision too great"),
        pytest.param(["changes 1", ME, "1", 0], FORGED, id="a revision that is a text"),
        pytest.param(["changes 1", ME, True, 0], FORGED, id="a revision that is a boolean"),
        pytest.param(["changes 1", ME, 1.0, 0], FORGED, id="a revision with a point"),
        pytest.param(["changes 1", ME, 0, None], FORGED, id="no beginning"),
        pytest.param(["changes 1", ME, 0, [0]], FORGED, id="a beginning in an array"),
        pytest.param(["changes 1", None, 0, 0], OTHER_USER, id="nobody"),
        pytest.param(["changes 1", {"a": [1]}, 0, 0], OTHER_USER, id="a user that is an object"),
        pytest.param(["changes 1", ME, 3, 0], AHEAD, id="a revision to come"),
        pytest.param(["changes 1", ME, 2**63 - 1, 0], AHEAD, id="the last revision"),
        pytest.param(["changes 1", ME, 1, 3], AHEAD, id="a beginning to come"),
    ],
)
def test_cursor_forged_with_the_right_checksum_is_refused(caller, parts, detail):
    for _ in range(2):
        caller.make()
    mine = (
        [changes._digest(caller.user) if part is ME else part for part in parts] if isinstance(parts, list) else parts
    )
    assert caller.refused(pagination.encode_cursor(orjson.loads(orjson.dumps(mine)))) == detail


def test_cursor_of_somebody_who_never_wrote_that_is_ahead_is_refused(caller):
    assert caller.refused(pagination.encode_cursor(["changes 1", changes._digest(caller.user), 1, 0])) == AHEAD


def test_cursor_older_than_what_is_forgotten_is_expired(app, caller):
    kept, gone = caller.make(), caller.make()
    snapshot = caller.page(limit=1)["next"]
    before = caller.page()["next"]
    caller.delete(gone)
    after = caller.page()["next"]
    caller.call("DELETE", f"/trash/{gone['id']}")
    assert [deleted["id"] for deleted in caller.page(before)["deleted"]] == [gone["id"]]
    with app.app_context():
        assert list(purging.purge(caller.user, tombstone_days=0)) == [1]
    for cursor in (before, snapshot):
        problem = assert_problem(caller.ask(cursor), 410)
        assert problem["code"] == "cursor_expired"
    page = caller.page(after)
    assert (page["tasks"], page["deleted"], page["count"]) == ([], [], 1)
    assert caller.page()["tasks"] == [kept]


def test_cursor_of_a_snapshot_outlives_what_was_forgotten_before_it_began(app, caller):
    kept, gone = [caller.make() for _ in range(2)], caller.make()
    caller.delete(gone)
    caller.call("DELETE", f"/trash/{gone['id']}")
    first = caller.page(limit=1)
    with app.app_context():
        assert list(purging.purge(caller.user, tombstone_days=0)) == [1]
    second = caller.page(first["next"], limit=1)
    assert (first["tasks"], second["tasks"], second["count"]) == (kept[:1], kept[1:], 2)


def test_cursor_from_before_an_erasure_is_expired_and_a_new_one_is_good(caller):
    caller.make()
    since = caller.page()["next"]
    erased = caller.call("DELETE", "", {"Confirm": caller.user})
    assert erased.status_code == 204
    assert assert_problem(caller.ask(since), 410)["code"] == "cursor_expired"
    page = caller.page()
    assert (page["tasks"], page["count"], page["checksum"]) == ([], 0, NOTHING)
    assert caller.page(page["next"])["tasks"] == []


# Costs.


@pytest.mark.unprepared
def test_page_of_changes_is_one_statement_that_starts_from_the_caller(proxied, proxy):
    caller = Caller(proxied)
    made = [caller.make() for _ in range(3)]
    since = caller.page()["next"]
    caller.delete(made[0])
    for cursor, limit in ((None, None), (None, 1), (since, None), (since, 1)):
        tag = caller.ask(cursor, limit).headers["ETag"]
        for known, status in ((None, 200), (tag, 304)):
            proxy.queries.clear()
            assert caller.ask(cursor, limit, known).status_code == status
            (query,) = proxy.queries
            assert f"user_id = '{caller.user}'" in query


def nodes(plan):
    """Return all nodes of a plan."""
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("rows", "known", "scans"),
    [
        pytest.param(3, -1, 1, id="page with more behind it"),
        pytest.param(1000, -1, 2, id="last page"),
        pytest.param(1000, 4, 0, id="known"),
    ],
)
def test_page_of_changes_reads_all_tasks_for_the_proof_alone_and_none_when_known(app, caller, rows, known, scans):
    for _ in range(4):
        caller.make()
    asked = {"caller": caller.user, "since": 0, "deleted_since": 0, "rows": rows, "known_revision": known}
    with app.app_context():
        (((answer,),),) = statements.read(f"EXPLAIN (ANALYZE, FORMAT JSON) {changes.SQL['list_changes']}", asked)
    loops = [node["Actual Loops"] for node in nodes(answer["Plan"]) if node.get("Relation Name") == "tasks"]
    assert len(loops) == 2
    assert sum(loops) == scans


# Tables of several machines.

# A table that is read as Citus reads tables that are being distributed: a statement that says RECURSIVE is refused, and
# so is the first of the others that comes when `failures` says so.
DISTRIBUTED_IN_PART = """
    CREATE SEQUENCE failures;
    CREATE FUNCTION is_read() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        IF current_query() LIKE '%RECURSIVE%' THEN
            RAISE 'recursive CTEs are not supported in distributed queries' USING ERRCODE = '0A000';
        END IF;
        IF nextval('failures') = 100 THEN
            RAISE 'could not serialize access' USING ERRCODE = '40001';
        END IF;
        RETURN true;
    END
    $$;
    ALTER TABLE trash RENAME TO pieces;
    CREATE VIEW trash AS SELECT * FROM pieces WHERE (SELECT is_read());
"""


@pytest.fixture(scope="module")
def partly_url(postgres, migrated_template):
    """Return the URL of a database in which one table is read as if it was elsewhere."""
    url = new_database(postgres, "todo_distributed_in_part", migrated_template)
    query(url, DISTRIBUTED_IN_PART)
    return url


@pytest.fixture
def partly(partly_url):
    """Return a user of the application on that database."""
    with open_app(partly_url) as app:
        yield Caller(app)


@pytest.mark.plain
def test_follower_of_a_list_that_is_distributed_in_part_has_what_the_list_has(partly):
    follower = Follower(partly)
    assert follower.follow()["count"] == 0
    made = [partly.make() for _ in range(3)]
    partly.delete(made[0])
    while follower.follow(limit=1)["has_more"]:
        pass
    known = partly.ask(follower.since).headers["ETag"]
    assert partly.ask(follower.since, tag=known).status_code == 304
    partly.delete(made[1])
    partly.call("POST", f"/trash/{made[0]['id']}/restore")
    follower.follow()
    assert sorted(follower.tasks) == [made[0]["id"], made[2]["id"]]


@pytest.mark.plain
def test_changes_of_a_list_that_is_distributed_in_part_wait_for_the_write_at_work(partly, partly_url):
    made = partly.make()
    with ThreadPoolExecutor() as pool, closing(psycopg2.connect(partly_url)) as writer:
        cursor = writer.cursor()
        cursor.execute("UPDATE task_lists SET revision = 2 WHERE user_id = %s", (partly.user,))
        page = pool.submit(partly.page)
        wait_until(lambda: query(partly_url, WAITING), "waiting for the list")
        cursor.execute("UPDATE tasks SET revision = 2 WHERE user_id = %s", (partly.user,))
        writer.commit()
        assert page.result()["checksum"] == checksum([made | {"revision": 2}])


@pytest.mark.plain
def test_changes_of_a_list_that_is_distributed_in_part_are_read_once_more_after_a_rollback(partly, partly_url):
    made = partly.make()
    query(partly_url, "SELECT setval('failures', 100, false)")
    assert partly.page()["tasks"] == [made]
    assert query(partly_url, "SELECT last_value FROM failures") == [(101,)]
