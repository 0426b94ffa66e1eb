"""Paths without a user in them, and with other parts around the user."""

import pytest
from support import new_user

WORD = "alias"


@pytest.fixture(params=["/api", "/api/v1", "/api/users/{user}", "/api/v1/{user}", "/api/users/me", "/api/v1/me"])
def base(request, user):
    return request.param.format(user=user)


def test_calls_of_a_front_end(front_end, base, user):
    created = front_end("POST", f"{base}/tasks", title="Buy oat milk")
    assert (created.status_code, created.json["user_id"]) == (201, user)
    task = f"{base}/tasks/{created.json['id']}"
    assert front_end("GET", created.headers["Location"]).json == created.json
    assert front_end.tasks(f"{base}/tasks") == [created.json]
    assert front_end("GET", task).json == created.json
    assert front_end("GET", f"{task}/").json == created.json
    assert front_end("PUT", task, title="Buy two").json["title"] == "Buy two"
    assert front_end("PATCH", task, description="Litres").json["description"] == "Litres"
    assert front_end("PATCH", f"{task}/complete").json["completed"] is True
    assert front_end("PATCH", f"{task}/complete", completed=False).json["completed"] is False
    assert front_end("GET", f"{base}/tasks/summary").json["total"] == 1
    assert front_end("GET", f"{base}/tasks/changes").json["tasks"][0]["title"] == "Buy two"
    assert front_end("HEAD", f"{base}/tasks/events").content_type == "text/event-stream"
    assert front_end("DELETE", task).status_code == front_end.deleted
    missing = front_end("GET", task)
    assert (missing.status_code, missing.json["detail"]) == (404, "Task not found")
    assert missing.content_type == front_end.error_type
    assert missing.json["instance"] == task
    refused = front_end("POST", f"{base}/tasks", title=" ")
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (422, "#/title")


def test_paths_of_responses_are_the_canonical_ones(front_end, base, user):
    """A path that a client of the canonical contract receives does not change while the dialect is on."""
    named = base.rpartition("/")[2] if base.count("/") > 2 else "me"
    created = [front_end("POST", f"{base}/tasks", title=title) for title in ("a", "b")]
    assert created[0].headers["Location"] == f"/api/{named}/tasks/{created[0].json['id']}"
    page = front_end("GET", f"{base}/tasks?limit=1")
    assert page.headers["Link"].startswith(f"</api/{named}/tasks?limit=1&cursor=")
    assert front_end("POST", "/api/me/tasks", title="c").headers["Location"].startswith("/api/me/tasks/")


def test_canonical_paths_are_not_redirected(front_end, user):
    assert front_end("GET", "/api/me/tasks").status_code == 200
    assert front_end("GET", f"/api/{user}/tasks").status_code == 200


@pytest.mark.parametrize("path", ["/api/users/{other}/tasks", "/api/v1/{other}/tasks", "/api/users/{other}/tasks/1"])
def test_path_of_another_user_is_403(front_end, path):
    refused = front_end("GET", path.format(other=new_user()))
    assert (refused.status_code, refused.json["detail"]) == (403, "User ID mismatch")


@pytest.mark.parametrize("user", ["v1", "users", "tasks"])
def test_user_with_the_name_of_a_part_is_reached_as_me(front_end, user):
    task = front_end.create()
    assert front_end("GET", f"/api/me/tasks/{task['id']}").json == task
    assert task in front_end.tasks("/api/tasks")
    assert task in front_end.tasks("/api/v1/tasks")
    assert front_end("DELETE", f"/api/tasks/{task['id']}").status_code == front_end.deleted


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks/"])
def test_deletion_of_the_list_is_405_and_erases_nobody(front_end, path):
    front_end.user = "tasks"
    refused = front_end("DELETE", path, headers={"Confirm": "tasks"})
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("path", ["/api/trash", "/api/v1/export", "/api/v2/tasks", "/tasks", "/api/users/tasks/1/x"])
def test_other_paths_lead_nowhere(front_end, path):
    refused = front_end("GET", path)
    assert refused.status_code in (403, 404, 405)
    assert refused.content_type == front_end.error_type


def test_batch_may_be_as_long_as_at_its_own_path(front_end, base):
    task = {"title": "x", "description": "y" * 1000}
    batch = [{"op": "create", "key": str(number), "task": task} for number in range(100)]
    done = front_end("POST", f"{base}/tasks/batch", operations=batch)
    assert [result["status"] for result in done.json["results"]] == [201] * 100
    assert front_end("POST", f"{base}/tasks", title="x", filler="y" * 100_000).status_code == 413


def test_preflight_of_a_front_end_is_allowed(front_end, base):
    wanted = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    for path in (f"{base}/tasks", f"{base}/tasks/1", f"{base}/tasks/1/complete"):
        allowed = front_end("OPTIONS", path, headers=wanted | {"Authorization": ""})
        assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, wanted["Origin"])
        assert "PATCH" in allowed.headers["Access-Control-Allow-Methods"]


def test_request_without_a_token_is_401(front_end):
    assert front_end("GET", "/api/tasks", headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/tasks", 405),
        ("/api/tasks/1", 404),
        ("/api/tasks/1/complete", 404),
        ("/api/v1/tasks", 403),
        ("/api/v1/tasks/1", 403),
        ("/api/v1/me/tasks", 404),
        ("/api/users/me/tasks", 404),
    ],
)
def test_without_the_dialect_the_error_has_the_right_path(speak, path, status):
    refused = speak("")("GET", path)
    assert (refused.status_code, refused.content_type) == (status, "application/problem+json")
    assert refused.json["detail"].endswith("The tasks are at /api/me/tasks.")
