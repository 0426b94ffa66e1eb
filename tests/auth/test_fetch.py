"""One GET: what comes back, and what is said of everything that is no good answer."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from fakes.certificates import self_signed, server_context

from todo.auth import fetch
from todo.auth.fetch import BODY_MAX_BYTES, CertificateRefused, Fetched, FetchFailed

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"

# Far more than any deadline in this file, and far less than a trickle would take to its end.
SOON_S = 5

Behaviour = Callable[[socket.socket], None]
Serve = Callable[..., str]


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Give the bytes of an answer; what it says of its length is in the headers."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def sized(body: bytes, *headers: str) -> bytes:
    return answer(body, f"Content-Length: {len(body)}", *headers)


def chunked(body: bytes) -> bytes:
    return answer(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked")


def say(data: bytes) -> Behaviour:
    return lambda line: line.sendall(data)


def be_silent(line: socket.socket) -> None:
    """Wait until the client gives up."""
    line.recv(1)


def trickle(data: bytes, at_once: int) -> Behaviour:
    def drip(line: socket.socket) -> None:
        line.sendall(data[:at_once])
        for n in range(at_once, len(data)):
            time.sleep(0.05)
            line.sendall(data[n : n + 1])

    return drip


def reset_after(data: bytes) -> Behaviour:
    def reset(line: socket.socket) -> None:
        line.sendall(data)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return reset


def _serve_one(listener: socket.socket, behave: Behaviour, tls: ssl.SSLContext | None, requests: list[bytes]) -> None:
    # A client may go whenever it likes, and so may one that does not trust us.
    with suppress(OSError):
        line, _ = listener.accept()
        with line if tls is None else tls.wrap_socket(line, server_side=True) as talking:
            head = b""
            # What does not begin like a request, such as the greeting of TLS, is answered at once.
            while head[:3] in (b"", b"GET") and not head.endswith(b"\r\n\r\n") and (data := talking.recv(65536)):
                head += data
            requests.append(head)
            behave(talking)


@pytest.fixture
def requests() -> list[bytes]:
    """Give the heads of the requests that came."""
    return []


@pytest.fixture
def serve(requests: list[bytes]) -> Iterator[Serve]:
    """Give a way to start servers that take one connection each."""
    with ExitStack() as stack:

        def start(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            serving = threading.Thread(target=_serve_one, args=(listener, behave, tls, requests), daemon=True)
            serving.start()
            stack.callback(serving.join, SOON_S)
            return f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}/api/auth/jwks"

        yield start


@pytest.fixture
def hurried(monkeypatch) -> None:
    """Make the deadline one that a test can wait for."""
    monkeypatch.setattr(fetch, "DEADLINE_S", 0.3)


def assert_fails(url: str, message: str) -> None:
    """Assert that nothing useful comes, that this is said of it, and that it does not take long."""
    started = time.monotonic()
    with pytest.raises(FetchFailed) as failed:
        fetch.get(url)
    assert str(failed.value) == message
    assert time.monotonic() - started < SOON_S


def test_get_good_answer_gives_the_body_and_the_date(serve):
    assert fetch.get(serve(say(sized(b'{"keys": []}', f"Date: {DATE}")))) == Fetched(b'{"keys": []}', DATE)


def test_get_answer_without_a_date_gives_none(serve):
    assert fetch.get(serve(say(sized(b"{}")))) == Fetched(b"{}", None)


def test_get_asks_once_and_plainly(serve, requests):
    url = serve(say(sized(b"{}")))

    fetch.get(f"{url}?fresh=1")

    line, *headers = requests[0].decode().split("\r\n")
    assert line == "GET /api/auth/jwks?fresh=1 HTTP/1.1"
    assert {f"Host: {url.split('/')[2]}", "Accept: application/json", "Accept-Encoding: identity"} <= set(headers)
    assert not any(header.startswith(("Authorization", "Cookie")) for header in headers)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(chunked(b"{}"), id="chunked"),
        pytest.param(sized(b"{}", "Connection: close"), id="length-and-close"),
        pytest.param(answer(b"{}"), id="until-the-end-of-the-connection"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n{}", id="http-1.0"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"{}"), id="continue-first"),
    ],
)
def test_get_understands_every_way_to_say_where_a_body_ends(serve, data):
    assert fetch.get(serve(say(data))).body == b"{}"


def test_get_answer_in_many_pieces_is_put_together(serve):
    assert fetch.get(serve(trickle(sized(b"{}", "Connection: close"), 50))).body == b"{}"


def sized_and_closed(body: bytes) -> bytes:
    return sized(body, "Connection: close")


@pytest.mark.parametrize("shape", [sized, sized_and_closed, chunked, answer], ids=lambda shape: shape.__name__)
def test_get_exactly_the_limit_is_taken_and_a_byte_more_is_not(serve, shape):
    body = b"x" * BODY_MAX_BYTES

    assert fetch.get(serve(say(shape(body)))).body == body
    assert_fails(serve(say(shape(body + b"x"))), "the answer is over 256 KiB")


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "204 No Content", "401 Unauthorized"])
def test_get_any_status_but_200_fails_and_is_named(serve, status):
    assert_fails(serve(say(answer(b"{}", status=status))), f"status {status[:3]}, expected 200")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_get_redirect_is_not_followed(serve, status):
    with socket.create_server(("127.0.0.1", 0)) as target:
        location = f"Location: http://127.0.0.1:{target.getsockname()[1]}/"

        assert_fails(serve(say(answer(b"", location, status=status))), f"status {status[:3]}, expected 200")

        target.setblocking(False)
        with pytest.raises(BlockingIOError):
            target.accept()


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(be_silent, id="silence"),
        pytest.param(trickle(sized(b"x" * 1000), 0), id="trickle-of-headers"),
        pytest.param(trickle(sized(b"x" * 1000), 50), id="trickle-of-the-body"),
        pytest.param(trickle(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 90 + b"\r\n", 20), id="trickle-of-many-headers"),
        pytest.param(trickle(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0), id="trickle-of-continues"),
    ],
)
def test_get_slow_answer_ends_at_the_one_deadline(serve, hurried, behave):
    assert_fails(serve(behave), "no complete answer within 0.3 s")


def test_get_silence_where_tls_should_be_ends_at_the_deadline(serve, hurried):
    assert_fails(serve(be_silent).replace("http:", "https:"), "no complete answer within 0.3 s")


def test_get_deadline_that_is_over_before_the_connection_asks_nobody(monkeypatch):
    monkeypatch.setattr(fetch, "DEADLINE_S", 0)

    assert_fails("http://127.0.0.1:1/", "no complete answer within 0 s")


@pytest.fixture
def deaf() -> Iterator[int]:
    """Give a port of 127.0.0.2 that answers no attempt to connect: its queue is full, and nobody empties it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def resolve(monkeypatch) -> Callable[..., None]:
    """Give a way to say which addresses the name dual.invalid has."""
    ask = socket.getaddrinfo

    def set_addresses(*addresses: str) -> None:
        def getaddrinfo(host, port, *rest, **options):
            hosts = addresses if host == "dual.invalid" else [host]
            return [found for one in hosts for found in ask(one, port, *rest, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return set_addresses


@pytest.mark.slow
def test_get_host_whose_first_address_is_deaf_is_reached_by_the_second(monkeypatch, deaf, resolve, requests):
    monkeypatch.setattr(fetch, "DEADLINE_S", 2)
    resolve("127.0.0.2", "127.0.0.1")
    with socket.create_server(("127.0.0.1", deaf)) as listener:
        serving = threading.Thread(target=_serve_one, args=(listener, say(sized(b"{}")), None, requests), daemon=True)
        serving.start()

        assert fetch.get(f"http://dual.invalid:{deaf}/").body == b"{}"

        serving.join(SOON_S)


def test_get_host_whose_addresses_are_all_deaf_ends_at_the_one_deadline(monkeypatch, deaf, resolve):
    monkeypatch.setattr(fetch, "DEADLINE_S", 0.5)
    resolve(*["127.0.0.2"] * 40)

    assert_fails(f"http://dual.invalid:{deaf}/", "no complete answer within 0.5 s")


def test_get_port_where_nobody_listens_says_so():
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]

    assert_fails(f"http://127.0.0.1:{port}/", "connection refused")


def test_get_name_that_does_not_resolve_says_something_of_the_name():
    with pytest.raises(FetchFailed, match="name"):
        fetch.get("http://issuer.invalid/api/auth/jwks")


@pytest.mark.parametrize("path", ["/two words", "/schlüssel"])
def test_get_path_that_http_has_no_words_for_says_so(serve, path):
    assert_fails(serve(be_silent) + path, "the address is none that can be asked")


def test_get_host_that_dns_has_no_words_for_says_so():
    assert_fails(f"http://{'a' * 64}.invalid/", "the address is none that can be asked")


@pytest.mark.parametrize("sent", [b"", sized(b"x" * 1000)[:500]], ids=["at-once", "in-the-body"])
def test_get_reset_connection_says_so(serve, sent):
    assert_fails(serve(reset_after(sent)), "connection reset by peer")


def test_get_connection_that_closes_without_a_word_says_so(serve):
    assert_fails(serve(say(b"")), "the connection was closed without an answer")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(sized(b"x" * 1000)[:-1], id="length"),
        pytest.param(sized(b"x" * 1000)[:-1000], id="length-and-no-body"),
        pytest.param(sized(b'{"keys": []}  ')[:-2], id="length-of-good-json"),
        pytest.param(chunked(b"x" * 1000)[:-100], id="chunk"),
        pytest.param(chunked(b"{}")[:-5], id="last-chunk"),
    ],
)
def test_get_answer_that_is_cut_short_is_none(serve, data):
    assert_fails(serve(say(data)), "the answer ends before its end")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine", id="another-protocol"),
        pytest.param(b"<!doctype html>\r\n\r\n", "BadStatusLine", id="html-without-a-head"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46\r\n", "BadStatusLine", id="tls-alert"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 101 + b"\r\n", "HTTPException", id="too-many-headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "LineTooLong", id="endless-header"),
    ],
)
def test_get_answer_that_is_not_http_says_so(serve, data, kind):
    assert_fails(serve(say(data)), f"the answer is not HTTP ({kind})")


def test_get_chunk_of_no_length_is_a_failure(serve):
    data = answer(b"xyz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked")

    assert_fails(serve(say(data)), "the answer ends before its end")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Give the file of a certificate that nobody vouches for."""
    return self_signed(tmp_path_factory.mktemp("certificate") / "issuer.pem")


@pytest.fixture
def tls(certificate) -> ssl.SSLContext:
    """Give what a server with that certificate speaks."""
    return server_context(certificate)


def test_get_certificate_that_nobody_vouches_for_is_refused_and_nothing_is_asked(serve, tls, requests):
    with pytest.raises(CertificateRefused, match=r"^the certificate is not good: self.signed certificate$"):
        fetch.get(serve(say(sized(b"{}")), tls=tls))

    assert requests == []


@pytest.mark.parametrize(
    "data", [sized(b"{}"), chunked(b"{}"), answer(b"{}")], ids=["length", "chunked", "until-the-end"]
)
def test_get_certificate_that_ssl_cert_file_vouches_for_is_good(serve, tls, monkeypatch, certificate, requests, data):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = serve(say(data), tls=tls)

    assert fetch.get(url).body == b"{}"
    assert f"\r\nHost: {url.split('/')[2]}\r\n".encode() in requests[0]


def test_get_good_certificate_of_another_host_is_refused(serve, tls, monkeypatch, certificate):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = serve(say(sized(b"{}")), tls=tls).replace("127.0.0.1", "localhost")

    with pytest.raises(CertificateRefused, match="Hostname mismatch"):
        fetch.get(url)


def test_get_slow_answer_over_tls_ends_at_the_one_deadline(serve, tls, monkeypatch, certificate, hurried):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    assert_fails(serve(trickle(sized(b"x" * 1000), 0), tls=tls), "no complete answer within 0.3 s")


def test_get_https_where_http_is_spoken_says_so(serve):
    with pytest.raises(FetchFailed, match=r"no TLS can be spoken there \(\w+\)"):
        fetch.get(serve(say(answer(b"", status="400 Bad Request"))).replace("http:", "https:"))


def test_get_leaves_no_connection_open(serve):
    """The other end sees the connection end as soon as the document is there, or is none."""
    ended = threading.Event()

    def answer_and_listen(line: socket.socket) -> None:
        line.sendall(chunked(b"{}"))
        if line.recv(1) == b"":
            ended.set()

    fetch.get(serve(answer_and_listen))

    assert ended.wait(SOON_S)
