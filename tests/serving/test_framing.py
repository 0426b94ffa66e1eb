"""The end of a request, in whatever pieces its bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todo.http.body import BODY_MAX_BYTES, DISCARD_MAX_BYTES
from todo.serving.framing import CHUNK_LINE_MAX_BYTES, HEAD_MAX_BYTES, KEPT_MAX_BYTES, Message

GET = b"GET /api/me/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/me/tasks HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def with_length(body: bytes, name: bytes = b"Content-Length") -> bytes:
    return POST + b"%b: %d\r\n\r\n" % (name, len(body)) + body


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%X%b\r\n%b\r\n" % (len(data), extension, data)


bodies = st.binary(max_size=200) | st.sampled_from([b"\r\n\r\n", b"\r\n0\r\n\r\n", b"0\r\n\r\n", GET])
chunked = st.builds(
    lambda pieces, extension, trailers: (
        CHUNKED + b"".join(chunk(piece, extension) for piece in pieces if piece) + b"0\r\n" + trailers + b"\r\n"
    ),
    st.lists(bodies, max_size=4),
    st.sampled_from([b"", b";a=b", b' ; a="\r"']),
    st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: 1\r\nB: 2\r\n"]),
)
requests = (
    st.just(GET) | st.builds(with_length, bodies, st.sampled_from([b"Content-Length", b"content-length"])) | chunked
)


@given(requests, st.sampled_from([b"", b"G", GET, GET + GET]), st.data())
def test_message_in_any_pieces_ends_where_the_request_ends(request, following, data):
    message = Message()
    sent = request + following
    while sent:
        assert message.is_ready == (len(request + following) - len(sent) >= len(request))
        size = data.draw(st.integers(1, len(sent)))
        message.feed(sent[:size])
        sent = sent[size:]

    assert message.is_ready
    assert message.has_head
    assert (message.request(), message.rest()) == (request, following)
    assert not message.is_shortened


def test_message_created_with_a_whole_request_is_ready():
    message = Message(GET + b"G")

    assert message.is_ready
    assert (message.request(), message.rest()) == (GET, b"G")
    assert Message(message.rest()).is_ready is False


@pytest.mark.parametrize("piece", [1000, 70_000, 10**6], ids=["small-pieces", "big-pieces", "one-piece"])
def test_message_with_a_body_over_the_limit_keeps_only_enough_to_show_that(piece):
    whole = with_length(b"x" * 200_000)
    message = Message()
    for at in range(0, len(whole), piece):
        assert not message.is_ready
        message.feed(whole[at : at + piece])
        assert len(message.data) <= len(POST) + 30 + KEPT_MAX_BYTES + piece
    message.feed(GET)

    assert message.is_ready
    assert message.rest() == GET
    assert len(message.request()) > len(POST) + BODY_MAX_BYTES
    assert message.is_shortened == (piece < 200_000)


def test_message_with_a_body_too_large_to_discard_is_ready_when_that_shows():
    message = Message(POST + b"Content-Length: %d\r\n\r\n" % (DISCARD_MAX_BYTES + 1))
    message.feed(b"x" * BODY_MAX_BYTES)
    assert not message.is_ready
    message.feed(b"x")

    assert message.is_ready
    assert message.size is None
    assert message.rest() == b""


@pytest.mark.parametrize("size", [1000, 10**6], ids=["many-chunks", "one-chunk"])
def test_message_with_chunks_over_the_limit_is_ready_when_that_shows(size):
    message = Message(CHUNKED)
    fed = 0
    while not message.is_ready:
        piece = chunk(b"x" * size)[:200_000]
        fed += len(piece)
        message.feed(piece)

    assert BODY_MAX_BYTES < fed <= BODY_MAX_BYTES + 200_000
    assert message.size is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(CHUNKED + b"zz\r\n", id="no-size"),
        pytest.param(CHUNKED + b"-1\r\n", id="negative-size"),
        pytest.param(CHUNKED + b"1" * 16 + b"\r\n", id="size-too-long"),
        pytest.param(CHUNKED + b"1;" + b"x" * CHUNK_LINE_MAX_BYTES, id="endless-extension"),
        pytest.param(CHUNKED + b"0\r\n" + b"x" * (HEAD_MAX_BYTES + 1), id="endless-trailers"),
        pytest.param(POST + b"Content-Length: many\r\n\r\n", id="no-length"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", id="negative-length"),
        pytest.param(POST + b"Content-Length: %d\r\n\r\n" % 10**18, id="length-too-long"),
    ],
)
def test_message_that_cannot_be_valid_is_ready_at_once_and_no_other_may_follow_it(data):
    message = Message(data)

    assert message.is_ready
    assert message.size is None
    assert message.request() == data


def test_message_whose_head_does_not_end_is_too_large():
    message = Message(b"GET / HTTP/1.1\r\nX: ")
    while not message.is_ready:
        assert not message.is_too_large
        message.feed(b"x" * 1000)

    assert message.is_too_large
    assert len(message.data) <= HEAD_MAX_BYTES + 1000


@pytest.mark.parametrize(
    ("expected", "wants"), [(b"100-continue", True), (b"100-Continue ", True), (b"tea", False)], ids=repr
)
def test_message_reports_whether_its_client_waits_for_100_continue(expected, wants):
    assert Message(POST + b"Expect: %b\r\nContent-Length: 1\r\n\r\n" % expected).wants_continue is wants
