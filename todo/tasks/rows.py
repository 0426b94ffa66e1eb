"""The tables as queries see them, and a row as clients see it."""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    FromClause,
    Row,
    Table,
    Text,
    case,
    column,
    func,
    literal_column,
    type_coerce,
)
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import NullType

from todo.tasks.models import Task, TaskList, TrashedTask

TaskRow = dict[str, Any]

tasks: Table = Task.__table__
lists: Table = TaskList.__table__
trash: Table = TrashedTask.__table__


def utc(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    """Give a moment in UTC without saying so.

    Sessions have a time zone of their own, and a pooler may share them: the statement itself must say UTC.
    """
    return func.timezone(literal_column("'UTC'"), moment, type_=DateTime())


def members_of(table: FromClause) -> dict[str, ColumnElement[Any]]:
    """Give what clients see of a task, by name, of rows that have the columns of `tasks`."""
    of = table.c
    return {
        "id": of.id,
        "user_id": of.user_id,
        "title": of.title,
        "description": of.description,
        "completed": of.completed,
        "created_at": utc(of.created_at),
        "updated_at": utc(of.updated_at),
        # The driver gives a text and a list: without their types SQLAlchemy hands them on, with them it looks at each.
        "priority": type_coerce(of.priority, Text()),
        "due_date": utc(of.due_at),
        "tags": type_coerce(of.tags, NullType()),
        "completed_at": utc(case((of.completed, func.coalesce(of.completed_at, of.updated_at)))),
        "revision": of.revision,
    }


def columns_of(table: FromClause) -> tuple[ColumnElement[Any], ...]:
    """Give what a statement selects of each task, for `as_task`, whatever stands behind these columns."""
    return (*(member.label(name) for name, member in members_of(table).items()), table.c.due_all_day)


MEMBERS = members_of(tasks)
_NAMES = tuple(MEMBERS)

COLUMNS = columns_of(tasks)

# What these are made of.
STORED = tuple(dict.fromkeys(part for made in COLUMNS for part in iterate(made) if isinstance(part, Column)))


def stored_in(table: FromClause) -> FromClause:
    """Give the rows of `tasks` that the trash keeps as JSON, for a statement that selects from it too."""
    record = func.jsonb_populate_record(literal_column("NULL::tasks"), table.c.task)
    return record.table_valued(*(column(of.name, of.type) for of in tasks.c), name="stored")


def as_task(row: Row[Any]) -> TaskRow:
    """Make of a row what clients see; a due date that is a day loses its time."""
    task = dict(zip(_NAMES, row, strict=False))
    if row[len(_NAMES)]:
        task["due_date"] = task["due_date"].date()
    return task
