"""Dates and date-times, as clients write them and as the table stores them.

A date (`2026-03-01`) is the same date in every time zone, and is returned as it was sent. In comparisons with
date-times it stands for its last microsecond, in UTC or in the time zone of the request. A date-time without an offset,
as `datetime-local` inputs send it, is in UTC.
"""

import re
from datetime import UTC, date, datetime, time, tzinfo
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?:Z|[+-][0-9]{2}:?[0-5][0-9])?"
)
END_OF_DAY = time(23, 59, 59, 999999, UTC)


class Due(NamedTuple):
    """A due date as the table stores it: a date-time, and whether it stands for its whole date in UTC."""

    at: datetime
    all_day: bool


def parse(text: str) -> date | datetime:
    """Parse a date, or a date-time (RFC 3339, with optional seconds and offset), which is returned in UTC.

    Raises:
        ValueError: The text is neither, or the date or date-time does not exist.

    """
    if DATE.fullmatch(text):
        return date.fromisoformat(text)
    if not DATETIME.fullmatch(text.upper()):
        raise ValueError("neither a date nor a date-time")
    value = datetime.fromisoformat(text.upper())
    try:
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("before the first year or after the last one") from None


def due(value: date | datetime) -> Due:
    """Return a due date as the table stores it."""
    if isinstance(value, datetime):
        return Due(value, all_day=False)
    return Due(datetime.combine(value, END_OF_DAY), all_day=True)


def bound(value: date | datetime, zone: tzinfo = UTC) -> datetime:
    """Return the date-time in UTC that a bound of a search stands for; for a date, its first instant in a time zone."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.combine(value, time(), zone).astimezone(UTC)
    except OverflowError:
        # East of UTC the first year began before the first date-time.
        return datetime.min.replace(tzinfo=UTC)


def date_in(zone: tzinfo, moment: datetime) -> date:
    """Return the date in a time zone at a moment; the first or the last date if that is beyond the years 1 to 9999."""
    try:
        return moment.astimezone(zone).date()
    except OverflowError:
        return date.min if moment.year == 1 else date.max


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database, in upper or lower case.

    Raises:
        KeyError: There is no time zone of this name.

    """
    return ZoneInfo(_zone_names()[name.lower()])


@cache
def _zone_names() -> dict[str, str]:
    """Return the names of the time zones, each by its lower case.

    The folders of systems have other files beside them: `localtime`, `posixrules`, and variants in `posix` and `right`.
    `Factory` is for computers that were not told their time zone.
    """
    names = (files("tzdata") / "zones").read_text(encoding="ascii").split()
    return {name.lower(): name for name in names if name != "Factory"}
