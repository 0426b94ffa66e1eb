"""The largest request that is accepted, gunicorn's responses beyond it, and what no response reveals of the server."""

import re
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
from support import bearer
from wire.server import CHUNKED, Line, request

LINE_MAX = 8190
FIELDS_MAX = 64
FIELD_MAX = 16384
KIB = 1024


def send(server, method, path, headers=()):
    """Return the response, and check that the connection is closed if the request could not be read."""
    with Line(server.port) as line:
        line.send(request(method, path, headers))
        response = line.receive(method)
        if response.status_code in (400, 414, 431):
            assert line.receive_all() == b""
        return response


def path_for_a_request_line_of(size):
    return "/health?" + "x" * (size - len("GET /health? HTTP/1.1"))


@pytest.mark.parametrize(("size", "status"), [(LINE_MAX, 200), (LINE_MAX + 1, 414), (60_000, 414)])
def test_request_line_has_8190_bytes_at_most(server, size, status):
    assert send(server, "GET", path_for_a_request_line_of(size)).status_code == status


def test_request_line_may_hold_a_user_id_of_255_characters_and_a_search(server):
    user = "é" * 255
    path = f"/api/{'%C3%A9' * 255}/tasks?search={'x' * 100}"

    assert send(server, "GET", path, bearer(user)).status_code == 200


@pytest.mark.parametrize(("number", "status"), [(FIELDS_MAX, 200), (FIELDS_MAX + 1, 431), (2000, 431)])
def test_header_has_64_fields_at_most(server, number, status):
    """One of the fields is `Host`."""
    fields = [(f"X-{n}", "x") for n in range(number - 1)]

    assert send(server, "GET", "/health", fields).status_code == status


@pytest.mark.parametrize(("size", "status"), [(FIELD_MAX, 200), (FIELD_MAX + 1, 431)])
def test_header_field_has_16_kib_at_most(server, size, status):
    fields = [("X-Long", "x" * (size - len("X-Long: \r\n")))]

    assert send(server, "GET", "/health", fields).status_code == status


@pytest.mark.parametrize(("number", "status"), [(4, 200), (10, 431), (FIELDS_MAX - 1, 431)])
def test_header_far_over_64_kib_is_not_read(server, number, status):
    """Each field alone is small enough."""
    fields = [(f"X-{n}", "x" * 16_000) for n in range(number)]

    assert send(server, "GET", "/health", fields).status_code == status


UNFINISHED = {
    "one-byte-chunks": b"1\r\nx\r\n" * 13_000,
    "extensions": (b"1;" + b"x" * 4000 + b"\r\nx\r\n") * 1000,
    "content-and-a-line": b"ffff\r\n" + b"x" * 65_535 + b"\r\n1;" + b"x" * 4000,
    "line-without-end": b"1;" + b"x" * 4_000_000,
    "trailers": b"0\r\n" + (b"A: " + b"x" * 4000 + b"\r\n") * 1000,
}


@pytest.mark.parametrize("body", UNFINISHED.values(), ids=UNFINISHED)
def test_connection_holds_at_most_200_kib_of_a_request(server, body):
    """Counted in the memory of the processes, with many connections at a time."""
    number = 40

    def held():
        return sum(psutil.Process(worker).memory_info().rss for worker in server.workers())

    head = request("POST", "/api/me/tasks", CHUNKED)
    before = held()
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(server.port)) for _ in range(number)]
        for line in lines:
            # The server may have refused the request and closed the connection before everything was sent.
            with suppress(OSError):
                line.send(head + body)
        growth = 0
        # The last bytes may still be on their way.
        for _ in range(20):
            time.sleep(0.05)
            growth = max(growth, held() - before)

    assert growth < number * 200 * KIB + 4 * KIB * KIB


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        pytest.param("GET", "/health", {}, id="200"),
        pytest.param("GET", "/nowhere", {}, id="404"),
        pytest.param("GET", "/api/me/tasks", {}, id="401"),
        pytest.param("OPTIONS", "/api/me/tasks", {}, id="options"),
        pytest.param("GET", "/health", {"X Y": "z"}, id="400"),
        pytest.param("GET", path_for_a_request_line_of(LINE_MAX + 1), {}, id="414"),
        pytest.param("GET", "/health", {"X-Long": "x" * FIELD_MAX}, id="431"),
    ],
)
def test_response_names_no_version_and_no_software_but_the_server(server, method, path, headers):
    response = send(server, method, path, headers)

    assert response.headers.get_all("Server", ["gunicorn"]) == ["gunicorn"]
    text = str(response.headers) + response.data.decode()
    assert not re.search(r"python|werkzeug|flask|traceback|gunicorn/", text, re.IGNORECASE)
