"""Conditional requests: an unchanged response is not sent again, and a changed task is not overwritten."""

import threading
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from sqlalchemy import text
from support import assert_problem, bearer, call_as, config_for, new_user

from todo import create_app
from todo.database import statements
from todo.extensions import db
from todo.http.etags import conditional_write
from todo.tasks import listing, queries
from todo.tasks.listing import Filters, Listing, SortKey

ABSENT = 2**62


@pytest.fixture
def task(call):
    """Return a task at revision 3, whose ETag no other task of the list has."""
    call("POST", "/tasks", title="first")
    created = call(
        "POST", "/tasks", title="x", description="y", priority="high", due_date="2026-03-01", tags=["a"]
    ).json
    return call("PATCH", f"/tasks/{created['id']}", title="z").json


WRITES = [
    pytest.param("PUT", "/tasks/{id}", {"title": "new"}, id="put"),
    pytest.param("PATCH", "/tasks/{id}", {"title": "new"}, id="patch"),
    pytest.param("PATCH", "/tasks/{id}/complete", {}, id="toggle"),
    pytest.param("PATCH", "/tasks/{id}/complete", {"completed": True}, id="complete"),
    pytest.param("DELETE", "/tasks/{id}", {}, id="delete"),
]


def assert_not_modified(response, etag):
    """Assert that a response is a 304 with this ETag and no body."""
    assert response.status_code == 304
    assert response.get_data() == b""
    assert response.headers["ETag"] == etag
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert not {"Content-Type", "Content-Length", "Link"} & set(response.headers.keys())


def revalidate(call, path, etag):
    """Send a GET with this `If-None-Match`."""
    return call("GET", path, {"If-None-Match": etag})


# One task


def test_get_with_the_etag_of_every_write_is_not_modified(client, call, user):
    created = call("POST", "/tasks", title="x")
    path = f"/tasks/{created.json['id']}"
    writes = [
        lambda: created,
        lambda: call("PUT", path, title="y"),
        lambda: call("PATCH", path, title="z"),
        lambda: call("PATCH", f"{path}/complete"),
        lambda: call("PATCH", f"{path}/complete", completed=False),
    ]
    for revision, write in enumerate(writes, 1):
        written = write()
        assert written.headers["ETag"] == f'"{revision}"' == f'"{written.json["revision"]}"'
        got = call("GET", path)
        assert (got.status_code, got.headers["ETag"]) == (200, written.headers["ETag"])
        assert_not_modified(revalidate(call, path, written.headers["ETag"]), f'"{revision}"')
    deleted = call("DELETE", path, {"Prefer": "return=representation"})
    assert deleted.headers["ETag"] == '"5"'
    restored = client.post(f"/api/{user}/trash/{created.json['id']}/restore", headers=bearer(user))
    assert restored.headers["ETag"] == '"7"'
    assert_not_modified(revalidate(call, path, '"7"'), '"7"')


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "etags",
    [
        pytest.param('"3"', id="the ETag"),
        pytest.param('W/"3"', id="a weak ETag"),
        pytest.param('"1", W/"2" ,"3"', id="a list"),
        pytest.param('"x,y", "3"', id="a list with a comma in an ETag"),
        pytest.param("*", id="any"),
    ],
)
def test_get_with_a_matching_etag_is_not_modified(call, task, method, etags):
    assert_not_modified(call(method, f"/tasks/{task['id']}", {"If-None-Match": etags}), '"3"')


@pytest.mark.parametrize("etags", ['"2"', 'W/"4"', '"1", "2"', '"33"', '"-3"', "x", "", '"3', ",", '"\xe93"'])
def test_get_with_no_matching_etag_is_complete(call, task, etags):
    response = revalidate(call, f"/tasks/{task['id']}", etags)
    assert (response.status_code, response.headers["ETag"], response.json) == (200, '"3"', task)


def test_get_of_an_absent_task_with_any_etag_is_not_found(call, task):
    assert_problem(revalidate(call, f"/tasks/{ABSENT}", "*"), 404, "Task not found")


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "etags",
    [
        pytest.param('"3"', id="the ETag"),
        pytest.param('W/"3"', id="a weak ETag"),
        pytest.param('"1", W/"3", "x"', id="a list"),
        pytest.param('"", "3"', id="a list with the empty ETag"),
        pytest.param("*", id="any"),
    ],
)
def test_write_with_a_matching_etag_succeeds(call, task, method, path, body, etags):
    response = call(method, path.format(id=task["id"]), {"If-Match": etags}, **body)
    assert response.status_code in (200, 204)
    if method != "DELETE":
        assert response.headers["ETag"] == '"4"'


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "etags",
    [
        pytest.param('"2"', id="an old ETag"),
        pytest.param('"4"', id="a future ETag"),
        pytest.param('W/"1", "2"', id="a list of old ETags"),
        pytest.param("", id="an empty header"),
        pytest.param('""', id="the empty ETag"),
        pytest.param('W/"", "2"', id="the weak empty ETag"),
        pytest.param('"003"', id="another spelling of the number"),
        pytest.param('"*"', id="a quoted star"),
        pytest.param("x", id="a word"),
        pytest.param('"3', id="no closing quotation mark"),
        pytest.param('"+3", "3.0", "3 ", "0x3", "-3", "\xb3"', id="other spellings of numbers"),
        pytest.param(f'"{3 + 2**64}", "{"9" * 18}", "{"9" * 400}"', id="large numbers"),
        pytest.param('"3-0123456789abcdef"', id="the ETag of a list"),
        pytest.param('"3\'--"', id="SQL"),
    ],
)
def test_write_with_no_matching_etag_fails_and_returns_the_current_task(call, task, method, path, body, etags):
    problem = assert_problem(call(method, path.format(id=task["id"]), {"If-Match": etags}, **body), 412)
    assert problem["current"] == task
    assert call("GET", f"/tasks/{task['id']}").json == task


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("etags", ['"1"', "*", "x", None])
def test_write_of_an_absent_task_with_any_if_match_is_not_found(call, task, method, path, body, etags):
    headers = {} if etags is None else {"If-Match": etags}
    assert_problem(call(method, path.format(id=ABSENT), headers, **body), 404, "Task not found")


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_of_the_task_of_another_user_is_not_found_and_returns_nothing(client, task, method, path, body):
    response = call_as(client, new_user())(method, path.format(id=task["id"]), {"If-Match": '"2"'}, **body)
    assert "current" not in assert_problem(response, 404, "Task not found")


@pytest.fixture
def strict_app(database_url):
    """Return an application that requires `If-Match` on every change."""
    app = create_app(config_for(database_url, REQUIRE_IF_MATCH="true"))
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_without_a_required_if_match_is_refused(strict_app, user, method, path, body):
    call = call_as(strict_app.test_client(), user)
    task = call("POST", "/tasks", title="x").json
    for there in (task["id"], ABSENT):
        problem = assert_problem(call(method, path.format(id=there), **body), 428)
        assert "If-Match" in problem["detail"]
    assert call("GET", "/tasks").json == [task]
    assert call(method, path.format(id=task["id"]), {"If-Match": '"1"'}, **body).status_code in (200, 204)


def at_once(number, do):
    """Run a function in several threads at once, each with its number, and return the results."""
    barrier, responses = threading.Barrier(number), []

    def run(turn):
        barrier.wait()
        responses.append(do(turn))

    threads = [threading.Thread(target=run, args=(turn,)) for turn in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


def test_concurrent_writes_with_one_etag_are_one_write(app, call, user):
    path = f"/tasks/{call('POST', '/tasks', title='x').json['id']}"

    def write(turn):
        return call_as(app.test_client(), user)("PATCH", path, {"If-Match": '"1"'}, title=f"by {turn}")

    responses = at_once(8, write)
    assert sorted(response.status_code for response in responses) == [200] + [412] * 7
    (winner,) = (response.json for response in responses if response.status_code == 200)
    assert [response.json["current"] for response in responses if response.status_code == 412] == [winner] * 7
    assert call("GET", "/tasks").json == [winner]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_that_waits_for_another_one_is_decided_after_it(
    app, database_url, call, task, user, wait_for_lock, method, path, body
):
    def write():
        headers = {"If-Match": '"3"'}
        responses.append(call_as(app.test_client(), user)(method, path.format(id=task["id"]), headers, **body))

    responses, writer = [], threading.Thread(target=write)
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        parameters = {"caller": user, "task_id": task["id"], "revisions": None}
        cursor.execute(queries.TOGGLE, parameters)
        writer.start()
        wait_for_lock()
        other.commit()
    writer.join()
    problem = assert_problem(responses[0], 412)
    assert problem["current"] == call("GET", f"/tasks/{task['id']}").json
    assert (problem["current"]["revision"], problem["current"]["completed"]) == (4, True)


# Writes without a change


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("PATCH", "", {"title": " z "}, id="title"),
        pytest.param("PATCH", "", {"description": "y"}, id="description"),
        pytest.param("PATCH", "", {"priority": "HIGH"}, id="priority"),
        pytest.param("PATCH", "", {"due_date": "2026-03-01"}, id="due date"),
        pytest.param("PATCH", "", {"tags": ["a", "A"]}, id="tags"),
        pytest.param("PATCH", "", {"completed": False}, id="completed"),
        pytest.param("PATCH", "/complete", {"completed": False}, id="complete"),
        pytest.param("PUT", "", {"title": "z", "description": "y"}, id="put"),
    ],
)
@pytest.mark.parametrize("etags", [None, '"3"'])
def test_write_without_a_change_keeps_revision_and_time(call, task, method, path, body, etags):
    before = call("GET", "/tasks").headers["ETag"]
    response = call(method, f"/tasks/{task['id']}{path}", {"If-Match": etags} if etags else {}, **body)
    assert (response.status_code, response.json, response.headers["ETag"]) == (200, task, '"3"')
    assert_not_modified(revalidate(call, "/tasks", before), before)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"title": "Z"}, id="title"),
        pytest.param({"description": None}, id="description"),
        pytest.param({"priority": None}, id="priority"),
        pytest.param({"due_date": "2026-03-01T23:59:59.999999Z"}, id="the date-time that the date stood for"),
        pytest.param({"tags": ["A"]}, id="tags"),
        pytest.param({"completed": True}, id="completed"),
        pytest.param({"title": "z", "tags": []}, id="one of two"),
    ],
)
def test_write_with_a_change_raises_revision_and_time(call, task, body):
    changed = call("PATCH", f"/tasks/{task['id']}", **body).json
    assert changed["revision"] == 4
    assert changed["updated_at"] > task["updated_at"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        pytest.param("PATCH", "/tasks/{id}", {"If-Match": '"2"'}, {"title": "new"}, id="another state"),
        pytest.param("DELETE", "/tasks/{id}", {"If-Match": '"2"'}, {}, id="deletion of another state"),
        pytest.param("PATCH", f"/tasks/{ABSENT}", {}, {"title": "new"}, id="an absent task"),
        pytest.param("DELETE", f"/tasks/{ABSENT}", {"If-Match": "*"}, {}, id="deletion of an absent task"),
        pytest.param("PATCH", "/tasks/{id}", {}, {"title": ""}, id="an invalid body"),
    ],
)
def test_write_that_fails_keeps_the_revision(call, task, method, path, headers, body):
    before = call("GET", "/tasks").headers["ETag"]
    assert call(method, path.format(id=task["id"]), headers, **body).status_code in (404, 412, 422)
    assert_not_modified(revalidate(call, "/tasks", before), before)
    assert call("POST", "/tasks", title="next").json["revision"] == 4


def test_conditional_write_documents_its_problems():
    documented = conditional_write(lambda: None)
    assert documented._apidoc["manual_doc"]["responses"] == {
        404: "TaskNotFound",
        412: "PreconditionFailed",
        428: "PreconditionRequired",
    }


# Lists

QUERIES = ["/tasks", "/tasks?limit=1", "/tasks?limit=2&offset=1", "/tasks?sort=-title,due_date"]
QUERIES += ["/tasks?count=true", "/tasks?sort=title&count=true", "/tasks?status=pending&priority=high,none&tag=a"]
QUERIES += ["/tasks?q=z", "/tasks?q=nothing&count=true", "/tasks/changes"]


@pytest.mark.parametrize("query", QUERIES)
def test_list_with_its_etag_is_not_modified_until_any_change(call, task, query):
    for change in (
        lambda: call("PATCH", f"/tasks/{task['id']}", completed=True),
        lambda: call("POST", "/tasks", title="new"),
        lambda: call("DELETE", f"/tasks/{task['id']}"),
    ):
        first = call("GET", query)
        etag = first.headers["ETag"]
        for etags in (etag, f"W/{etag}", f'"x", {etag}, "y"'):
            assert_not_modified(revalidate(call, query, etags), etag)
        assert_not_modified(call("HEAD", query, {"If-None-Match": etag}), etag)
        change()
        second = revalidate(call, query, etag)
        assert second.status_code == 200
        assert second.headers["ETag"] != etag
        assert second.headers["Cache-Control"] == "private, no-cache"
        assert revalidate(call, query, f"{etag}, {second.headers['ETag']}").status_code == 304


def test_list_on_a_later_page_has_its_own_etag(call, task):
    first = call("GET", "/tasks?limit=1")
    following = "/tasks" + first.headers["Link"].partition("/tasks")[2].partition(">")[0]
    second = call("GET", following)
    assert revalidate(call, following, first.headers["ETag"]).status_code == 200
    assert_not_modified(revalidate(call, following, second.headers["ETag"]), second.headers["ETag"])


@pytest.mark.parametrize("query", QUERIES)
def test_list_of_a_user_without_writes_has_an_etag(call, query):
    first = call("GET", query)
    etag = first.headers["ETag"]
    assert etag.startswith('"0-')
    assert_not_modified(revalidate(call, query, etag), etag)
    call("POST", "/tasks", title="x")
    assert revalidate(call, query, etag).headers["ETag"].startswith('"1-')


@pytest.mark.parametrize("overdue", ["true", "false"])
def test_list_with_overdue_has_no_etag_and_matches_none(call, task, overdue):
    etag = call("GET", "/tasks").headers["ETag"]
    response = revalidate(call, f"/tasks?overdue={overdue}", f"{etag}, *")
    assert response.status_code == 200
    assert "ETag" not in response.headers


def test_list_with_the_etag_of_another_query_is_complete(call, task):
    etags = {query: call("GET", query).headers["ETag"] for query in QUERIES}
    assert len(set(etags.values())) == len(QUERIES)
    for query in QUERIES:
        others = ", ".join(etag for other, etag in etags.items() if other != query)
        assert revalidate(call, query, others).status_code == 200


@pytest.mark.parametrize("query", QUERIES)
def test_list_with_the_etag_of_another_user_is_complete(client, query):
    one, other = (call_as(client, new_user()) for _ in range(2))
    for call in (one, other):
        call("POST", "/tasks", title="x")
    etag = one("GET", query).headers["ETag"]
    assert etag.split("-")[0] == other("GET", query).headers["ETag"].split("-")[0]
    assert revalidate(other, query, etag).status_code == 200


@pytest.mark.parametrize("revision", ["", "x", "-1", "+3", " 3", "3.0", "9" * 19, "2", "4", "9" * 18])
def test_list_with_the_etag_of_another_revision_is_complete(call, task, revision):
    for query in QUERIES:
        suffix = call("GET", query).headers["ETag"].strip('"').partition("-")[2]
        response = revalidate(call, query, f'"{revision}-{suffix}"')
        assert (response.status_code, response.headers["ETag"]) == (200, f'"3-{suffix}"')


# The cost in statements


@pytest.fixture
def remote(proxied, proxy, user):
    """Return a function that sends requests as the user, through the proxy, on a warm connection."""
    call = call_as(proxied.test_client(), user)
    call("POST", "/tasks", title="x", tags=["a"])
    return call


@pytest.mark.parametrize("query", [*QUERIES, "/tasks/{id}"])
def test_not_modified_is_one_statement(remote, proxy, query):
    path = query.format(id=remote("GET", "/tasks").json[0]["id"])
    etag = remote("GET", path).headers["ETag"]
    proxy.queries.clear()
    assert_not_modified(revalidate(remote, path, etag), etag)
    assert len(proxy.queries) == 1


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_conditional_write_is_one_statement_and_a_refused_one_at_most_two(remote, proxy, method, path, body):
    there = path.format(id=remote("GET", "/tasks").json[0]["id"])
    proxy.queries.clear()
    assert_problem(remote(method, there, {"If-Match": '"2"'}, **body), 412)
    assert len(proxy.queries) <= 2
    proxy.queries.clear()
    assert_problem(remote(method, path.format(id=ABSENT), {"If-Match": '"1"'}, **body), 404)
    assert len(proxy.queries) <= 2
    proxy.queries.clear()
    assert remote(method, there, {"If-Match": '"1"'}, **body).status_code in (200, 204)
    assert len(proxy.queries) == 1


def test_write_without_a_change_is_one_statement(remote, proxy):
    task = remote("GET", "/tasks").json[0]
    proxy.queries.clear()
    assert remote("PATCH", f"/tasks/{task['id']}", title="x", tags=["a"]).json == task
    assert len(proxy.queries) == 1


def nodes(plan):
    """Return all nodes of a plan."""
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


def loops(app, statement, parameters):
    """Run a statement, and return how often each of its scans of tasks was executed."""
    with app.app_context():
        (((explained,),),) = statements.read(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
    return [node["Actual Loops"] for node in nodes(explained["Plan"]) if node.get("Relation Name") == "tasks"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="default"),
        pytest.param({"limit": 10}, id="page"),
        pytest.param({"sort": (SortKey("title", descending=True),)}, id="sorted"),
        pytest.param({"count": True}, id="counted"),
        pytest.param({"count": True, "sort": (SortKey("due_date"), SortKey("title"))}, id="sorted and counted"),
        pytest.param({"filters": Filters(completed=(False,), words=("task",))}, id="searched"),
    ],
)
def test_unchanged_list_reads_no_task(app, user, fields):
    insertion = "INSERT INTO tasks (user_id, title) SELECT :user, 'task ' || n FROM generate_series(1, 300) n"
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(text(insertion), {"user": user})
    page = Listing(as_of=datetime.now(UTC), **fields)
    for known, read in ((300, False), (299, True)):
        executed = loops(app, *listing.statement(user, page, known))
        assert executed
        assert any(executed) == read


@pytest.mark.parametrize("path", ["/tasks", "/tasks?sort=title", "/tasks/changes"])
@pytest.mark.parametrize("etag", ['""', 'W/""', '"-"'])
def test_list_with_an_etag_of_another_form_is_complete(call, task, path, etag):
    assert call("GET", path, {"If-None-Match": etag}).status_code == 200
