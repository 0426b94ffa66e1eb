"""What goes to the log, and the id that ties an answer to it."""

import hashlib
import logging
import re
import sys
import uuid

import structlog
from flask import Flask, Response, g, has_request_context, request
from structlog.typing import EventDict, WrappedLogger

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("todo")

# Long enough for every tracing scheme, short enough for a log line, and nothing that could forge one.
WELL_FORMED_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")


def request_id() -> str:
    """Give this request's id: the client's `X-Request-ID` when it is well formed, else a new one."""
    if "request_id" not in g:
        sent = request.headers.get("X-Request-ID", "")
        g.request_id = sent if WELL_FORMED_REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
    known: str = g.request_id
    return known


def hashed(user_id: str) -> str:
    """Give what stands for a user in the log: the first 16 digits of the id's SHA-256, as `sha256sum` writes it.

    Whoever knows the id finds the user's lines; whoever reads the log does not learn the id.
    """
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put on each line which request it is about: the template of the path, never the path, which holds a user's id."""
    if has_request_context():
        event["request_id"] = request_id()
        event["method"] = request.method
        event["route"] = request.url_rule.rule if request.url_rule else None
    return event


def _echo_request_id(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    return response


def init_app(app: Flask, level: str) -> None:
    """Write one JSON line per event to stderr, from `level` up, and echo the request id on every answer."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_request,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    app.after_request(_echo_request_id)
