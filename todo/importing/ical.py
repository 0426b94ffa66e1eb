"""iCalendar: the tasks (VTODO) of a calendar (RFC 5545). Events and journals are no tasks.

The lines are read by hand: a library takes a hundred times as long, names no lines, and keeps the time zones of one
file for the next, which may be another user's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

from todo.importing.records import Record, Remark, Unreadable, in_utc, numbered_lines, time_zone

NAME = "ical"

# The name of a property, its parameters and its value (RFC 5545, section 3.1). No repetition gives anything back.
VALUE = r'(?:"[^"]*+"|[^";:,]*+)'
CONTENT_LINE = re.compile(rf"([A-Za-z0-9-]++)((?:;[A-Za-z0-9-]++={VALUE}(?:,{VALUE})*+)*+):(.*)", re.DOTALL)
PARAMETER = re.compile(rf";([A-Za-z0-9-]++)=({VALUE})")
ESCAPED = re.compile(r"\\(.)", re.DOTALL)
PART = re.compile(r"(?:[^\\,]|\\.)++", re.DOTALL)
DATE = re.compile(r"[0-9]{8}")
DATE_TIME = re.compile(r"([0-9]{8}T[0-9]{6})(Z?)")
DURATION = re.compile(
    r"\+?P(?:(?P<weeks>[0-9]{1,5})W|(?:(?P<days>[0-9]{1,5})D)?(?:T(?:(?P<hours>[0-9]{1,5})H)?"
    r"(?:(?P<minutes>[0-9]{1,5})M)?(?:(?P<seconds>[0-9]{1,5})S)?)?)"
)

# What is kept as a line of the description, and under which name.
KEPT = {
    "RRULE": "Repeats", "RDATE": "Repeats", "EXDATE": "Does not repeat", "LOCATION": "Location", "URL": "Link",
    "COMMENT": "Comment", "ATTACH": "Attachment", "CONTACT": "Contact", "ORGANIZER": "Organizer",
    "ATTENDEE": "Attendee", "RESOURCES": "Resources",
}  # fmt: skip
READ = frozenset({
    *KEPT, "UID", "SUMMARY", "DESCRIPTION", "DUE", "DTSTART", "DURATION", "STATUS", "COMPLETED", "PRIORITY",
    "CATEGORIES", "CREATED", "RECURRENCE-ID", "RELATED-TO", "PERCENT-COMPLETE",
})  # fmt: skip
# What programs need to keep two copies of a task in step.
IGNORED = frozenset({"DTSTAMP", "LAST-MODIFIED", "SEQUENCE", "CLASS", "REQUEST-STATUS"})

# The longest names of zones, such as America/Argentina/Ushuaia.
ZONE_PARTS_MAX = 3

OTHERS = frozenset({"VEVENT", "VJOURNAL"})


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a component: its parameters, by their names in upper case, and its value as it is written."""

    parameters: dict[str, str]
    value: str

    @property
    def text(self) -> str:
        """The value as a text (RFC 5545, section 3.3.11)."""
        return ESCAPED.sub(lambda escaped: "\n" if escaped[1] in "nN" else escaped[1], self.value)


@dataclass(slots=True)
class Todo:
    """A VTODO: its line, its properties by their names, and what is in it that cannot be read."""

    line: int
    properties: dict[str, list[Property]] = field(default_factory=dict)
    has_alarm: bool = False
    faults: list[str] = field(default_factory=list)

    def get(self, name: str) -> Property | None:
        """Return the first property of a name."""
        return next(iter(self.properties.get(name, ())), None)

    def text(self, name: str) -> str:
        """Return the text of the first property of a name; without one, an empty text."""
        found = self.get(name)
        return found.text if found else ""


class Calendar:
    """A calendar as its lines are read.

    Attributes:
        name: Its name.
        zones: The IANA names of its time zones, by the names in the file, where it states them.
        todos: Its tasks.
        others: How many events and journal entries it has.

    """

    def __init__(self) -> None:
        self.name = ""
        self.zones: dict[str, str] = {}
        self.todos: list[Todo] = []
        self.others = 0
        self._inside: list[str] = []
        self._todo: Todo | None = None
        self._zone = ""

    def read(self, number: int, line: str) -> None:
        """Read a content line, which begins on the physical line of this number."""
        matched = CONTENT_LINE.fullmatch(line)
        if matched is None:
            if self._todo is not None and line.strip():
                self._todo.faults.append(f"Line {number} is no property with a name and a value.")
            return
        name, value = matched[1].upper(), matched[3]
        if name == "BEGIN":
            self._begin(value.strip().upper(), number)
        elif name == "END":
            self._end(value.strip().upper())
        else:
            self._property(name, matched[2], value)

    def close(self) -> None:
        """End the calendar with its last line."""
        if self._todo is not None:
            self._todo.faults.append("The file was cut off: the task has no END:VTODO.")

    def _begin(self, component: str, number: int) -> None:
        self._inside.append(component)
        self.others += component in OTHERS
        if component == "VTODO":
            self.close()
            self._todo = Todo(number)
            self.todos.append(self._todo)
        elif component == "VALARM" and self._todo is not None:
            self._todo.has_alarm = True

    def _end(self, component: str) -> None:
        if component in self._inside:
            while self._inside.pop() != component:
                pass
        if component == "VTODO":
            self._todo = None

    def _property(self, name: str, parameters: str, value: str) -> None:
        match self._inside[-1:]:
            case ["VTODO"] if self._todo is not None:
                given = {key.upper(): quoted.strip('"') for key, quoted in PARAMETER.findall(parameters)}
                self._todo.properties.setdefault(name, []).append(Property(given, value))
            case ["VTIMEZONE"] if name == "TZID":
                self._zone = value.strip()
            case ["VTIMEZONE"] if name == "X-LIC-LOCATION":
                self.zones[self._zone] = value.strip()
            case ["VCALENDAR"] if name in {"NAME", "X-WR-CALNAME"}:
                self.name = self.name or Property({}, value).text.strip()


def detect(text: str) -> bool:
    """Check whether a file begins as a calendar."""
    return text.lstrip()[:15].upper() == "BEGIN:VCALENDAR"


def read(text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
    """Yield the tasks of a calendar, with its name as a tag.

    Args:
        text: The content of the file.
        zone: The zone of times without one ("floating").

    Raises:
        Unreadable: It is no calendar.

    """
    if not detect(text):
        raise Unreadable("The file must begin with BEGIN:VCALENDAR.", {"line": 1})
    calendar = Calendar()
    for number, line in _unfolded(text):
        calendar.read(number, line)
    calendar.close()
    titles = {todo.text("UID"): todo.text("SUMMARY") for todo in calendar.todos}
    remarked = set(READ | IGNORED)
    for todo in calendar.todos:
        record = Record(place={"line": todo.line}, faults=todo.faults)
        for name in [name for name in todo.properties if name not in remarked and not name.startswith("X-")]:
            remarked.add(name)
            yield Remark(record.place, f"The property {name} is left out.")
        _fill(record, todo, titles, calendar, zone)
        yield record
    if calendar.others:
        yield Remark(
            {"line": 1}, f"Only tasks are imported: {calendar.others} events and journal entries are left out."
        )


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Yield the content lines with the number of their first physical line (RFC 5545, section 3.1)."""
    first, parts = 1, [""]
    for number, line in numbered_lines(text):
        if line[:1] in {" ", "\t"}:
            parts.append(line[1:])
            continue
        yield first, "".join(parts)
        first, parts = number, [line]
    yield first, "".join(parts)


def _fill(record: Record, todo: Todo, titles: dict[str, str], calendar: Calendar, zone: ZoneInfo) -> None:
    uid = todo.text("UID")
    # The changed occurrences of a repeated task share its id.
    record.source_id = f"{uid} {todo.text('RECURRENCE-ID')}".strip() if uid else ""
    record.content = {
        name: [[given.parameters, given.value] for given in todo.properties[name]]
        for name in sorted(READ & todo.properties.keys())
    }
    tags = [
        Property({}, part).text.strip()
        for given in todo.properties.get("CATEGORIES", ())
        for part in PART.findall(given.value)
    ]
    record.members = {
        "title": todo.text("SUMMARY"),
        "description": todo.text("DESCRIPTION") or None,
        "tags": [tag for tag in (*tags, calendar.name) if tag],
    }
    _fill_state(record, todo)
    _fill_times(record, todo, calendar, zone)
    for name, label in KEPT.items():
        for given in todo.properties.get(name, ()):
            record.keep(label, given.value if name in {"RRULE", "RDATE", "EXDATE"} else given.text)
    for given in todo.properties.get("RELATED-TO", ()):
        if given.parameters.get("RELTYPE", "PARENT").upper() == "PARENT":
            record.keep("Subtask of", titles.get(given.text) or given.text)
        else:
            record.keep("Related to", titles.get(given.text) or given.text)
    if todo.has_alarm:
        record.warnings.append("The alarm is left out.")


def _fill_state(record: Record, todo: Todo) -> None:
    status = todo.text("STATUS").strip().upper()
    is_done = todo.get("COMPLETED") is not None or todo.text("PERCENT-COMPLETE").strip() == "100"
    record.members["completed"] = status in {"COMPLETED", "CANCELLED"} or (not status and is_done)
    if status not in {"", "NEEDS-ACTION", "COMPLETED"}:
        record.keep("Status", status.lower())
    priority = todo.text("PRIORITY").strip()
    if re.fullmatch("[0-9]", priority):
        record.members["priority"] = _priority(int(priority))
    elif priority:
        record.keep("Priority", priority)


def _priority(number: int) -> str | None:
    """Return the name of a priority: from 1 to 4 high, 5 medium, from 6 to 9 low (RFC 5545, section 3.8.1.9)."""
    if number == 0:
        return None
    return "high" if number < 5 else "medium" if number == 5 else "low"  # noqa: PLR2004 (the RFC's numbers)


def _fill_times(record: Record, todo: Todo, calendar: Calendar, zone: ZoneInfo) -> None:
    times: dict[str, date | datetime] = {}
    for name in ("DUE", "DTSTART", "CREATED", "COMPLETED"):
        if (given := todo.get(name)) is None:
            continue
        try:
            when = _time(record, given, calendar, zone)
            times[name] = when if isinstance(when, datetime) or name in {"DUE", "DTSTART"} else in_utc(when, zone)
        except ValueError:
            record.faults.append(f"{name} must be a date such as 20260301 or a date-time such as 20260301T093000Z.")
    start, due = times.get("DTSTART"), times.get("DUE")
    if start is not None and due is None and (duration := todo.get("DURATION")) is not None:
        due = _end(record, start, duration.value)
        start = None
    if start is not None and due is not None and start != due:
        record.keep("Start", start.isoformat())
    if (limit := due or start) is not None:
        record.members["due_date"] = limit.isoformat()
    record.created_at = cast(datetime | None, times.get("CREATED"))
    record.completed_at = cast(datetime | None, times.get("COMPLETED"))


def _time(record: Record, given: Property, calendar: Calendar, zone: ZoneInfo) -> date | datetime:
    """Return a date, or a date-time in UTC (RFC 5545, sections 3.3.4 and 3.3.5)."""
    value = given.value.strip()
    if DATE.fullmatch(value):
        return datetime.strptime(value, "%Y%m%d").date()  # noqa: DTZ007 (a date has no zone)
    if not (matched := DATE_TIME.fullmatch(value)):
        raise ValueError(value)
    local = datetime.strptime(matched[1], "%Y%m%dT%H%M%S")  # noqa: DTZ007 (the next lines add it)
    if matched[2]:
        return local.replace(tzinfo=UTC)
    name = given.parameters.get("TZID", "")
    own_zone = _zone(name, calendar) if name else zone
    if own_zone is None:
        record.warnings.append(f"The time zone is not known, so {zone.key} is used.")
    return in_utc(local, own_zone or zone)


def _zone(name: str, calendar: Calendar) -> ZoneInfo | None:
    """Return the zone of a name in the file, which may have a path of its maker in front of the IANA name."""
    parts = calendar.zones.get(name, name).split("/")[-ZONE_PARTS_MAX:]
    candidates = ("/".join(parts[place:]) for place in range(len(parts)))
    return next((found for candidate in candidates if candidate and (found := time_zone(candidate))), None)


def _end(record: Record, start: date | datetime, duration: str) -> date | datetime:
    """Return the end of a task that has a start and a duration (RFC 5545, section 3.3.6)."""
    if matched := DURATION.fullmatch(duration.strip()):
        length = timedelta(**{unit: int(number) for unit, number in matched.groupdict(default="0").items()})
        try:
            return start + length
        except OverflowError:
            pass
    record.keep("Duration", duration)
    return start
