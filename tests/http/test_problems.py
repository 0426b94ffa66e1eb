"""Every error has one shape, whatever raised it."""

import json

import pytest
from flask import Flask, abort
from structlog.testing import capture_logs
from support import assert_problem, bearer, config_for

from todo import create_app
from todo.http.problems import MethodNotAllowed, Problem, Unavailable


@pytest.fixture(scope="module")
def faulty(database_url) -> Flask:
    """Return an application with routes that fail."""
    app = create_app(config_for(database_url))

    @app.route("/bug")
    def bug():
        raise RuntimeError("secret detail at /srv/todo/views.py")

    @app.route("/abort/<int:code>")
    def aborting(code):
        abort(code)

    @app.route("/away")
    def away():
        raise Unavailable(reason="the disk is full")

    return app


def test_unknown_path_is_a_problem(client):
    problem = assert_problem(client.get("/nowhere at all/é"), 404)
    assert problem["instance"] == "/nowhere%20at%20all/%C3%A9"
    assert problem["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/api//tasks", "/api/u1/tasks/1/complete/x", "/api", "/static/x"])
def test_no_path_redirects(client, path):
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize("path", ["/", "/health", "/health/ready", "/openapi.json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_wrong_method_has_the_allowed_ones_in_allow(client, path, method):
    response = client.open(path, method=method)
    assert_problem(response, 405)
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_head_of_an_error_has_no_body(client):
    response = client.head("/nowhere")
    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
    assert response.get_data() == b""


def test_bug_is_500_and_says_nothing_about_the_inside(faulty):
    with capture_logs() as logs:
        response = faulty.test_client().get("/bug", headers={"Origin": "http://localhost:3000"})
    problem = assert_problem(response, 500)
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    assert not any(word in json.dumps(problem) for word in ("secret", "RuntimeError", ".py", "Traceback"))
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    (entry,) = logs
    assert (entry["event"], entry["log_level"], entry["status"]) == ("request", "error", 500)
    assert isinstance(entry["exc_info"], RuntimeError)


@pytest.mark.parametrize(("code", "status"), [(400, 400), (404, 404), (413, 400), (418, 400), (431, 400)])
def test_error_of_the_framework_is_a_problem(faulty, code, status):
    assert_problem(faulty.test_client().get(f"/abort/{code}"), status)


def test_unavailable_is_503_and_logs_the_reason_as_an_error(faulty):
    with capture_logs() as logs:
        response = faulty.test_client().get("/away")
    problem = assert_problem(response, 503)
    assert "disk" not in json.dumps(problem)
    (entry,) = logs
    assert entry | {"log_level": "error", "status": 503, "reason": "the disk is full"} == entry
    assert "exc_info" not in entry


def test_refusal_logs_the_reason_as_information(client, user):
    with capture_logs() as logs:
        client.get("/api/me/tasks")
        client.get("/api/somebody/tasks", headers=bearer(user))
        client.get("/api/me/tasks", headers=bearer(user, userId="another"))
    assert [(entry["log_level"], entry["status"], entry["reason"]) for entry in logs] == [
        ("info", 401, "Authorization: no bearer token"),
        ("info", 403, "the path names another user"),
        ("info", 401, "user: expected the same user in sub and userId, got two different ones"),
    ]


def test_not_found_and_broken_rules_have_no_reason_beyond_their_status(client, user):
    with capture_logs() as logs:
        client.get("/nowhere")
        client.get("/api/me/tasks/1", headers=bearer(user))
        client.post("/api/me/tasks", headers=bearer(user), json={})
    assert [(entry["log_level"], entry["status"]) for entry in logs] == [("info", 404), ("info", 404), ("info", 422)]
    assert not any("reason" in entry for entry in logs)


@pytest.mark.parametrize(
    ("path", "status"), [("/nowhere", 404), ("/api/me/tasks", 401), ("/api/x/tasks", 401), ("/health", 200)]
)
def test_cors_headers_are_on_errors_too(client, path, status):
    response = client.get(path, headers={"Origin": "https://app.example.com"})
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    assert response.headers.getlist("Vary") == ["Origin"]


def test_cors_of_an_ipv6_origin_is_exact(database_url):
    client = create_app(config_for(database_url, CORS_ORIGINS="http://[::1]:3000")).test_client()
    for origin, allowed in (("http://[::1]:3000", True), ("http://::3000", False), ("http://1:3000", False)):
        response = client.get("/health", headers={"Origin": origin})
        assert (response.headers.get("Access-Control-Allow-Origin") == origin) is allowed


@pytest.mark.parametrize(
    "origin",
    [
        "HTTPS://APP.example.com",
        "https://evil.example",
        "https://app.example.com.evil.example",
        "https://app.example.co",
        "null",
        "*",
    ],
)
def test_cors_of_a_stranger_gets_nothing(client, origin):
    for response in (
        client.get("/health", headers={"Origin": origin}),
        client.options("/health", headers={"Origin": origin, "Access-Control-Request-Method": "GET"}),
    ):
        assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]
        assert response.headers.getlist("Vary") == ["Origin"]


def test_cors_preflight_allows_what_front_ends_send(client):
    asked = "authorization,content-type,accept,prefer,if-match,if-none-match,idempotency-key,x-request-id,traceparent"
    response = client.options(
        "/api/u1/tasks/1",
        headers={
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": f"{asked},confirm,x-evil",
        },
    )
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    allowed = set(response.headers["Access-Control-Allow-Headers"].split(", "))
    assert allowed == set(asked.split(",")) | {"confirm"}
    assert set(response.headers["Access-Control-Allow-Methods"].split(", ")) == {
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
    }


def test_problem_overrides_the_defaults_of_its_class():
    problem = Unavailable("Later.", reason="why", headers={"X": "y"}, checks={"database": "failed"})
    assert problem.detail == "Later."
    assert problem.headers == {"Retry-After": "2", "X": "y"}
    assert problem.members == {"checks": {"database": "failed"}}
    assert str(problem) == "why"
    assert str(MethodNotAllowed()) == MethodNotAllowed.detail


def test_every_problem_has_a_sentence_and_a_status():
    def tree(kind):
        return [kind, *(leaf for branch in kind.__subclasses__() for leaf in tree(branch))]

    for kind in tree(Problem)[1:]:
        assert 400 <= kind.status < 600
        assert kind.__doc__.startswith(f"{kind.status.value}: ")
