"""All dialects at once, and none: the setting, the routes, the document, and the round trips."""

from types import SimpleNamespace

import pytest
from flask import current_app
from support import TASK_MEMBERS, bearer, config_for, open_app

from config import DIALECTS as WORDS
from todo.database.timeouts import REQUEST_LIMITS
from todo.dialects import DIALECTS
from todo.http import adapters

ALL = ",".join(WORDS)


def test_every_word_of_the_setting_is_a_dialect():
    assert DIALECTS.keys() == set(WORDS)
    assert config_for(None, COMPATIBILITY=ALL).compatibility == WORDS


def test_calls_of_a_front_end_that_needs_all(speak, user):
    front_end = speak(ALL)
    created = front_end("POST", "/api/tasks", title="Buy oat milk", description="Two litres", status="pending")
    assert created.status_code == 201
    assert [*created.json] == [*TASK_MEMBERS, "is_completed", "is_complete", "status"]
    path = f"/api/v1/{user}/tasks/{created.json['id']}"
    listed = front_end("GET", "/api/v1/tasks?page=1&per_page=20")
    assert listed.json == {"tasks": [created.json], "items": [created.json], "total": 1, "count": 1}
    assert front_end("GET", path).json == created.json
    edited = front_end("PUT", path, title="Buy two")
    assert (edited.json["title"], edited.json["description"]) == ("Buy two", "Two litres")
    assert front_end("PUT", path, body=edited.json | {"is_completed": True}).json["status"] == "completed"
    assert front_end("POST", f"{path}/toggle").json["is_complete"] is False
    completed = front_end("POST", f"{path}/complete").json
    assert (completed["completed"], completed["is_completed"]) == (True, True)
    assert front_end("GET", "/api/stats").json["completion_rate"] == 100
    assert front_end("DELETE", path).json == completed
    refused = front_end("GET", path)
    assert (refused.status_code, refused.content_type) == (404, "application/json")
    assert front_end("GET", "/api/tasks").json == {"tasks": [], "items": [], "total": 0, "count": 0}


@pytest.mark.parametrize("words", ["", *WORDS, ALL])
def test_client_of_the_contract_works_in_every_dialect(speak, words):
    """The calls and values that do not depend on what the dialect changes are as they were."""
    front_end = speak(words)
    strict = {"Prefer": "handling=strict, return=minimal"}
    created = front_end("POST", "/api/me/tasks", headers=strict | {"Idempotency-Key": "k"}, title="a", tags=["x"])
    assert (created.status_code, created.headers["Preference-Applied"]) == (201, "handling=strict")
    path = f"/api/me/tasks/{created.json['id']}"
    assert created.headers["Location"] == path
    again = front_end("POST", "/api/me/tasks", headers={"Idempotency-Key": "k"}, title="a", tags=["x"])
    assert (again.json, again.headers["Idempotent-Replayed"]) == (created.json, "true")
    assert front_end.tasks("/api/me/tasks?status=pending&sort=-title&tag=x") == [created.json]
    etag = front_end("GET", path).headers["ETag"]
    put = front_end("PUT", path, headers={"If-Match": etag}, body=created.json | {"completed": True})
    assert (put.status_code, put.json["completed"]) == (200, True)
    assert front_end("PATCH", path, headers={"If-Match": etag}, title="b").status_code == 412
    assert front_end("PATCH", f"{path}/complete", headers=strict, completed=False).json["completed"] is False
    assert front_end("PATCH", path, headers=strict, titel="b").status_code == 422
    assert front_end("DELETE", path, headers=strict).status_code == 204
    assert front_end("POST", f"/api/me/trash/{created.json['id']}/restore").status_code == 200
    problem = front_end("GET", "/api/me/tasks/0", headers={"Accept": "application/problem+json"})
    assert (problem.status_code, problem.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize("words", [*WORDS, ALL])
def test_document_is_the_contract_whatever_is_on(speak, words):
    assert speak(words)("GET", "/openapi.json").data == speak("")("GET", "/openapi.json").data


def test_every_route_of_a_dialect_needs_a_token(application):
    app = application(ALL)
    known = {rule.rule for rule in application("").url_map.iter_rules()}
    added = [rule for rule in app.url_map.iter_rules() if rule.rule not in known]
    assert {rule.rule for rule in added} >= {"/api/tasks", "/api/v1/<user_id>/tasks/<int64:task_id>/toggle"}
    for rule in added:
        path = rule.build({"user_id": "me", "task_id": 1}, append_unknown=False)[1]
        for method in rule.methods - {"OPTIONS"}:
            if (method, path) == ("DELETE", "/api/tasks"):
                continue
            response = app.test_client().open(path, method=method)
            assert response.status_code == 401, (method, path)


def test_without_the_setting_nothing_is_adapted(application):
    app = application("")
    assert adapters.EXTENSION not in app.extensions
    with app.app_context():
        assert adapters.current() is adapters.NONE
        assert current_app.json.__class__.__name__ == "ORJSONProvider"
    assert not adapters.NONE.views
    assert adapters.NONE.representation == ()


@pytest.fixture
def counted(proxy, user):
    """Return the application with all dialects, and the statements that it sends."""
    with open_app(proxy.url("todo_test"), COMPATIBILITY=ALL, DATABASE_PREPARE="false") as app:
        yield SimpleNamespace(client=app.test_client(), queries=proxy.queries)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/tasks", {"title": "x", "status": "completed"}),
        ("GET", "/api/tasks", None),
        ("GET", "/api/tasks?limit=1&sort=title", None),
        ("GET", "/api/me/trash", None),
        ("GET", "/api/v1/tasks/{id}", None),
        ("PUT", "/api/tasks/{id}", {"is_completed": True}),
        ("PATCH", "/api/tasks/{id}", {"status": "completed"}),
        ("POST", "/api/tasks/{id}/toggle", None),
        ("POST", "/api/me/tasks/{id}/complete", {"is_complete": True}),
        ("GET", "/api/tasks/stats", None),
        ("DELETE", "/api/tasks/{id}", None),
    ],
)
def test_every_call_is_one_round_trip(counted, user, method, path, body):
    task = counted.client.post("/api/me/tasks", headers=bearer(user), json={"title": "warm"}).json
    counted.queries.clear()
    response = counted.client.open(path.format(id=task["id"]), method=method, headers=bearer(user), json=body)
    assert response.status_code in (200, 201)
    (statement,) = counted.queries
    assert statement.startswith(REQUEST_LIMITS.settings)
    assert user in statement
