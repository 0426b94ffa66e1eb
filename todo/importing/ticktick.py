"""The CSV of TickTick: a backup of all lists, behind some lines of preamble."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

from todo.importing import tables
from todo.importing.records import Record, Remark, Unreadable, time_zone

NAME = "ticktick"

HEADER = frozenset({"list_name", "title"})
READ = frozenset({
    *HEADER, "folder_name", "tags", "content", "start_date", "due_date", "reminder", "repeat", "priority", "status",
    "created_time", "completed_time", "timezone", "is_all_day", "taskid", "parentid", "column_name",
})  # fmt: skip
# How the application shows a list.
IGNORED = frozenset({"kind", "is_check_list", "order", "is_floating", "column_order", "view_mode"})

PRIORITIES = {"0": None, "": None, "1": "low", "3": "medium", "5": "high"}
COMPLETED = {"0": False, "": False, "1": True, "2": True, "-1": True}
NOT_DONE = {"2": "archived", "-1": "will not be done"}


def detect(text: str) -> bool:
    """Check whether a file is a backup of TickTick, by its header."""
    return _table(text) is not None


def _table(text: str) -> tables.Table | None:
    return tables.find(text, lambda keys: set(keys) >= HEADER and "status" in keys)


def read(text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
    """Yield the tasks of all lists, with the names of their folder, list and column as tags.

    Args:
        text: The content of the file.
        zone: The zone of rows without one.

    Raises:
        Unreadable: There is no such table.

    """
    table = _table(text)
    if table is None:
        raise Unreadable("The file has no line with the columns List Name, Title and Status.")
    titles = _titles(text)
    for item in table.records(READ, IGNORED):
        if isinstance(item, Remark):
            yield item
            continue
        record, row = item
        if not record.faults:
            _fill(record, {**dict.fromkeys(READ, ""), **row}, zone, titles)
        yield record


def _titles(text: str) -> dict[str, str]:
    """Return the titles of all tasks by their ids: a subtask may come before its parent."""
    table = _table(text)
    if table is None or "taskid" not in table.keys:
        return {}
    number, title = (table.keys.index(name) for name in ("taskid", "title"))
    rows = (row for _, row in table.rows if isinstance(row, list) and len(row) > max(number, title))
    return {row[number]: row[title] for row in rows}


def _fill(record: Record, row: dict[str, str], zone: ZoneInfo, titles: dict[str, str]) -> None:
    own_zone = time_zone(row["timezone"]) if row["timezone"] else zone
    if own_zone is None:
        record.warnings.append(f"The time zone is not known, so {zone.key} is used.")
        own_zone = zone
    tags = [tag.strip() for tag in row["tags"].split(",")]
    names = [row["folder_name"], row["list_name"], row["column_name"]]
    record.source_id = row["taskid"]
    record.members = {
        "title": row["title"],
        "description": row["content"] or None,
        "tags": [tag for tag in (*tags, *names) if tag],
        "priority": PRIORITIES.get(row["priority"]),
    }
    if row["priority"] not in PRIORITIES:
        record.keep("Priority", row["priority"])
    record.created_at = record.read_time("Created Time", row["created_time"], own_zone)
    record.completed_at = record.read_time("Completed Time", row["completed_time"], own_zone)
    record.members["completed"] = COMPLETED.get(row["status"], record.completed_at is not None)
    if row["status"] not in COMPLETED or row["status"] in NOT_DONE:
        record.keep("Status", NOT_DONE.get(row["status"], row["status"]))
    _fill_dates(record, row, own_zone)
    for name in ("reminder", "repeat"):
        if row[name]:
            record.keep(name.title(), row[name])
    if row["parentid"]:
        record.keep("Subtask of", titles.get(row["parentid"]) or row["parentid"])


def _fill_dates(record: Record, row: dict[str, str], zone: ZoneInfo) -> None:
    is_all_day = row["is_all_day"].casefold() == "true"
    start, end = (
        _when(record, name, row[key], zone, is_all_day=is_all_day)
        for name, key in (("Start Date", "start_date"), ("Due Date", "due_date"))
    )
    if end or start:
        record.members["due_date"] = end or start
    if start and end and start != end:
        record.keep("Start", start)


def _when(record: Record, name: str, text: str, zone: ZoneInfo, *, is_all_day: bool) -> str:
    """Return a date-time, or the date of a whole day, which is written as its local midnight in UTC."""
    when = record.read_time(name, text, zone)
    if when is None or not is_all_day:
        return when.isoformat() if when else ""
    local = when.astimezone(zone)
    if (local.hour, local.minute) != (0, 0):
        record.warnings.append(
            f"{name} is a day, and its time is no midnight in {zone.key}: was the file written in another time zone?"
        )
    return local.date().isoformat()
