"""iCalendar (RFC 5545), written by hand: the one library for it would cost each process 8 MiB."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from todo.tasks.rows import TaskRow

MEDIA_TYPE = "text/calendar"

# The most octets of a line, without its end (section 3.1).
LINE_MAX = 75

# The greatest integer that all readers hold (section 3.3.8).
INTEGER_MAX = 2**31 - 1

# What is to be escaped in a text, and the control characters that none may have (sections 3.1 and 3.3.11). Every kind
# of line end becomes the one that there is.
SPECIAL = re.compile(r"[\\;,]")
LINE_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")

PRIORITIES = {"high": 1, "medium": 5, "low": 9}

# How long an event takes that is due at a moment.
DURATION = "PT30M"

# How often programs should read a calendar that changes.
REFRESH = "PT1H"

HEAD = (
    "BEGIN:VCALENDAR",
    "VERSION:2.0",
    "PRODID:-//todo//Tasks//EN",
    "CALSCALE:GREGORIAN",
    "METHOD:PUBLISH",
    "NAME:Tasks",
    "X-WR-CALNAME:Tasks",
    f"REFRESH-INTERVAL;VALUE=DURATION:{REFRESH}",
    f"X-PUBLISHED-TTL:{REFRESH}",
)


@dataclass(frozen=True, slots=True)
class Form:
    """How a calendar shows tasks.

    Attributes:
        as_todos: Whether they are tasks (VTODO), instead of events (VEVENT), which more programs show.
        alarm: How long before they are due programs should remind of them, as a duration (section 3.3.6), if at all.

    """

    as_todos: bool
    alarm: str | None


def write(owner: str, tasks: Sequence[TaskRow], form: Form) -> bytes:
    """Return the calendar of a user.

    Args:
        owner: The id of the user, of which a hash alone is written.
        tasks: Tasks with a due date.
        form: How it shows them.

    """
    suffix = hashlib.sha256(owner.encode()).hexdigest()[:16]
    lines = [*HEAD]
    for task in tasks:
        lines += _component(task, f"{task['id']}-{suffix}@todo", form)
    lines.append("END:VCALENDAR")
    return b"".join(_folded(line) for line in lines)


def _component(task: TaskRow, uid: str, form: Form) -> Iterator[str]:
    name = "VTODO" if form.as_todos else "VEVENT"
    changed = _moment(task["updated_at"])
    yield f"BEGIN:{name}"
    yield f"UID:{uid}"
    # A calendar that is published is the same whenever it is read.
    yield f"DTSTAMP:{changed}"
    yield f"CREATED:{_moment(task['created_at'])}"
    yield f"LAST-MODIFIED:{changed}"
    yield f"SEQUENCE:{min(task['revision'], INTEGER_MAX)}"
    yield from _todo(task) if form.as_todos else _event(task)
    if task["description"]:
        yield f"DESCRIPTION:{_text(task['description'])}"
    if task["tags"]:
        yield f"CATEGORIES:{','.join(map(_text, task['tags']))}"
    if task["priority"]:
        yield f"PRIORITY:{PRIORITIES[task['priority']]}"
    # Nobody wants to be reminded of what is done.
    if form.alarm and not task["completed"]:
        yield from _alarm(task, form.alarm, "END" if form.as_todos else "START")
    yield f"END:{name}"


def _todo(task: TaskRow) -> Iterator[str]:
    yield f"SUMMARY:{_text(task['title'])}"
    yield f"DUE{_when(task['due_date'])}"
    yield f"STATUS:{'COMPLETED' if task['completed'] else 'NEEDS-ACTION'}"
    if task["completed"]:
        yield f"COMPLETED:{_moment(task['completed_at'])}"
        yield "PERCENT-COMPLETE:100"


def _event(task: TaskRow) -> Iterator[str]:
    due = task["due_date"]
    yield f"SUMMARY:{'✓ ' if task['completed'] else ''}{_text(task['title'])}"
    yield f"DTSTART{_when(due)}"
    yield f"DURATION:{DURATION}" if isinstance(due, datetime) else f"DTEND{_when(due + timedelta(days=1))}"
    # It makes nobody busy.
    yield "TRANSP:TRANSPARENT"


def _alarm(task: TaskRow, before: str, related: str) -> Iterator[str]:
    yield "BEGIN:VALARM"
    yield "ACTION:DISPLAY"
    yield f"DESCRIPTION:{_text(task['title'])}"
    yield f"TRIGGER;RELATED={related}:-{before}"
    yield "END:VALARM"


def _when(due: date) -> str:
    """Return the rest of a property whose value is a date-time or a date (sections 3.3.4 and 3.3.5)."""
    return f":{_moment(due)}" if isinstance(due, datetime) else f";VALUE=DATE:{due:%Y%m%d}"


def _moment(utc: datetime) -> str:
    # Not by `strftime`, which leaves the zeros of early years out.
    return re.sub("[-:]", "", utc.isoformat(timespec="seconds")) + "Z"


def _text(text: str) -> str:
    escaped = SPECIAL.sub(r"\\\g<0>", LINE_ENDS.sub("\n", text))
    return CONTROLS.sub("", escaped.replace("\n", r"\n"))


def _folded(line: str) -> bytes:
    """Return a line with its end, folded where it is too long, and never inside a character (section 3.1)."""
    data = line.encode()
    if len(data) <= LINE_MAX:
        return data + b"\r\n"
    pieces = []
    begin, room = 0, LINE_MAX
    while len(data) - begin > room:
        end = begin + room
        # The octets after the first one of a character begin with the bits 10.
        while data[end] & 0xC0 == 0x80:  # noqa: PLR2004 (bits)
            end -= 1
        pieces.append(data[begin:end])
        # The space at its beginning counts.
        begin, room = end, LINE_MAX - 1
    pieces.append(data[begin:])
    return b"\r\n ".join(pieces) + b"\r\n"
