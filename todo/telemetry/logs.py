"""The log: one line for each event, without anything that users wrote."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable
from functools import reduce
from traceback import walk_tb
from types import FrameType
from typing import Any

import click
import orjson
import structlog
from flask import g, has_request_context
from flask.cli import ScriptInfo
from structlog.processors import ExceptionRenderer, JSONRenderer, TimeStamper, add_log_level
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from config import ROOT, Config
from todo.telemetry.output import LINE_MAX, LineWriter

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("todo")

# A line has at most LINE_MAX bytes. A longer stack trace loses its outer frames, and a longer text its end.
FRAMES_MAX = 10
STACK_MAX = 2600
TEXT_MAX = 600

# The processors of each event, in order. All bound loggers share this one list.
processors: list[Processor] = []

# The last of them, which turn an event with its level into a line.
renderers: list[Processor] = []

DROPPED = "log lines dropped"


def hashed(user_id: str) -> str:
    """Return what stands for a user in the log: the first 16 digits of the id's SHA-256, as `sha256sum` writes it.

    With the id, an operator finds the user's lines; from the lines, no reader learns the id.
    """
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def truncate(text: str) -> str:
    """Return a text, cut to `TEXT_MAX` characters."""
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def stack(exc_info: ExcInfo) -> str:
    """Return the stack trace of an exception and of those that caused it: frames and classes, without the messages.

    PostgreSQL quotes rows in its messages, and many exceptions of Python quote the wrong value.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and sum(map(len, parts)) < STACK_MAX:
        frames = list(walk_tb(error.__traceback__))[-FRAMES_MAX:]
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        parts.append("\n".join(["Traceback (most recent call last):", *map(_format_frame, frames), kind]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(parts))[-STACK_MAX:]


def _format_frame(frame: tuple[FrameType, int]) -> str:
    code = frame[0].f_code
    file = code.co_filename.partition("site-packages/")[2] or code.co_filename.removeprefix(f"{ROOT}/")
    return f'  File "{file}", line {frame[1]}, in {code.co_name}'


def report(number: int) -> bytes:
    """Render the line that reports dropped lines. It belongs to no request, and no `LOG_LEVEL` silences it."""
    event: Any = {"event": DROPPED, "level": "error", "number": number}
    line: bytes = reduce(lambda rendered, render: render(None, "error", rendered), renderers, event)
    return line


STDOUT, STDERR = LineWriter(1, report), LineWriter(2, report)
os.register_at_fork(after_in_child=STDOUT.reset)
os.register_at_fork(after_in_child=STDERR.reset)


class Forwarder(logging.Handler):
    """Writes the records of libraries that use `logging` like the application's own events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A level between those of `logging` counts as the next lower one."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # The library passed arguments that do not fit. Only this line suffers from that.
            message = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        log.log(level, message, exc_info=record.exc_info)


def is_command() -> bool:
    """Check whether this process runs a command of `todo` or `flask`, and is no server."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_object(ScriptInfo) is not None


def configure(config: Config) -> None:
    """Configure the log: one line per event, from `LOG_LEVEL` up, in `LOG_FORMAT`.

    A server logs to stdout. A command logs to stderr, because its stdout is for its result.
    """
    level = logging.getLevelNamesMapping()[config.log_level]
    renderers[:] = _json() if config.log_format == "json" else _console()
    processors[:] = [add_log_level, _add_request, ExceptionRenderer(stack), *renderers]
    writer = STDERR if is_command() else STDOUT
    writer.detect()
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=False,
    )


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current request to each line."""
    if "request_id" not in event and has_request_context() and (record := g.get("record")):
        event["request_id"] = record.request_id
        event["trace_id"] = record.trace.trace_id
    return event


def _json() -> list[Processor]:
    return [TimeStamper(fmt="iso", utc=True), _order_members, _fitted(JSONRenderer(_dumps))]


def _dumps(event: EventDict, **options: Any) -> bytes:
    """Return the JSON of an event, also with values that orjson refuses, such as halves of surrogate pairs."""
    try:
        return orjson.dumps(event, **options)
    except TypeError:
        return json.dumps(event, **options).encode()


def _order_members(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the time, the level and the event first."""
    return {"timestamp": event["timestamp"], "level": event["level"], "event": event["event"], **event}


def _console() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0, sort_keys=False)

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        # The renderer takes members out of the event, which may have to be rendered again.
        return renderer(logger, method, {**event}).encode(errors="backslashreplace")

    return [TimeStamper(fmt="%H:%M:%S", utc=False), _without_trace_id, _fitted(render)]


def _without_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out the trace id, which only programs search for; the request id of the response finds the line."""
    event.pop("trace_id", None)
    return event


def _fitted(render: Callable[[WrappedLogger, str, EventDict], str | bytes]) -> Processor:
    """Return a renderer whose lines fit into `LINE_MAX` bytes with their ends: the longest members are cut."""

    def render_fitted(logger: WrappedLogger, method: str, event: EventDict) -> str | bytes:
        line = render(logger, method, event)
        # This ends, because no event has so many members that their names alone fill a line.
        while len(line) >= LINE_MAX:
            name = max(event, key=lambda name: len(str(event[name])))
            text = str(event[name])
            middle = len(text) // 2
            # Of a stack trace the last frames and the class matter.
            event[name] = f"…{text[middle:]}" if name == "exception" else f"{text[:middle]}…"
            line = render(logger, method, event)
        return line

    return render_fitted
