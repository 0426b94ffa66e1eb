"""The summary at other paths, with the share of completed tasks."""

import pytest

WORD = "stats"
PATHS = ["/api/me/tasks/stats", "/api/me/tasks/statistics", "/api/me/stats", "/api/{user}/statistics"]


@pytest.mark.parametrize("path", PATHS)
def test_calls_of_a_front_end(front_end, path, user):
    path = path.format(user=user)
    assert front_end("GET", path).json["completion_rate"] == 0
    tasks = [front_end.create(completed=completed) for completed in (True, False, False)]
    stats = front_end("GET", f"{path}/")
    summary = front_end("GET", "/api/me/tasks/summary").json
    assert stats.json == summary | {"completion_rate": 33.33}
    assert (stats.json["total"], stats.json["completed"], stats.json["pending"]) == (3, 1, 2)
    for task in tasks[1:]:
        assert front_end("PATCH", f"/api/me/tasks/{task['id']}/complete").status_code == 200
    assert front_end("GET", path).json["completion_rate"] == 100
    assert front_end("GET", f"{path}?tz=Asia/Tokyo").status_code == 200
    refused = front_end("GET", f"{path}?tz=Nowhere")
    assert (refused.status_code, refused.content_type) == (422, front_end.error_type)
    strict = {"Prefer": "handling=strict"}
    assert front_end("GET", path, headers=strict).headers["Preference-Applied"] == "handling=strict"
    assert front_end("GET", f"{path}?zone=UTC", headers=strict).status_code == 422
    head = front_end("HEAD", path)
    assert (head.status_code, head.content_length) == (200, len(front_end("GET", path).data))
    assert front_end("GET", path, headers={"Authorization": ""}).status_code == 401
    assert front_end("POST", path).status_code == 405


def test_paths_of_other_users_are_403(front_end):
    assert front_end("GET", "/api/nobody/stats").status_code == 403


def test_aliased_paths_have_it_too(speak, user):
    front_end = speak("stats,alias")
    for base in ("/api", "/api/v1", f"/api/users/{user}", f"/api/v1/{user}"):
        for name in ("tasks/stats", "tasks/statistics", "stats", "statistics"):
            assert front_end("GET", f"{base}/{name}").json["completion_rate"] == 0


def test_summary_itself_has_no_rate(front_end):
    assert "completion_rate" not in front_end("GET", "/api/me/tasks/summary").json


def test_without_the_dialect_there_is_none(speak):
    front_end = speak("")
    assert front_end("GET", "/api/me/stats").status_code == 404
    assert front_end("GET", "/api/me/tasks/stats").json["detail"] == "Task not found"
