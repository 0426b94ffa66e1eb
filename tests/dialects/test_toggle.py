"""Completion with POST, and at a path of its own."""

import pytest

WORD = "toggle"
CALLS = [("PATCH", "toggle"), ("POST", "toggle"), ("POST", "complete"), ("PATCH", "complete")]
by_call = pytest.mark.parametrize(("method", "name"), CALLS)


@by_call
def test_calls_of_a_front_end(front_end, method, name):
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    assert front_end(method, f"{path}/{name}").json["completed"] is True
    assert front_end("GET", path).json["completed"] is True
    assert front_end("GET", path).json["completed_at"] is not None
    assert front_end(method, f"{path}/{name}/").json["completed"] is False
    assert [task["completed"] for task in front_end.tasks()] == [False]
    assert front_end(method, f"{path}/{name}", completed=False).json["completed"] is False
    assert front_end(method, f"{path}/{name}?completed=true").json["completed"] is True
    refused = front_end(method, f"{path}/{name}", completed="yes")
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "#/completed")
    assert front_end("DELETE", path).status_code == front_end.deleted
    missing = front_end(method, f"{path}/{name}")
    assert (missing.status_code, missing.content_type) == (404, front_end.error_type)


@by_call
def test_preconditions_hold(front_end, method, name):
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}/{name}"
    assert front_end(method, path, headers={"If-Match": '"1000"'}).status_code == 412
    changed = front_end(method, path, headers={"If-Match": f'"{task["revision"]}"'})
    assert (changed.status_code, changed.headers["ETag"]) == (200, f'"{changed.json["revision"]}"')
    assert front_end(method, path, headers={"Prefer": "handling=strict"}, complted=True).status_code == 422


@by_call
def test_setting_of_if_match_is_heeded(speak, method, name):
    front_end = speak(WORD, REQUIRE_IF_MATCH="true")
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}/{name}"
    assert front_end(method, path).status_code == 428
    assert front_end(method, path, headers={"If-Match": "*"}).json["completed"] is True


def test_other_methods_are_405(front_end):
    refused = front_end("GET", "/api/me/tasks/1/toggle")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "OPTIONS, PATCH, POST")
    refused = front_end("DELETE", "/api/me/tasks/1/complete")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "OPTIONS, PATCH, POST")


def test_without_the_dialect_there_is_neither(speak):
    front_end = speak("")
    task = f"/api/me/tasks/{front_end.create()['id']}"
    assert front_end("POST", f"{task}/complete").status_code == 405
    assert front_end("PATCH", f"{task}/toggle").status_code == 404
