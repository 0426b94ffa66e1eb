"""The body of a request: read within bounds, and parsed as JSON (RFC 8259)."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
from flask import request
from marshmallow import missing

from todo.context import current_request
from todo.http.problems import BadRequest, ContentTooLarge, UnsupportedMediaType

# How long a body may be, and for which routes it may be longer. The paths of a route are those with and without a
# trailing slash.
BODY_MAX_BYTES = 64 * 1024
IMPORT_MAX_BYTES = 2 * 1024 * 1024
LONGER_BODIES = {"/api/<user_id>/tasks/batch": 512 * 1024, "/api/<user_id>/import": IMPORT_MAX_BYTES}

DISCARD_MAX_BYTES = 16 * 1024 * 1024
DISCARD_MAX_S = 5
NESTING_MAX = 100

PATHS: dict[re.Pattern[str], int] = {}

INCOMPLETE = "The request body ended before it was complete."


def lengthen(route: str, max_bytes: int) -> None:
    """Let the bodies of a route be longer."""
    PATHS[re.compile(re.sub(r"<\w+>", "[^/]+", route) + "/?")] = max_bytes


for longer in LONGER_BODIES.items():
    lengthen(*longer)


def body_max_bytes(path: str) -> int:
    """Return how many bytes the body of a request may have.

    Args:
        path: The path of the request, without percent-encoding.

    """
    return next((max_bytes for paths, max_bytes in PATHS.items() if paths.fullmatch(path)), BODY_MAX_BYTES)


def read_json(media_types: Sequence[str]) -> Any:
    """Read the body of the request as JSON (RFC 8259).

    Args:
        media_types: The media types that the body may have. A body without one counts as JSON.

    Returns:
        The parsed body, or `marshmallow.missing` if the body is empty.

    Raises:
        BadRequest: The body is incomplete, is not JSON, or is nested too deeply.
        ContentTooLarge: The body is longer than `body_max_bytes` of the path.
        UnsupportedMediaType: The body has another media type or a content coding.

    """
    data = read_bytes(media_types)
    if not data:
        return missing
    try:
        document = orjson.loads(data)
    except ValueError as error:
        # The parser's message describes the body and the position in it, and nothing of this service.
        raise BadRequest(f"The request body is not valid JSON: {error}.") from None
    # Only a body with many brackets can be nested deeply, so all other bodies are spared the walk.
    if data.count(b"[") + data.count(b"{") > NESTING_MAX and _nests_too_deeply(document):
        raise BadRequest(f"The request body is nested more than {NESTING_MAX} levels deep.")
    return document


def read_bytes(media_types: Sequence[str], too_large: str | None = None) -> bytes:
    """Read the body of the request as it is; raise as `read_json` does, but for what is no JSON.

    Args:
        media_types: The media types that the body may have. A body without one passes.
        too_large: The sentence about a body that is longer than its route allows.

    """
    try:
        data = _read()
    except ContentTooLarge:
        raise ContentTooLarge(too_large) from None
    if not data:
        return data
    request = current_request()
    if (media_type := request.mimetype) and media_type not in media_types:
        *others, last = media_types
        expected = f"{', '.join(others)} or {last}" if others else last
        raise UnsupportedMediaType(
            f"The request body must have the media type {expected}.", headers={"Accept": ", ".join(media_types)}
        )
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType(
            "The request body must be sent without a content coding.", headers={"Accept-Encoding": "identity"}
        )
    return data


def _read() -> bytes:
    request = current_request()
    length, max_bytes = request.content_length or 0, body_max_bytes(request.path)
    data = b""
    try:
        # Nothing is read where the length alone is too large. The worker of this project does not wait for such a body.
        if length <= max_bytes:
            stream = request.stream
            while len(data) <= max_bytes and (piece := stream.read(max_bytes + 1 - len(data))):
                data += piece
    except Exception as error:
        # Each server has its own exceptions for a body that is cut short or framed wrongly.
        raise BadRequest(INCOMPLETE, reason=type(error).__name__) from error
    if max(length, len(data)) > max_bytes:
        _discard_rest()
        raise ContentTooLarge
    # The part that arrived may be valid JSON by itself, and is still not the body that the client meant to send.
    if len(data) < length:
        raise BadRequest(INCOMPLETE)
    return data


def _discard_rest() -> None:
    """Read the rest of a body that is too large, within bounds of size and time.

    A client that sends its whole request before it reads would otherwise see a closed connection instead of the 413.
    """
    deadline = time.monotonic() + DISCARD_MAX_S
    discarded = 0
    # However the rest ends, the body is too large.
    with suppress(Exception):
        while discarded < DISCARD_MAX_BYTES and time.monotonic() < deadline:
            piece = request.stream.read(BODY_MAX_BYTES)
            if not piece:
                break
            discarded += len(piece)


def _nests_too_deeply(document: Any) -> bool:
    level: list[Any] = [[document]]
    for _ in range(NESTING_MAX + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)
