"""Cursors: where the next page begins, written so that a client can carry it and cannot mistake it."""

from datetime import UTC, datetime
from typing import Any

import orjson

from todo.http.pagination import BadCursor, ForgedCursor, bigint, decode_cursor, encode_cursor, short_digest
from todo.tasks.listing import Filters, Position, SortKey
from todo.tasks.models import PRIORITIES, TITLE_MAX

VERSION = 1


def encode(filters: Filters, sort: tuple[SortKey, ...], last: Position) -> str:
    """Write down where the page after this task begins."""
    return encode_cursor([VERSION, _question(filters, sort), last.values, last.id, last.as_of])


def decode(cursor: str, filters: Filters, sort: tuple[SortKey, ...]) -> Position:
    """Read where to go on.

    Raises:
        BadCursor: it is damaged, of another version, or made for other filters or another order.

    """
    parts = decode_cursor(cursor, VERSION)
    try:
        question, values, last_id, as_of = parts
        if question != _question(filters, sort):
            raise BadCursor("was given for other filters or another order: begin again without it.")
        read = tuple(_read(key, value) for key, value in zip(sort, values, strict=True))
        return Position(read, bigint(last_id), _moment(as_of))
    except (TypeError, ValueError) as error:
        if isinstance(error, BadCursor):
            raise
        raise ForgedCursor from None


def _question(filters: Filters, sort: tuple[SortKey, ...]) -> str:
    """Give a short name for what was asked."""
    return short_digest(orjson.dumps([filters, sort])).hex()


def _read(key: SortKey, value: Any) -> Any:
    """Read one value that tasks are sorted by. A cursor can be forged: that must break nothing, and opens nothing."""
    match key.name:
        case "id":
            return bigint(value)
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


def _moment(value: Any) -> datetime:
    """Read a moment in UTC, in the one way in which it is written here."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo != UTC or moment.isoformat() != value:
        raise ValueError
    return moment
