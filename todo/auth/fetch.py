"""One GET within one deadline, however slowly or wrongly the server behaves.

http.client parses the response, and one call of it reads any number of times: headers, the lines between chunks,
trailers. A loop around its calls would check the clock too seldom, and the time-out of a socket begins anew with each
byte of a trickle. So the check stands below http.client, in front of each read of the socket.
"""

import http.client
import io
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from config import DEFAULT_PORTS

DEADLINE_S = 3
BODY_MAX_BYTES = 256 * 1024

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "todo", "Connection": "close"}


class FetchFailed(Exception):
    """Raised when there is no usable response. The message is the reason in a few words."""


class CertificateRefused(FetchFailed):
    """Raised when the server cannot prove its identity."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response: its body, its `Date` (RFC 9110, section 6.6.1), and its `Age` if it comes from a cache."""

    body: bytes
    date: str | None
    age: str | None = None


def get(url: str) -> Fetched:
    """Fetch a small document within `DEADLINE_S` seconds. Redirects are not followed.

    Only the lookup of the host's name can take longer.

    Args:
        url: An `http` or `https` address. Certificates are verified.

    Raises:
        CertificateRefused: the server's certificate is not valid.
        FetchFailed: the status is not 200, the body is over `BODY_MAX_BYTES` or incomplete, or there is no response in
            time.

    """
    parts = urlsplit(url)
    deadline = time.monotonic() + DEADLINE_S
    try:
        with _connect(parts, deadline) as connected:
            return _exchange(parts, connected, deadline)
    except TimeoutError:
        raise FetchFailed(f"no complete response within {DEADLINE_S} s") from None
    except ssl.SSLCertVerificationError as error:
        raise CertificateRefused(f"the certificate is not valid: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise FetchFailed(f"the server does not speak TLS ({error.reason})") from error
    except http.client.IncompleteRead as error:
        raise FetchFailed("the response is incomplete") from error
    except http.client.RemoteDisconnected as error:
        raise FetchFailed("the connection was closed without a response") from error
    except OSError as error:
        raise FetchFailed((error.strerror or type(error).__name__).lower()) from error
    except (UnicodeError, http.client.InvalidURL) as error:
        raise FetchFailed("the address is not valid") from error
    except (http.client.HTTPException, ValueError) as error:
        raise FetchFailed(f"the response is not HTTP ({type(error).__name__})") from error


def _connect(parts: SplitResult, deadline: float) -> socket.socket:
    """Connect to the first address of a host that responds; none of them may use up the time of those after it."""
    host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = TimeoutError()
    for remaining, (*_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            connected = socket.create_connection((str(address[0]), port), _left(deadline) / remaining)
        except OSError as error:
            failure = error
            continue
        if parts.scheme != "https":
            return connected
        tls = ssl.create_default_context()
        return tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
    raise failure


def _left(deadline: float) -> float:
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left


class _TimedReader(socket.SocketIO):
    """The reading side of a socket, with one deadline for all reads."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        super().__init__(connected, "r")
        self._connected = connected
        self._deadline = deadline

    def readinto(self, buffer: Any) -> int | None:
        self._connected.settimeout(_left(self._deadline))
        return super().readinto(buffer)


def _exchange(parts: SplitResult, connected: socket.socket, deadline: float) -> Fetched:
    connected.settimeout(_left(deadline))
    if isinstance(connected, ssl.SSLSocket):
        connected.do_handshake()
    connection = http.client.HTTPConnection(parts.netloc)
    connection.sock = connected
    connection.request("GET", parts._replace(scheme="", netloc="").geturl(), headers=HEADERS)
    with http.client.HTTPResponse(connected) as response:
        response.fp = io.BufferedReader(_TimedReader(connected, deadline))
        response.begin()
        if response.status != http.HTTPStatus.OK:
            raise FetchFailed(f"status {response.status}, expected 200")
        body = response.read(BODY_MAX_BYTES + 1)
        if len(body) > BODY_MAX_BYTES:
            raise FetchFailed(f"the response is over {BODY_MAX_BYTES // 1024} KiB")
        # http.client accepts a body that is shorter than its Content-Length when it is read with a limit.
        if response.length:
            raise http.client.IncompleteRead(body)
        return Fetched(body, response.headers["Date"], response.headers["Age"])
