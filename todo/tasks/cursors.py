"""Cursors: where the next page begins, written so that a client can carry it and cannot mistake it."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from todo.tasks.listing import Filters, Position, SortKey
from todo.tasks.models import PRIORITIES, TITLE_MAX

VERSION = 1

DIGEST_BYTES = 8
PERSON = b"todo cursor"


# What every cursor is made of, as the documentation says it.
SEALED = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}


class BadCursor(ValueError):
    """The cursor cannot be used; the message says why."""


def seal(parts: Sequence[Any]) -> str:
    """Write down some parts, of which the first says what they are for and in which version."""
    payload = orjson.dumps(parts, option=orjson.OPT_NAIVE_UTC)
    return _written(payload + _digest(payload))


def unseal(cursor: str, version: Any) -> list[Any]:
    """Read the parts that were written down, without the first one.

    They may still be nonsense: a cursor can be forged, and that must break nothing.

    Raises:
        BadCursor: it is damaged, or of another version.

    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        payload, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        # The same bytes can be written in several ways, of which only one is ours.
        parts = orjson.loads(payload) if digest == _digest(payload) and _written(data) == cursor else None
    except ValueError:
        parts = None
    if not isinstance(parts, list):
        raise BadCursor("is not one that this service gave, or it was altered: begin again without it.")
    if parts[:1] != [version]:
        raise BadCursor("was given by another version of this service: begin again without it.")
    return parts[1:]


def forged() -> BadCursor:
    """Make the error for parts that nobody but a forger can have written."""
    return BadCursor("is not one that this service gave: begin again without it.")


def encode(filters: Filters, sort: tuple[SortKey, ...], last: Position) -> str:
    """Write down where the page after this task begins."""
    return seal([VERSION, _question(filters, sort), last.values, last.id, last.as_of])


def decode(cursor: str, filters: Filters, sort: tuple[SortKey, ...]) -> Position:
    """Read where to go on.

    Raises:
        BadCursor: it is damaged, of another version, or made for other filters or another order.

    """
    parts = unseal(cursor, VERSION)
    try:
        question, values, last_id, as_of = parts
        if question != _question(filters, sort):
            raise BadCursor("was given for other filters or another order: begin again without it.")
        read = tuple(_read(key, value) for key, value in zip(sort, values, strict=True))
        return Position(read, integer(last_id), _moment(as_of))
    except (TypeError, ValueError) as error:
        if isinstance(error, BadCursor):
            raise
        raise forged() from None


def _question(filters: Filters, sort: tuple[SortKey, ...]) -> str:
    """Give a short name for what was asked."""
    return _digest(orjson.dumps([filters, sort])).hex()


def _written(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, person=PERSON).digest()


def _read(key: SortKey, value: Any) -> Any:
    """Read one value that tasks are sorted by. A cursor can be forged: that must break nothing, and opens nothing."""
    match key.name:
        case "id":
            return integer(value)
        case "completed" if isinstance(value, bool):
            return value
        case "title" if isinstance(value, str) and len(value) <= TITLE_MAX and "\0" not in value:
            return value
        case "priority" if value is None or value in PRIORITIES:
            return value
        case "due_date" if value is None:
            return None
        case "created_at" | "updated_at" | "due_date":
            return _moment(value).replace(tzinfo=None)
    raise ValueError


def integer(value: Any) -> int:
    """Read a number that the database could have given as an id or a revision, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError
    return value


def _moment(value: Any) -> datetime:
    """Read a moment in UTC, in the one way in which it is written here."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo != UTC or moment.isoformat() != value:
        raise ValueError
    return moment
