"""Granian, with the command of docs/operate/deploy.md."""

import json

import pytest
from support import assert_problem, bearer, sized
from wire.listener import Listener
from wire.server import CHUNKED, ORIGIN, Line, chunked, request

COMMAND = "todo serve --server granian"


@pytest.fixture(scope="module")
def granian(start_server, database_url):
    """Return a Granian of two processes."""
    return start_server(command=COMMAND, DATABASE_URL=database_url, WEB_CONCURRENCY="2", WEB_THREADS="4")


def test_granian_serves_every_kind_of_call(granian, user):
    created = granian.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})
    path = created.headers["Location"]

    assert created.status_code == 201
    assert granian.call("GET", "/api/me/tasks", bearer(user)).get_json() == [created.get_json()]
    assert granian.call("PATCH", path, bearer(user), {"title": "y"}).get_json()["title"] == "y"
    assert granian.call("HEAD", path, bearer(user)).headers["ETag"]
    assert granian.call("GET", "/api/me/export", bearer(user)).data.count(b"\n") == 2
    assert granian.call("DELETE", path, bearer(user)).status_code == 204
    assert_problem(granian.call("GET", path, bearer(user)), 404, "Task not found")
    assert granian.call("GET", "/health/ready").status_code == 200


def test_granian_refuses_as_gunicorn_does(granian, user):
    headers = bearer(user)

    refused = granian.call("GET", "/api/me/tasks", {"Origin": ORIGIN})
    assert_problem(refused, 401, "Missing authentication token")
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert_problem(granian.call("GET", "/api/other/tasks", headers), 403)
    assert_problem(granian.call("POST", "/api/me/tasks", headers, b"{"), 400)
    assert_problem(granian.call("POST", "/api/me/tasks", headers, sized(64 * 1024 + 1)), 413)
    assert_problem(granian.call("POST", "/api/me/tasks", headers), 422)
    assert_problem(granian.call("GET", f"/api/me/tasks/{2**63}", headers), 404)


def test_granian_reads_a_body_in_chunks(granian, user):
    body = json.dumps({"title": "x"}).encode()
    with Line(granian.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED))
        line.send(chunked(body))
        assert line.receive("POST").status_code == 201


def test_granian_responds_to_a_listener_and_ends(granian, user):
    for revision in (0, 1):
        with Listener(granian.port, user) as listener:
            (event,) = listener.read_to_end()
            assert (event.data, listener.retry_ms) == ({"revision": revision}, 5000)
        with Listener(granian.port, user, {"Last-Event-ID": event.id}) as listener:
            assert listener.read_to_end() == []
        granian.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})
