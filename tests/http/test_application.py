"""What a request costs in calls of functions, and headers that need not be completed."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.http import is_entity_header
from werkzeug.test import EnvironBuilder

from tests.support import Call, bearer, open_app
from todo.database.statements import list_changed
from todo.http.application import DESCRIBES_BODY, Response
from todo.telemetry.requests import request_finished

# The calls of functions that are written in Python. They do not depend on the machine; those of 3.12 and later are
# fewer, as comprehensions are no functions there. A tenth more than at present.
CALLS_MAX = {"get": 350, "unchanged": 420, "create": 480, "patch": 460, "delete": 360}


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application that logs no request, as the form of its log is not that of production here."""
    with open_app(database_url, LOG_LEVEL="WARNING") as app:
        yield app


def count_calls(app: Flask, user: str, method: str, *paths: str, **arguments: Any) -> int:
    """Return how many functions of Python the last of some requests calls."""
    headers = bearer(user) | arguments.pop("headers", {})
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    for path in paths:
        calls = 0
        environ = EnvironBuilder(path, method=method, headers=headers, **arguments).get_environ()
        before = sys.getprofile()
        # Applications of other tests may still listen.
        with list_changed.muted(), request_finished.muted():
            sys.setprofile(count)
            try:
                chunks = app(environ, lambda *_: lambda _: None)
            finally:
                sys.setprofile(before)
        b"".join(chunks)
    return calls


def test_requests_call_no_more_functions_than_they_did(app: Flask, call: Call, user: str) -> None:
    first, *others = (call("POST", "/tasks", title="x").headers["Location"] for _ in range(3))
    tasks = f"/api/{user}/tasks"
    etag = call("GET", "/tasks").headers["ETag"]

    # Each twice: once a session of PostgreSQL prepares the statement.
    calls = {
        "unchanged": count_calls(app, user, "GET", tasks, tasks, headers={"If-None-Match": etag}),
        "get": count_calls(app, user, "GET", first, first),
        "create": count_calls(app, user, "POST", tasks, tasks, json={"title": "x"}),
        "patch": count_calls(app, user, "PATCH", first, first, json={"title": "y"}),
        "delete": count_calls(app, user, "DELETE", *others),
    }

    assert {kind: number for kind, number in calls.items() if number > CALLS_MAX[kind]} == {}


def test_headers_that_describe_a_body_are_those_that_werkzeug_removes() -> None:
    assert all(map(is_entity_header, DESCRIBES_BODY))


@pytest.mark.parametrize(
    ("response", "added"),
    [
        pytest.param(Response("x", 200), {}, id="body"),
        pytest.param(Response(None, 200), {"Content-Length": "0"}, id="without-length"),
        pytest.param(Response("x", 404, {"Location": "/ä"}), {"Location": "/%C3%A4"}, id="other-status"),
        pytest.param(
            Response(None, 304, {"ETag": '"1"', "Content-Type": "text/plain"}), {"Content-Type": None}, id="304"
        ),
        pytest.param(Response(None, 204, {"Content-Length": "0"}), {"Content-Length": None}, id="204"),
    ],
)
def test_header_is_completed_where_it_must_be(response: Response, added: dict[str, str | None]) -> None:
    expected = {**dict(response.headers), **added}

    header = response.get_wsgi_headers(EnvironBuilder().get_environ())

    assert dict(header) == {name: value for name, value in expected.items() if value is not None}
    assert (header is response.headers) == (not added)
