"""The `Tasks.json` of Google Takeout."""

from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from todo.importing.records import Record, Remark, Unreadable

NAME = "google-tasks"
KIND = "tasks#taskLists"

READ = frozenset({"id", "title", "notes", "status", "due", "completed", "created", "parent", "deleted", "links"})
# How the application finds and shows a task.
IGNORED = frozenset({
    "kind", "etag", "selfLink", "webViewLink", "position", "updated", "hidden", "task_type", "taskListId",
})  # fmt: skip


def detect(text: str) -> bool:
    """Check whether a file is one of Takeout, by its kind."""
    if KIND not in text:
        return False
    try:
        return bool(_document(text)["kind"] == KIND)
    except (Unreadable, KeyError):
        return False


def _document(text: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except ValueError as error:
        raise Unreadable(f"The file is not valid JSON: {error}.", {"pointer": "#"}) from None
    if not isinstance(document, dict) or not isinstance(document.get("items"), list):
        raise Unreadable("The file must be a JSON object with an array items of task lists.", {"pointer": "#"})
    return document


def read(text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
    """Yield the tasks of all lists, with the name of their list as a tag.

    Args:
        text: The content of the file.
        zone: The zone of times without an offset.

    Raises:
        Unreadable: The file is no JSON of this shape.

    """
    remarked = set(READ | IGNORED)
    for number, task_list in enumerate(_document(text)["items"]):
        items = task_list.get("items", []) if isinstance(task_list, dict) else None
        if not isinstance(items, list):
            raise Unreadable("A task list must be an object with an array items.", {"pointer": f"#/items/{number}"})
        titles = {item["id"]: item.get("title") for item in items if isinstance(item, dict) and _text(item, "id")}
        for place, item in enumerate(items):
            record = Record(place={"pointer": f"#/items/{number}/items/{place}"}, content=item)
            if not isinstance(item, dict):
                record.faults.append("A task must be an object.")
                yield record
                continue
            for name in [name for name, value in item.items() if value and name not in remarked]:
                remarked.add(name)
                yield Remark(record.place, f"The member {name} is left out.")
            _fill(record, item, zone, titles)
            if name := _text(task_list, "title"):
                record.members["tags"] = [name]
            yield record


def _text(item: dict[str, Any], name: str) -> str:
    """Return a member that is a text, or an empty text."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def _fill(record: Record, item: dict[str, Any], zone: ZoneInfo, titles: dict[str, Any]) -> None:
    record.source_id = _text(item, "id")
    record.members = {
        "title": item.get("title", ""),
        "description": item.get("notes"),
        "completed": item.get("status") == "completed",
    }
    if item.get("deleted") is True:
        record.skipped = "It was deleted."
        return
    # The application leaves such a task behind wherever its user pressed Enter once too often.
    if not any(str(item.get(name) or "").strip() for name in ("title", "notes")):
        record.skipped = "It has neither a title nor notes."
        return
    record.created_at = record.read_time("created", _text(item, "created"), zone)
    record.completed_at = record.read_time("completed", _text(item, "completed"), zone)
    if item.get("due") is not None:
        # It is the midnight of a day in UTC, whatever the zone of the user, and never a time of that day.
        record.members["due_date"] = _text(item, "due").partition("T")[0] or item["due"]
    if parent := _text(item, "parent"):
        record.keep("Subtask of", str(titles.get(parent) or parent))
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and _text(link, "link"):
            record.keep(_text(link, "description") or "Link", _text(link, "link"))
