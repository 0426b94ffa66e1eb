"""Bodies and headers that no client library would send, byte by byte."""

import gzip
import json
from typing import Any

import pytest
from support import assert_problem, bearer, claims, sign, sized
from wire.server import CHUNKED, Line, Response, Server, chunked, request

LIMIT = 64 * 1024
BATCH_LIMIT = 512 * 1024


def send_raw(server: Server, user: str, method: str, path: str, headers: dict[str, str], data: bytes) -> bytes:
    """Send these bytes as a body, close the sending side, and return all received bytes."""
    with Line(server.port) as line:
        line.send(request(method, path, bearer(user) | headers) + data)
        line.hang_up()
        return line.receive_all()


def post_raw(server: Server, user: str, headers: dict[str, str], data: bytes) -> bytes:
    return send_raw(server, user, "POST", "/api/me/tasks", headers, data)


def post(server: Server, user: str, body: Any, **headers: str) -> Response:
    return server.call("POST", "/api/me/tasks", bearer(user) | headers, body)


def tasks(server: Server, user: str) -> list[Any]:
    listed: list[Any] = server.call("GET", "/api/me/tasks", bearer(user)).get_json()
    return listed


def test_body_in_chunks_is_read_whole(server, user):
    body = json.dumps({"title": "Überraschung 🎂", "description": "d" * 1000}, ensure_ascii=False).encode()

    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED) + chunked(body, size=7))
        created = line.receive()

    assert created.status_code == 201
    assert (created.get_json()["title"], created.get_json()["description"]) == ("Überraschung 🎂", "d" * 1000)
    assert tasks(server, user) == [created.get_json()]


def test_body_in_chunks_with_extensions_and_trailers_is_read_whole(server, user):
    data = b'd;name=value\r\n{"title":"x"}\r\n0\r\nX-Trailer: 1\r\n\r\n'

    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED) + data)
        assert line.receive().get_json()["title"] == "x"
        assert len(line.call("GET", "/api/me/tasks", bearer(user)).get_json()) == 1


def test_body_in_no_chunks_at_all_is_an_empty_body(server, user):
    created = post(server, user, {"title": "x"}).get_json()

    toggled = send_raw(server, user, "PATCH", f"/api/me/tasks/{created['id']}/complete", CHUNKED, b"0\r\n\r\n")
    refused = post_raw(server, user, CHUNKED, b"0\r\n\r\n")

    assert Response.parse(toggled, "PATCH").get_json()["completed"] is True
    assert_problem(Response.parse(refused, "POST"), 422)


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_body_of_exactly_64_kib_is_accepted(server, user, framing):
    body = sized(LIMIT)
    assert len(body) == LIMIT

    if framing == "chunked":
        answer = Response.parse(post_raw(server, user, CHUNKED, chunked(body)), "POST")
    else:
        answer = post(server, user, body)

    assert answer.status_code == 201
    assert tasks(server, user) == [answer.get_json()]


@pytest.mark.parametrize("framing", ["content-length", "chunked", "one-chunk"])
@pytest.mark.parametrize("excess", [1, 30_000])
def test_body_over_64_kib_is_refused(server, user, framing, excess):
    body = sized(LIMIT + excess)

    if framing == "content-length":
        answer = post(server, user, body)
    else:
        data = chunked(body, size=len(body) if framing == "one-chunk" else 10_000)
        with Line(server.port) as line:
            line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED) + data)
            answer = line.receive()

    assert_problem(answer, 413)
    assert tasks(server, user) == []


def test_body_in_chunks_that_is_good_up_to_the_limit_is_refused_whole(server, user):
    """A body that is cut at the limit must not pass for a whole one."""
    body = sized(LIMIT)

    for rest in (b" ", b" " * 20_000, b"}"):
        answer = Response.parse(post_raw(server, user, CHUNKED, chunked(body + rest, size=4096)), "POST")
        assert_problem(answer, 413)

    assert tasks(server, user) == []


@pytest.mark.parametrize(
    "path", ["/api/me/tasks/batch", "/api/me/tasks/b%61tch/?x=%2F", "http://localhost/api/me/tasks/batch"]
)
@pytest.mark.parametrize("framing", ["content-length", "chunks"])
def test_body_of_a_batch_may_have_512_kib(server, user, path, framing):
    operations = json.dumps({"operations": [{"op": "restore", "id": 1}], "filler": ""}).encode()
    with Line(server.port) as line:
        for size, status in ((BATCH_LIMIT, 200), (BATCH_LIMIT + 1, 413)):
            body = operations.replace(b'""', b'"' + b"x" * (size - len(operations)) + b'"')
            if framing == "chunks":
                line.send(request("POST", path, bearer(user) | CHUNKED) + chunked(body, size=10_000))
            else:
                line.send(request("POST", path, bearer(user) | {"Content-Length": str(size)}) + body)
            assert line.receive("POST").status_code == status


@pytest.mark.parametrize("size", [LIMIT + 1, 70_000, 300_000, 1_000_000])
@pytest.mark.parametrize("chunks", [1, 2, 3, 100])
@pytest.mark.parametrize("piece", [1 << 20, 30_000], ids=["at-once", "in-pieces"])
def test_body_in_chunks_over_64_kib_is_413_however_it_is_cut(server, user, size, chunks, piece):
    body = chunked(sized(size), size=-(-size // chunks))
    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED))
        for at in range(0, len(body), piece):
            line.send(body[at : at + piece])
        received = line.receive_all()

    answer = Response.parse(received, "POST")
    assert_problem(answer, 413)
    assert answer.headers["Connection"] == "close"
    assert received.count(b"HTTP/1.1 ") == 1
    assert tasks(server, user) == []


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        pytest.param({"Content-Length": str(LIMIT + 1)}, b"", id="length"),
        pytest.param({"Content-Length": "300000"}, b"x" * 1000, id="length-and-a-part"),
        pytest.param({"Content-Length": str(10**12)}, b"", id="length-that-is-not-waited-for"),
        pytest.param({"Content-Length": str(10**30)}, b"", id="length-of-many-digits"),
        pytest.param(CHUNKED, b"10001\r\n", id="chunk"),
        pytest.param(CHUNKED, b"1\r\n{\r\n" + b"f" * 100 + b"\r\n", id="second-chunk-of-many-digits"),
        pytest.param(CHUNKED, b"1\r\n{\r\n" * 13_200, id="more-framing-than-content"),
        pytest.param(CHUNKED, (b"1;" + b"x" * 4000 + b"\r\n{\r\n") * 17, id="extensions"),
    ],
)
def test_body_that_states_to_be_too_large_is_413_before_it_arrives(server, user, headers, data):
    """Nothing follows, and the connection stays open: a server that waits does not respond for a minute."""
    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | headers) + data)
        assert_problem(line.receive("POST"), 413)


@pytest.mark.parametrize("length", [LIMIT + 1, 10_000_000, 10**12])
def test_client_that_waits_for_continue_before_too_large_a_body_gets_the_413_alone(server, user, length):
    headers = bearer(user) | {"Content-Length": str(length), "Expect": "100-continue"}
    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", headers))
        received = line.receive_all()

    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert Response.parse(received, "POST").headers["Connection"] == "close"


def test_body_that_arrives_after_its_413_is_discarded_and_the_next_request_served(server, user):
    smuggled = request("POST", "/api/me/tasks", bearer(user), {"title": "smuggled"})
    body = smuggled * 1000
    with Line(server.port) as line:
        for _ in range(2):
            line.send(request("POST", "/api/me/tasks", bearer(user) | {"Content-Length": str(len(body))}))
            assert_problem(line.receive("POST"), 413)
            line.send(body[:100])
            line.send(body[100:] + request("GET", "/api/me/tasks", bearer(user)))
            answer = line.receive()
            assert (answer.status_code, answer.get_json()) == (200, [])


def test_client_that_hangs_up_after_its_413_is_left_alone(server, user):
    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | {"Content-Length": "100000"}) + b"x" * 70_000)
        assert_problem(line.receive("POST"), 413)
        line.hang_up()
        assert line.receive_all() == b""


FAULTS = {
    "no-chunk": b"zz\r\n",
    "long-line": b"1;" + b"x" * 5000 + b"\r\nx\r\n0\r\n\r\n",
    "end-of-a-chunk": b"1\r\nxyz\r\n",
    "second-chunk": b"1\r\nx\r\n\r\n",
    "trailer": b"0\r\nno trailer\r\n\r\n",
    "forbidden-trailer": b"0\r\nContent-Length: 3\r\n\r\n",
    "too-large": b"fffff\r\n",
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/health", 200, id="without-a-body"),
        pytest.param("GET", "/api/me/tasks", 401, id="without-a-token"),
        pytest.param("POST", "/health", 405, id="method"),
        pytest.param("POST", "/nowhere", 404, id="path"),
    ],
)
def test_malformed_body_that_nobody_reads_has_one_response_and_ends_the_connection(server, data, method, path, status):
    """A proxy would take a second response for that to the next request of another user."""
    with Line(server.port) as line:
        line.send(request(method, path, CHUNKED) + data + request("GET", "/health"))
        received = line.receive_all()

    assert received.count(b"HTTP/1.1 ") == 1
    answer = Response.parse(received, method)
    assert answer.status_code == status
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("headers", [CHUNKED, {"Content-Length": "100"}], ids=["chunks", "length"])
def test_body_that_breaks_off_and_that_nobody_reads_has_one_response(server, headers):
    with Line(server.port) as line:
        line.send(request("GET", "/health", headers) + b"5\r\nx")
        line.hang_up()
        received = line.receive_all()

    assert received.count(b"HTTP/1.1 ") == 1
    assert Response.parse(received, "GET").headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"GET /health HTTP/1.1\r\n", 400, id="no-host"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, id="two-hosts"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost: a b\r\n", 400, id="space-in-the-host"),
        pytest.param(b"GET http://a%20b@c/health HTTP/1.1\r\nHost: a\r\n", 400, id="user-in-the-target"),
        pytest.param(b"GET http:///health HTTP/1.1\r\nHost: a\r\n", 400, id="no-host-in-the-target"),
        pytest.param(b"GET health?://a HTTP/1.1\r\nHost: a\r\n", 400, id="target-without-a-slash"),
        pytest.param(b"GET http://a/health HTTP/1.1\r\n", 400, id="host-in-the-target-alone"),
        pytest.param(b"GET http://a/health HTTP/1.1\r\nHost: a\r\n", 200, id="url"),
        pytest.param(b"GET //a/health HTTP/1.1\r\nHost: a\r\n", 404, id="path-that-looks-like-a-host"),
        pytest.param(b"GET /health HTTP/1.0\r\n", 200, id="http-1.0"),
        pytest.param(b"GET /health HTTP/1.5\r\nHost: a\r\n", 200, id="http-1.5"),
        pytest.param(b"GET /health HTTP/1.1\r\nHost:\r\n", 200, id="empty-host"),
        pytest.param(b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501, id="gzip"),
        pytest.param(
            b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n", 501, id="identity"
        ),
        pytest.param(b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br, chunked\r\n", 501, id="br"),
        pytest.param(b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n", 405, id="chunked"),
    ],
)
def test_request_follows_the_rules_of_http_for_host_and_coding(server, head, status):
    """RFC 9112, sections 3.2 and 6.1."""
    with Line(server.port) as line:
        line.send(head + b"\r\n" + b"0\r\n\r\n" * (b"Encoding" in head))
        line.hang_up()
        received = line.receive_all()

    assert received.count(b"HTTP/1.1 ") + received.count(b"HTTP/1.0 ") == 1
    assert Response.parse(received, "GET").status_code == status


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'zz\r\n{"title":"x"}\r\n0\r\n\r\n', id="not-hexadecimal"),
        pytest.param(b'-d\r\n{"title":"x"}\r\n0\r\n\r\n', id="negative"),
        pytest.param(b'\r\n{"title":"x"}\r\n0\r\n\r\n', id="no-size"),
        pytest.param(b'0xd\r\n{"title":"x"}\r\n0\r\n\r\n', id="prefix"),
        pytest.param(b'c\r\n{"title":"x"}\r\n0\r\n\r\n', id="too-short"),
        pytest.param(b'd\n{"title":"x"}\n0\n\n', id="bare-line-feeds"),
        pytest.param(b'd\r\n{"title":"x"}\r\nzz\r\n\r\n', id="bad-end"),
        pytest.param(b'd\r\n{"title":"x"}\r\n', id="no-last-chunk"),
        pytest.param(b'd\r\n{"title":"x"}\r\n0\r\n', id="no-trailer-section"),
        pytest.param(b'd\r\n{"tit', id="breaks-off-in-a-chunk"),
        pytest.param(b"d", id="breaks-off-in-a-size"),
        pytest.param(b"", id="breaks-off-at-once"),
    ],
)
def test_body_in_malformed_chunks_is_refused(server, user, data):
    answer = Response.parse(post_raw(server, user, CHUNKED, data), "POST")

    assert_problem(answer, 400)
    assert tasks(server, user) == []


def test_body_in_malformed_chunks_ends_the_connection(server, user):
    """The start of the next request is unknown, so the bytes that follow must not be read as one."""
    data = b"zz\r\n" + request("POST", "/api/me/tasks", bearer(user), {"title": "smuggled"})

    received = post_raw(server, user, CHUNKED, data)

    assert received.count(b"HTTP/1.1 ") == 1
    assert tasks(server, user) == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("Content-Length", "13"), ("Transfer-Encoding", "chunked")], id="both"),
        pytest.param([("Content-Length", "13"), ("Content-Length", "14")], id="two-lengths"),
        pytest.param([("Content-Length", "-13")], id="negative-length"),
        pytest.param([("Content-Length", "13x")], id="no-number"),
        pytest.param([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], id="chunked-twice"),
        pytest.param([("Transfer-Encoding", "gzip")], id="not-chunked"),
    ],
)
def test_body_with_ambiguous_framing_is_refused(server, user, headers):
    """Such requests smuggle one request inside another (RFC 9112, section 6.3)."""
    with Line(server.port) as line:
        line.send(request("POST", "/api/me/tasks", [*bearer(user).items(), *headers]) + b'{"title":"x"}')
        line.hang_up()
        received = line.receive_all()

    assert received.count(b"HTTP/1.1 ") == 1
    assert Response.parse(received, "POST").status_code in (400, 501)
    assert tasks(server, user) == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="at-once"),
        pytest.param(b'{"title":', id="in-the-middle"),
        pytest.param(b'{"title":"x"}', id="where-it-could-end"),
    ],
)
def test_body_that_breaks_off_creates_nothing(server, user, data):
    received = post_raw(server, user, {"Content-Length": "100"}, data)

    assert_problem(Response.parse(received, "POST"), 400)
    assert tasks(server, user) == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"completed": true}'], ids=["at-once", "empty-object", "value"])
def test_complete_whose_body_breaks_off_changes_nothing(server, user, data):
    created = post(server, user, {"title": "x"}).get_json()

    path = f"/api/me/tasks/{created['id']}/complete"
    received = send_raw(server, user, "PATCH", path, {"Content-Length": "100"}, data)

    assert_problem(Response.parse(received, "PATCH"), 400)
    assert tasks(server, user) == [created]


def test_client_that_hangs_up_in_its_body_leaves_the_server_well(server, user):
    for _ in range(20):
        with Line(server.port) as line:
            line.send(request("POST", "/api/me/tasks", bearer(user) | {"Content-Length": "100"}) + b'{"title":')

    assert post(server, user, {"title": "x"}).status_code == 201
    assert len(tasks(server, user)) == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "x-unknown"])
def test_body_with_a_content_coding_is_415(server, user, coding):
    body = gzip.compress(b'{"title": "x"}') if coding == "gzip" else {"title": "x"}

    assert_problem(post(server, user, body, **{"Content-Encoding": coding}), 415)
    assert tasks(server, user) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"title": "x"}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"title": "x"}'.encode("utf-16-le"), id="utf-16-le"),
        pytest.param('{"title": "x"}'.encode("utf-32"), id="utf-32"),
        pytest.param('{"title": "é"}'.encode("latin-1"), id="latin-1"),
        pytest.param('{"title": "x"}'.encode("utf-8-sig"), id="byte-order-mark"),
        pytest.param(b'{"title": "\xed\xa0\x80"}', id="surrogate-in-utf-8"),
        pytest.param(b'{"title": "\xc0\xaf"}', id="overlong-utf-8"),
        pytest.param(b'{"title": "\\ud800"}', id="lone-high-surrogate"),
        pytest.param(b'{"title": "\\udc00\\ud800"}', id="surrogates-the-wrong-way-round"),
        pytest.param(b'{"title": "x", "extra": "\\ud83c"}', id="lone-surrogate-in-an-unknown-member"),
        pytest.param(b'{"title": "x", "extra": NaN}', id="nan"),
        pytest.param(b'{"title": "x", "extra": -Infinity}', id="infinity"),
        pytest.param(b'{"title": "x", "extra": 0x1}', id="hexadecimal"),
        pytest.param(b"{'title': 'x'}", id="single-quotes"),
        pytest.param(b'{"title": "x",}', id="trailing-comma"),
        pytest.param(b'{"title": "x"} {}', id="two-documents"),
        pytest.param(b'{"title": "x"}\x00', id="nul-after-the-end"),
        pytest.param(b'{"title": "a\nb"}', id="raw-line-feed-in-a-string"),
        pytest.param(b" ", id="white-space-alone"),
    ],
)
def test_body_that_is_not_json_is_400(server, user, body):
    assert_problem(post(server, user, body), 400)
    assert tasks(server, user) == []


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "latin-1"])
def test_body_is_utf_8_whatever_the_charset_parameter_says(server, user, charset):
    body = '{"title": "é"}'.encode()

    answer = post(server, user, body, **{"Content-Type": f"application/json; charset={charset}"})

    assert (answer.status_code, answer.get_json()["title"]) == (201, "é")


@pytest.mark.parametrize("member", ["title", "description"])
def test_string_with_a_nul_character_is_422(server, user, member):
    problem = assert_problem(post(server, user, {"title": "x"} | {member: "a\0b"}), 422)

    assert [error["pointer"] for error in problem["errors"]] == [f"#/{member}"]
    assert tasks(server, user) == []


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")], ids=["arrays", "objects"])
@pytest.mark.parametrize(("levels", "status"), [(100, 201), (101, 400), (10_000, 400)])
def test_body_nested_more_than_100_deep_is_400(server, user, opening, closing, levels, status):
    # The body itself is the first level.
    inner = opening * (levels - 1) + (b"1" if closing == b"}" else b"") + closing * (levels - 1)

    answer = post(server, user, b'{"title": "x", "extra": ' + inner + b"}")

    if status == 201:
        assert answer.status_code == 201
    else:
        assert_problem(answer, status)
    assert len(tasks(server, user)) == (status == 201)


@pytest.mark.parametrize("task", [2**63, 2**64, -(2**63) - 1, 10**100, 10**3000], ids=lambda n: f"{len(str(n))}-digits")
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_id_beyond_64_bits_is_404(server, user, method, task):
    body = {"title": "x"} if method in ("PUT", "PATCH") else None

    assert_problem(server.call(method, f"/api/me/tasks/{task}", bearer(user), body), 404)


@pytest.mark.parametrize("task", [2**63 - 1, -(2**63), 0, -1])
def test_id_of_64_bits_that_nobody_has_is_404(server, user, task):
    assert_problem(server.call("GET", f"/api/me/tasks/{task}", bearer(user)), 404, "Task not found")


def test_authorization_sent_twice_is_401(server, user):
    good = ("Authorization", bearer(user)["Authorization"])

    for other in (good, ("Authorization", "Basic dTpw"), ("Authorization", "Bearer x")):
        for headers in ([good, other], [other, good]):
            assert_problem(server.call("GET", "/api/me/tasks", headers), 401)


def token_of(user: str, size: int) -> str:
    """Return a valid token of at least this size, and hardly more."""
    payload = claims(user, filler="")
    # Three bytes of a claim are four characters of the token.
    token = sign(payload | {"filler": "x" * -(-(size - len(sign(payload))) * 3 // 4)})
    assert size <= len(token) < size + 4
    return token


@pytest.mark.parametrize("size", [8193, 9000, 9 * 1024], ids=["8193-bytes", "9000-bytes", "9-KiB"])
def test_token_over_8_kib_is_401_even_when_it_is_genuine(server, user, size):
    authorization = f"Bearer {token_of(user, size)}"

    assert_problem(server.call("GET", "/api/me/tasks", {"Authorization": authorization}), 401, "Invalid token")


def test_token_of_nearly_8_kib_is_accepted(server, user):
    authorization = f"Bearer {token_of(user, 8188)}"

    assert server.call("GET", "/api/me/tasks", {"Authorization": authorization}).status_code == 200


@pytest.mark.parametrize("size", [1_000_000, 8_000_000])
def test_client_that_sends_all_before_it_reads_still_gets_its_413(server, user, size):
    answer = server.call("POST", "/api/me/tasks", bearer(user), b"x" * size)

    assert_problem(answer, 413)
