"""A table with a header of our own names, or of other common ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from zoneinfo import ZoneInfo

from todo.importing import tables
from todo.importing.records import Record, Remark, Unreadable, due

NAME = "csv"

# The names of the columns of each member.
ALIASES = {
    "id": ("id",),
    "title": ("title", "name", "task", "content", "summary"),
    "description": ("description", "notes", "note", "body", "details"),
    "due_date": ("due_date", "due", "deadline", "due_at"),
    "tags": ("tags", "labels", "categories"),
    "completed": ("completed", "done", "status"),
    "priority": ("priority",),
    "created_at": ("created_at", "created"),
    "completed_at": ("completed_at",),
}
MEMBERS = {alias: member for member, aliases in ALIASES.items() for alias in aliases}

COMPLETED = {
    **dict.fromkeys(("true", "1", "yes", "x", "done", "completed"), True),
    **dict.fromkeys(("false", "0", "no", "open", "pending", ""), False),
}


def detect(text: str) -> bool:
    """Check whether a file is a table with a title in it, by its header."""
    return _table(text) is not None


def _table(text: str) -> tables.Table | None:
    return tables.find(text, lambda keys: bool(set(ALIASES["title"]) & set(keys)))


def read(text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
    """Yield the tasks of a table.

    Args:
        text: The content of the file.
        zone: The zone of times without an offset.

    Raises:
        Unreadable: There is no header with a title.

    """
    table = _table(text)
    if table is None:
        raise Unreadable(f"The file has no header with one of the columns {', '.join(ALIASES['title'])}.")
    columns = _columns(table.keys)
    for item in table.records(frozenset(columns.values()), frozenset()):
        if isinstance(item, Remark):
            yield item
            continue
        record, row = item
        if not record.faults:
            _fill(record, {member: row.get(key, "") for member, key in columns.items()}, zone)
        yield record


def _columns(keys: Sequence[str]) -> dict[str, str]:
    """Return the column of each member: our own name before its aliases, and of several the first."""
    return {member: key for member, aliases in ALIASES.items() for key in reversed(aliases) if key in keys}


def _fill(record: Record, row: Mapping[str, str], zone: ZoneInfo) -> None:
    record.source_id = row.get("id", "")
    for name in ("title", "description", "priority"):
        if row.get(name):
            record.members[name] = row[name]
    if record.members.get("priority", "").casefold() == "none":
        del record.members["priority"]
    if row.get("due_date"):
        record.members["due_date"] = due(row["due_date"], zone)
    record.members["tags"] = [tag.strip() for tag in re.split("[,;]", row.get("tags", "")) if tag.strip()]
    record.created_at = record.read_time("created_at", row.get("created_at", ""), zone)
    record.completed_at = record.read_time("completed_at", row.get("completed_at", ""), zone)
    completed = (row.get("completed") or ("true" if record.completed_at else "")).casefold()
    if completed in COMPLETED:
        record.members["completed"] = COMPLETED[completed]
    else:
        record.faults.append(f"completed must be one of {', '.join(filter(None, COMPLETED))}.")
