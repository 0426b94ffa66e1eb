"""PUT that leaves absent members alone."""

import pytest

WORD = "partial-put"


def test_calls_of_a_front_end(front_end):
    task = front_end.create(description="Two litres", priority="high", tags=["shopping"])
    path = f"/api/me/tasks/{task['id']}"
    renamed = front_end("PUT", path, title="Buy milk").json
    assert (renamed["title"], renamed["description"], renamed["tags"]) == ("Buy milk", "Two litres", ["shopping"])
    completed = front_end("PUT", path, completed=True).json
    assert completed == renamed | {
        name: completed[name]
        for name in ("completed", "completed_at", "updated_at", "revision", *completed.keys() - task.keys())
    } | ({"is_completed": True, "is_complete": True, "status": "completed"} if "mirrors" in front_end.words else {})
    assert completed["completed"] is True
    assert front_end("PUT", path, completed=False).json["completed"] is False
    assert front_end("PUT", path, description=None).json["description"] is None
    assert front_end("PUT", path, body=front_end("GET", path).json).status_code == 200
    assert [task["title"] for task in front_end.tasks()] == ["Buy milk"]
    for body in ({"title": ""}, {"title": None}, {"completed": None}):
        refused = front_end("PUT", path, body=body)
        assert (refused.status_code, refused.content_type) == (422, front_end.error_type)
        assert refused.json["errors"][0]["pointer"] == f"#/{next(iter(body))}"
    assert front_end("DELETE", path).status_code == front_end.deleted
    assert front_end("PUT", path, title="x").status_code == 404


@pytest.mark.parametrize("body", [{}, {"id": 1}, {"unknown": True}])
def test_body_without_a_change_is_422(front_end, body):
    path = f"/api/me/tasks/{front_end.create()['id']}"
    refused = front_end("PUT", path, body=body)
    assert refused.status_code == 422
    assert refused.json["detail"].startswith("Nothing to change")
    assert front_end("PUT", path).status_code == 422


def test_preconditions_and_strict_mode_hold(speak):
    front_end = speak(WORD, REQUIRE_IF_MATCH="true")
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    assert front_end("PUT", path, completed=True).status_code == 428
    stale = front_end("PUT", path, headers={"If-Match": '"1000"'}, completed=True)
    assert (stale.status_code, stale.json["current"]) == (412, task)
    changed = front_end("PUT", path, headers={"If-Match": f'"{task["revision"]}"'}, completed=True)
    assert (changed.status_code, changed.headers["ETag"]) == (200, f'"{changed.json["revision"]}"')
    strict = {"If-Match": "*", "Prefer": "handling=strict"}
    assert front_end("PUT", path, headers=strict, descripton="x").status_code == 422
    assert front_end("PUT", path, headers=strict, description="x").headers["Preference-Applied"] == "handling=strict"


def test_without_the_dialect_put_replaces(speak):
    front_end = speak("")
    task = front_end.create(description="Two litres")
    path = f"/api/me/tasks/{task['id']}"
    assert front_end("PUT", path, completed=True).json["errors"][0]["pointer"] == "#/title"
    assert front_end("PUT", path, title="x").json["description"] is None
