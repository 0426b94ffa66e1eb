"""Files to import over the wire: larger than other bodies, and no larger than that."""

import pytest
from support import assert_problem, bearer
from wire.server import CHUNKED, Line, chunked, request

from todo.http.body import IMPORT_MAX_BYTES

CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def server(start_server, database_url):
    """Return a server."""
    return start_server(DATABASE_URL=database_url)


def file_of(size):
    """Return a table of one task with so many bytes."""
    head = b"title,description\nmilk,"
    return head + b"x" * (size - len(head))


@pytest.mark.parametrize("path", ["/api/me/import", "/api/me/import/?dry_run=false", "/api/%6de/import"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_file_of_2_mib_is_imported(server, user, path, in_chunks):
    data = file_of(IMPORT_MAX_BYTES)
    with Line(server.port) as line:
        if in_chunks:
            line.send(request("POST", path, bearer(user) | CSV | CHUNKED) + chunked(data))
            done = line.receive()
        else:
            done = line.call("POST", path, bearer(user) | CSV, data)
        assert done.status_code == 200
        assert done.get_json()["created"] == 1
        assert len(line.call("GET", "/api/me/tasks", bearer(user)).get_json()) == 1


@pytest.mark.parametrize("in_chunks", [False, True])
def test_larger_file_is_413_that_names_the_command(server, user, in_chunks):
    data = file_of(IMPORT_MAX_BYTES + 1)
    with Line(server.port) as line:
        headers = bearer(user) | CSV
        line.send(
            request("POST", "/api/me/import", headers | CHUNKED) + chunked(data)
            if in_chunks
            else request("POST", "/api/me/import", headers, data)
        )
        problem = assert_problem(line.receive("POST"), 413)
    assert "todo user import" in problem["detail"]


@pytest.mark.parametrize("path", ["/api/me/tasks", "/api/me/imports", "/api/me/import/x", "/import"])
def test_other_bodies_have_no_more_than_before(server, user, path):
    with Line(server.port) as line:
        line.send(request("POST", path, bearer(user) | CSV, file_of(64 * 1024 + 1)))
        assert line.receive("POST").status_code in (404, 405, 413)
