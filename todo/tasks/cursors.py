"""The cursors of task lists: where the next page begins, and of which filters and order."""

from datetime import UTC, datetime
from typing import Any

import orjson

from todo.http.pagination import BadCursor, ForgedCursor, bigint, decode_cursor, encode_cursor, short_digest
from todo.tasks.listing import Filters, Position, SortKey
from todo.tasks.models import PRIORITIES, TITLE_MAX

VERSION = 2


def encode(filters: Filters, sort: tuple[SortKey, ...], last: Position) -> str:
    """Return the cursor of the page that begins after this task."""
    return encode_cursor([VERSION, _digest(filters, sort), last.values, last.id, last.as_of])


def decode(cursor: str, filters: Filters, sort: tuple[SortKey, ...]) -> Position:
    """Return the position that a cursor holds.

    Raises:
        BadCursor: it is damaged, of another version, or of other filters or another order.

    """
    digest, values, last_id, as_of = decode_cursor(cursor, VERSION, 4)
    if digest != _digest(filters, sort):
        raise BadCursor("was given for other filters or another order: begin again without it.")
    try:
        checked = tuple(_checked(key, value) for key, value in zip(sort, values, strict=True))
        return Position(checked, bigint(last_id), _time(as_of))
    except (TypeError, ValueError):
        raise ForgedCursor from None


def _digest(filters: Filters, sort: tuple[SortKey, ...]) -> str:
    return short_digest(orjson.dumps([filters, sort])).hex()


def _checked(key: SortKey, value: Any) -> Any:
    """Return a value that tasks are sorted by, or raise ValueError.

    A cursor can be forged. That gives no access to anything, and must not lead to a statement that fails.
    """
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
            return _time(value).replace(tzinfo=None)
    raise ValueError


def _time(value: Any) -> datetime:
    """Return a time in UTC from the one form in which cursors hold it, or raise ValueError."""
    time = datetime.fromisoformat(value)
    if time.tzinfo != UTC or time.isoformat() != value:
        raise ValueError
    return time
