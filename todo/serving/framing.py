"""Incremental detection of the end of a request (RFC 9112, section 6)."""

import re
from collections.abc import Generator

from todo.http.body import BODY_MAX_BYTES, DISCARD_MAX_BYTES

HEAD_MAX_BYTES = 64 * 1024
CHUNK_LINE_MAX_BYTES = 4096

# How much of a body is kept: enough to show that it is over the limit.
KEPT_MAX_BYTES = BODY_MAX_BYTES + 1

HEAD_END = b"\r\n\r\n"
FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*)", re.IGNORECASE)
LENGTH = re.compile(rb"[0-9]{1,18}")
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;.*)?", re.DOTALL)


class Message:
    """The bytes of one request as they arrive, and those that the client sent after it.

    It finds the end of the request, and nothing else: faults are for the parser to report, which gets the bytes when
    the request has ended, or as soon as more bytes could not make it valid.

    Args:
        data: The bytes that have arrived already.

    Attributes:
        data: The bytes that have arrived and are kept.
        is_ready: Whether the parser should get them.
        size: How many bytes of `data` are the request; None when its end is unknown, so that no other may follow.
        has_head: Whether all header fields have arrived.
        is_too_large: Whether its header is over the limit.
        is_shortened: Whether a part of its body, which is over the limit, was discarded.
        wants_continue: Whether the client waits for `100 Continue` before its body (RFC 9110, section 10.1.1).

    """

    __slots__ = ("_steps", "data", "has_head", "is_ready", "is_shortened", "is_too_large", "size", "wants_continue")

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.is_ready = False
        self.size: int | None = None
        self.has_head = False
        self.is_too_large = False
        self.is_shortened = False
        self.wants_continue = False
        self._steps = self._head()
        self._advance()

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self.data += data
        self._advance()

    def request(self) -> bytes:
        """Return the bytes of the request."""
        return bytes(self.data[: self.size])

    def rest(self) -> bytes:
        """Return the bytes after the request."""
        return b"" if self.size is None else bytes(self.data[self.size :])

    def _advance(self) -> None:
        """Follow the request as far as it has arrived: each step ends where more bytes are needed."""
        if not self.is_ready:
            self.is_ready = next(self._steps, self) is self

    def _head(self) -> Generator[None]:
        searched = 0
        while (head := self.data.find(HEAD_END, searched)) < 0:
            if len(self.data) > HEAD_MAX_BYTES:
                self.is_too_large = True
                return
            searched = max(0, len(self.data) - len(HEAD_END) + 1)
            yield
        self.has_head = True
        begin = head + len(HEAD_END)
        fields = {name.lower(): value.strip() for name, value in FRAMING.findall(self.data, 0, head + 2)}
        self.wants_continue = fields.get(b"expect", b"").lower() == b"100-continue"
        if b"transfer-encoding" in fields:
            yield from self._chunked_body(begin)
        elif LENGTH.fullmatch(length := fields.get(b"content-length", b"0")):
            yield from self._body_of_length(begin, int(length))

    def _body_of_length(self, begin: int, length: int) -> Generator[None]:
        """Follow a body with `Content-Length`."""
        end = begin + length
        if length > DISCARD_MAX_BYTES:
            end = begin + KEPT_MAX_BYTES
        while len(self.data) < end:
            if (surplus := len(self.data) - begin - KEPT_MAX_BYTES) > 0:
                del self.data[-surplus:]
                end -= surplus
                self.is_shortened = True
            yield
        if length <= DISCARD_MAX_BYTES:
            self.size = end

    def _chunked_body(self, at: int) -> Generator[None]:
        """Follow a body with `Transfer-Encoding: chunked` (RFC 9112, section 7.1)."""
        decoded = 0
        while decoded <= BODY_MAX_BYTES:
            while (line_end := self.data.find(b"\r\n", at)) < 0:
                if len(self.data) - at > CHUNK_LINE_MAX_BYTES:
                    return
                yield
            if not (size := CHUNK_SIZE.fullmatch(bytes(self.data[at:line_end]))):
                return
            if (length := int(size[1], 16)) == 0:
                yield from self._trailers(line_end)
                return
            decoded += length
            # Of a chunk that exceeds the limit, wait only for as much as shows that.
            at = line_end + 2 + length + 2 - max(0, decoded - KEPT_MAX_BYTES)
            while len(self.data) < at:
                yield

    def _trailers(self, at: int) -> Generator[None]:
        while (end := self.data.find(HEAD_END, at)) < 0:
            if len(self.data) - at > HEAD_MAX_BYTES:
                return
            yield
        self.size = end + len(HEAD_END)
