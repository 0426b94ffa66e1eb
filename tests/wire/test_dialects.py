"""All dialects at once, against gunicorn as production runs it; and a word that is none."""

import pytest
from support import bearer, new_user
from wire.server import run

from config import DIALECTS


@pytest.fixture(scope="module")
def speaking(start_server, database_url):
    return start_server(DATABASE_URL=database_url, WEB_CONCURRENCY="1", COMPATIBILITY=",".join(DIALECTS))


def test_calls_of_a_front_end_for_another_back_end(speaking):
    user = new_user()

    def call(method, path, body=None, status=200):
        response = speaking.call(method, path, bearer(user), body)
        assert response.status_code == status, response.text
        assert response.headers["Content-Type"] == "application/json"
        return response.get_json()

    task = call("POST", "/api/tasks", {"title": "Buy oat milk", "description": "Two litres"}, 201)
    assert (task["is_completed"], task["status"]) == (False, "pending")
    assert call("GET", "/api/v1/tasks?page=1") == {"tasks": [task], "items": [task], "total": 1, "count": 1}
    path = f"/api/users/{user}/tasks/{task['id']}"
    assert call("GET", path) == task
    edited = call("PUT", path, task | {"title": "Buy two", "is_completed": True})
    assert (edited["title"], edited["completed"]) == ("Buy two", True)
    assert call("PUT", path, {"title": "Buy one"})["description"] == "Two litres"
    assert call("POST", f"{path}/toggle")["is_complete"] is False
    assert call("GET", "/api/stats")["completion_rate"] == 0
    assert call("DELETE", path)["title"] == "Buy one"
    assert call("GET", path, status=404)["detail"] == "Task not found"
    assert call("POST", "/api/tasks", {"status": "begun"}, 422)["errors"]


def test_start_with_an_unknown_word_is_refused_by_name(database_url):
    refused = run("todo", "serve", DATABASE_URL=database_url, COMPATIBILITY="alias,envelop")
    assert refused.returncode == 1
    assert "COMPATIBILITY has 'envelop', which is not alias, toggle, mirrors" in refused.stderr + refused.stdout
