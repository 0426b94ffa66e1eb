"""The log: one line for each event, written in one system call, without anything that users wrote."""

import hashlib
import logging
import os
import sys
from contextlib import suppress
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

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("todo")

# Lines of up to 4096 bytes (PIPE_BUF on Linux) are written whole into a pipe that several processes write to. A longer
# stack trace loses its outer frames, and a longer text its end.
FRAMES_MAX = 10
STACK_MAX = 2600
TEXT_MAX = 600

STDOUT, STDERR = 1, 2

# The processors of each event, in order. All bound loggers share this one list.
processors: list[Processor] = []


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


class LineWriter:
    """Writes each line immediately, with one system call.

    A log whose reader has gone or whose disk is full loses lines, and never makes a request fail.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, line: bytes) -> None:
        """Write a line."""
        with suppress(OSError):
            os.write(self._descriptor, line + b"\n")

    debug = info = warning = error = critical = msg


class Forwarder(logging.Handler):
    """Writes the records of libraries that use `logging` like the application's own events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def configure(config: Config) -> None:
    """Configure the log: one line per event, from `LOG_LEVEL` up, in `LOG_FORMAT`.

    A server logs to stdout. A command logs to stderr, because its stdout is for its result.
    """
    context = click.get_current_context(silent=True)
    is_command = context is not None and context.find_object(ScriptInfo) is not None
    level = logging.getLevelNamesMapping()[config.log_level]
    processors[:] = [
        add_log_level,
        _add_request,
        ExceptionRenderer(stack),
        *(_json() if config.log_format == "json" else _console()),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: LineWriter(STDERR if is_command else STDOUT),
        cache_logger_on_first_use=False,
    )


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current request to each line."""
    if "request_id" not in event and has_request_context() and (record := g.get("record")):
        event["request_id"] = record.request_id
        event["trace_id"] = record.trace.trace_id
    return event


def _json() -> list[Processor]:
    return [TimeStamper(fmt="iso", utc=True), _order_members, JSONRenderer(orjson.dumps)]


def _order_members(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the time, the level and the event first."""
    return {"timestamp": event["timestamp"], "level": event["level"], "event": event["event"], **event}


def _console() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0, sort_keys=False)
    return [TimeStamper(fmt="%H:%M:%S", utc=False), _without_trace_id, renderer, _encoded]


def _without_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out the trace id, which only programs search for; the request id of the response finds the line."""
    event.pop("trace_id", None)
    return event


def _encoded(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")
