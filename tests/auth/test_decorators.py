"""The guard: the requests that it passes, its refusals, and that every route has it."""

import pytest
from flask import url_for
from flask.testing import FlaskClient
from support import assert_problem, bearer, claims, config_for, new_user, sign

from todo import create_app
from todo.auth.decorators import authenticate, authorize
from todo.auth.tokens import Caller
from todo.http.problems import InvalidToken, MissingToken, WrongUser

PUBLIC = {
    "/",
    "/health",
    "/health/ready",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/docs/assets/<name>",
    "/demo",
    "/demo/assets/<name>",
    "/calendar/<address>.ics",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
}


@pytest.fixture(scope="module")
def production(database_url) -> FlaskClient:
    """Return a client of the application in production."""
    return create_app(config_for(database_url, ENVIRONMENT="production")).test_client()


@pytest.mark.parametrize("header", ["Bearer t", "bearer t", "BEARER   t  ", "  Bearer t"])
def test_authenticate_bearer_in_any_case_passes_the_token_on(header):
    assert authenticate(header, Caller) == Caller("t")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Token t", "Bearert", "t"])
def test_authenticate_without_a_bearer_token_is_missing(header):
    with pytest.raises(MissingToken):
        authenticate(header, Caller)


@pytest.mark.parametrize("header", ["Bearer a,Bearer b", "Bearer a, Bearer a"])
def test_authenticate_two_headers_are_refused(header):
    with pytest.raises(InvalidToken, match="more than one"):
        authenticate(header, Caller)


@pytest.mark.parametrize("path_user", ["u1", "me"])
def test_authorize_own_path_returns_the_own_id(path_user):
    assert authorize(Caller("u1"), path_user) == "u1"


@pytest.mark.parametrize("path_user", ["u2", "U1", "", "ME", " u1", "u1 ", "*"])
def test_authorize_any_other_path_is_refused(path_user):
    with pytest.raises(WrongUser):
        authorize(Caller("u1"), path_user)


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        pytest.param({}, "Missing authentication token", id="no header"),
        pytest.param({"Authorization": "Basic dTpw"}, "Missing authentication token", id="another scheme"),
        pytest.param({"Authorization": "Bearer"}, "Missing authentication token", id="no token"),
        pytest.param({"Authorization": "Bearer x"}, "Invalid token", id="garbage"),
        pytest.param(bearer("u1", exp=1), "Token has expired", id="expired"),
        pytest.param(bearer("u1", sub=None), "Invalid token: missing user_id", id="nobody"),
        pytest.param(
            {"Authorization": f"Bearer {sign(claims('u1'), secret='x' * 40)}"}, "Invalid token", id="another secret"
        ),
    ],
)
def test_refusal_is_a_401_with_one_sentence_and_a_challenge(production, headers, detail):
    response = production.get("/api/u1/tasks", headers=headers)
    problem = assert_problem(response, 401, detail)
    assert set(problem) == {"type", "title", "status", "detail", "instance", "request_id"}
    challenge = "Bearer" if detail.startswith("Missing") else 'Bearer error="invalid_token"'
    assert response.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param({}, "Authorization: no bearer token", id="no header"),
        pytest.param(
            bearer("u1", sub=None, aud="http://localhost:3000"),
            "user: expected the id of a user in sub, got none",
            id="nobody",
        ),
        pytest.param(
            bearer("u1", aud="http://127.0.0.1:3000"),
            "audience: expected http://localhost:3000, got http://127.0.0.1:3000",
            id="audience",
        ),
    ],
)
def test_refusal_outside_production_has_the_reason(database_url, headers, reason):
    client = create_app(config_for(database_url, JWT_AUDIENCE="http://localhost:3000")).test_client()
    problem = assert_problem(client.get("/api/u1/tasks", headers=headers), 401)
    assert problem["reason"] == reason


def test_refusal_of_another_users_path_has_no_reason_outside_production(client, user):
    problem = assert_problem(client.get("/api/nobody/tasks", headers=bearer(user)), 403)
    assert "reason" not in problem


def test_refusal_with_two_authorization_headers(client, user):
    good = bearer(user)["Authorization"]
    response = client.get(f"/api/{user}/tasks", headers=[("Authorization", good), ("Authorization", good)])
    assert_problem(response, 401, "Invalid token")


def test_path_of_another_user_is_403(client, user):
    assert_problem(client.get(f"/api/{new_user()}/tasks", headers=bearer(user)), 403, "User ID mismatch")
    assert_problem(client.get("/api/nobody/tasks/1", headers=bearer(user)), 403, "User ID mismatch")


@pytest.mark.parametrize("user", ["Žofie Nováková", "a+b@example.com", "100%", "x" * 255])
def test_path_with_the_own_id_percent_encoded_is_the_own_path(app, client, user):
    with app.test_request_context():
        url = url_for("tasks.list_tasks", user_id=user)
    assert client.get(url, headers=bearer(user)).json == []
    created = client.post(url, headers=bearer(user), json={"title": "x"})
    assert client.get(created.headers["Location"], headers=bearer(user)).json == created.json


@pytest.mark.parametrize("user", ["a/b", "//x", ".."])
def test_user_whose_id_is_no_path_segment_can_be_called_me(client, user):
    created = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    assert client.get(created.headers["Location"], headers=bearer(user)).json == created.json


def test_every_route_but_the_public_ones_needs_a_token(app, client):
    guarded = set()
    for rule in app.url_map.iter_rules():
        values = dict.fromkeys(rule.arguments, 1)
        for method in (rule.methods or set()) - {"OPTIONS"}:
            response = client.open(rule.build(values, append_unknown=False)[1], method=method)
            if rule.rule in PUBLIC:
                assert response.status_code not in (401, 403), rule
            else:
                assert response.status_code == 401, rule
                guarded.add(rule.rule)
    assert guarded == {
        "/api/<user_id>/tasks",
        "/api/<user_id>/tasks/batch",
        "/api/<user_id>/tasks/changes",
        "/api/<user_id>/tasks/events",
        "/api/<user_id>/tasks/summary",
        "/api/<user_id>/tasks/<int64:task_id>",
        "/api/<user_id>/tasks/<int64:task_id>/complete",
        "/api/<user_id>/trash",
        "/api/<user_id>/trash/<int64:task_id>",
        "/api/<user_id>/trash/<int64:task_id>/restore",
        "/api/<user_id>/calendar",
        "/api/<user_id>/export",
        "/api/<user_id>/import",
        "/api/<user_id>",
        "/mcp",
    }
