"""From a record to the row of a task: what no member holds is kept elsewhere, and the rules of a creation apply."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from todo.http.problems import UnprocessableContent
from todo.http.requests import load_body
from todo.importing.records import Record
from todo.tasks.models import DESCRIPTION_MAX, TITLE_MAX
from todo.tasks.rows import INITIAL, columns_of
from todo.tasks.schemas import TAG_MAX, TAGS_MAX, TaskIn
from todo.tasks.search import tag_key

SCHEMA = TaskIn()


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to create.

    Attributes:
        columns: What its row holds.
        sample: What clients see of it before it has an id.

    """

    columns: dict[str, Any]
    sample: dict[str, Any]


def fit(record: Record, key: str, now: datetime) -> NewTask | None:
    """Return the task of a record, or None if it breaks a rule of creations; the record gets warnings and faults.

    Args:
        record: The record.
        key: The idempotency key of the task.
        now: The present time, which takes the place of a future one.

    """
    try:
        members = load_body(SCHEMA, _fitted(record), frozenset(), [], strict=False)
    except UnprocessableContent as problem:
        record.faults += [fault["detail"] for fault in problem.members["errors"]]
    if record.faults:
        return None
    completed_at = min(record.completed_at or now, now) if members.get("completed") else None
    # A task was created before it was completed, at the latest.
    created_at = min(record.created_at or completed_at or now, now)
    columns = {
        **INITIAL,
        **columns_of(members),
        "created_at": created_at,
        "updated_at": max(created_at, min(record.updated_at or now, now)),
        "completed_at": completed_at,
        "idempotency_key": key,
        # The id in the source, which is compared and not written.
        "id": record.task_id,
    }
    due = members.get("due_date")
    sample = {
        "title": members["title"],
        "description": members.get("description"),
        "completed": members.get("completed", False),
        "created_at": created_at,
        "priority": members.get("priority"),
        "due_date": None if due is None else due.at.date() if due.all_day else due.at,
        "tags": members.get("tags", []),
        "completed_at": completed_at,
    }
    return NewTask(columns, sample)


def _fitted(record: Record) -> Mapping[str, Any]:
    """Return the members of a record within the bounds of a task. What has another type is left to the schema."""
    members = dict(record.members)
    parts: list[str] = []
    title, description = members.get("title"), members.get("description")
    if isinstance(title, str) and len(title := title.strip()) > TITLE_MAX:
        members["title"] = title[:TITLE_MAX]
        parts.append(title[TITLE_MAX:].strip())
        record.warnings.append(
            f"The title has {len(title)} characters: what is beyond {TITLE_MAX} is in the description."
        )
    elif not title and isinstance(description, str) and description.strip():
        first, _, description = description.strip().partition("\n")
        record.warnings.append("The title is the first line of the description.")
        return _fitted_again(record, {**members, "title": first, "description": description.strip() or None})
    if isinstance(tags := members.get("tags"), list):
        members["tags"] = _fitting_tags(record, tags)
    if description is None or isinstance(description, str):
        members["description"] = _fitting_description(record, parts, description)
    return members


def _fitted_again(record: Record, members: dict[str, Any]) -> Mapping[str, Any]:
    record.members = members
    return _fitted(record)


def _fitting_tags(record: Record, tags: list[Any]) -> list[Any]:
    """Return the tags that a task can hold, and keep the others as a line of the description."""
    fitting: dict[str, Any] = {}
    others: list[str] = []
    for tag in tags:
        if not isinstance(tag, str):
            return tags
        if len(tag.strip()) > TAG_MAX or (len(fitting) >= TAGS_MAX and tag_key(tag.strip()) not in fitting):
            others.append(tag.strip())
        else:
            fitting.setdefault(tag_key(tag.strip()), tag)
    if others:
        record.keep("Tags", ", ".join(others))
    return list(fitting.values())


def _fitting_description(record: Record, parts: list[str], description: str | None) -> str | None:
    """Return the description with what comes before and after it, cut where it is too long.

    The lines at its end take the place of what is cut, because each says something that no other line does.
    """
    if not parts and not record.lines and len(description or "") <= DESCRIPTION_MAX:
        return description
    text = "\n".join([*parts, *([description] if description else [])])
    end = "\n".join(record.lines)
    joined = "\n".join(filter(None, (text, end)))
    if len(joined) > DESCRIPTION_MAX:
        lost = len(joined) - DESCRIPTION_MAX
        record.warnings.append(f"The description has {len(joined)} characters: {lost} of them are left out.")
        room = max(0, DESCRIPTION_MAX - len(end) - 1)
        joined = "\n".join(filter(None, (text[:room], end)))[:DESCRIPTION_MAX]
    return joined
