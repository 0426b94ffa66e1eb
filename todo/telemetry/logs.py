"""How the log is written: one event, one line, in one system call, and nothing in it of what users wrote."""

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

# Lines of up to 4096 bytes (PIPE_BUF on Linux) get whole into a pipe that several processes write to. A stack that
# would be longer loses its outer frames, and a text its end.
FRAMES_MAX = 10
STACK_MAX = 2600
TEXT_MAX = 600

STDOUT, STDERR = 1, 2

# What happens to each event, in order. Loggers that are bound share this one list.
processors: list[Processor] = []


def hashed(user_id: str) -> str:
    """Give what stands for a user in the log: the first 16 digits of the id's SHA-256, as `sha256sum` writes it.

    Whoever knows the id finds the user's lines; whoever reads the log does not learn the id.
    """
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def clipped(text: str) -> str:
    """Give a text that is not too long for a line."""
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def stack(exc_info: ExcInfo) -> str:
    """Say where an exception and those that led to it were raised, and of which classes they are.

    Their messages stay out: PostgreSQL quotes rows in them, and many an exception of Python the value that is wrong.
    """
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None and sum(map(len, parts)) < STACK_MAX:
        frames = list(walk_tb(error.__traceback__))[-FRAMES_MAX:]
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        parts.append("\n".join(["Traceback (most recent call last):", *map(_place, frames), kind]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(parts))[-STACK_MAX:]


def _place(frame: tuple[FrameType, int]) -> str:
    code = frame[0].f_code
    file = code.co_filename.partition("site-packages/")[2] or code.co_filename.removeprefix(f"{ROOT}/")
    return f'  File "{file}", line {frame[1]}, in {code.co_name}'


class Line:
    """Writes each line by itself, at once and whole.

    A log that nobody takes any more, or that fills its disk, costs lines and never an answer.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, line: bytes) -> None:
        """Write a line."""
        with suppress(OSError):
            os.write(self._descriptor, line + b"\n")

    debug = info = warning = error = critical = msg


class Forwarder(logging.Handler):
    """Writes what others say through `logging` as if we had said it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def configure(config: Config) -> None:
    """Write one line per event, from LOG_LEVEL up, in LOG_FORMAT.

    A server writes to stdout. The stdout of a command is for its result, so what it logs goes to stderr.
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
        logger_factory=lambda *_: Line(STDERR if is_command else STDOUT),
        cache_logger_on_first_use=False,
    )


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put on each line about which request it is."""
    if "request_id" not in event and has_request_context() and (record := g.get("record")):
        event["request_id"] = record.request_id
        event["trace_id"] = record.trace.trace_id
    return event


def _json() -> list[Processor]:
    return [TimeStamper(fmt="iso", utc=True), _begin_with_the_time, JSONRenderer(orjson.dumps)]


def _begin_with_the_time(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {"timestamp": event["timestamp"], "level": event["level"], "event": event["event"], **event}


def _console() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0, sort_keys=False)
    return [TimeStamper(fmt="%H:%M:%S", utc=False), _for_people, renderer, _encoded]


def _for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out what programs alone look for: the id in the answer finds the line."""
    event.pop("trace_id", None)
    return event


def _encoded(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")
