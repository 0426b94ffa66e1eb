"""Access tokens: which are accepted, what they open and what not, and how clients learn where to get one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from assistants.conftest import Assistant
from fakes.issuers import OwnIssuer, User
from flask import Flask
from flask.testing import FlaskClient
from support import assert_problem, bearer, config_for

from todo import create_app
from todo.assistants.tools import TOOLS
from todo.auth.access import READ, SCOPES, WRITE

PUBLIC_URL = "https://api.example.com"
RESOURCE = f"{PUBLIC_URL}/mcp"
METADATA = f"{PUBLIC_URL}/.well-known/oauth-protected-resource/mcp"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
GUIDE = f'resource_metadata="{METADATA}", scope="tasks:read tasks:write"'


@pytest.fixture(scope="module")
def issuer() -> Iterator[OwnIssuer]:
    """Return an issuer of access tokens."""
    with OwnIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def settings(issuer: OwnIssuer) -> dict[str, str]:
    """Return the settings of a service in production that knows the issuer and its own address."""
    urls = {"BETTER_AUTH_URL": issuer.url, "PUBLIC_URL": PUBLIC_URL}
    return {"ENVIRONMENT": "production", "BETTER_AUTH_SECRET": "", **urls}


@pytest.fixture(scope="module")
def service(database_url: str, settings: dict[str, str]) -> Flask:
    """Return that service."""
    return create_app(config_for(database_url, **settings))


@pytest.fixture
def alice(issuer: OwnIssuer) -> User:
    """Return a user of this test alone."""
    return issuer.sign_up()


@pytest.fixture
def assistant_with(service: Flask, issuer: OwnIssuer, alice: User) -> Callable[..., Assistant]:
    """Return a function that makes an assistant of the user with an access token, whose claims may be changed."""

    def make(**changes: Any) -> Assistant:
        return Assistant(service.test_client(), authorized(issuer.access_token(alice, RESOURCE, **changes)))

    return make


def authorized(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


# Which tokens


@pytest.mark.parametrize("modern", [True, False])
def test_access_token_opens_the_tools(assistant_with, service, alice, modern):
    assistant = assistant_with()
    assistant.modern = modern
    task = assistant.tool("add_task", title="x")["task"]
    assert task["user_id"] == alice.id
    assert service.test_client().get("/api/me/tasks", headers=authorized(alice.token)).json == [task]


def test_token_of_the_users_own_front_end_opens_the_tools_too(service, alice):
    assistant = Assistant(service.test_client(), authorized(alice.token))
    assert assistant.tool("list_tasks", user_id=alice.id)["tasks"] == []
    assert len(assistant.result("tools/list")["tools"]) == len(TOOLS)


@pytest.mark.parametrize("typ", ["AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_type_has_no_case_and_may_be_whole(assistant_with, typ):
    assert assistant_with(typ=typ).tool("list_tasks")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"typ": "dpop+jwt"}, id="another type"),
        pytest.param({"typ": None}, id="no type"),
        pytest.param({"typ": "JWT"}, id="the type of API tokens"),
        pytest.param({"cnf": {"jkt": "x"}}, id="cnf"),
        pytest.param({"cnf": {}}, id="empty cnf"),
        pytest.param({"client_id": None}, id="no client"),
        pytest.param({"client_id": ""}, id="empty client"),
        pytest.param({"client_id": 7}, id="client that is a number"),
        pytest.param({"client_id": "u1", "sub": "u1"}, id="client for itself"),
        pytest.param({"scope": None}, id="no scope"),
        pytest.param({"scope": ["tasks:read"]}, id="scope that is an array"),
        pytest.param({"aud": None}, id="no audience"),
        pytest.param({"aud": PUBLIC_URL}, id="the origin as audience"),
        pytest.param({"aud": f"{RESOURCE}/"}, id="audience with a slash"),
        pytest.param({"aud": "https://other.example.com/mcp"}, id="another audience"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"iss": "https://evil.example.com/api/auth"}, id="another issuer"),
        pytest.param({"sub": None}, id="no user"),
        pytest.param({"sub": ""}, id="empty user"),
        pytest.param({"iat": None}, id="no iat"),
        pytest.param({"exp": None}, id="no exp"),
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"nbf": 9_999_999_999}, id="not yet"),
    ],
)
def test_access_token_that_breaks_a_rule_is_401_with_a_guide(assistant_with, changes):
    response = assistant_with(**changes).request("tools/list")
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == f'Bearer error="invalid_token", {GUIDE}'


def test_issuer_of_access_tokens_is_the_base_url_and_not_the_origin(assistant_with, issuer):
    assert_problem(assistant_with(iss=issuer.url).request("tools/list"), 401)


def test_audience_may_be_one_of_several(assistant_with):
    assert assistant_with(aud=["https://other.example.com", RESOURCE]).tool("list_tasks")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic x"}, {"Authorization": "Bearer"}], ids=str)
def test_call_without_a_token_is_401_with_a_guide(service, headers):
    response = service.test_client().post("/mcp", headers=headers, json={})
    assert_problem(response, 401, "Missing authentication token")
    assert response.headers["WWW-Authenticate"] == f"Bearer {GUIDE}"


def test_forged_access_token_is_refused(service, alice):
    with OwnIssuer() as stranger:
        token = stranger.access_token(alice, RESOURCE)
    assert Assistant(service.test_client(), authorized(token)).request("tools/list").status_code in (401, 503)


# What they open


def routes(app: Flask) -> list[tuple[str, str, str]]:
    """Return the template, a path and a method of every call of the application."""
    adapter = app.url_map.bind("localhost")
    found = []
    for rule in app.url_map.iter_rules():
        values = {name: "me" if name == "user_id" else "1" for name in rule.arguments}
        path = rule.build({**values, **({"task_id": 1} if "task_id" in values else {})}, append_unknown=False)[1]
        found += [(rule.rule, path, method) for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}]
    assert adapter
    return found


@pytest.mark.parametrize(
    "compatibility", ["", "alias,toggle,mirrors,stats,delete-body,envelope,partial-put,plain-errors"]
)
def test_access_token_opens_mcp_alone(database_url, settings, issuer, compatibility):
    """A sweep over every route: an access token is worth no more than no token, with each spelling of the user."""
    app = create_app(config_for(database_url, **settings, COMPATIBILITY=compatibility))
    client, alice = app.test_client(), issuer.sign_up()
    token = authorized(issuer.access_token(alice, RESOURCE))
    guarded = set()
    for template, path, method in routes(app):
        for spelling in {path, path.replace("/me", f"/{alice.id}")}:
            bare = client.open(spelling, method=method, json={})
            response = client.open(spelling, method=method, headers=token, json={})
            if template == "/mcp":
                assert (bare.status_code, response.status_code) == (401, 400)
            elif bare.status_code == 401:
                assert response.status_code == 401, (method, spelling)
                guarded.add(template)
            else:
                assert response.status_code == bare.status_code, (method, spelling)
    assert "/api/<user_id>" in guarded
    assert len(guarded) >= 14
    assert client.get("/api/me/export", headers=authorized(alice.token)).status_code == 200


def test_access_token_that_was_verified_at_mcp_opens_nothing_else(assistant_with, service):
    assistant = assistant_with()
    assistant.tool("add_task", title="x")
    for _ in range(2):
        response = service.test_client().get("/api/me/tasks", headers=assistant.headers)
        assert_problem(response, 401, "Invalid token")
        assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert assistant.tool("list_tasks")["tasks"]


def test_server_knows_whose_access_token_it_is(assistant_with, service, alice):
    """So that the requests of an assistant wait in the places of its user, and take no others."""
    verifier = service.extensions["token_verifier"]
    assistant = assistant_with()
    token = assistant.headers["Authorization"].removeprefix("Bearer ")
    assert verifier.find_cached(token) is None
    # The issuer's keys are at hand after the first request.
    assert assistant_with(jti="another").tool("list_tasks")
    assert verifier.verify_at_hand(token).id == alice.id
    assert verifier.find_cached(token).id == alice.id


# Scopes


def test_tools_that_are_listed_are_those_that_the_scopes_allow(assistant_with):
    def names(scope):
        return [tool["name"] for tool in assistant_with(scope=scope).result("tools/list")["tools"]]

    reading = ["list_tasks", "get_task", "summarize_tasks"]
    assert names(READ) == names(f"openid {READ} offline_access") == reading
    assert names(WRITE) == [name for name in TOOLS if name not in reading]
    assert names("openid") == names("") == names("tasks:readwrite TASKS:WRITE") == []
    assert names(" ".join(SCOPES)) == list(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_tool_whose_scope_the_token_lacks_is_403(assistant_with, alice, service, name):
    """With any arguments: the scope is checked before them."""
    needed = TOOLS[name].scope
    owner = Assistant(service.test_client(), authorized(alice.token))
    task = owner.tool("add_task", title="x")["task"]
    lacking = assistant_with(scope=WRITE if needed == READ else f"{READ} openid")
    arguments = [{}, {"task_id": task["id"]}, {"title": "y"}, {"task_id": task["id"], "members": {"title": "y"}}, None]
    for each in arguments:
        response = lacking.request("tools/call", name=name, arguments=each)
        assert_problem(response, 403, f"The access token does not allow this: it lacks the scope {needed}.")
        scopes = READ if needed == READ else "tasks:read tasks:write"
        challenge = f'Bearer error="insufficient_scope", resource_metadata="{METADATA}", scope="{scopes}"'
        assert response.headers["WWW-Authenticate"] == challenge
    assert owner.tool("list_tasks")["tasks"] == [task]


def test_token_without_scopes_may_ask_what_there_is(assistant_with):
    assistant = assistant_with(scope="")
    assert assistant.result("server/discover")["supportedVersions"]
    assistant.modern = False
    assert assistant.result("initialize")["instructions"]


# Where to get one


@pytest.mark.parametrize("path", [WELL_KNOWN, f"{WELL_KNOWN}/mcp"])
def test_metadata_names_the_resource_and_its_issuer(service, issuer, path):
    response = service.test_client().get(path)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.json == {
        "resource": RESOURCE,
        "authorization_servers": [f"{issuer.url}/api/auth"],
        "scopes_supported": ["tasks:read", "tasks:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "todo",
    }


def test_issuer_with_a_path_of_its_own_keeps_it(database_url):
    urls = {"BETTER_AUTH_URL": "https://app.example.com/auth", "PUBLIC_URL": f"{PUBLIC_URL}/todo"}
    client = create_app(config_for(database_url, **urls)).test_client()
    metadata = client.get(f"{WELL_KNOWN}/mcp").json
    assert metadata["authorization_servers"] == ["https://app.example.com/auth"]
    assert metadata["resource"] == f"{PUBLIC_URL}/todo/mcp"
    challenge = client.post("/mcp").headers["WWW-Authenticate"]
    assert f'resource_metadata="{PUBLIC_URL}/todo{WELL_KNOWN}/mcp"' in challenge


@pytest.mark.parametrize(
    "changes",
    [{"PUBLIC_URL": PUBLIC_URL}, {"BETTER_AUTH_URL": "https://app.example.com"}],
    ids=["secret", "no address"],
)
def test_without_an_issuer_or_an_address_there_are_no_access_tokens(database_url, changes, issuer, alice):
    client = create_app(config_for(database_url, **changes)).test_client()
    assert_problem(client.get(WELL_KNOWN), 404)
    assert_problem(client.get(f"{WELL_KNOWN}/mcp"), 404)
    assert client.post("/mcp").headers["WWW-Authenticate"] == "Bearer"
    response = client.post("/mcp", headers=authorized(issuer.access_token(alice, RESOURCE)))
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_shared_secret_signs_no_access_tokens(database_url):
    client = create_app(config_for(database_url, PUBLIC_URL=PUBLIC_URL)).test_client()
    with OwnIssuer("HS256") as issuer:
        token = issuer.access_token(issuer.sign_up(), RESOURCE)
    assert_problem(client.post("/mcp", headers=authorized(token)), 401)


def test_production_without_its_address_serves_no_assistants(database_url, user):
    client: FlaskClient = create_app(config_for(database_url, ENVIRONMENT="production")).test_client()
    for method in ("GET", "POST", "DELETE"):
        assert_problem(client.open("/mcp", method=method, headers=bearer(user)), 404)
    assert_problem(client.get(WELL_KNOWN), 404)


def test_failed_authentications_count_against_their_limit(database_url, settings):
    client = create_app(config_for(database_url, **settings, RATE_LIMIT_FAILED_AUTH="2/minute")).test_client()
    assert [client.post("/mcp").status_code for _ in range(3)] == [401, 401, 429]
