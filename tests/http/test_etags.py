"""Conditional requests: an unchanged response is not sent again, and a changed task is not overwritten."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from support import assert_problem, bearer, call_as, new_user, open_app, plant

from todo.database import statements
from todo.http.etags import conditional_read, conditional_write
from todo.tasks import listing, queries
from todo.tasks.listing import Filters, Listing, SortKey
from todo.trash import queries as trash

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
    with open_app(database_url, REQUIRE_IF_MATCH="true") as app:
        yield app


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


@pytest.fixture
def write_behind_a_toggle(app, database_url, task, user, wait_for_lock):
    """Return a function that sends a write with the ETag of the task while another request toggles it."""

    def send(method, path, body):
        def write():
            headers = {"If-Match": '"3"'}
            responses.append(call_as(app.test_client(), user)(method, path.format(id=task["id"]), headers, **body))

        responses, writer = [], threading.Thread(target=write)
        with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
            parameters = {"caller": user, "task_id": task["id"], "among": None, "besides": []}
            cursor.execute(queries.TOGGLE, parameters)
            writer.start()
            wait_for_lock()
            other.commit()
        writer.join()
        return responses[0]

    return send


@pytest.mark.parametrize(("method", "path", "body"), [case for case in WRITES if case.id != "complete"])
def test_write_that_waits_for_another_one_is_decided_after_it(write_behind_a_toggle, call, task, method, path, body):
    problem = assert_problem(write_behind_a_toggle(method, path, body), 412)
    assert problem["current"] == call("GET", f"/tasks/{task['id']}").json
    assert (problem["current"]["revision"], problem["current"]["completed"]) == (4, True)


# Changes that have been made already (RFC 9110, section 13.1.1)

DUE = {"due_date": "2026-03-01T09:30:00Z"}
ALREADY_SO = [
    pytest.param("PUT", {"title": "new", "description": "d"}, {"title": "new", "description": "d"}, id="put"),
    pytest.param("PUT", {"title": "new", "description": None}, {"title": "new"}, id="put without a description"),
    pytest.param("PATCH", {"title": "new"}, {"title": "  new "}, id="white space around the title"),
    pytest.param("PATCH", {"description": ""}, {"description": ""}, id="an empty description"),
    pytest.param("PATCH", {"description": None}, {"description": None}, id="null"),
    pytest.param("PATCH", {"priority": "low"}, {"priority": "LOW"}, id="case of the priority"),
    pytest.param("PATCH", DUE, {"due_date": "2026-03-01T10:30+01:00"}, id="another offset"),
    pytest.param("PATCH", {"due_date": "2026-03-02"}, {"due_date": "2026-03-02"}, id="a date"),
    pytest.param("PATCH", {"tags": ["B", "a"]}, {"tags": [" B", "a", "b"]}, id="a repeated tag"),
    pytest.param("PATCH", {"tags": []}, {"tags": None}, id="no tags"),
    pytest.param("PATCH", {"title": "new"}, {"title": "new", "revision": 1, "unknown": 1}, id="ignored members"),
    pytest.param("PATCH", {"completed": True}, {"completed": True}, id="completed"),
    pytest.param("PATCH /complete", {"completed": True}, {"completed": True}, id="complete"),
]
NOT_SO = [
    pytest.param("PUT", {"title": "new", "description": "d"}, {"title": "new"}, id="put that clears the description"),
    pytest.param("PATCH", {"title": "new"}, {"title": "New"}, id="case of the title"),
    pytest.param("PATCH", {"title": "new", "completed": True}, {"title": "new", "completed": False}, id="one of two"),
    pytest.param("PATCH", {"description": None}, {"description": ""}, id="empty for null"),
    pytest.param("PATCH", {"tags": ["a", "B"]}, {"tags": ["B", "a"]}, id="order of tags"),
    pytest.param("PATCH", {"tags": ["B"]}, {"tags": ["b"]}, id="spelling of a tag"),
    pytest.param("PATCH", {"due_date": "2026-03-02"}, {"due_date": "2026-03-02T23:59:59.999999Z"}, id="end of a date"),
    pytest.param("PATCH /complete", {"completed": True}, {"completed": False}, id="reopening"),
    pytest.param("PATCH /complete", {"completed": True}, {}, id="toggle"),
]


def send_stale(call, task, method, there, body):
    """Bring a task to a state, and send a write with the ETag that it had before."""
    method, _, path = method.partition(" ")
    current = call("PATCH", f"/tasks/{task['id']}", **there).json
    call("POST", "/tasks", title="another")
    return current, call(method, f"/tasks/{task['id']}{path}", {"If-Match": '"2"'}, **body)


@pytest.mark.parametrize(("method", "there", "body"), ALREADY_SO)
def test_stale_write_of_what_is_so_already_succeeds_and_changes_nothing(call, task, method, there, body):
    current, response = send_stale(call, task, method, there, body)
    assert (response.status_code, response.json) == (200, current)
    assert response.headers["ETag"] == f'"{current["revision"]}"'
    assert call("GET", "/tasks").headers["ETag"].startswith('"5-' if current["revision"] == 4 else '"4-')


@pytest.mark.parametrize(("method", "there", "body"), NOT_SO)
def test_stale_write_of_anything_else_fails(call, task, method, there, body):
    current, response = send_stale(call, task, method, there, body)
    assert assert_problem(response, 412)["current"] == current
    assert call("GET", f"/tasks/{task['id']}").json == current


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_write_whose_response_was_lost_succeeds_again_and_a_deletion_is_not_found(call, task, method):
    path, headers = f"/tasks/{task['id']}", {"If-Match": '"3"'}
    first = call(method, path, headers, title="new")
    again = call(method, path, headers, title="new")
    assert (again.status_code, again.json, again.headers["ETag"]) == (200, first.json, first.headers["ETag"])
    assert call("DELETE", path, {"If-Match": '"4"'}).status_code == 204
    assert_problem(call("DELETE", path, {"If-Match": '"4"'}), 404)


@pytest.mark.parametrize("etags", ["*", '"3"'])
def test_if_none_match_excludes_a_write_of_what_is_so_already(call, task, etags):
    headers = {"If-Match": '"2"', "If-None-Match": etags}
    for method, body in (("PATCH", {"title": "z"}), ("PUT", {"title": "z", "description": "y"})):
        assert_problem(call(method, f"/tasks/{task['id']}", headers, **body), 412)
    assert_problem(call("PATCH", f"/tasks/{task['id']}", {"If-None-Match": etags}, title="z"), 412)


def test_write_that_waits_for_one_with_the_same_effect_succeeds(write_behind_a_toggle, call, task):
    response = write_behind_a_toggle("PATCH", "/tasks/{id}/complete", {"completed": True})
    assert (response.status_code, response.headers["ETag"]) == (200, '"4"')
    assert response.json == call("GET", f"/tasks/{task['id']}").json


def test_writes_with_one_etag_and_one_effect_all_succeed_and_are_one(app, call, user):
    path = f"/tasks/{call('POST', '/tasks', title='x').json['id']}"

    def write(_):
        return call_as(app.test_client(), user)("PATCH", path, {"If-Match": '"1"'}, title="y")

    responses = at_once(8, write)
    assert {response.status_code for response in responses} == {200}
    assert [response.json for response in responses] == [call("GET", path).json] * 8
    assert responses[0].json["revision"] == 2


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


def test_conditional_read_documents_its_responses():
    documented = conditional_read(lambda: None)
    assert documented._apidoc["manual_doc"]["responses"] == {304: "NotModified", 412: "PreconditionFailed"}


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
    # An asterisk stands for every state only where it stands alone.
    assert revalidate(call, f"/tasks?overdue={overdue}", "*").status_code == 304


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


# ETags that proxies have changed

CHANGED_BY_PROXIES = [
    pytest.param('"{}-gzip"', id="Apache, Caddy, lighttpd"),
    pytest.param('"{}-br"', id="Apache with Brotli"),
    pytest.param('"{}-zstd"', id="Caddy"),
    pytest.param('"{}-deflate"', id="lighttpd"),
    pytest.param('"{}--gzip"', id="Jetty"),
    pytest.param('"{}--br"', id="Jetty with Brotli"),
    pytest.param('"{}--zstd"', id="Jetty with Zstandard"),
    pytest.param('"{}--gzip--br"', id="Jetty, twice"),
    pytest.param('"{}/gzip"', id="slash"),
    pytest.param('"{}/br"', id="slash, Brotli"),
    pytest.param('"{};gzip"', id="Django"),
    pytest.param('"{};gz"', id="LiteSpeed"),
    pytest.param('"{}:br"', id="colon"),
    pytest.param('"{}-df"', id="Traffic Server"),
    pytest.param('"{}-gzip-gzip"', id="Apache, twice"),
    pytest.param('"{}-x-gzip"', id="the older name"),
    pytest.param('"{}-GZIP"', id="upper case"),
    pytest.param('"gzip-{}"', id="in front"),
    pytest.param('"br/{}"', id="in front, with a slash"),
    pytest.param('"{}"-gzip', id="behind the quotation mark"),
    pytest.param('"{}-gzip"-gzip', id="on both sides of it"),
    pytest.param("{}-gzip", id="without quotation marks"),
]
NOT_BY_PROXIES = [
    pytest.param('"{}-gzi"', id="no coding"),
    pytest.param('"{}gzip"', id="no separator"),
    pytest.param('"{}-"', id="no coding behind the separator"),
    pytest.param('"{}---gzip"', id="three separators"),
    pytest.param('"{}-gzip-1"', id="more behind the coding"),
    pytest.param('"1{}-gzip"', id="another number"),
    pytest.param('"0{}-gzip"', id="another spelling"),
    pytest.param('"-{}-gzip"', id="something in front"),
    pytest.param('"{} -gzip"', id="a space"),
    pytest.param('"{}-gzip', id="no closing quotation mark"),
    pytest.param('"-gzip"', id="nothing"),
    pytest.param('"{}' + "-gzip" * 9 + '"', id="too often"),
]
AROUND = [
    pytest.param("{}", id="strong"),
    pytest.param("W/{}", id="weak"),
    pytest.param('"x", {}, W/"y-br"', id="list"),
    pytest.param(' ,, w/{} ,"z,z"', id="odd list"),
]


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("form", CHANGED_BY_PROXIES)
def test_etag_that_a_proxy_has_changed_is_the_etag(call, task, form, around):
    path = f"/tasks/{task['id']}"
    changed = around.format(form.format(3))
    assert_not_modified(revalidate(call, path, changed), '"3"')
    assert call("GET", path, {"If-Match": changed}).status_code == 200
    for query in ("/tasks", "/tasks?limit=1", "/tasks/changes"):
        etag = call("GET", query).headers["ETag"]
        changed_list = around.format(form.format(etag.strip('"')))
        assert_not_modified(revalidate(call, query, changed_list), etag)
        assert call("GET", query, {"If-Match": changed_list}).status_code == 200
    assert_problem(call("PUT", path, {"If-None-Match": changed}, title="new"), 412)
    for revision, (method, end, body) in enumerate(
        [("PUT", "", {"title": "new"}), ("PATCH", "", {"title": "newer"}), ("PATCH", "/complete", {})], 3
    ):
        changed = around.format(form.format(revision))
        assert call(method, path + end, {"If-Match": changed}, **body).headers["ETag"] == f'"{revision + 1}"'
    assert call("DELETE", path, {"If-Match": around.format(form.format(6))}).status_code == 204


@pytest.mark.parametrize("form", NOT_BY_PROXIES)
@pytest.mark.parametrize("around", ["{}", "W/{}"])
def test_etag_that_no_proxy_makes_is_another_one(call, task, form, around):
    path, other = f"/tasks/{task['id']}", around.format(form.format(3))
    assert revalidate(call, path, other).status_code == 200
    for method, end, body in (("GET", "", {}), ("PUT", "", {"title": "new"}), ("PATCH", "/complete", {})):
        assert_problem(call(method, path + end, {"If-Match": other}, **body), 412)
    etag = call("GET", "/tasks").headers["ETag"]
    assert revalidate(call, "/tasks", around.format(form.format(etag.strip('"')))).status_code == 200


@pytest.mark.parametrize("piece", ["-gzip", "gzip-", "-", "/;", '"', '""', ",", '",', "W/", " ", "a,"])
def test_hostile_etags_take_no_time(call, task, piece):
    header = (piece * 40_000)[:40_000]
    began = time.perf_counter()
    assert revalidate(call, f"/tasks/{task['id']}", header).status_code == 200
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("form", ["{}", "W/{}", "*"])
def test_asset_with_its_etag_is_not_modified(client, form):
    path = "/docs/assets/page.css"
    etag = client.get(path).headers["ETag"]
    for changed in (etag, etag[:-1] + '-gzip"', etag[:-1] + '--br"'):
        response = client.get(path, headers={"If-None-Match": form.format(changed)})
        assert (response.status_code, response.headers["ETag"], response.get_data()) == (304, etag, b"")
        assert response.headers["Cache-Control"] == "no-cache"
    assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert_problem(client.get(path, headers={"If-Match": '"x"'}), 412)


# Preconditions on every method (RFC 9110, section 13.2.2)

READS = ["/tasks", "/tasks?limit=1", "/tasks?overdue=false", "/tasks/changes", "/tasks/summary", "/trash", "/export"]
PUBLIC = ["/", "/health", "/health/ready", "/openapi.json", "/docs", "/redoc", "/docs/assets/page.css"]


@pytest.fixture
def get(client, call, task):
    """Return a function that reads a path of the user, or a public one."""

    def read(path, headers, method="GET"):
        if path in PUBLIC:
            response = client.open(path, method=method, headers=headers)
        else:
            response = call(method, path.replace("{id}", str(task["id"])), headers)
        # A user has one export at a time.
        response.close()
        return response

    return read


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/tasks/{id}", *READS, *PUBLIC])
def test_read_with_preconditions_is_decided_by_the_present_state(get, path, method):
    found = get(path, {}, method)
    own = {"If-Match": "*"}, {"If-None-Match": '"x"'}, {"If-Match": "*", "If-None-Match": '"x", W/"y"'}
    for headers in own:
        response = get(path, headers, method)
        assert (response.status_code, response.headers.get("ETag")) == (200, found.headers.get("ETag"))
    for headers in ({"If-None-Match": "*"}, {"If-None-Match": " * "}, {"If-Match": "*", "If-None-Match": "*"}):
        response = get(path, headers, method)
        assert response.status_code == 304
        for name in ("ETag", "Cache-Control", "Vary", "Content-Security-Policy"):
            assert response.headers.get(name) == found.headers.get(name)
        assert not {"Content-Type", "Content-Length", "Link", "Content-Disposition"} & set(response.headers.keys())
    stale = {"If-Match": '"2"'}, {"If-Match": '"x", W/"y"'}, {"If-Match": ""}, {"If-Match": '"2"', "If-None-Match": "*"}
    for headers in stale:
        response = get(path, headers, method)
        assert response.status_code == 412
        assert "ETag" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"
        if method == "GET":
            assert_problem(response, 412)


@pytest.mark.parametrize("path", ["/tasks/{id}", "/tasks", "/tasks?sort=title", "/tasks/changes"])
def test_read_with_both_preconditions_checks_if_match_first(get, call, path):
    etag = get(path, {}).headers["ETag"]
    assert get(path, {"If-Match": etag, "If-None-Match": etag}).status_code == 304
    assert get(path, {"If-Match": etag, "If-None-Match": '"x"'}).status_code == 200
    call("PATCH", "/tasks/{}".format(call("GET", "/tasks").json[-1]["id"]), title="changed")
    assert_problem(get(path, {"If-Match": etag, "If-None-Match": etag}), 412)
    newer = get(path, {}).headers["ETag"]
    assert_problem(get(path, {"If-Match": etag, "If-None-Match": newer}), 412)
    assert get(path, {"If-Match": newer, "If-None-Match": etag}).status_code == 200


def test_get_with_a_stale_if_match_returns_the_current_task(call, task):
    assert assert_problem(call("GET", f"/tasks/{task['id']}", {"If-Match": '"2"'}), 412)["current"] == task


@pytest.mark.parametrize("headers", [{"If-Match": '"x"'}, {"If-None-Match": "*"}, {"If-Match": "*"}])
def test_preconditions_are_ignored_where_the_response_is_an_error(client, call, headers):
    assert_problem(client.get("/api/me/tasks", headers=headers), 401)
    assert_problem(client.get("/nowhere", headers=headers), 404)
    assert_problem(call("GET", f"/tasks/{ABSENT}", headers), 404, "Task not found")
    assert_problem(call("GET", "/tasks/abc", headers), 404, "Task not found")
    assert_problem(call("GET", "/tasks?limit=x", headers), 422)
    assert_problem(call("PUT", f"/tasks/{ABSENT}", headers, title="x"), 404, "Task not found")
    assert_problem(call("PUT", f"/tasks/{ABSENT}", headers, title=""), 422)
    assert_problem(call("DELETE", f"/trash/{ABSENT}", headers), 404, "Task not found")
    assert_problem(call("POST", f"/trash/{ABSENT}/restore", headers), 404, "Task not found")
    assert_problem(call("POST", "/tasks", headers, title=""), 422)
    assert_problem(call("DELETE", "", headers), 422)
    assert call("OPTIONS", "/tasks", headers).status_code == 200


@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since"])
@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "yesterday"])
def test_dates_in_preconditions_say_nothing(call, task, name, date):
    assert call("GET", f"/tasks/{task['id']}", {name: date}).status_code == 200
    assert call("GET", "/tasks", {name: date}).status_code == 200
    assert call("PATCH", f"/tasks/{task['id']}", {name: date}, title="new").status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"If-None-Match": "*"}, id="no state"),
        pytest.param({"If-None-Match": '"3"'}, id="not this one"),
        pytest.param({"If-None-Match": '"1", W/"3"'}, id="none of these"),
        pytest.param({"If-Match": "*", "If-None-Match": "*"}, id="some state and no state"),
        pytest.param({"If-Match": '"3"', "If-None-Match": '"3"'}, id="this one and not this one"),
        pytest.param({"If-Match": '"2"', "If-None-Match": '"1"'}, id="another one"),
    ],
)
def test_write_that_a_precondition_excludes_fails(call, task, method, path, body, headers):
    problem = assert_problem(call(method, path.format(id=task["id"]), headers, **body), 412)
    assert problem["current"] == task
    assert ("If-None-Match" in problem["detail"]) is (headers.get("If-Match") != '"2"')
    assert call("GET", f"/tasks/{task['id']}").json == task


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"If-None-Match": '"2"'},
        {"If-None-Match": '"1", "4", "x"'},
        {"If-None-Match": ""},
        {"If-Match": "*", "If-None-Match": '"2"'},
        {"If-Match": '"2", "3"', "If-None-Match": '"2"'},
    ],
)
def test_write_that_no_precondition_excludes_succeeds(call, task, method, path, body, headers):
    assert call(method, path.format(id=task["id"]), headers, **body).status_code in (200, 204)


def test_if_none_match_is_not_the_required_if_match(strict_app, user):
    call = call_as(strict_app.test_client(), user)
    task = call("POST", "/tasks", title="x").json
    assert_problem(call("PUT", f"/tasks/{task['id']}", {"If-None-Match": '"9"'}, title="y"), 428)


def test_creation_with_preconditions_is_decided_by_the_list(call, task):
    etag, other = (call("GET", path).headers["ETag"] for path in ("/tasks", "/tasks?status=pending"))
    stale = etag.replace("3-", "2-")
    for headers in (
        {"If-None-Match": "*"},
        {"If-None-Match": etag},
        {"If-Match": stale},
        {"If-Match": '"3"'},
        {"If-Match": ""},
        {"If-Match": etag, "If-None-Match": other},
    ):
        assert_problem(call("POST", "/tasks", headers, title="refused"), 412)
    assert call("GET", "/tasks").headers["ETag"] == etag
    matching = [{"If-Match": "*"}, {"If-Match": "{}"}, {"If-Match": "W/{}", "If-None-Match": stale}]
    for number, headers in enumerate([*matching, {"If-None-Match": stale}], 3):
        at = other.replace("3-", f"{number}-")
        sent = {name: value.format(at) for name, value in headers.items()}
        assert call("POST", "/tasks", sent, title="new").json["revision"] == number + 1


def test_creation_in_a_list_without_writes_is_decided_by_its_etag(call):
    etag = call("GET", "/tasks").headers["ETag"]
    assert_problem(call("POST", "/tasks", {"If-None-Match": etag}, title="x"), 412)
    assert call("GET", "/tasks").headers["ETag"] == etag
    assert call("POST", "/tasks", {"If-Match": etag}, title="x").json["revision"] == 1
    assert_problem(call("POST", "/tasks", {"If-Match": etag}, title="x"), 412)


def test_creation_that_is_repeated_with_its_preconditions_has_succeeded(call, task):
    headers = {"If-Match": call("GET", "/tasks").headers["ETag"], "Idempotency-Key": "one"}
    first, second = (call("POST", "/tasks", headers, title="x") for _ in range(2))
    assert (first.status_code, second.status_code, second.json) == (201, 201, first.json)
    assert second.headers["Idempotent-Replayed"] == "true"
    refused = call("POST", "/tasks", headers | {"Idempotency-Key": "two"}, title="x")
    assert_problem(refused, 412)
    # A refused creation leaves its key unused.
    assert call("POST", "/tasks", {"Idempotency-Key": "two"}, title="x").status_code == 201


def test_concurrent_creations_with_one_etag_are_one_creation(app, call, user):
    call("POST", "/tasks", title="x")
    etag = call("GET", "/tasks").headers["ETag"]

    def create(turn):
        return call_as(app.test_client(), user)("POST", "/tasks", {"If-Match": etag}, title=f"by {turn}")

    assert sorted(response.status_code for response in at_once(8, create)) == [201] + [412] * 7
    assert len(call("GET", "/tasks").json) == 2


TRASH_WRITES = [
    pytest.param("POST", "/trash/{}/restore", id="restore"),
    pytest.param("DELETE", "/trash/{}", id="discard"),
]


@pytest.mark.parametrize(("method", "path"), TRASH_WRITES)
def test_write_to_a_deleted_task_is_decided_by_its_last_etag(call, task, method, path):
    call("DELETE", f"/tasks/{task['id']}")
    there = path.format(task["id"])
    for headers in (
        {"If-Match": '"2"'},
        {"If-Match": '"4"'},
        {"If-None-Match": "*"},
        {"If-None-Match": '"3"'},
        {"If-Match": '"3"', "If-None-Match": "*"},
    ):
        problem = assert_problem(call(method, there, headers), 412)
        assert problem["current"] == task
    assert len(call("GET", "/trash").json) == 1
    headers = {"If-Match": '"2", W/"3-gzip"', "If-None-Match": '"4"'}
    assert call(method, there, headers).status_code in (200, 204)
    assert call("GET", "/trash").json == []
    assert_problem(call(method, there, headers), 404, "Task not found")


@pytest.mark.parametrize(("path", "confirmed"), [("/trash", False), ("", True)])
def test_write_to_all_has_no_etag(call, task, user, path, confirmed):
    call("DELETE", f"/tasks/{task['id']}")
    for headers in ({"If-Match": '"3"'}, {"If-Match": ""}, {"If-None-Match": "*"}):
        assert_problem(call("DELETE", path, headers | {"Confirm": user}), 412)
    assert [deleted["id"] for deleted in call("GET", "/trash").json] == [task["id"]]
    assert call("DELETE", path, {"If-Match": "*", "If-None-Match": '"3"', "Confirm": user}).status_code == 204
    assert call("GET", "/trash").json == []


@pytest.mark.parametrize(("method", "path"), TRASH_WRITES)
def test_write_to_a_deleted_task_that_changes_meanwhile_fails(call, task, monkeypatch, method, path):
    call("DELETE", f"/tasks/{task['id']}")
    monkeypatch.setattr(trash.statements, "write", lambda *_: [])
    problem = assert_problem(call(method, path.format(task["id"]), {"If-Match": '"3"'}), 412)
    assert problem["current"] == task


def test_write_to_a_task_that_changes_meanwhile_fails(call, task, monkeypatch):
    monkeypatch.setattr(queries.statements, "write", lambda *_: [])
    problem = assert_problem(call("PUT", f"/tasks/{task['id']}", {"If-Match": '"3"'}, title="x"), 412)
    assert problem["current"] == task


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


def test_conditional_creation_is_one_transaction(remote, proxy):
    etag = remote("GET", "/tasks").headers["ETag"]
    proxy.queries.clear()
    assert remote("POST", "/tasks", {"If-Match": etag}, title="x").status_code == 201
    assert len(proxy.queries) == 3
    proxy.queries.clear()
    assert remote("POST", "/tasks", title="x").status_code == 201
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


@pytest.mark.plain
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
def test_unchanged_list_reads_no_task(app, database_url, user, fields):
    plant(database_url, [user], 300, title="task #")
    page = Listing(as_of=datetime.now(UTC), **fields)
    for known, read in ((300, False), (299, True)):
        executed = loops(app, *listing.statement(user, page, known))
        assert executed
        assert any(executed) == read


@pytest.mark.parametrize("path", ["/tasks", "/tasks?sort=title", "/tasks/changes"])
@pytest.mark.parametrize("etag", ['""', 'W/""', '"-"'])
def test_list_with_an_etag_of_another_form_is_complete(call, task, path, etag):
    assert call("GET", path, {"If-None-Match": etag}).status_code == 200
