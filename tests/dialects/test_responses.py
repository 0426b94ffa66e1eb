"""Deletions with a body, lists in an envelope, and errors as plain JSON."""

import pytest

from config import DIALECTS

ALL = ",".join(DIALECTS)


@pytest.fixture(params=["alone", "with all others"])
def choose(request, speak):
    """Return a function that returns a front-end for a word, alone or together with all others."""
    return lambda word, **changes: speak(word if request.param == "alone" else ALL, **changes)


@pytest.mark.parametrize(
    "prefer",
    [
        None,
        "",
        "respond-async",
        "return=whatever",
        'x="',
        "return=representation",
        "respond-async, return=representation",
    ],
)
def test_deletion_returns_the_task(choose, prefer):
    front_end = choose("delete-body")
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    deleted = front_end("DELETE", path, headers={} if prefer is None else {"Prefer": prefer})
    assert (deleted.status_code, deleted.json) == (200, task)
    assert deleted.headers["ETag"] == f'"{task["revision"]}"'
    applied = "return=representation" if "=rep" in (prefer or "") else None
    assert deleted.headers.get("Preference-Applied") == applied
    missing = front_end("DELETE", path)
    assert (missing.status_code, missing.content_type) == (404, front_end.error_type)
    assert front_end.tasks("/api/me/trash")[0]["id"] == task["id"]


@pytest.mark.parametrize("prefer", ["return=minimal", "handling=strict, return=minimal", "Return = Minimal"])
def test_deletion_by_a_client_that_prefers_no_body_has_none(choose, prefer):
    front_end = choose("delete-body")
    deleted = front_end("DELETE", f"/api/me/tasks/{front_end.create()['id']}", headers={"Prefer": prefer})
    assert (deleted.status_code, deleted.data) == (204, b"")


def test_deletion_in_strict_mode_confirms_that_alone(choose):
    front_end = choose("delete-body")
    path = f"/api/me/tasks/{front_end.create()['id']}"
    strict = {"Prefer": "handling=strict"}
    refused = front_end("DELETE", f"{path}?force=true", headers=strict)
    assert refused.status_code == 422
    deleted = front_end("DELETE", path, headers=strict)
    assert (deleted.status_code, deleted.headers.getlist("Preference-Applied")) == (200, ["handling=strict"])


def test_deletion_heeds_preconditions(choose):
    front_end = choose("delete-body", REQUIRE_IF_MATCH="true")
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    assert front_end("DELETE", path).status_code == 428
    assert front_end("DELETE", path, headers={"If-Match": '"1000"'}).status_code == 412
    assert front_end("DELETE", path, headers={"If-Match": f'"{task["revision"]}"'}).json == task


def test_deletion_from_the_trash_has_no_body(choose):
    front_end = choose("delete-body")
    task = front_end.create()
    front_end("DELETE", f"/api/me/tasks/{task['id']}")
    assert front_end("DELETE", f"/api/me/trash/{task['id']}").status_code == 204
    assert front_end("DELETE", "/api/me/trash").status_code == 204


def test_list_is_an_object_with_the_counts(choose):
    front_end = choose("envelope")
    assert front_end("GET", "/api/me/tasks").json == {"tasks": [], "items": [], "total": 0, "count": 0}
    tasks = [front_end.create(title) for title in "abc"]
    listed = front_end("GET", "/api/me/tasks")
    assert listed.json == {"tasks": tasks, "items": tasks, "total": 3, "count": 3}
    assert listed.content_type == "application/json"
    assert listed.content_length == len(listed.data)
    assert "X-Total-Count" not in listed.headers
    page = front_end("GET", "/api/me/tasks?limit=2")
    assert page.json == {"tasks": tasks[:2], "items": tasks[:2], "total": 3, "count": 2}
    following = page.headers["Link"].partition(">")[0].removeprefix("<")
    assert "count" not in following
    assert front_end("GET", following).json == {"tasks": tasks[2:], "items": tasks[2:], "total": 3, "count": 1}
    assert front_end("GET", "/api/me/tasks?offset=5").json == {"tasks": [], "items": [], "total": 3, "count": 0}
    found = front_end("GET", "/api/me/tasks?search=b&sort=-title")
    assert (found.json["tasks"], found.json["total"]) == ([tasks[1]], 1)
    head = front_end("HEAD", "/api/me/tasks")
    assert (head.status_code, head.data, head.content_length) == (200, b"", listed.content_length)
    refused = front_end("GET", "/api/me/tasks?limit=0")
    assert (refused.status_code, refused.content_type) == (422, front_end.error_type)
    assert "errors" in refused.json


@pytest.mark.parametrize(("query", "counted"), [("", None), ("?count=false", None), ("?count=true", "2")])
@pytest.mark.parametrize("path", ["/api/me/tasks", "/api/me/trash"])
def test_header_with_the_count_comes_on_request(choose, path, query, counted):
    front_end = choose("envelope")
    for task in [front_end.create(title) for title in "abcd"][:2]:
        front_end("DELETE", f"/api/me/tasks/{task['id']}")
    listed = front_end("GET", f"{path}{query}")
    assert listed.json["total"] == 2
    assert listed.headers.get("X-Total-Count") == counted
    assert front_end("GET", f"{path}?count=maybe").status_code == 422


def test_trash_is_an_object_too(choose):
    front_end = choose("envelope")
    assert front_end("GET", "/api/me/trash").json == {"tasks": [], "items": [], "total": 0, "count": 0}
    for task in [front_end.create(title) for title in "ab"]:
        front_end("DELETE", f"/api/me/tasks/{task['id']}")
    trash = front_end("GET", "/api/me/trash?limit=1").json
    assert ([task["title"] for task in trash["items"]], trash["total"], trash["count"]) == (["b"], 2, 1)


def test_envelope_has_an_etag_of_its_own(choose, speak):
    front_end, before = choose("envelope"), speak("")
    before.create()
    for query in ("", "?count=true"):
        path = f"/api/me/tasks{query}"
        stale = before("GET", path).headers["ETag"]
        fresh = front_end("GET", path, headers={"If-None-Match": stale})
        assert fresh.status_code == 200
        kept = front_end("GET", path, headers={"If-None-Match": fresh.headers["ETag"]})
        assert (kept.status_code, kept.data, kept.headers["ETag"]) == (304, b"", fresh.headers["ETag"])
        assert front_end("GET", path, headers={"If-Match": stale}).status_code == 412
        created = front_end("POST", "/api/me/tasks", headers={"If-Match": fresh.headers["ETag"]}, title="y")
        assert created.status_code == 201
    assert front_end("GET", "/api/me/tasks", headers={"If-None-Match": "*"}).status_code == 304


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/*", "application/json"),
        ("application/problem+json;q=0", "application/json"),
        (";;, =, application/json;q=x", "application/json"),
        ("application/problem+json", "application/problem+json"),
        ("application/problem+json;charset=utf-8", "application/problem+json"),
        ("application/json, application/Problem+JSON;q=0.5", "application/problem+json"),
    ],
)
def test_error_is_plain_json_unless_the_client_accepts_problems(choose, accept, media_type):
    front_end = choose("plain-errors")
    headers = {} if accept is None else {"Accept": accept}
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    for method, target, changes, body, status in (
        ("GET", "/api/me/tasks/0", {}, None, 404),
        ("GET", "/nowhere", {}, None, 404),
        ("POST", "/api/me/tasks", {}, {"title": ""}, 422),
        ("PUT", "/api/me/tasks", {}, None, 405),
        ("GET", "/api/nobody/tasks", {}, None, 403),
        ("GET", "/api/me/tasks", {"Authorization": ""}, None, 401),
        ("GET", path, {"If-Match": '"1000"'}, None, 412),
        ("PATCH", path, {"If-Match": '"1000"'}, {"title": "y"}, 412),
        ("POST", "/api/me/tasks", {"Content-Type": "text/plain"}, {"title": "y"}, 415),
    ):
        refused = front_end(method, target, headers=headers | changes, body=body)
        assert (refused.status_code, refused.content_type) == (status, media_type)
        assert (refused.json["status"], refused.json["type"]) == (status, "about:blank")
        assert refused.json["detail"]


@pytest.mark.parametrize("prefer", [{}, {"Prefer": "return=minimal"}])
def test_without_the_dialects_responses_are_those_of_the_contract(speak, prefer):
    front_end = speak("")
    task = front_end.create()
    assert front_end("GET", "/api/me/tasks").json == [task]
    assert front_end("GET", "/api/me/trash").json == []
    deleted = front_end("DELETE", f"/api/me/tasks/{task['id']}", headers=prefer)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert front_end("GET", "/nowhere").content_type == "application/problem+json"
