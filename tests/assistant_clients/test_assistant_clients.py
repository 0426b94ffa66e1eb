"""Real clients of the protocol, the conformance suite, and the way of an assistant through a real Better Auth."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from assistant_clients.conftest import HERE, NEWER_NODE, PACKAGES, serving
from support import assert_problem, bearer, new_user
from wire.server import ROOT, Server, environment, free_port

from todo.assistants.tools import TOOLS
from todo.auth.access import SCOPES

INSPECTOR = PACKAGES / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
CONFORMANCE = PACKAGES / ".bin" / "conformance"
# The folder of the results of a scenario.
RESULTS = re.compile(r"server-(.*)-\d{4}-\d\d-\d\dT[^T]*")
READING = ["list_tasks", "get_task", "summarize_tasks"]

Printed = Callable[..., Any]


def token_of(user: str) -> str:
    return bearer(user)["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(("generation", "revision"), [("legacy", None), ("modern", "2026-07-28")])
def test_official_client_calls_every_tool(simple_service: Server, printed: Printed, generation, revision):
    user = new_user()
    told = printed("node", HERE / "calls.mjs", generation, f"{simple_service.url}/mcp", token_of(user))
    assert told["server"]["name"] == "todo"
    assert told["capabilities"] == {"tools": {}}
    assert told["revision"] == revision
    assert told["instructions"].startswith("These tools")
    assert told["tools"] == list(TOOLS)
    results = told["results"]
    assert set(results) == {*TOOLS, "fault"}
    assert results["list_tasks"]["tasks"] == [results["add_task"]["task"]]
    assert results["complete_task"]["task"]["completed"] is True
    assert results["fault"] == "Task not found"
    assert told["refusal"] == -32602
    (task,) = simple_service.call("GET", "/api/me/tasks", bearer(user)).get_json()
    assert task == results["restore_task"]["task"]


def test_inspector_finds_nothing_wrong_and_creates_a_task(simple_service: Server, run, printed: Printed):
    user = new_user()
    target = ["--cli", f"{simple_service.url}/mcp", "--transport", "http"]
    header = ["--header", f"Authorization: Bearer {token_of(user)}"]
    listed = run(NEWER_NODE, INSPECTOR, *target, "--method", "tools/list", "--strict", *header)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [tool["name"] for tool in json.loads(listed.stdout)["tools"]] == list(TOOLS)
    arguments = ["--tool-name", "add_task", "--tool-arg", "title=Buy oat milk", 'tags=["home"]']
    result = printed(NEWER_NODE, INSPECTOR, *target, "--method", "tools/call", *arguments, *header)
    (task,) = simple_service.call("GET", "/api/me/tasks", bearer(user)).get_json()
    assert result["structuredContent"] == {"task": task}


def test_conformance_suite_fails_only_what_a_server_with_tools_alone_cannot_pass(
    start_server: Callable[..., Server], database_url: str, run, tmp_path: Path
):
    """It finds its failures in both revisions, each of them listed with its reason, and no other."""
    port = free_port()
    failures, passed = set(), set()
    with serving("proxy.mjs", UPSTREAM=f"http://127.0.0.1:{port}", TOKEN=token_of(new_user())) as proxy:
        # The suite calls from the address that it calls, as a page of the service would.
        start_server(port=port, DATABASE_URL=database_url, PUBLIC_URL=proxy)
        for revision in ("2025-11-25", "2026-07-28"):
            results = tmp_path / revision
            options = ["--url", f"{proxy}/mcp", "--requirements", revision, "--output-dir", results]
            done = run(NEWER_NODE, CONFORMANCE, "server", *options)
            assert "=== SUMMARY ===" in done.stdout, done.stderr
            for report in results.glob("*/checks.json"):
                scenario = RESULTS.fullmatch(report.parent.name)[1]
                for check in json.loads(report.read_text()):
                    (failures if check["status"] == "FAILURE" else passed).add(f"{scenario}:{check['id']}")
    expected = yaml.safe_load((HERE / "conformance.yaml").read_text())
    assert failures == {check for reason in expected for check in reason["checks"]}
    assert all(reason["reason"] for reason in expected)
    for name in ("server-initialize", "server-stateless", "ping", "tools-list", "http-header-validation"):
        assert any(check.startswith(f"{name}:") for check in passed), name
    for name in ("tools-list", "http-header-validation", "dns-rebinding-protection"):
        assert not any(check.startswith(f"{name}:") for check in failures), name


@pytest.mark.parametrize("generation", ["legacy", "modern"])
def test_assistant_comes_from_nothing_to_a_task(service: Server, better_auth: str, printed: Printed, generation):
    """It calls, registers itself, sends the user to sign in and consent, and creates a task."""
    done = printed("node", HERE / "sign_in.mjs", generation, f"{service.url}/mcp")
    issuer = "/.well-known/oauth-authorization-server/api/auth"
    first = ["POST /mcp", "GET /.well-known/oauth-protected-resource/mcp", f"GET {issuer}"]
    assert done["requests"][:4] == [*first, "POST /api/auth/oauth2/register"]
    assert set(done["scope"].split()) - {"offline_access"} == set(SCOPES)
    assert done["consentPage"] == "/consent"
    token = done["tokens"]["access_token"]
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iss"], claims["aud"]) == (f"{better_auth}/api/auth", f"{service.url}/mcp")
    assert claims["client_id"] == done["client"]["client_id"]
    assert done["tools"] == list(TOOLS)
    assert done["created"]["task"]["user_id"] == done["user"]
    # The API itself is the user's own.
    for path in ("/api/me/tasks", f"/api/{done['user']}/tasks", "/api/me/export"):
        assert_problem(service.call("GET", path, {"Authorization": f"Bearer {token}"}), 401)


def test_assistant_that_may_only_read_changes_nothing(service: Server, printed: Printed):
    done = printed("node", HERE / "sign_in.mjs", "modern", f"{service.url}/mcp", "tasks:read")
    assert done["tokens"]["scope"] == "tasks:read"
    assert done["tools"] == READING
    # The client asks its user for more, who is not there.
    assert "error" in done["created"]


def test_doctor_finds_an_installation_ready_for_assistants(
    service: Server, better_auth: str, database_url: str, port: int
):
    def doctor(public_url: str) -> subprocess.CompletedProcess[str]:
        urls = {"BETTER_AUTH_URL": better_auth, "PUBLIC_URL": public_url, "BETTER_AUTH_SECRET": ""}
        command = [sys.executable, "-m", "todo", "doctor", "--mcp"]
        variables = environment(DATABASE_URL=database_url, **urls)
        return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)

    good = doctor(service.url)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "clients register themselves" in good.stdout
