"""Every error has one shape, whatever raised it."""

import json

import pytest
from flask import Flask, abort
from structlog.testing import capture_logs
from support import assert_problem, bearer, config_for

from todo import create_app
from todo.http.problems import MethodNotAllowed, Problem, Unavailable
from todo.http.routing import NAMES


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


HINT = "The tasks are at /api/me/tasks."


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks",
        "/api/tasks/",
        "/api/tasks/5",
        "/api/tasks/5/complete",
        "/api/todos",
        "/API/Tasks",
        "/tasks",
        "/tasks/5",
        "/todos/",
        "/v1/tasks",
        "/api/v1/me/tasks",
        "/api/v1/users/u1/tasks/5",
        "/api/users/me/tasks",
        "/me/tasks",
        "/api/me/task",
        "/api/me/todos/5",
        "/api//tasks",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH"])
def test_path_of_another_service_says_where_the_tasks_are(client, user, path, method):
    for headers in ({}, bearer(user)):
        response = client.open(path, method=method, headers=headers)
        assert response.status_code in (404, 405)
        problem = assert_problem(response, response.status_code)
        assert problem["detail"].endswith(f". {HINT}")
        assert ("Allow" in response.headers) is (response.status_code == 405)


@pytest.mark.parametrize("word", ["v1", "v2", "V1.2", "api", "user", "users", "tasks", "todo", "undefined", "null"])
def test_word_in_the_place_of_the_user_says_where_the_tasks_are(client, user, word):
    path = f"/api/{word}/tasks"
    assert_problem(client.get(path), 401, "Missing authentication token")
    for method, at in (("GET", path), ("POST", path), ("PATCH", f"{path}/5"), ("DELETE", f"{path}/5")):
        assert_problem(client.open(at, method=method, headers=bearer(user)), 403, f"User ID mismatch. {HINT}")
    assert assert_problem(client.put(path), 405)["detail"].endswith(HINT)


@pytest.mark.parametrize("word", ["v1", "tasks", "users", "null"])
def test_user_with_such_an_id_has_their_own_path(client, word):
    assert client.get(f"/api/{word}/tasks", headers=bearer(word)).status_code == 200
    assert client.delete(f"/api/{word}", headers=bearer(word) | {"Confirm": word}).status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/me/tasks/1/complete/x", 404),
        ("GET", "/mytasks", 404),
        ("POST", "/api/me/tasks/1", 405),
        ("DELETE", "/api/me/tasks", 405),
        ("POST", "/health", 405),
        ("GET", "/api/somebody/tasks", 403),
        ("GET", "/api/v1x/tasks", 403),
    ],
)
def test_other_problem_does_not_say_where_the_tasks_are(client, user, method, path, status):
    assert HINT not in assert_problem(client.open(path, method=method, headers=bearer(user)), status)["detail"]


NO_IDS = [
    "abc",
    "undefined",
    "null",
    "NaN",
    "1.0",
    "1e3",
    "0x1",
    "+1",
    "--1",
    "-",
    "1,2",
    " ",
    "1 ",
    "%C2%A0",
    "\u0661",
]
NO_IDS += [str(2**63), str(-(2**63) - 1), "9" * 5000, "6f1c8a8e-7b1c-4a5e-9d8e-000000000000", "Changes", "{id}", "%00"]


@pytest.mark.parametrize("task_id", NO_IDS, ids=lambda task_id: repr(task_id[:40]))
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/tasks/{}", None),
        ("HEAD", "/tasks/{}", None),
        ("PUT", "/tasks/{}", {"title": "x"}),
        ("PATCH", "/tasks/{}", {"title": "x"}),
        ("DELETE", "/tasks/{}", None),
        ("PATCH", "/tasks/{}/complete", None),
        ("GET", "/tasks/{}/", None),
        ("POST", "/trash/{}/restore", None),
        ("DELETE", "/trash/{}", None),
    ],
)
def test_id_that_is_none_is_an_absent_task_after_the_token(client, user, task_id, method, path, body):
    there = path.format(task_id)
    assert client.open(f"/api/me{there}", method=method, json=body).status_code == 401
    assert client.open(f"/api/somebody{there}", method=method, json=body, headers=bearer(user)).status_code == 403
    response = client.open(f"/api/me{there}", method=method, json=body, headers=bearer(user))
    assert response.status_code == 404
    if method != "HEAD":
        absent = client.open(f"/api/me{path.format(2**62)}", method=method, json=body, headers=bearer(user))
        members = assert_problem(response, 404, "Task not found"), assert_problem(absent, 404, "Task not found")
        assert members[0].keys() == members[1].keys()


def test_id_that_is_none_comes_after_the_body(client, user):
    assert_problem(client.put("/api/me/tasks/abc", json={"title": ""}, headers=bearer(user)), 422)
    assert_problem(client.put("/api/me/tasks/abc", data="{", headers=bearer(user)), 400)


def names_below_ids(app):
    """Return the paths that have a name where others have an id, each with its methods."""
    rules = [(rule.rule, rule.methods) for rule in app.url_map.iter_rules()]
    prefixes = {path.partition("<int64:")[0] for path, _ in rules if "<int64:" in path}
    return {
        path: methods
        for path, methods in rules
        for prefix in prefixes
        if path.startswith(prefix) and not path.removeprefix(prefix).startswith("<int64:")
    }


def test_names_are_those_of_the_paths(app):
    assert {path.rpartition("/")[2] for path in names_below_ids(app)} == set(NAMES)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "OPTIONS", "BREW"])
def test_path_with_a_name_in_the_place_of_an_id_has_its_own_methods(app, client, method):
    for path, methods in names_below_ids(app).items():
        for end in ("", "/"):
            response = client.open(path.replace("<user_id>", "me") + end, method=method)
            if method in methods - {"OPTIONS"}:
                assert_problem(response, 401)
                continue
            assert response.status_code == (200 if method == "OPTIONS" else 405)
            assert set(response.headers["Allow"].split(", ")) == methods


@pytest.mark.parametrize("path", ["/api/me/tasks/abc/x", "/api/me/tasks/a/b", "/api/me/trash/abc/x"])
def test_path_below_an_id_that_is_none_is_unknown(client, user, path):
    assert_problem(client.get(path, headers=bearer(user)), 404, "There is nothing at this path.")


ASTERISK = {"PATH_INFO": "*", "RAW_URI": "*"}


def test_options_of_the_server_has_all_methods(client):
    response = client.options("/", environ_overrides=ASTERISK)
    assert (response.status_code, response.get_data()) == (204, b"")
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    assert "Content-Type" not in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PATCH"])
def test_asterisk_with_another_method_is_a_bad_request(client, method):
    assert client.open("/", method=method, environ_overrides=ASTERISK).status_code == 400


def test_options_of_a_path_that_is_an_asterisk_is_unknown(client):
    assert_problem(client.options("/*"), 404)


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
    ["capacitor://localhost", "tauri://localhost", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"],
)
def test_cors_of_an_app_is_exact(database_url, origin):
    client = create_app(config_for(database_url, CORS_ORIGINS=origin)).test_client()
    for sent, allowed in ((origin, True), (f"{origin}.evil", False), (f"https{origin[origin.index(':') :]}", False)):
        headers = {"Origin": sent, "Access-Control-Request-Method": "PUT"}
        for response in (client.get("/health", headers=headers), client.options("/api/me/tasks/1", headers=headers)):
            assert (response.headers.get("Access-Control-Allow-Origin") == sent) is allowed


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
    asked = "authorization,content-type,accept,prefer,if-match,if-none-match,idempotency-key,x-request-id"
    asked += ",traceparent,tracestate,baggage,sentry-trace"
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
