"""How a task is stored, and how a row becomes what clients see."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from todo.tasks import search
from todo.tasks.models import Task
from todo.tasks.schemas import TaskPatch

TaskRow = dict[str, Any]

tasks: Table = Task.__table__

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

# The members of a task in the order of the response, as SQL over the columns of `tasks`. Times are in UTC, without an
# offset: sessions have a time zone of their own, which a pooler may share between clients.
MEMBERS = {
    "id": "id",
    "user_id": "user_id",
    "title": "title",
    "description": "description",
    "completed": "completed",
    "created_at": "timezone('UTC', created_at)",
    "updated_at": "timezone('UTC', updated_at)",
    "priority": "priority",
    "due_date": "timezone('UTC', due_at)",
    "tags": "tags",
    "completed_at": "timezone('UTC', CASE WHEN completed THEN coalesce(completed_at, updated_at) END)",
    "revision": "revision",
}

# What a statement selects of each task, for `as_task`, whatever else stands behind these columns.
COLUMNS = ", ".join(sql if sql == name else f"{sql} AS {name}" for name, sql in MEMBERS.items()) + ", due_all_day"

# The same columns of the tombstone of a task, which has a number, an owner and a revision alone.
TOMBSTONE = ", ".join(name if name in ("id", "user_id", "revision") else "NULL" for name in MEMBERS) + ", NULL"

# The columns of each writable member that is not stored in one column of the same name.
STORED_AS = {"due_date": ("due_at", "due_all_day")}

# The columns that hold what clients write, and those that follow from these.
WRITTEN = tuple(column for member in TaskPatch().fields for column in STORED_AS.get(member, (member,)))
DERIVED = tuple(search.columns({"title": "", "description": "", "tags": []}))

STORED = (*WRITTEN, *DERIVED)

# A new task's columns, where the client sends nothing. The others are null.
INITIAL: dict[str, Any] = dict.fromkeys(STORED) | {"completed": False, "due_all_day": False, "tags": []}


def as_task(row: Any) -> TaskRow:
    """Return a row of `COLUMNS` as clients see it; a due date that is a date loses its time."""
    task = dict(zip(MEMBERS, row, strict=False))
    if row.due_all_day:
        task["due_date"] = task["due_date"].date()
    return task


def columns_of(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that hold these validated members of a body, with the values to write."""
    columns = dict(members)
    if "due_date" in columns:
        columns["due_at"], columns["due_all_day"] = columns.pop("due_date") or (None, False)
    return columns | search.columns(columns)


def value(column: str) -> str:
    """Return the SQL of a column's new value: the parameter of the same name, with the type of the column."""
    return f"%({column})s::{tasks.c[column].type.compile(dialect=DIALECT)}"
