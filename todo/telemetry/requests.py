"""What is seen of each request: its line in the log, its ids and times on the answer, and what others make of it."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPMethod, HTTPStatus
from time import perf_counter
from typing import Any, Self

from blinker import Signal
from flask import Flask, Response, g, request

from config import Config
from todo.telemetry import tracing
from todo.telemetry.logs import clipped, hashed, log

METHODS = frozenset(HTTPMethod)

# Orchestrators ask these all day long.
PROBES = ("health.health", "health.ready")

# Sent with the Record of each request that is over.
request_over = Signal()

# Sent with the problem that was made of an error of PostgreSQL, of its driver or of the pool.
database_failed = Signal()


class DatabaseTime(threading.local):
    """How long a thread has waited for PostgreSQL: `with database_time:` around each wait, also inside of another.

    Attributes:
        total_s: In seconds, since the thread began.

    """

    total_s = 0.0
    _depth = 0
    _since = 0.0

    def __enter__(self) -> Self:
        """Begin to wait."""
        if self._depth == 0:
            self._since = perf_counter()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Have waited."""
        self._depth -= 1
        if self._depth == 0:
            self.total_s += perf_counter() - self._since


database_time = DatabaseTime()


@dataclass(slots=True)
class Record:
    """One request.

    Attributes:
        request_id: The id that the answer and the log line have in common.
        trace: Where in a trace it is.
        began: When it came, in seconds of the performance counter.
        database_began: What the database time of its thread was then.
        method: Its method, or `other` when it is none that HTTP knows.
        route: The template of its path, never the path, which holds a user's id; None when there is no such path.
        is_probe: Whether an orchestrator asks how we are.
        status: The status of the answer.
        size: The bytes of the answer's body.
        duration_s: How long it took, in seconds.
        database_s: How long of that it waited for PostgreSQL.
        user_id: Who sent it, as far as that is known. It goes to the log as a hash.
        reason: What an operator should know of a request that was refused or failed.
        error: What made it fail, where that is a bug, or came after the answer had begun.

    """

    request_id: str
    trace: tracing.Trace
    began: float = field(default_factory=perf_counter)
    database_began: float = field(default_factory=lambda: database_time.total_s)
    method: str = "other"
    route: str | None = None
    is_probe: bool = False
    status: int = 0
    size: int = 0
    duration_s: float = 0
    database_s: float = 0
    user_id: str | None = None
    reason: str | None = None
    error: Exception | None = None


def current() -> Record:
    """Give the record of the request that is being answered."""
    record: Record = g.record
    return record


def _begin() -> None:
    sent = request.headers.get
    g.record = Record(tracing.request_id(sent("X-Request-ID")), tracing.trace(sent("traceparent")))


def init_app(app: Flask, config: Config) -> None:
    """Observe every request. Hooks after a request run in reverse, so this must come before all other rooms."""
    app.before_request(_begin)
    app.after_request(partial(_end, over=partial(_over, Writer(config)), is_timed=not config.production))


def _end(response: Response, *, over: Callable[[Record], None], is_timed: bool) -> Response:
    """Complete the answer and its record; what is sent piece by piece is over later."""
    record = current()
    if request.method in METHODS:
        record.method = request.method
    if request.url_rule is not None:
        record.route = request.url_rule.rule
        record.is_probe = request.endpoint in PROBES
    record.status = response.status_code
    record.duration_s = perf_counter() - record.began
    record.database_s = database_time.total_s - record.database_began
    response.headers.add("X-Request-ID", record.request_id)
    response.headers.add("traceparent", record.trace.traceparent)
    if is_timed:
        response.headers.add("Server-Timing", _server_timing(record))
    if (size := _size(response)) is not None:
        record.size = size
        over(record)
    else:
        response.response = _observed(response.response, record)
        response.call_on_close(partial(_close, record, over))
    return response


def _server_timing(record: Record) -> str:
    """Tell the tools of a browser where the time went, in milliseconds (Server Timing, section 2)."""
    return f"app;dur={record.duration_s * 1000:.2f}, db;dur={record.database_s * 1000:.2f}"


def _size(response: Response) -> int | None:
    """Give the bytes that a body will have, where that can be known before it is sent."""
    if request.method == "HEAD" or response.status_code in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return 0
    return response.calculate_content_length() if response.is_sequence else response.content_length


def _observed(pieces: Iterable[Any], record: Record) -> Iterator[Any]:
    """Pass an answer on piece by piece. Only between pieces may the thread do something else, or be another one."""
    before = database_time.total_s
    try:
        for piece in pieces:
            record.size += len(piece)
            record.database_s += database_time.total_s - before
            yield piece
            before = database_time.total_s
        record.database_s += database_time.total_s - before
    except Exception as error:
        record.reason = f"the answer broke off: {getattr(error, 'reason', None) or 'a bug'}"
        record.error = error
        raise


def _close(record: Record, over: Callable[[Record], None]) -> None:
    record.duration_s = perf_counter() - record.began
    over(record)


def _over(write: Callable[[Record], None], record: Record) -> None:
    write(record)
    request_over.send(record)


class Writer:
    """Writes the line of a request."""

    def __init__(self, config: Config) -> None:
        self._slow_s = config.slow_request_ms / 1000
        self._level = logging.getLevelNamesMapping()[config.log_level]
        # Bound once: to find the settings anew would take as long as to write the line.
        self._log = log.bind()

    def __call__(self, record: Record) -> None:
        """Write it, unless nobody wants to know."""
        is_slow = record.duration_s > self._slow_s
        if record.status >= HTTPStatus.INTERNAL_SERVER_ERROR or record.error is not None:
            level = logging.ERROR
        elif is_slow:
            level = logging.WARNING
        else:
            level = logging.DEBUG if record.is_probe else logging.INFO
        if level >= self._level:
            self._log.log(level, "request", **_members(record), **({"slow": True} if is_slow else {}))


def _members(record: Record) -> dict[str, Any]:
    members: dict[str, Any] = {
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "duration_ms": round(record.duration_s * 1000, 3),
        "database_ms": round(record.database_s * 1000, 3),
        "bytes": record.size,
        "request_id": record.request_id,
        "trace_id": record.trace.trace_id,
    }
    if record.user_id is not None:
        members["user"] = hashed(record.user_id)
    if record.reason is not None:
        members["reason"] = clipped(record.reason)
    if record.error is not None:
        members["exc_info"] = record.error
    return members
