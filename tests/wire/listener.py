"""Clients that wait for events, over sockets of their own."""

import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any, Self

from support import Headers, bearer
from wire.server import DEADLINE_S, request

PATH = "/api/me/tasks/events"


@dataclass(frozen=True)
class Event:
    """One event as a browser dispatches it (WHATWG HTML, section 9.2.6).

    Attributes:
        name: Its type.
        data: Its data, parsed.
        id: The last event id.
        at: When it arrived, in seconds of the monotonic clock.

    """

    name: str
    data: Any
    id: str | None
    at: float


class Listener:
    """A client that waits for the events of a user.

    Attributes:
        head: The status line and the header of the response, in lower case.
        body: What has arrived of the body, without its framing.
        is_complete: Whether the end of the response has arrived, as its framing says.
        is_closed: Whether the server has closed the connection.
        last_id: The id of the last event.
        retry_ms: After how many milliseconds the client should come back.
        comments: How many comments have arrived.

    """

    def __init__(
        self,
        port: int,
        user: str,
        headers: Headers = (),
        *,
        path: str = PATH,
        protocol: str = "HTTP/1.1",
        **changes: Any,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        sent = bearer(user, **changes) | dict(headers)
        self.socket.sendall(request("GET", path, sent).replace(b"HTTP/1.1", protocol.encode(), 1))
        self.head = ""
        self.body = b""
        self.is_complete = self.is_closed = False
        self.last_id: str | None = None
        self.retry_ms: int | None = None
        self.comments = 0
        self._raw = b""
        self._parsed = 0
        self._events: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def status(self) -> int:
        """The status of the response, for which this waits."""
        while not self.head:
            self._receive(time.monotonic() + DEADLINE_S)
        return int(self.head.split()[1])

    def next(self, within_s: float = DEADLINE_S) -> Event:
        """Return the next event, for which this waits."""
        deadline = time.monotonic() + within_s
        while not self._events:
            assert not self.is_complete, "the stream has ended"
            assert not self.is_closed, "the connection was closed"
            self._receive(deadline)
        return self._events.pop(0)

    def quiet(self, for_s: float) -> bool:
        """Return whether no event arrives for so long, or until the end."""
        deadline = time.monotonic() + for_s
        try:
            while not (self._events or self.is_closed):
                self._receive(deadline)
        except TimeoutError:
            return True
        return not self._events

    def read_to_end(self, within_s: float = DEADLINE_S) -> list[Event]:
        """Return all events up to the end of the response or of the connection."""
        deadline = time.monotonic() + within_s
        while not (self.is_complete or self.is_closed):
            self._receive(deadline)
        events, self._events = self._events, []
        return events

    def _receive(self, deadline: float) -> None:
        self.socket.settimeout(max(0.0001, deadline - time.monotonic()))
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_closed = True
        self._raw += data
        if not self.head and b"\r\n\r\n" in self._raw:
            head, _, self._raw = self._raw.partition(b"\r\n\r\n")
            self.head = head.decode().lower()
        if self.head:
            self._decode()
            self._parse()

    def _decode(self) -> None:
        if "transfer-encoding: chunked" not in self.head:
            self.body, self._raw = self.body + self._raw, b""
            length = re.search(r"content-length: (\d+)", self.head)
            self.is_complete = bool(length) and len(self.body) == int(length[1])
            return
        while (line := re.match(rb"([0-9a-f]+)\r\n", self._raw, re.IGNORECASE)) and not self.is_complete:
            size = int(line[1], 16)
            if len(self._raw) < line.end() + size + 2:
                return
            chunk = self._raw[line.end() : line.end() + size]
            assert self._raw[line.end() + size :].startswith(b"\r\n")
            self._raw = self._raw[line.end() + size + 2 :]
            self.body += chunk
            self.is_complete = size == 0

    def _parse(self) -> None:
        """Dispatch the events whose end has arrived, as the specification interprets a stream."""
        now = time.monotonic()
        while (end := self.body.find(b"\n\n", self._parsed)) >= 0:
            block, self._parsed = self.body[self._parsed : end].decode(), end + 2
            name, data = "message", None
            for line in block.split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                match field:
                    case "":
                        self.comments += 1
                    case "event":
                        name = value
                    case "data":
                        data = value
                    case "id":
                        self.last_id = value
                    case "retry":
                        self.retry_ms = int(value)
                    case _:
                        raise AssertionError(line)
            if data is not None:
                self._events.append(Event(name, json.loads(data), self.last_id, now))
