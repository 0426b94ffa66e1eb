"""One GET with one deadline for all of it, however the other end behaves."""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from config import DEFAULT_PORTS

DEADLINE_S = 3
BODY_MAX_BYTES = 256 * 1024

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "todo", "Connection": "close"}


class FetchFailed(Exception):
    """Nothing useful came; the message says why in a few words."""


class CertificateRefused(FetchFailed):
    """Whoever answered cannot prove to be who we asked."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: the body; the `Date` of the answer (RFC 9110, section 6.6.1), and its `Age` if a cache gave it."""

    body: bytes
    date: str | None
    age: str | None = None


class _TimedStream(io.RawIOBase):
    """A connected socket, as http.client uses one, that counts every wait against one deadline.

    A time-out of the socket alone would begin anew with each byte that trickles in. The socket itself is closed by
    whoever made it: http.client closes what it was given before it reads a body that ends with the connection.
    """

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_left(self._deadline))
        return self._socket.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_left(self._deadline))
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedStream(self._socket, self._deadline))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def get(url: str) -> Fetched:
    """Fetch a small document within `DEADLINE_S` seconds; redirects are not followed.

    Looking up the name of the host is the one thing that can take longer.

    Args:
        url: An `http` or `https` address. Certificates are verified.

    Raises:
        FetchFailed: the answer is not 200, is over `BODY_MAX_BYTES`, is late, is cut short, or does not come.

    """
    parts = urlsplit(url)
    deadline = time.monotonic() + DEADLINE_S
    try:
        with _connected(parts, deadline) as connected:
            return _fetch(parts, _TimedStream(connected, deadline))
    except TimeoutError:
        raise FetchFailed(f"no complete answer within {DEADLINE_S} s") from None
    except ssl.SSLCertVerificationError as error:
        raise CertificateRefused(f"the certificate is not good: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise FetchFailed(f"no TLS can be spoken there ({error.reason})") from error
    except http.client.IncompleteRead as error:
        raise FetchFailed("the answer ends before its end") from error
    except http.client.RemoteDisconnected as error:
        raise FetchFailed("the connection was closed without an answer") from error
    except OSError as error:
        raise FetchFailed((error.strerror or type(error).__name__).lower()) from error
    except (UnicodeError, http.client.InvalidURL) as error:
        raise FetchFailed("the address is none that can be asked") from error
    except (http.client.HTTPException, ValueError) as error:
        raise FetchFailed(f"the answer is not HTTP ({type(error).__name__})") from error


@contextmanager
def _connected(parts: SplitResult, deadline: float) -> Iterator[socket.socket]:
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    with _connect(host, port, deadline) as plain:
        if parts.scheme != "https":
            yield plain
            return
        plain.settimeout(_left(deadline))
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured:
            yield secured


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of a host that answers; none of them may use up the time of those after it."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = TimeoutError()
    for remaining, (*_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return socket.create_connection((str(address[0]), port), _left(deadline) / remaining)
        except OSError as error:
            failure = error
    raise failure


def _fetch(parts: SplitResult, stream: _TimedStream) -> Fetched:
    with closing(http.client.HTTPConnection(parts.netloc)) as connection:
        # Encrypted or not is a matter of the stream.
        connection.sock = stream
        connection.request("GET", parts._replace(scheme="", netloc="").geturl(), headers=HEADERS)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise FetchFailed(f"status {response.status}, expected 200")
        body = response.read(BODY_MAX_BYTES + 1)
    if len(body) > BODY_MAX_BYTES:
        raise FetchFailed(f"the answer is over {BODY_MAX_BYTES // 1024} KiB")
    # http.client does not mind a body that is shorter than its Content-Length when it is read with a limit.
    if response.length:
        raise http.client.IncompleteRead(body)
    return Fetched(body, response.headers["Date"], response.headers["Age"])
