"""Incremental decoding of the framing of a request (RFC 9112, sections 6 and 7), with a bound for each part of it."""

import re
from collections.abc import Generator
from urllib.parse import unquote

from gunicorn.util import split_request_uri

from todo.http.body import BODY_MAX_BYTES, DISCARD_MAX_BYTES, body_max_bytes

HEAD_MAX_BYTES = 64 * 1024

# All that a chunked body has beside its content: the lines of its chunks, with their extensions, and its trailers.
FRAMING_MAX_BYTES = 64 * 1024

# One line of that, a trailer too.
CHUNK_LINE_MAX_BYTES = 4096

LINE_END = b"\r\n"
HEAD_END = b"\r\n\r\n"
FIELD = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*)", re.IGNORECASE)
LENGTH = re.compile(rb"[0-9]{1,18}")

# The line of a chunk (RFC 9112, section 7.1.1), and a trailer (RFC 9110, sections 5 and 6.5.1). No repetition gives
# back what it has matched, so no line takes long to refuse.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
QUOTED_STRING = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
EXTENSION = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+" % (TOKEN, TOKEN, QUOTED_STRING)
CHUNK_LINE = re.compile(rb"([0-9a-fA-F]++)(?:%b)*+" % EXTENSION)
NO_TRAILERS = rb"authorization|content-length|content-type|host|te|trailer|transfer-encoding"
TRAILER = re.compile(rb"(?!(?:%b):)%b:[\t -~\x80-\xff]*+" % (NO_TRAILERS, TOKEN), re.IGNORECASE)

# How a decoded body that is handed on ends: it is complete, or it is malformed there.
LAST_CHUNK = b"0\r\n\r\n"
NO_CHUNK = b"?\r\n"


class MalformedFraming(Exception):
    """The framing of a chunked body breaks a rule."""


class BodyTooLarge(Exception):
    """A chunked body is over a limit."""


class Message:
    """The bytes of one request as they arrive, and those that the client sent after it.

    It finds the end of the request, and keeps no more of it than the limits allow. A chunked body is decoded as it
    arrives and handed on as one chunk, so that its framing is judged here alone. All other faults are for the parser
    to report. The parser gets the bytes when the request has ended, or as soon as more bytes could make it neither
    valid nor small enough.

    Args:
        data: The bytes that have arrived already.

    Attributes:
        data: The bytes that have arrived and are kept, without the part of a chunked body that is decoded.
        is_ready: Whether the parser should get them.
        size: Where in `data` the bytes after the request begin; None while that is unknown.
        missing: How many bytes of a body are still to be discarded when they arrive. It was left out of the request,
            which was ready without it, because it states a length over the limit.
        head_size: The size of its header, with the empty line; 0 until all of it has arrived.
        is_too_large: Whether its header is over the limit.
        is_shortened: Whether its body is left out.
        wants_continue: Whether the client waits for `100 Continue` before its body (RFC 9110, section 10.1.1).

    """

    __slots__ = (
        "_at",
        "_body_max_bytes",
        "_content",
        "_ending",
        "_framing_size",
        "_steps",
        "data",
        "head_size",
        "is_ready",
        "is_shortened",
        "is_too_large",
        "missing",
        "size",
        "wants_continue",
    )

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.is_ready = False
        self.size: int | None = None
        self.missing = 0
        self.head_size = 0
        self.is_too_large = False
        self.is_shortened = False
        self.wants_continue = False
        # Of a chunked body: how long it may be, what is decoded, how that ends, the size of its framing, and where in
        # `data` it goes on.
        self._body_max_bytes = BODY_MAX_BYTES
        self._content: bytearray | bytes | None = None
        self._ending = b""
        self._framing_size = 0
        self._at = 0
        self._steps = self._follow()
        self._advance()

    @property
    def has_head(self) -> bool:
        """Whether all header fields have arrived."""
        return self.head_size > 0

    @property
    def is_last(self) -> bool:
        """Whether no other request may follow on the connection, because nobody knows where it would begin."""
        return self.size is None and not self.missing

    @property
    def held(self) -> int:
        """The bytes that are kept: what has arrived, and what is decoded of a chunked body."""
        return len(self.data) + len(self._content or b"")

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived: until the request is ready, and after that while some are missing."""
        self.data += data
        self._advance()

    def request(self) -> bytes:
        """Return the bytes of the request: the header as it came, and the body or its equivalent."""
        if self._content is None:
            return bytes(self.data[: self.size])
        chunk = (b"%x\r\n" % len(self._content), self._content, LINE_END) if self._content else ()
        return b"".join([self.data[: self.head_size], *chunk, self._ending])

    def rest(self) -> bytes:
        """Return the bytes after the request."""
        return b"" if self.size is None else bytes(self.data[self.size :])

    def _advance(self) -> None:
        """Follow the request as far as it has arrived: each step ends where more bytes are needed."""
        if next(self._steps, self) is self:
            self.is_ready = True

    def _follow(self) -> Generator[None]:
        searched = 0
        while (head := self.data.find(HEAD_END, searched, HEAD_MAX_BYTES)) < 0:
            if len(self.data) >= HEAD_MAX_BYTES:
                del self.data[HEAD_MAX_BYTES:]
                self.is_too_large = True
                return
            searched = max(0, len(self.data) - len(HEAD_END) + 1)
            yield
        self.head_size = head + len(HEAD_END)
        found = FIELD.findall(self.data, 0, head + len(LINE_END))
        fields: list[tuple[bytes, bytes]] = [(name.lower(), value.strip().lower()) for name, value in found]
        self.wants_continue = (b"expect", b"100-continue") in fields and not self._is_of_http_1_0()
        match [field for field in fields if field[0] != b"expect"]:
            case []:
                self.size = self.head_size
            case [(b"content-length", length)] if LENGTH.fullmatch(length):
                yield from self._body_of_length(int(length))
            case [(b"transfer-encoding", b"chunked")]:
                yield from self._chunked_body()
            case _:
                # Whatever the body is, the request is refused, because two parsers could disagree about its end.
                del self.data[self.head_size :]

    def _request_line(self) -> bytes:
        # An empty line may precede it (RFC 9112, section 2.2).
        return bytes(self.data[: self.data.find(LINE_END, len(LINE_END))])

    def _is_of_http_1_0(self) -> bool:
        return self._request_line().endswith(b" HTTP/1.0")

    def _path(self) -> str:
        """Return the path as the application will see it; an empty text if the target of the request is malformed."""
        _, target, *_ = [*self._request_line().decode("latin-1").split(" ", 2), ""]
        try:
            return unquote(split_request_uri(target).path)
        except ValueError:
            return ""

    def _body_of_length(self, length: int) -> Generator[None]:
        """Follow a body with `Content-Length`."""
        if length <= BODY_MAX_BYTES or length <= body_max_bytes(self._path()):
            while len(self.data) < self.head_size + length:
                yield
            self.size = self.head_size + length
            return
        self.is_shortened = True
        # A client that waits for `100 Continue` may leave its body out after any other response.
        if length > DISCARD_MAX_BYTES or self.wants_continue:
            del self.data[self.head_size :]
            return
        self.missing = length
        while self._discard():
            self.is_ready = True
            yield
        self.size = self.head_size

    def _discard(self) -> int:
        """Discard what has arrived of the missing bytes, and return how many are missing still."""
        arrived = min(self.missing, len(self.data) - self.head_size)
        del self.data[self.head_size : self.head_size + arrived]
        self.missing -= arrived
        return self.missing

    def _chunked_body(self) -> Generator[None]:
        """Decode a body with `Transfer-Encoding: chunked` (RFC 9112, section 7.1)."""
        self._at = self.head_size
        self._content = bytearray()
        self._body_max_bytes = body_max_bytes(self._path())
        try:
            yield from self._chunks(self._content)
            yield from self._trailers()
        except MalformedFraming:
            self._ending = NO_CHUNK
            del self.data[self.head_size :]
        except BodyTooLarge:
            # The application refuses it by its size.
            self._content, self._ending = bytes(self._body_max_bytes + 1), LAST_CHUNK
            del self.data[self.head_size :]
        else:
            self._ending = LAST_CHUNK
            del self.data[self.head_size : self._at]
            self.size = self.head_size

    def _chunks(self, content: bytearray) -> Generator[None]:
        """Follow the chunks up to the line of the last one, and add what is in them to the content."""
        while True:
            if not (line := CHUNK_LINE.fullmatch((yield from self._line()))):
                raise MalformedFraming
            if (length := int(line[1], 16)) == 0:
                return
            if len(content) + length > self._body_max_bytes:
                raise BodyTooLarge
            missing = length + len(LINE_END)
            while True:
                piece = self.data[self._at : self._at + missing]
                content += piece
                self._at += len(piece)
                missing -= len(piece)
                if not missing:
                    break
                yield from self._more()
            if not content.endswith(LINE_END):
                raise MalformedFraming
            del content[-len(LINE_END) :]
            self._framing_size += len(LINE_END)

    def _trailers(self) -> Generator[None]:
        """Follow the trailers up to the empty line that ends them. Nobody reads them."""
        while trailer := (yield from self._line()):
            if not TRAILER.fullmatch(trailer):
                raise MalformedFraming

    def _line(self) -> Generator[None, None, bytes]:
        """Wait for a line of framing, and return it without its end."""
        while (end := self.data.find(LINE_END, self._at, self._at + CHUNK_LINE_MAX_BYTES + len(LINE_END))) < 0:
            if len(self.data) - self._at >= CHUNK_LINE_MAX_BYTES + len(LINE_END):
                raise MalformedFraming
            yield from self._more()
        line = bytes(self.data[self._at : end])
        self._at = end + len(LINE_END)
        self._framing_size += len(line) + len(LINE_END)
        if self._framing_size > FRAMING_MAX_BYTES:
            raise BodyTooLarge
        return line

    def _more(self) -> Generator[None]:
        """Forget what is decoded, and wait for more bytes."""
        del self.data[self.head_size : self._at]
        self._at = self.head_size
        yield
