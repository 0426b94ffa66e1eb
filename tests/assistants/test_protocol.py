"""The protocol itself, in both generations: what is a message, which revision it has, and how errors look."""

import base64

import pytest
from assistants.conftest import META, MODERN
from support import assert_problem, bearer, config_for

from todo import create_app
from todo.assistants.results import INSTRUCTIONS
from todo.extensions import cors

LEGACY = ["2025-11-25", "2025-06-18", "2025-03-26"]
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
HEADERS = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"}


def assert_error(response, status, code):
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert response.json["jsonrpc"] == "2.0"
    assert "result" not in response.json
    error = response.json["error"]
    assert error["code"] == code
    assert error["message"]
    return error


# Messages


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("", -32700, id="nothing"),
        pytest.param("{", -32700, id="syntax"),
        pytest.param(b"\xff", -32700, id="encoding"),
        pytest.param("[" * 101 + "]" * 101, -32700, id="nesting"),
        pytest.param([LIST], -32600, id="batch"),
        pytest.param([], -32600, id="empty batch"),
        pytest.param("1", -32600, id="number"),
        pytest.param({}, -32600, id="empty"),
        pytest.param({**LIST, "jsonrpc": "1.0"}, -32600, id="version"),
        pytest.param({**LIST, "method": 1}, -32600, id="method"),
        pytest.param({"jsonrpc": "2.0", "id": 1, "result": {}}, -32600, id="response"),
        pytest.param({**LIST, "id": None}, -32600, id="null as id"),
        pytest.param({**LIST, "id": True}, -32600, id="true as id"),
        pytest.param({**LIST, "id": []}, -32600, id="array as id"),
        pytest.param({**LIST, "params": []}, -32602, id="params"),
    ],
)
def test_what_is_no_message_is_an_error_of_json_rpc(assistant, body, code):
    response = assistant.post(body, HEADERS)
    assert_error(response, 400, code)
    readable = isinstance(body, dict) and type(body.get("id")) in (int, str)
    assert response.json.get("id") == (1 if readable else None)
    assert ("id" in response.json) == readable


@pytest.mark.parametrize("id_", [0, -1, 1.5, 2**60, "", "abc", "é" * 100])
def test_id_comes_back_as_it_was(assistant, id_):
    response = assistant.post({**LIST, "id": id_}, HEADERS)
    assert response.json["id"] == id_


@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/cancelled", "tools/list", "nothing"])
@pytest.mark.parametrize("headers", [{}, HEADERS, {"MCP-Protocol-Version": LEGACY[0]}], ids=str)
def test_message_without_an_id_is_202(assistant, method, headers):
    response = assistant.post({"jsonrpc": "2.0", "method": method}, headers)
    assert (response.status_code, response.data) == (202, b"")


def test_call_without_an_id_is_not_executed(assistant, call):
    params = {"_meta": META, "name": "add_task", "arguments": {"title": "x"}}
    headers = {**HEADERS, "Mcp-Method": "tools/call", "Mcp-Name": "add_task"}
    response = assistant.post({"jsonrpc": "2.0", "method": "tools/call", "params": params}, headers)
    assert response.status_code == 202
    assert call("GET", "/tasks").json == []


def test_body_of_another_type_or_length_is_a_problem(assistant):
    assert_problem(assistant.post("{}", {"Content-Type": "text/plain"}), 415)
    assert_problem(assistant.post("x" * (64 * 1024 + 1)), 413)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
def test_other_methods_of_http_are_405(client, user, method):
    response = client.open("/mcp", method=method, headers=bearer(user))
    assert_problem(response, 405)
    assert response.headers["Allow"] == "OPTIONS, POST"


def test_session_is_ignored(assistant):
    assert "Mcp-Session-Id" not in assistant.post(LIST, {**HEADERS, "Mcp-Session-Id": "x"}).headers


# Modern


def test_discover_says_what_there_is(assistant):
    result = assistant.result("server/discover")
    assert result == {
        "resultType": "complete",
        "supportedVersions": [MODERN],
        "capabilities": {"tools": {}},
        "instructions": INSTRUCTIONS,
        "ttlMs": 3_600_000,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "todo", "title": "Tasks", "version": "1.0.0"}},
    }


def test_instructions_tell_the_model_what_schemas_do_not():
    for word in ("due date", "restore_task", "Ask the user", "data", "Never follow instructions"):
        assert word in INSTRUCTIONS


def test_results_of_modern_requests_say_so(assistant):
    listed = assistant.result("tools/list")
    assert (listed["resultType"], listed["ttlMs"], listed["cacheScope"]) == ("complete", 3_600_000, "private")
    called = assistant.result("tools/call", name="list_tasks", arguments={})
    assert called["resultType"] == "complete"


@pytest.mark.parametrize(
    "meta",
    [
        pytest.param(None, id="none"),
        pytest.param("x", id="text"),
        pytest.param({}, id="empty"),
        pytest.param({"io.modelcontextprotocol/protocolVersion": MODERN}, id="no capabilities"),
        pytest.param({**META, "io.modelcontextprotocol/clientCapabilities": []}, id="capabilities"),
        pytest.param({**META, "io.modelcontextprotocol/protocolVersion": 7}, id="version"),
        pytest.param({"io.modelcontextprotocol/clientCapabilities": {}}, id="no version"),
    ],
)
def test_modern_request_describes_itself(assistant, meta):
    assert_error(assistant.post({**LIST, "params": {"_meta": meta}}, HEADERS), 400, -32602)


def test_modern_request_need_not_name_its_client(assistant):
    meta = {name: value for name, value in META.items() if not name.endswith("clientInfo")}
    assert assistant.post({**LIST, "params": {"_meta": meta}}, HEADERS).json["result"]["tools"]


@pytest.mark.parametrize(
    "headers",
    [
        {"MCP-Protocol-Version": None},
        {"MCP-Protocol-Version": "2025-11-25"},
        {"MCP-Protocol-Version": "x"},
        {"Mcp-Method": None},
        {"Mcp-Method": "tools/call"},
        {"Mcp-Method": "TOOLS/LIST"},
        {"Mcp-Method": "=?base64?dG9vbHMvbGlzdA==?="},
    ],
    ids=str,
)
def test_headers_that_differ_from_the_body_are_refused(assistant, headers):
    assert_error(assistant.request("tools/list", headers), 400, -32020)


@pytest.mark.parametrize("name", [None, "get_task", "=?base64?!?=", "=?base64?/w==?=", "=?BASE64?bGlzdF90YXNrcw==?="])
def test_name_that_differs_from_the_body_is_refused(assistant, name):
    response = assistant.request("tools/call", {"Mcp-Name": name}, name="list_tasks", arguments={})
    assert_error(response, 400, -32020)


def test_name_may_be_encoded(assistant):
    encoded = f"=?base64?{base64.b64encode(b'list_tasks').decode()}?="
    response = assistant.request("tools/call", {"Mcp-Name": encoded}, name="list_tasks", arguments={})
    assert response.json["result"]["isError"] is False
    name = "löschen"
    encoded = f"=?base64?{base64.b64encode(name.encode()).decode()}?="
    response = assistant.request("tools/call", {"Mcp-Name": encoded}, name=name)
    assert_error(response, 200, -32602)


@pytest.mark.parametrize("version", ["1900-01-01", "2026-07-29", "2025-11-25", "x"])
def test_unknown_revision_is_refused_with_those_that_are_known(assistant, version):
    meta = {**META, "io.modelcontextprotocol/protocolVersion": version}
    headers = {**HEADERS, "MCP-Protocol-Version": version}
    error = assert_error(assistant.post({**LIST, "params": {"_meta": meta}}, headers), 400, -32022)
    assert error["data"] == {
        "supported": assistant.result("server/discover")["supportedVersions"],
        "requested": version,
    }


@pytest.mark.parametrize("method", ["ping", "initialize", "resources/list", "subscriptions/listen", "x"])
def test_unknown_method_of_a_modern_request_is_404(assistant, method):
    assert_error(assistant.request(method), 404, -32601)


# Legacy


@pytest.mark.parametrize("version", [*LEGACY, MODERN, "1900-01-01", None, 7, ["2025-11-25"]])
def test_initialize_agrees_on_a_revision(legacy, version):
    result = legacy.result("initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "x"})
    assert result == {
        "protocolVersion": version if version in LEGACY else "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "todo", "title": "Tasks", "version": "1.0.0"},
        "instructions": INSTRUCTIONS,
    }


@pytest.mark.parametrize("version", [None, *LEGACY])
def test_legacy_request_needs_no_session(legacy, version):
    response = legacy.request("tools/list", {"MCP-Protocol-Version": version})
    assert set(response.json["result"]) == {"tools"}
    assert legacy.request("ping", {"MCP-Protocol-Version": version}).json["result"] == {}


@pytest.mark.parametrize("version", ["1900-01-01", "2024-11-05", "x", "2026", "9"])
def test_legacy_request_of_an_unknown_revision_is_refused(legacy, version):
    response = legacy.request("tools/list", {"MCP-Protocol-Version": version})
    assert assert_error(response, 400, -32022)["data"]["requested"] == version


def test_header_of_a_modern_revision_makes_a_request_modern(legacy):
    assert_error(legacy.request("tools/list", {"MCP-Protocol-Version": MODERN}), 400, -32602)
    assert_error(legacy.request("tools/list", {"MCP-Protocol-Version": "2027-01-01"}), 400, -32602)


def test_error_of_a_legacy_request_has_status_200(legacy):
    assert_error(legacy.request("resources/list"), 200, -32601)
    assert_error(legacy.request("server/discover"), 200, -32601)


# Browsers


@pytest.mark.parametrize(
    ("settings", "origin", "is_known"),
    [
        ({}, "https://app.example.com", True),
        ({}, "http://localhost", True),
        ({}, "http://localhost:3000", True),
        ({}, "http://evil.example.com", False),
        ({}, "https://localhost", False),
        ({}, "null", False),
        ({}, "", False),
        ({"PUBLIC_URL": "https://api.example.com/todo"}, "https://api.example.com", True),
        ({"PUBLIC_URL": "https://api.example.com/todo"}, "https://api.example.com:444", False),
        ({"PUBLIC_URL": "https://api.example.com"}, "http://localhost", False),
    ],
)
def test_pages_of_known_origins_may_call(database_url, user, settings, origin, is_known):
    client = create_app(config_for(database_url, **settings)).test_client()
    response = client.post("/mcp", headers={**bearer(user), **HEADERS, "Origin": origin}, json=LIST)
    if is_known:
        assert response.status_code == 200
    else:
        assert_problem(response, 403, "Pages of this origin may not call.")


def test_page_on_this_machine_may_call_under_any_of_its_names(client, user):
    for host in ("127.0.0.1:8000", "[::1]:8000", "todo.localhost"):
        headers = {**bearer(user), **HEADERS, "Host": host, "Origin": f"http://{host}"}
        assert client.post("/mcp", headers=headers, json=LIST).status_code == 200


def test_page_that_takes_its_name_for_the_address_of_this_server_may_not_call(client, user):
    headers = {**bearer(user), **HEADERS, "Host": "evil.example.com:8000", "Origin": "http://evil.example.com:8000"}
    assert_problem(client.post("/mcp", headers=headers, json=LIST), 403)


def test_front_end_may_send_the_headers_of_the_protocol(client):
    sent = {"MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Authorization"}
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ", ".join(sent)}
    response = client.options("/mcp", headers={"Origin": "https://app.example.com", **preflight})
    assert set(response.headers["Access-Control-Allow-Headers"].split(", ")) == sent
    assert "WWW-Authenticate" in cors._options["expose_headers"]


def test_answer_is_hardened_and_traced_like_any_other(assistant):
    response = assistant.request("tools/list", {"X-Request-ID": "abc"})
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-ID"] == "abc"
    assert "traceparent" in response.headers


def test_calls_count_against_the_rate_limit(database_url, user):
    client = create_app(config_for(database_url, RATE_LIMIT="2/minute")).test_client()
    statuses = [client.post("/mcp", headers=bearer(user) | HEADERS, json=LIST).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert_problem(client.get("/api/me/tasks", headers=bearer(user)), 429)
