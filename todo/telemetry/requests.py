"""One record for each request: its line in the log, its ids and times on the response, and the input of the metrics."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPMethod, HTTPStatus
from time import perf_counter
from typing import Any, Self

from blinker import Signal
from flask import Flask, Response

from config import Config
from todo.context import current_globals, current_request
from todo.telemetry import tracing
from todo.telemetry.logs import hashed, log, truncate
from todo.telemetry.refusals import TokenRule

METHODS = frozenset(HTTPMethod)

# Orchestrators call these all day long.
PROBES = ("health.health", "health.ready")

# The responses that have no body.
WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)

# From here on the fault is the server's.
SERVER_ERROR = int(HTTPStatus.INTERNAL_SERVER_ERROR)

# Sent with the Record of each finished request.
request_finished = Signal()

# Sent with the problem that an error of PostgreSQL, of its driver or of the connection pool is translated into.
database_failed = Signal()


class DatabaseTime(threading.local):
    """The time that a thread has waited for PostgreSQL: `with database_time:` around each wait, which may be nested.

    Attributes:
        total_s: Seconds since the thread started.

    """

    total_s = 0.0
    _depth = 0
    _started_at = 0.0

    def __enter__(self) -> Self:
        """Start waiting."""
        if self._depth == 0:
            self._started_at = perf_counter()
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Stop waiting."""
        self._depth -= 1
        if self._depth == 0:
            self.total_s += perf_counter() - self._started_at


database_time = DatabaseTime()


@dataclass(slots=True)
class Record:
    """The record of one request.

    Attributes:
        request_id: The id on the response and in the log line.
        trace: Its place in a trace.
        started_at: When it started, in seconds of the performance counter.
        database_offset_s: The database time of its thread when it started.
        method: Its method, or `other` for a method that HTTP does not define.
        route: The template of its path, never the path, which has a user's id in it; None for an unknown path.
        is_probe: Whether it is a health probe of an orchestrator.
        status: The status of the response.
        size: The size of the response's body in bytes.
        duration_s: How long it took, in seconds.
        database_s: How many of these seconds it waited for PostgreSQL.
        user_id: The caller, if known. Only a hash of it is logged.
        reason: Why it was refused or failed, for operators.
        refused_rule: The rule that its token breaks, if the token was refused.
        error: The exception of a bug, or of a failure after the start of the response was sent.

    """

    request_id: str
    trace: tracing.Trace
    started_at: float = field(default_factory=perf_counter)
    database_offset_s: float = field(default_factory=lambda: database_time.total_s)
    method: str = "other"
    route: str | None = None
    is_probe: bool = False
    status: int = 0
    size: int = 0
    duration_s: float = 0
    database_s: float = 0
    user_id: str | None = None
    reason: str | None = None
    refused_rule: TokenRule | None = None
    error: Exception | None = None


def current() -> Record:
    """Return the record of the current request."""
    record: Record = current_globals().record
    return record


def _start() -> None:
    header = current_request().environ.get
    current_globals().record = Record(
        tracing.request_id(header("HTTP_X_REQUEST_ID")), tracing.trace(header("HTTP_TRACEPARENT"))
    )


def init_app(app: Flask, config: Config) -> None:
    """Record every request. Hooks after a request run in reverse, so this must be called before all other packages."""
    app.before_request(_start)
    app.after_request(partial(_complete, finish=partial(_finish, Writer(config)), is_timed=not config.production))


def _complete(response: Response, *, finish: Callable[[Record], None], is_timed: bool) -> Response:
    """Complete the response and its record. A streamed response finishes later, when it is closed."""
    record = current()
    request = current_request()
    method, rule = request.method, request.url_rule
    if method in METHODS:
        record.method = method
    if rule is not None:
        record.route = rule.rule
        record.is_probe = rule.endpoint in PROBES
    record.status = response.status_code
    record.duration_s = perf_counter() - record.started_at
    record.database_s = database_time.total_s - record.database_offset_s
    headers = response.headers
    headers.add("X-Request-ID", record.request_id)
    headers.add("traceparent", record.trace.traceparent)
    if is_timed:
        headers.add("Server-Timing", _server_timing(record))
    if (size := _size(response, method)) is not None:
        record.size = size
        finish(record)
    else:
        response.response = _recorded(response.response, record)
        response.call_on_close(partial(_finish_stream, record, finish))
    return response


def _server_timing(record: Record) -> str:
    """Return the times in milliseconds, as the developer tools of browsers show them (Server Timing, section 2)."""
    return f"app;dur={record.duration_s * 1000:.2f}, db;dur={record.database_s * 1000:.2f}"


def _size(response: Response, method: str) -> int | None:
    """Return the size of a body in bytes, where it is known before the body is sent."""
    if method == "HEAD" or response.status_code in WITHOUT_BODY:
        return 0
    return response.calculate_content_length() if response.is_sequence else response.content_length


def _recorded(chunks: Iterable[Any], record: Record) -> Iterator[Any]:
    """Yield the chunks of a body, and record their size and database time.

    Between two chunks the thread may serve another request, or the next chunk may come from another thread.
    """
    offset_s = database_time.total_s
    try:
        for chunk in chunks:
            record.size += len(chunk)
            record.database_s += database_time.total_s - offset_s
            yield chunk
            offset_s = database_time.total_s
        record.database_s += database_time.total_s - offset_s
    except Exception as error:
        record.reason = f"the response broke off: {getattr(error, 'reason', None) or 'a bug'}"
        record.error = error
        raise


def _finish_stream(record: Record, finish: Callable[[Record], None]) -> None:
    record.duration_s = perf_counter() - record.started_at
    finish(record)


def _finish(write: Callable[[Record], None], record: Record) -> None:
    write(record)
    request_finished.send(record)


class Writer:
    """Writes the log line of each request."""

    def __init__(self, config: Config) -> None:
        self._slow_s = config.slow_request_ms / 1000
        self._level = logging.getLevelNamesMapping()[config.log_level]
        # Bound once: to look the settings up again would take as long as to write the line.
        self._log = log.bind()

    def __call__(self, record: Record) -> None:
        """Write the line of a request, if its level is logged."""
        is_slow = record.duration_s > self._slow_s
        if record.status >= SERVER_ERROR or record.error is not None:
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
        members["reason"] = truncate(record.reason)
    if record.error is not None:
        members["exc_info"] = record.error
    return members
