"""The table as queries see it, and a row of it as clients see it."""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, Row, Table, Text, case, func, literal_column, type_coerce
from sqlalchemy.types import NullType

from todo.tasks.models import Task

TaskRow = dict[str, Any]

tasks: Table = Task.__table__


def _utc(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    # Sessions have a time zone of their own, and a pooler may share them: the statement itself must say UTC.
    return func.timezone(literal_column("'UTC'"), moment, type_=DateTime())


MEMBERS = {
    "id": tasks.c.id,
    "user_id": tasks.c.user_id,
    "title": tasks.c.title,
    "description": tasks.c.description,
    "completed": tasks.c.completed,
    "created_at": _utc(tasks.c.created_at),
    "updated_at": _utc(tasks.c.updated_at),
    # The driver gives a text and a list: without their types SQLAlchemy hands them on, with them it looks at each.
    "priority": type_coerce(tasks.c.priority, Text()),
    "due_date": _utc(tasks.c.due_at),
    "tags": type_coerce(tasks.c.tags, NullType()),
    "completed_at": _utc(case((tasks.c.completed, func.coalesce(tasks.c.completed_at, tasks.c.updated_at)))),
}
_NAMES = tuple(MEMBERS)

# What a statement gives of each task; `as_task` makes a task of it, whatever else stands behind these columns.
COLUMNS = (*(column.label(name) for name, column in MEMBERS.items()), tasks.c.due_all_day)


def as_task(row: Row[Any]) -> TaskRow:
    """Make of a row what clients see; a due date that is a day loses its time."""
    task = dict(zip(_NAMES, row, strict=False))
    if row[len(_NAMES)]:
        task["due_date"] = task["due_date"].date()
    return task
