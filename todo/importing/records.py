"""Records: the tasks of a file as every format gives them, before the rules of this service apply to them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from todo.http import dates

# Where a record begins: `line`, counted from 1 over the physical lines of the file, or `pointer` (RFC 6901).
Place = Mapping[str, Any]

ZIP = b"PK\x03\x04"
FOLD = re.compile(rb"\r?\n[ \t]")
FOLDED = re.compile(rb"^(?:[^\n]*+\n[ \t])++[^\n]*+\n?", re.MULTILINE)


class Unreadable(Exception):
    """A file that is not of its format as a whole; the message is a sentence for people.

    Args:
        message: The sentence.
        place: Where the fault is, if it is at one place.

    """

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.place = place or {}


class Remark(NamedTuple):
    """A warning that concerns no single task."""

    place: Place
    detail: str


@dataclass(slots=True, kw_only=True)
class Record:
    """A task of a file.

    Attributes:
        place: Where it begins.
        members: The body of a creation, as a client would send it.
        created_at: When it was created, if the source says so.
        updated_at: When it was last changed, if that is to be kept.
        completed_at: When it was completed, if the source says so.
        source_id: Its id in the source, if there is one.
        content: What the source says of it. It stands for the task where there is no id, so it depends on the file
            alone.
        task_id: Its id in the service that exported it, which may be this one.
        lines: Lines for the description, with what no member holds.
        warnings: Sentences about what is kept elsewhere, or left out.
        faults: Sentences about what makes it no task.
        skipped: Why it is left out, although nothing is wrong with it.

    """

    place: Place
    members: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    completed_at: datetime | None = None
    source_id: str = ""
    content: Any = None
    task_id: int | None = None
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    skipped: str = ""

    def keep(self, name: str, value: str) -> None:
        """Keep what no member holds as a line of the description."""
        self.lines.append(f"{name}: {value}")
        self.warnings.append(f"{name} is kept as a line of the description.")

    def read_time(self, name: str, text: str, zone: ZoneInfo) -> datetime | None:
        """Parse a time of this record; an empty text is none, and one that cannot be read is a fault."""
        if not text:
            return None
        try:
            return instant(text, zone)
        except ValueError:
            self.faults.append(f"{name} must be a date-time such as 2026-03-01T09:30:00Z that exists.")
            return None


def decoded(data: bytes) -> str:
    """Return the text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one, as Excel writes it.

    Some writers of iCalendar fold lines inside a character. Such lines are unfolded first, and empty lines take their
    place, so that the numbers of the others stay.

    Raises:
        Unreadable: It has another encoding, or is an archive.

    """
    if data.startswith(ZIP):
        raise Unreadable("The file is a ZIP archive: unpack it, and import the files in it.")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        pass
    try:
        return FOLDED.sub(_unfolded, data).decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("The file is not UTF-8: save it with that encoding.") from None


def _unfolded(folded: re.Match[bytes]) -> bytes:
    line, number = FOLD.subn(b"", folded[0])
    return line + b"\n" * number


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the physical lines of a text with their numbers, without their ends."""
    return enumerate(re.split(r"\r\n|\n|\r", text), 1)


def time_zone(name: str) -> ZoneInfo | None:
    """Return the time zone of an IANA name, in any case, or None if there is none."""
    try:
        return dates.zone(name)
    except KeyError:
        return None


def instant(text: str, zone: ZoneInfo) -> datetime:
    """Parse a time, which is in this zone if it has no offset, and return it in UTC. A date is its first instant.

    Raises:
        ValueError: The text is no date and no date-time, or it does not exist.

    """
    value = dates.parse(text)
    if not isinstance(value, datetime):
        return in_utc(datetime(value.year, value.month, value.day), zone)  # noqa: DTZ001 (it gets its zone there)
    return value if _has_offset(text) else in_utc(value.replace(tzinfo=None), zone)


def due(text: str, zone: ZoneInfo) -> str:
    """Return a due date as a creation takes it: a time without an offset, which is in this zone, gets one.

    What is neither a date nor a date-time is returned as it is, for the rule of the member to refuse.
    """
    try:
        value = dates.parse(text)
        return instant(text, zone).isoformat() if isinstance(value, datetime) else text
    except ValueError:
        return text


def is_iso(text: str) -> bool:
    """Check whether a text is a date or a date-time that exists."""
    try:
        dates.parse(text)
    except ValueError:
        return False
    return True


def in_utc(local: date | datetime, zone: ZoneInfo) -> datetime:
    """Return a local time, which has no zone yet, in UTC.

    Raises:
        ValueError: It is before the first year or after the last one.

    """
    when = local if isinstance(local, datetime) else datetime(local.year, local.month, local.day)  # noqa: DTZ001
    try:
        return when.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        raise ValueError("before the first year or after the last one") from None


def _has_offset(text: str) -> bool:
    """Check whether a date-time has an offset; before it there may be a minus sign in its date alone."""
    return text.upper().endswith("Z") or any(sign in text[11:] for sign in "+-")
