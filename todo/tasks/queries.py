"""One function per operation, one SQL statement each, the caller's id always first.

A task of somebody else is simply not found: ownership lives in the WHERE.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Row,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from todo import database
from todo.errors import TaskNotFound
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
}
_NAMES = tuple(MEMBERS)
_COLUMNS = tuple(column.label(name) for name, column in MEMBERS.items())

_mine = tasks.c.user_id == bindparam("caller")
_this = tasks.c.id == bindparam("task")

# A change always moves the time forward, even when the clock was set back or two changes share a microsecond.
_now = func.greatest(func.now(), tasks.c.updated_at + literal_column("interval '1 microsecond'"))

LIST = select(*_COLUMNS).where(_mine).order_by(tasks.c.id)
GET = select(*_COLUMNS).where(_mine, _this)
CREATE = insert(tasks).returning(*_COLUMNS)
UPDATE = update(tasks).where(_mine, _this).values(updated_at=_now).returning(*_COLUMNS)
TOGGLE = UPDATE.values(completed=~tasks.c.completed)
DELETE = delete(tasks).where(_mine, _this).returning(tasks.c.id)


def list_tasks(caller: str) -> list[TaskRow]:
    """Read all tasks of the caller, oldest first."""
    return [dict(zip(_NAMES, row, strict=True)) for row in database.read(LIST, {"caller": caller})]


def create_task(caller: str, values: Mapping[str, Any]) -> TaskRow:
    """Add a task to the caller's, with what was given; the database fills in the rest."""
    return _the_one(database.write(CREATE, {"user_id": caller, **values}))


def get_task(caller: str, task: int) -> TaskRow:
    """Read one task of the caller, or raise TaskNotFound."""
    return _the_one(database.read(GET, {"caller": caller, "task": task}))


def update_task(caller: str, task: int, changes: Mapping[str, Any]) -> TaskRow:
    """Set the given columns of one task of the caller, or raise TaskNotFound."""
    return _the_one(database.write(UPDATE, {"caller": caller, "task": task, **changes}))


def toggle_task(caller: str, task: int) -> TaskRow:
    """Turn one task of the caller from open to completed or back, or raise TaskNotFound."""
    return _the_one(database.write(TOGGLE, {"caller": caller, "task": task}))


def delete_task(caller: str, task: int) -> None:
    """Remove one task of the caller, or raise TaskNotFound."""
    if not database.write(DELETE, {"caller": caller, "task": task}):
        raise TaskNotFound


def _the_one(rows: Sequence[Row[Any]]) -> TaskRow:
    if not rows:
        raise TaskNotFound
    return dict(zip(_NAMES, rows[0], strict=True))
