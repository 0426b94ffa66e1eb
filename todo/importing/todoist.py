"""The CSV of Todoist, as it exports a project, or as it keeps backups."""

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from todo.importing import tables
from todo.importing.records import Record, Remark, Unreadable, due, is_iso, time_zone

NAME = "todoist"

HEADER = frozenset({"type", "content"})
READ = frozenset({
    *HEADER, "description", "priority", "indent", "responsible", "date", "timezone", "duration", "duration_unit",
    "deadline",
})  # fmt: skip
# The author is nearly always the user, and the languages are those of dates in words.
IGNORED = frozenset({"date_lang", "deadline_lang", "author"})

# 1 is the highest, and 4 stands for none.
PRIORITIES = {"1": "high", "2": "medium", "3": "low", "4": None, "": None}
# A label with one of the spaces around it.
LABEL = re.compile(r"^@(\S+)(?:\s|$)|\s@(\S+)(?!\S)")


def detect(text: str) -> bool:
    """Check whether a file is an export of Todoist, by its header."""
    # Other tables have types and contents, too.
    return _table(text, HEADER | {"indent"}) is not None


def _table(text: str, header: frozenset[str]) -> tables.Table | None:
    return tables.find(text, lambda keys: set(keys) >= header)


def read(text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
    """Yield the tasks of a project, with the name of their section as a tag and their comments in the description.

    Args:
        text: The content of the file.
        zone: The zone of times in rows without one.

    Raises:
        Unreadable: There is no such table.

    """
    table = _table(text, HEADER)
    if table is None:
        raise Unreadable("The file has no line with the columns TYPE and CONTENT.")
    project = _Project()
    for item in table.records(READ, IGNORED):
        if isinstance(item, Remark):
            yield item
        else:
            yield from project.add(*item, zone)
    yield from project.complete()


class _Project:
    """A project as its rows are read: sections and comments belong to the tasks after and before them."""

    def __init__(self) -> None:
        self._section = ""
        # The last task, to which comments may still come; its title, and those of the tasks above it.
        self._last: Record | None = None
        self._titles: list[str] = []

    def add(self, record: Record, row: dict[str, str], zone: ZoneInfo) -> Iterator[Record | Remark]:
        """Add what a row says, and yield what is complete."""
        kind = row.get("type", "").casefold()
        if kind == "note" and self._last is not None:
            self._last.lines.append(f"Comment: {row['content']}")
            return
        yield from self.complete()
        if record.faults:
            yield record
        elif kind == "task":
            self._titles = _fill(record, row, zone, self._titles)
            record.members["tags"] += [self._section] if self._section else []
            self._last = record
        elif kind == "section":
            self._section, self._titles = row["content"], []
        elif kind == "meta":
            yield Remark(record.place, "The row is a setting of a view, and left out.")
        else:
            record.skipped = "It is a comment on the project." if kind == "note" else f"It is of the type {kind!r}."
            yield record

    def complete(self) -> Iterator[Record]:
        """Yield the last task, if there is one: no comment follows."""
        if self._last is not None:
            yield self._last
        self._last = None


def _fill(record: Record, row: dict[str, str], zone: ZoneInfo, titles: list[str]) -> list[str]:
    """Fill a record with what a row says, and return its title after those of the tasks above it."""
    content = row["content"]
    labels = [label[1] or label[2] for label in LABEL.finditer(content)]
    # A task that is named by its labels alone keeps them as its title.
    title = LABEL.sub("", content).strip() or content
    record.members = {"title": title, "tags": labels, "description": row.get("description") or None}
    priority = row.get("priority", "")
    if priority in PRIORITIES:
        record.members["priority"] = PRIORITIES[priority]
    else:
        record.keep("Priority", priority)
    level = int(indent) if re.fullmatch("[1-9]", indent := row.get("indent", "")) else 1
    above = titles[: level - 1]
    if above:
        record.keep("Subtask of", above[-1])
    _fill_dates(record, row, zone)
    if row.get("responsible"):
        record.keep("Responsible", row["responsible"])
    if row.get("duration") and row["duration"] != "None":
        record.keep("Duration", f"{row['duration']} {row.get('duration_unit', '')}".strip())
    return [*above, title]


def _fill_dates(record: Record, row: dict[str, str], zone: ZoneInfo) -> None:
    """Take a date or a deadline that is no text in words; the date comes first."""
    own_zone = time_zone(row["timezone"]) if row.get("timezone") else zone
    if own_zone is None:
        record.warnings.append(f"The time zone is not known, so {zone.key} is used.")
    for name in ("date", "deadline"):
        text = row.get(name, "")
        if not text:
            continue
        if is_iso(text) and "due_date" not in record.members:
            record.members["due_date"] = due(text, own_zone or zone)
        else:
            record.keep(name.title(), text)
