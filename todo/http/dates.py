"""Days and moments, as clients write them and as the table keeps them.

A day (`2026-03-01`) is a day everywhere and comes back as it was sent. It stands at its last moment in UTC wherever it
is compared with moments. A moment without an offset, as `datetime-local` inputs send it, is in UTC.
"""

import re
from datetime import UTC, date, datetime, time
from typing import NamedTuple

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-5][0-9])?"
)
LAST_MOMENT = time(23, 59, 59, 999999, UTC)


class Due(NamedTuple):
    """When something is due: the moment, and whether it stands for the whole of its day in UTC."""

    at: datetime
    all_day: bool


def parse(text: str) -> date | datetime:
    """Read a day, or a moment in UTC (RFC 3339; the offset and the seconds may be missing).

    Raises:
        ValueError: it is neither, or there is no such day or moment.

    """
    if DATE.fullmatch(text):
        return date.fromisoformat(text)
    if not DATETIME.fullmatch(text.upper()):
        raise ValueError("neither a day nor a moment")
    moment = datetime.fromisoformat(text.upper())
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("before the first year or after the last one") from None


def due(moment: date | datetime) -> Due:
    """Give what the table keeps of a due date."""
    if isinstance(moment, datetime):
        return Due(moment, all_day=False)
    return Due(datetime.combine(moment, LAST_MOMENT), all_day=True)


def bound(moment: date | datetime) -> datetime:
    """Give the moment that a bound of a search means: of a day its first one in UTC."""
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time(0, tzinfo=UTC))
