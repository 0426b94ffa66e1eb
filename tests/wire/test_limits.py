"""The largest request that is accepted, gunicorn's responses beyond it, and what no response reveals of the server."""

import re

import pytest
from support import bearer
from wire.server import Line, request

LINE_MAX = 8190
FIELDS_MAX = 64
FIELD_MAX = 16384


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
    """Each field alone is small enough; a single read may exceed the limit a little."""
    fields = [(f"X-{n}", "x" * 16_000) for n in range(number)]

    assert send(server, "GET", "/health", fields).status_code == status


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
