"""The end of a request, in whatever pieces its bytes arrive, and in whatever way they are malformed."""

import os
import random
import re
import tracemalloc
from pathlib import Path

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from todo.http.body import BODY_MAX_BYTES, DISCARD_MAX_BYTES, IMPORT_MAX_BYTES, LONGER_BODIES
from todo.serving.framing import CHUNK_LINE_MAX_BYTES, FRAMING_MAX_BYTES, HEAD_MAX_BYTES, Message

KIB = 1024

# A longer search by hand: FRAMING_MUTATIONS=400000 .venv/bin/pytest --timeout=0 tests/serving -k mutated
MUTATIONS = int(os.environ.get("FRAMING_MUTATIONS", "3000"))

GET = b"GET /api/me/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/me/tasks HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


LONGER = [
    pytest.param(b"%b%b" % (route.replace("<user_id>", user).encode(), end), max_bytes, id=f"{route} {user} {end}")
    for route, max_bytes in LONGER_BODIES.items()
    for user, end in (("me", b""), ("user%2D1", b"/"), ("%C3%A9", b"?q=%2F#x"))
]
BATCH_MAX_BYTES = LONGER_BODIES["/api/<user_id>/tasks/batch"]


def with_length(body: bytes, name: bytes = b"Content-Length") -> bytes:
    return POST + b"%b: %d\r\n\r\n" % (name, len(body)) + body


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%X%b\r\n%b\r\n" % (len(data), extension, data)


@pytest.fixture(scope="module")
def configuration():
    """Return the configuration of gunicorn's parser in production."""
    text = (Path(__file__).parents[2] / "gunicorn.conf.py").read_text()
    config = Config()
    for name, value in re.findall(r"^(limit_request_\w+) = (\d+)$", text, re.MULTILINE):
        config.set(name, int(value))
    config.set("secure_scheme_headers", {})
    config.set("forwarder_headers", "")
    return config


def parsed(configuration, data):
    """Return the requests that gunicorn's parser finds in these bytes, up to the first fault.

    Each is its method, its target, its header fields and its body.
    """
    found = []
    unreader = IterUnreader(data[at : at + 8192] for at in range(0, len(data), 8192))
    try:
        while True:
            request = Request(configuration, unreader, ("127.0.0.1", 1))
            body = request.body.read()
            if len(body) < int(dict(request.headers).get("CONTENT-LENGTH", 0)):
                break
            found.append((request.method, request.uri, request.headers, body))
    except Exception:  # noqa: BLE001 (the parser has many, and StopIteration at the end)
        pass
    return found


def served(configuration, pieces):
    """Return the requests that are served when these pieces arrive, as the worker serves them."""
    found = []
    message = Message()
    for piece in pieces:
        message.feed(piece)
        while message.is_ready:
            handed_on = parsed(configuration, message.request())
            # There is one response to one message, whatever is in it.
            assert len(handed_on) <= 1
            if message.size is None or not handed_on:
                return found
            found += handed_on
            message = Message(message.rest())
    return found


bodies = st.binary(max_size=200) | st.sampled_from([b"\r\n\r\n", b"\r\n0\r\n\r\n", b"0\r\n\r\n", GET])
chunked = st.builds(
    lambda pieces, extension, trailers: (
        CHUNKED + b"".join(chunk(piece, extension) for piece in pieces if piece) + b"0\r\n" + trailers + b"\r\n"
    ),
    st.lists(bodies, max_size=4),
    st.sampled_from([b"", b";a=b", b' ; a="\t;\\""']),
    st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: 1\r\nB: 2\r\n"]),
)
requests = (
    st.just(GET) | st.builds(with_length, bodies, st.sampled_from([b"Content-Length", b"content-length"])) | chunked
)


@given(requests, st.sampled_from([b"", b"G", GET, GET + GET]), st.data())
def test_message_in_any_pieces_ends_where_the_request_ends(configuration, request, following, data):
    message = Message()
    sent = request + following
    while sent:
        assert message.is_ready == (len(request + following) - len(sent) >= len(request))
        size = data.draw(st.integers(1, len(sent)))
        message.feed(sent[:size])
        sent = sent[size:]

    assert message.is_ready
    assert message.has_head
    assert not message.is_last
    assert (parsed(configuration, message.request()), message.rest()) == (parsed(configuration, request), following)
    assert len(parsed(configuration, request)) == 1
    assert b"chunked" in request or message.request() == request
    assert not message.is_shortened


def test_message_created_with_a_whole_request_is_ready():
    message = Message(GET + b"G")

    assert message.is_ready
    assert (message.request(), message.rest()) == (GET, b"G")
    assert Message(message.rest()).is_ready is False


IMPORTS = [
    "/api/me/import",
    "/api/me/import/",
    "/api/a%2Db/import?zone=UTC",
    "http://localhost/api/me/import",
    "/api/me/%69mport",
]
OTHERS = [
    "/api/me/tasks",
    "/api/a/b/import",
    "/api/a%2Fb/import",
    "/api//import",
    "/import",
    "/api/me/import/x",
    "/api/me?/api/me/import",
]


@pytest.mark.parametrize(
    ("target", "limit"),
    [*((target, IMPORT_MAX_BYTES) for target in IMPORTS), *((target, BODY_MAX_BYTES) for target in OTHERS)],
)
@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_limit_of_a_body_is_that_of_its_route(target, limit, before):
    head = before + b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % target.encode()
    assert not Message(head + b"Content-Length: %d\r\n\r\n" % limit).is_shortened
    assert Message(head + b"Content-Length: %d\r\n\r\n" % (limit + 1)).is_shortened
    message = Message(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (limit + 1))
    assert len(message.request().partition(b"\r\n\r\n")[2]) > limit


@pytest.mark.parametrize("length", [BODY_MAX_BYTES + 1, DISCARD_MAX_BYTES])
def test_message_with_a_length_over_the_limit_is_ready_at_once_and_its_body_is_discarded(length):
    head = POST + b"Content-Length: %d\r\n\r\n" % length
    message = Message(head)

    assert message.is_ready
    assert message.is_shortened
    assert not message.is_last
    assert message.missing == length
    assert (message.request(), message.rest()) == (head, b"")
    while message.missing:
        assert message.size is None
        message.feed(b"x" * min(message.missing, 64 * KIB) + GET * (message.missing <= 64 * KIB))
        assert len(message.data) <= len(head + GET)
    assert (message.request(), message.rest()) == (head, GET)


@pytest.mark.parametrize("arrived", [1, 70_000, 200_000, 200_010])
def test_message_with_a_length_over_the_limit_leaves_out_what_has_arrived_of_its_body(arrived):
    sent = with_length(b"x" * 200_000) + GET
    head = sent[: sent.index(b"x")]
    message = Message(sent[: len(head) + arrived])

    assert message.is_ready
    assert message.request() == head
    assert message.missing == max(0, 200_000 - arrived)
    assert message.rest() == GET[: max(0, arrived - 200_000)]


@pytest.mark.parametrize(
    ("length", "field"),
    [
        pytest.param(DISCARD_MAX_BYTES + 1, b"", id="too-large-to-discard"),
        pytest.param(BODY_MAX_BYTES + 1, b"Expect: 100-continue\r\n", id="perhaps-never-sent"),
    ],
)
def test_message_whose_body_is_not_waited_for_is_the_last(length, field):
    head = POST + field + b"Content-Length: %d\r\n\r\n" % length
    message = Message(head + b"x" * 1000)

    assert message.is_ready
    assert message.is_last
    assert (message.request(), message.rest()) == (head, b"")


TOO_LARGE = {
    "declared": chunk(b"x" * 300_000)[:10],
    "declared-second": chunk(b"x" * 60_000) + b"%x\r\n" % 10_000,
    "declared-with-many-digits": b"f" * 1000 + b"\r\n",
    "many-chunks": chunk(b"x" * 1000) * 66,
    "one-byte-chunks": chunk(b"x") * 70_000,
    "extensions": chunk(b"x", b";" + b"e" * 4000) * 65_000,
    "trailers": b"0\r\n" + (b"A: " + b"x" * 4000 + b"\r\n") * 20,
}


@pytest.mark.parametrize("body", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("piece", [977, 64 * KIB])
def test_message_with_chunks_over_a_limit_is_ready_when_that_shows(configuration, body, piece):
    message = Message(CHUNKED)
    fed = 0
    while not message.is_ready:
        message.feed(body[fed : fed + piece])
        fed += piece
        # What is decoded is kept, what is not is at most a line and what arrived last.
        assert len(message.data) <= len(CHUNKED) + CHUNK_LINE_MAX_BYTES + 2

    assert fed <= BODY_MAX_BYTES + FRAMING_MAX_BYTES + CHUNK_LINE_MAX_BYTES + piece
    assert message.is_last
    assert message.rest() == b""
    ((*_, content),) = parsed(configuration, message.request())
    assert len(content) == BODY_MAX_BYTES + 1


@pytest.mark.parametrize("body", TOO_LARGE.values(), ids=TOO_LARGE)
def test_message_holds_at_most_what_the_limits_allow(body):
    """Counted by the allocator, with the piece that arrives."""
    tracemalloc.start()
    try:
        message = Message(POST + b"X: %b\r\n" % (b"x" * 60_000) + CHUNKED[len(POST) :])
        before, _ = tracemalloc.get_traced_memory()
        for at in range(0, len(body), 64 * KIB):
            if not message.is_ready:
                message.feed(body[at : at + 64 * KIB])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert before < 130 * KIB
    assert peak < 420 * KIB


@pytest.mark.parametrize("size", [1000, 64 * KIB])
def test_message_with_a_longer_body_holds_at_most_what_the_limits_allow(size):
    head = POST.replace(b"tasks", b"tasks/batch") + b"X: %b\r\n" % (b"x" * 60_000) + CHUNKED[len(POST) :]
    tracemalloc.start()
    try:
        message = Message(head)
        while not message.is_ready:
            message.feed(chunk(b"x" * size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # The content grows in steps, and what stands for a body that is too large is made while it is still there.
    assert peak < 2 * BATCH_MAX_BYTES + 420 * KIB
    assert message.held <= BATCH_MAX_BYTES + 64 * KIB


def test_message_at_the_limits_of_a_chunked_body_is_accepted(configuration):
    number = FRAMING_MAX_BYTES // (CHUNK_LINE_MAX_BYTES + 4)
    extension = b";" + b"e" * (CHUNK_LINE_MAX_BYTES - 2)
    sent = chunk(b"x", extension) * number + chunk(b"x" * (BODY_MAX_BYTES - number)) + b"0\r\n\r\n"
    message = Message(CHUNKED + sent + GET)

    assert (message.is_ready, message.rest()) == (True, GET)
    ((*_, content),) = parsed(configuration, message.request())
    assert content == b"x" * BODY_MAX_BYTES


OTHER_SPELLINGS = [b"/api/me/tasks/b%61tch", b"http://localhost/api/me/tasks/batch", b"/api/me/tasks%2fbatch"]
LONGER += [pytest.param(target, BATCH_MAX_BYTES, id=target.decode()) for target in OTHER_SPELLINGS]
ORDINARY = [
    b"/api/me/tasks",
    b"/api/me/tasks/batch/1",
    b"/api/a/b/tasks/batch",
    b"//api/me/tasks/batch",
    b"http://[",
    b"*",
]
LONGER += [pytest.param(target, BODY_MAX_BYTES, id=target.decode()) for target in ORDINARY]


@pytest.mark.parametrize(("target", "max_bytes"), LONGER)
@pytest.mark.parametrize("before", [b"", b"\r\n"], ids=["", "an-empty-line-first"])
def test_message_has_the_limit_of_its_route(before, target, max_bytes):
    head = before + b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % target
    for size in (max_bytes, max_bytes + 1):
        whole = Message(head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        in_chunks = Message(head + CHUNKED[len(POST) :] + chunk(b"x" * size) + b"0\r\n\r\n")
        assert whole.is_ready
        assert in_chunks.is_ready
        assert whole.is_shortened == in_chunks.is_last == (size > max_bytes)
        assert len(in_chunks.request()) > size


@pytest.mark.parametrize("line", [b"", b"POST", b"POST ", b"POST  HTTP/1.1"])
def test_message_with_a_malformed_request_line_has_the_ordinary_limit(line):
    message = Message(line + b"\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX_BYTES + 1))

    assert message.is_shortened == message.has_head


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"zz\r\n", id="no-size"),
        pytest.param(b"-1\r\n", id="negative-size"),
        pytest.param(b"\r\n", id="empty-line"),
        pytest.param(b"1 \r\n", id="space-after-the-size"),
        pytest.param(b"1;\r\n", id="extension-without-name"),
        pytest.param(b"1;a=\r\n", id="extension-without-value"),
        pytest.param(b'1;a="\r\n', id="extension-in-open-quotes"),
        pytest.param(b"1;a\rb\r\n", id="bare-cr"),
        pytest.param(b"1;a\n\r\n", id="bare-lf"),
        pytest.param(b"1;" + b"x" * CHUNK_LINE_MAX_BYTES, id="endless-extension"),
        pytest.param(b"1;" + b"x" * CHUNK_LINE_MAX_BYTES + b"\r\nx\r\n0\r\n\r\n", id="long-line-that-came-whole"),
        pytest.param(b"1\r\nxyz", id="chunk-that-goes-on"),
        pytest.param(b"1\r\nx\n0", id="chunk-that-ends-with-lf"),
        pytest.param(b"0\r\n" + b"x" * (HEAD_MAX_BYTES + 1), id="endless-trailers"),
        pytest.param(b"0\r\nX: " + b"x" * CHUNK_LINE_MAX_BYTES + b"\r\n\r\n", id="long-trailer-that-came-whole"),
        pytest.param(b"0\r\nno field\r\n", id="trailer-without-name"),
        pytest.param(b"0\r\nX : 1\r\n", id="space-in-the-name-of-a-trailer"),
        pytest.param(b"0\r\nX: 1\r\n 2\r\n", id="folded-trailer"),
        pytest.param(b"0\r\nX: \x00\r\n", id="trailer-with-nul"),
        pytest.param(b"0\r\ncontent-length: 5\r\n", id="length-in-a-trailer"),
        pytest.param(b"0\r\nHost: x\r\n", id="host-in-a-trailer"),
    ],
)
def test_message_in_malformed_chunks_is_ready_at_once_and_the_last(configuration, body):
    before = chunk(b"before")
    message = Message(CHUNKED + before + body + GET)

    assert message.is_ready
    assert message.is_last
    assert message.rest() == b""
    # The parser refuses what it gets, and it gets what came before.
    assert message.request().startswith(CHUNKED)
    assert message.request().endswith(b"\r\n?\r\n")
    assert b"before" in message.request()
    assert parsed(configuration, message.request()) == []
    assert parsed(configuration, CHUNKED + before + body)[1:] == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"Content-Length: many\r\n", id="no-length"),
        pytest.param(b"Content-Length: -1\r\n", id="negative-length"),
        pytest.param(b"Content-Length: %d\r\n" % 10**18, id="length-too-long"),
        pytest.param(b"Content-Length: 5\r\nContent-Length: 5\r\n", id="two-lengths"),
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="length-and-chunks"),
        pytest.param(b"Transfer-Encoding: gzip, chunked\r\n", id="another-coding"),
        pytest.param(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", id="another-coding-in-a-field"),
        pytest.param(b"Transfer-Encoding: chunked, chunked\r\n", id="chunked-twice"),
        pytest.param(b"Transfer-Encoding: identity\r\n", id="identity"),
    ],
)
def test_message_whose_body_has_no_agreed_end_is_ready_at_once_and_the_last(fields):
    message = Message(POST + fields + b"\r\n" + b"0\r\n\r\n" + GET)

    assert message.is_ready
    assert message.is_last
    assert (message.request(), message.rest()) == (POST + fields + b"\r\n", b"")


@pytest.mark.parametrize("body", [b"", b"6", b"6\r\n{}", b"6\r\n{}    \r", b"6\r\n{}    \r\n0\r\nX: 1\r\n"])
def test_message_whose_chunks_break_off_is_refused_by_the_parser(configuration, body):
    message = Message()
    for at in range(len(CHUNKED + body)):
        message.feed((CHUNKED + body)[at : at + 1])

    assert not message.is_ready
    assert message.is_last
    assert parsed(configuration, message.request()) == []


def test_message_whose_head_does_not_end_is_too_large():
    message = Message(b"GET / HTTP/1.1\r\nX: ")
    while not message.is_ready:
        assert not message.is_too_large
        message.feed(b"x" * 1000)

    assert message.is_too_large
    assert len(message.data) == HEAD_MAX_BYTES


@pytest.mark.parametrize(("excess", "is_too_large"), [(0, False), (1, True), (10**6, True)])
def test_message_whose_head_came_whole_has_the_same_limit(excess, is_too_large):
    begin, end = b"GET / HTTP/1.1\r\nX: ", b"\r\n\r\n"
    message = Message(begin + b"x" * (HEAD_MAX_BYTES - len(begin + end) + excess) + end + GET)

    assert message.is_ready
    assert message.is_too_large == is_too_large
    assert message.has_head != is_too_large
    assert len(message.request()) == HEAD_MAX_BYTES
    assert message.rest() == (b"" if is_too_large else GET)


@pytest.mark.parametrize(
    ("expected", "wants"), [(b"100-continue", True), (b"100-Continue ", True), (b"tea", False)], ids=repr
)
def test_message_reports_whether_its_client_waits_for_100_continue(expected, wants):
    assert Message(POST + b"Expect: %b\r\nContent-Length: 1\r\n\r\n" % expected).wants_continue is wants


@pytest.mark.parametrize("before", [b"", b"\r\n"], ids=["first-line", "second-line"])
def test_expectation_of_http_1_0_is_ignored(before):
    """RFC 9110, section 10.1.1."""
    head = before + POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"

    assert not Message(head).wants_continue


@given(st.lists(requests, min_size=1, max_size=3), st.data())
def test_requests_in_any_pieces_are_served_as_the_parser_reads_them(configuration, sent, data):
    whole = b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))

    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert served(configuration, pieces) == parsed(configuration, whole)
    assert len(parsed(configuration, whole)) == len(sent)


WORDS = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b"_",
        b'"',
        b"=",
        b"\\",
        b"\x00",
        b"\x0b",
        b"\x85",
        b"\xff",
    ),
    *(b"0", b"1", b"5", b"a", b"-", b"+", b"0x", b"00000000000000000005", b"0\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 70000\r\n", b"content-length", b";a=b"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"chunked", b"gzip, ", b", identity"),
    *(b"Expect: 100-continue\r\n", b"HTTP/1.0", b"HTTP/1.1", b"Connection: close\r\n", b"Host: b\r\n", b"X: y\r\n"),
    *(GET, POST, CHUNKED, b"\r\n\r\n", b"ffffffff", b"fffffffffffffffffff", b"10001"),
]
SEEDS = [
    GET,
    with_length(b"hello"),
    with_length(GET),
    CHUNKED + chunk(b"hello", b";a=b") + chunk(GET) + b"0\r\n\r\n",
    CHUNKED + chunk(b"0\r\n\r\n", b' ; a="b;c"') + b"0;x\r\nX: 1\r\n\r\n",
]


def mutated(choice):
    """Return a stream of requests with some faults in it."""
    data = bytearray(b"".join(choice.choices(SEEDS, k=choice.randint(1, 3))))
    for _ in range(choice.randint(1, 4)):
        at = choice.randrange(len(data) + 1)
        end = at + choice.choice([1, 1, 2, 5, 30])
        match choice.randrange(5):
            case 0:
                data[at:at] = choice.choice(WORDS)
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = choice.choice(WORDS)
            case 3:
                data[at:at] = data[choice.randrange(len(data) + 1) :][: end - at]
            case _:
                data[at:end] = data[at:end].swapcase()
    return bytes(data)


def test_mutated_requests_are_served_as_the_parser_reads_them_or_not_at_all(configuration):
    """What one of the two takes for a body, the other never takes for a request."""
    number_served = 0
    for seed in range(MUTATIONS):
        choice = random.Random(seed)
        data = mutated(choice)
        at = choice.randrange(len(data) + 1)

        found = served(configuration, [data[:at], data[at:]])

        assert found == parsed(configuration, data)[: len(found)], (seed, data)
        number_served += len(found)
    # Enough of them are valid, so that the comparison means something.
    assert number_served > MUTATIONS // 2
