"""Assistants of both generations, as the user of a test."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from support import bearer

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
IDS = itertools.count(1)


class Assistant:
    """A client of the protocol.

    Args:
        client: A client of the application.
        headers: The headers of the user's requests.
        modern: Whether each request describes itself.

    """

    def __init__(self, client: FlaskClient, headers: dict[str, str], *, modern: bool = True) -> None:
        self.client, self.headers, self.modern = client, headers, modern

    def post(self, document: Any, headers: dict[str, str | None] | None = None) -> Any:
        """Post a message; a header that is None is left out."""
        sent = self.headers | (headers or {})
        kept = {name: value for name, value in sent.items() if value is not None}
        body = {"data": document} if isinstance(document, str | bytes) else {"json": document}
        return self.client.post("/mcp", headers=kept, **body)

    def request(self, method: str, headers: dict[str, str | None] | None = None, **params: Any) -> Any:
        """Send a request, and return the HTTP response."""
        sent: dict[str, str | None] = {}
        if self.modern:
            params = {"_meta": META} | params
            sent = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            if method == "tools/call":
                sent["Mcp-Name"] = params.get("name")
        document = {"jsonrpc": "2.0", "id": next(IDS), "method": method, "params": params}
        return self.post(document, sent | (headers or {}))

    def result(self, method: str, **params: Any) -> Any:
        """Send a request, and return the result."""
        response = self.request(method, **params)
        assert response.status_code == 200, response.text
        return response.json["result"]

    def error(self, method: str, **params: Any) -> Any:
        """Send a request, and return the error of JSON-RPC."""
        return self.request(method, **params).json["error"]

    def tool(self, name: str, /, **arguments: Any) -> Any:
        """Call a tool, and return its structured content."""
        result = self.result("tools/call", name=name, arguments=arguments)
        assert not result["isError"], result
        return result["structuredContent"]

    def fault(self, name: str, /, **arguments: Any) -> str:
        """Call a tool that fails, and return the sentence."""
        result = self.result("tools/call", name=name, arguments=arguments)
        assert result["isError"], result
        assert "structuredContent" not in result
        (content,) = result["content"]
        return content["text"]

    def refusal(self, name: str, /, **arguments: Any) -> str:
        """Call a tool with bad arguments, and return the sentence."""
        response = self.request("tools/call", name=name, arguments=arguments)
        assert response.status_code == 200
        assert response.json["error"]["code"] == -32602
        return response.json["error"]["message"]


@pytest.fixture
def assistant_of(client: FlaskClient) -> Callable[..., Assistant]:
    """Return a function that makes the assistant of a user."""

    def make(user: str, *, modern: bool = True) -> Assistant:
        return Assistant(client, bearer(user), modern=modern)

    return make


@pytest.fixture(params=["modern", "legacy"])
def either(request: pytest.FixtureRequest, client: FlaskClient, user: str) -> Assistant:
    """Return an assistant of each generation in turn."""
    return Assistant(client, bearer(user), modern=request.param == "modern")


@pytest.fixture
def assistant(client: FlaskClient, user: str) -> Assistant:
    """Return an assistant of the newest generation."""
    return Assistant(client, bearer(user))


@pytest.fixture
def legacy(client: FlaskClient, user: str) -> Assistant:
    """Return an assistant of an earlier generation."""
    return Assistant(client, bearer(user), modern=False)
