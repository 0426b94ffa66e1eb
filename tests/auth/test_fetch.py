"""One GET: the response that it returns, and the failure for each unusable response."""

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
from support import UNKNOWN_HOST

from todo.auth import fetch
from todo.auth.fetch import BODY_MAX_BYTES, CertificateRefused, Fetched, FetchFailed

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"

# Far longer than any deadline in this file, and far shorter than a trickle.
SOON_S = 5

Behaviour = Callable[[socket.socket], None]
Serve = Callable[..., str]


def unsized(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return the bytes of a response, without a length unless the headers have one."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


def sized(body: bytes, *headers: str) -> bytes:
    return unsized(body, f"Content-Length: {len(body)}", *headers)


def chunked(body: bytes) -> bytes:
    return unsized(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked")


def send(data: bytes) -> Behaviour:
    return lambda connection: connection.sendall(data)


def be_silent(connection: socket.socket) -> None:
    """Wait until the client closes the connection."""
    connection.recv(1)


def trickle(data: bytes, at_once: int) -> Behaviour:
    def drip(connection: socket.socket) -> None:
        connection.sendall(data[:at_once])
        for n in range(at_once, len(data)):
            time.sleep(0.05)
            connection.sendall(data[n : n + 1])

    return drip


def reset_after(data: bytes) -> Behaviour:
    def reset(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return reset


def _serve_one(listener: socket.socket, behave: Behaviour, tls: ssl.SSLContext | None, requests: list[bytes]) -> None:
    # A client may close the connection at any time, as it does when it does not trust the certificate.
    with suppress(OSError):
        accepted, _ = listener.accept()
        with accepted if tls is None else tls.wrap_socket(accepted, server_side=True) as connection:
            head = b""
            # The response to anything but an HTTP request, such as a TLS handshake, is immediate.
            while head[:3] in (b"", b"GET") and not head.endswith(b"\r\n\r\n") and (data := connection.recv(65536)):
                head += data
            requests.append(head)
            behave(connection)


@pytest.fixture
def requests() -> list[bytes]:
    """Return the list of the heads of received requests."""
    return []


@pytest.fixture
def serve(requests: list[bytes]) -> Iterator[Serve]:
    """Yield a function that starts servers for one connection each."""
    with ExitStack() as stack:

        def start(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            serving = threading.Thread(target=_serve_one, args=(listener, behave, tls, requests), daemon=True)
            serving.start()
            stack.callback(serving.join, SOON_S)
            return f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}/api/auth/jwks"

        yield start


@pytest.fixture
def short_deadline(monkeypatch) -> None:
    """Shorten the deadline to one that a test can wait for."""
    monkeypatch.setattr(fetch, "DEADLINE_S", 0.3)


def assert_fails(url: str, message: str) -> None:
    """Assert that a fetch fails soon, with this message."""
    started = time.monotonic()
    with pytest.raises(FetchFailed) as failed:
        fetch.get(url)
    assert str(failed.value) == message
    assert time.monotonic() - started < SOON_S


def test_get_good_response_returns_the_body_and_the_date(serve):
    assert fetch.get(serve(send(sized(b'{"keys": []}', f"Date: {DATE}")))) == Fetched(b'{"keys": []}', DATE)


def test_get_response_without_a_date_returns_none(serve):
    assert fetch.get(serve(send(sized(b"{}")))) == Fetched(b"{}", None)


def test_get_sends_one_plain_request(serve, requests):
    url = serve(send(sized(b"{}")))

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
        pytest.param(unsized(b"{}"), id="until-the-end-of-the-connection"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n{}", id="http-1.0"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"{}"), id="continue-first"),
    ],
)
def test_get_response_with_any_framing_is_read_to_its_end(serve, data):
    assert fetch.get(serve(send(data))).body == b"{}"


def test_get_response_in_many_pieces_is_joined(serve):
    assert fetch.get(serve(trickle(sized(b"{}", "Connection: close"), 50))).body == b"{}"


def sized_and_closed(body: bytes) -> bytes:
    return sized(body, "Connection: close")


@pytest.mark.parametrize("shape", [sized, sized_and_closed, chunked, unsized], ids=lambda shape: shape.__name__)
def test_get_body_of_the_limit_is_accepted_and_a_byte_more_is_refused(serve, shape):
    body = b"x" * BODY_MAX_BYTES

    assert fetch.get(serve(send(shape(body)))).body == body
    assert_fails(serve(send(shape(body + b"x"))), "the response is over 256 KiB")


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "204 No Content", "401 Unauthorized"])
def test_get_any_status_but_200_fails_with_the_status(serve, status):
    assert_fails(serve(send(unsized(b"{}", status=status))), f"status {status[:3]}, expected 200")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_get_redirect_is_not_followed(serve, status):
    with socket.create_server(("127.0.0.1", 0)) as target:
        location = f"Location: http://127.0.0.1:{target.getsockname()[1]}/"

        assert_fails(serve(send(unsized(b"", location, status=status))), f"status {status[:3]}, expected 200")

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
        pytest.param(trickle(chunked(b"x" * 1000), 47), id="trickle-of-a-chunk-size"),
        pytest.param(trickle(chunked(b"{}")[:-2] + b"X: x\r\n" * 90, 57), id="trickle-of-trailers"),
    ],
)
def test_get_slow_response_ends_at_the_one_deadline(serve, short_deadline, behave):
    assert_fails(serve(behave), "no complete response within 0.3 s")


def test_get_endless_trailers_end_at_the_one_deadline(serve, short_deadline):
    """Even in a version of http.client that does not limit their number."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(chunked(b"{}")[:-2])
        while True:
            connection.sendall(b"X: x\r\n" * 1000)

    url = serve(flood)
    started = time.monotonic()
    with pytest.raises(FetchFailed):
        fetch.get(url)
    assert time.monotonic() - started < SOON_S


def test_get_trickle_of_a_tls_handshake_ends_at_the_one_deadline(serve, short_deadline):
    record = b"\x16\x03\x03\x40\x00" + bytes(1000)
    assert_fails(serve(trickle(record, 0)).replace("http:", "https:"), "no complete response within 0.3 s")


def test_get_silence_instead_of_tls_ends_at_the_deadline(serve, short_deadline):
    assert_fails(serve(be_silent).replace("http:", "https:"), "no complete response within 0.3 s")


def test_get_deadline_that_has_passed_opens_no_connection(monkeypatch):
    monkeypatch.setattr(fetch, "DEADLINE_S", 0)

    assert_fails("http://127.0.0.1:1/", "no complete response within 0 s")


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """Yield a port of 127.0.0.2 that accepts no connection: its backlog is full and never emptied."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def resolve(monkeypatch) -> Callable[..., None]:
    """Return a function that sets the addresses of the name dual.invalid."""
    ask = socket.getaddrinfo

    def set_addresses(*addresses: str) -> None:
        def getaddrinfo(host, port, *rest, **options):
            hosts = addresses if host == "dual.invalid" else [host]
            return [found for one in hosts for found in ask(one, port, *rest, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return set_addresses


@pytest.mark.slow
def test_get_host_whose_first_address_is_dead_is_reached_by_the_second(monkeypatch, deaf_port, resolve, requests):
    monkeypatch.setattr(fetch, "DEADLINE_S", 2)
    resolve("127.0.0.2", "127.0.0.1")
    with socket.create_server(("127.0.0.1", deaf_port)) as listener:
        serving = threading.Thread(target=_serve_one, args=(listener, send(sized(b"{}")), None, requests), daemon=True)
        serving.start()

        assert fetch.get(f"http://dual.invalid:{deaf_port}/").body == b"{}"

        serving.join(SOON_S)


def test_get_host_whose_addresses_are_all_dead_ends_at_the_one_deadline(monkeypatch, deaf_port, resolve):
    monkeypatch.setattr(fetch, "DEADLINE_S", 0.5)
    resolve(*["127.0.0.2"] * 40)

    assert_fails(f"http://dual.invalid:{deaf_port}/", "no complete response within 0.5 s")


def test_get_closed_port_is_connection_refused():
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]

    assert_fails(f"http://127.0.0.1:{port}/", "connection refused")


def test_get_unknown_host_name_fails_with_a_message_about_the_name():
    with pytest.raises(FetchFailed, match="name"):
        fetch.get(f"http://{UNKNOWN_HOST}/api/auth/jwks")


@pytest.mark.parametrize("path", ["/two words", "/schlüssel"])
def test_get_path_with_invalid_characters_is_an_invalid_address(serve, path):
    assert_fails(serve(be_silent) + path, "the address is not valid")


def test_get_host_with_a_label_that_is_too_long_is_an_invalid_address():
    assert_fails(f"http://{'a' * 64}.invalid/", "the address is not valid")


@pytest.mark.parametrize("sent", [b"", sized(b"x" * 1000)[:500]], ids=["at-once", "in-the-body"])
def test_get_reset_connection_fails_as_reset(serve, sent):
    assert_fails(serve(reset_after(sent)), "connection reset by peer")


def test_get_connection_that_closes_without_a_response_fails_as_closed(serve):
    assert_fails(serve(send(b"")), "the connection was closed without a response")


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
def test_get_incomplete_response_fails(serve, data):
    assert_fails(serve(send(data)), "the response is incomplete")


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
def test_get_response_that_is_not_http_fails_as_such(serve, data, kind):
    assert_fails(serve(send(data)), f"the response is not HTTP ({kind})")


def test_get_chunk_without_a_length_fails(serve):
    data = unsized(b"xyz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked")

    assert_fails(serve(send(data)), "the response is incomplete")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """Return the file of a self-signed certificate."""
    return self_signed(tmp_path_factory.mktemp("certificate") / "issuer.pem")


@pytest.fixture
def tls(certificate) -> ssl.SSLContext:
    """Return the TLS context of a server with that certificate."""
    return server_context(certificate)


def test_get_self_signed_certificate_is_refused_before_a_request_is_sent(serve, tls, requests):
    with pytest.raises(CertificateRefused, match=r"^the certificate is not valid: self.signed certificate$"):
        fetch.get(serve(send(sized(b"{}")), tls=tls))

    assert requests == []


@pytest.mark.parametrize(
    "data", [sized(b"{}"), chunked(b"{}"), unsized(b"{}")], ids=["length", "chunked", "until-the-end"]
)
def test_get_certificate_in_ssl_cert_file_is_accepted(serve, tls, monkeypatch, certificate, requests, data):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = serve(send(data), tls=tls)

    assert fetch.get(url).body == b"{}"
    assert f"\r\nHost: {url.split('/')[2]}\r\n".encode() in requests[0]


def test_get_valid_certificate_of_another_host_is_refused(serve, tls, monkeypatch, certificate):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    url = serve(send(sized(b"{}")), tls=tls).replace("127.0.0.1", "localhost")

    with pytest.raises(CertificateRefused, match="Hostname mismatch"):
        fetch.get(url)


def test_get_slow_response_over_tls_ends_at_the_one_deadline(serve, tls, monkeypatch, certificate, short_deadline):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    assert_fails(serve(trickle(sized(b"x" * 1000), 0), tls=tls), "no complete response within 0.3 s")


def test_get_https_from_a_server_without_tls_fails_as_such(serve):
    with pytest.raises(FetchFailed, match=r"the server does not speak TLS \(\w+\)"):
        fetch.get(serve(send(unsized(b"", status="400 Bad Request"))).replace("http:", "https:"))


def test_get_leaves_no_connection_open(serve):
    """The server sees the end of the connection as soon as the response is complete."""
    ended = threading.Event()

    def answer_and_listen(connection: socket.socket) -> None:
        connection.sendall(chunked(b"{}"))
        if connection.recv(1) == b"":
            ended.set()

    fetch.get(serve(answer_and_listen))

    assert ended.wait(SOON_S)
