"""The export of this service: lines of JSON, one for the list, for each task and for each deleted task."""

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from todo.http.routing import MAX, MIN
from todo.importing.records import Record, Remark, numbered_lines
from todo.tasks.schemas import TaskOut, TaskPatch

NAME = "todo"

KINDS = ("list", "task", "deleted")
WRITABLE = frozenset(TaskPatch().fields)
KNOWN = frozenset(TaskOut().fields) | {"idempotency_key"}


def detect(text: str) -> bool:
    """Check whether a file is such an export: whether its first line is an object with one member of these."""
    first = next((line for _, line in numbered_lines(text) if line.strip()), "")
    return _kind(_parsed(first)) is not None


def read(text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
    """Yield the tasks of an export. What it names as deleted is skipped.

    Args:
        text: The content of the file.
        zone: The zone of times without an offset.

    """
    found = dict.fromkeys(KINDS, 0)
    expected: dict[str, Any] = {}
    remarked = set(KNOWN)
    for number, line in numbered_lines(text):
        if not line.strip():
            continue
        document = _parsed(line)
        kind = _kind(document)
        record = Record(place={"line": number}, content=document)
        if kind is None:
            record.faults.append("The line must be a JSON object with one of the members list, task and deleted.")
            yield record
            continue
        found[kind] += 1
        (body,) = document.values()
        if kind == "list":
            expected = body
        elif kind == "deleted":
            record.skipped = "It was deleted."
            yield record
        else:
            for name in sorted(body.keys() - remarked):
                remarked.add(name)
                yield Remark(record.place, f"The member {name} is left out.")
            _fill(record, body, zone)
            yield record
    for name, member in (("task", "tasks"), ("deleted", "deleted")):
        announced = expected.get(member)
        if isinstance(announced, int) and announced > found[name]:
            detail = f"The file was cut off: it announces {announced} lines {name}, and has {found[name]}."
            yield Remark({"line": 1}, detail)


def _parsed(line: str) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


def _kind(document: Any) -> str | None:
    """Return the name of the one member of a line of an export, or None for any other document."""
    if not isinstance(document, dict) or len(document) != 1:
        return None
    ((kind, body),) = document.items()
    return kind if kind in KINDS and isinstance(body, dict) else None


def _fill(record: Record, task: dict[str, Any], zone: ZoneInfo) -> None:
    record.members = {name: task[name] for name in WRITABLE if name in task}
    for name in ("created_at", "updated_at", "completed_at"):
        text = task.get(name) or ""
        setattr(record, name, record.read_time(name, text if isinstance(text, str) else "?", zone))
    number = task.get("id")
    if type(number) is int and MIN <= number <= MAX:
        record.task_id = number
        record.source_id = str(number)
