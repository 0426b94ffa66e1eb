"""One function per operation, one SQL statement each, the caller's id always first.

A task of somebody else is simply not found: ownership lives in the WHERE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Row, bindparam, case, delete, func, insert, literal_column, select, update

from todo import database
from todo.errors import TaskNotFound
from todo.tasks import folding, listing
from todo.tasks.cursors import encode
from todo.tasks.listing import Listing, Position
from todo.tasks.rows import COLUMNS, TaskRow, as_task, tasks

_mine = tasks.c.user_id == bindparam("caller")
_this = tasks.c.id == bindparam("task")

# A change always moves the time forward, even when the clock was set back or two changes share a microsecond.
_now = func.greatest(func.now(), tasks.c.updated_at + literal_column("interval '1 microsecond'"))

# A task that stays completed keeps the time of its completion; `done` is whether it is completed afterwards.
_done = bindparam("done", type_=Boolean)
_since = case((tasks.c.completed, func.coalesce(tasks.c.completed_at, tasks.c.updated_at)))

GET = select(*COLUMNS).where(_mine, _this)
CREATE = insert(tasks).values(completed_at=case((_done, func.now()))).returning(*COLUMNS)
UPDATE = update(tasks).where(_mine, _this).values(updated_at=_now, completed_at=_since).returning(*COLUMNS)
COMPLETE = UPDATE.values(completed_at=case((_done, func.coalesce(_since, _now))))
TOGGLE = UPDATE.values(completed=~tasks.c.completed, completed_at=case((~tasks.c.completed, _now)))
DELETE = delete(tasks).where(_mine, _this).returning(tasks.c.id)


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks in order; where the next page begins, if there is one; how many there are on all, if that was asked."""

    tasks: list[TaskRow]
    next: str | None
    total: int | None


def list_tasks(caller: str, asked: Listing) -> Page:
    """Read one page of the caller's tasks."""
    if parameters := listing.default_parameters(caller, asked):
        rows = database.read(listing.DEFAULT, parameters)
    else:
        rows = database.read(listing.statement(caller, asked), {})
    total = rows[0].total if asked.count else None
    if asked.count and rows[0].id is None:
        rows = []
    page, more = rows[: asked.limit], rows[asked.limit :]
    return Page([as_task(row) for row in page], _next(asked, page[-1]) if more else None, total)


def _next(asked: Listing, last: Row[Any]) -> str:
    values = tuple(getattr(last, f"key_{n}") for n in range(len(asked.sort)))
    return encode(asked.filters, asked.sort, Position(values, last.id, asked.as_of))


def create_task(caller: str, values: Mapping[str, Any]) -> TaskRow:
    """Add a task to the caller's, with what was given; the database fills in the rest."""
    done = values.get("completed", False)
    return _the_one(database.write(CREATE, {"user_id": caller, **columns(values), "done": done}))


def get_task(caller: str, task: int) -> TaskRow:
    """Read one task of the caller, or raise TaskNotFound."""
    return _the_one(database.read(GET, {"caller": caller, "task": task}))


def update_task(caller: str, task: int, changes: Mapping[str, Any]) -> TaskRow:
    """Set the given members of one task of the caller, or raise TaskNotFound."""
    values = {"caller": caller, "task": task, **columns(changes)}
    if "completed" not in changes:
        return _the_one(database.write(UPDATE, values))
    return _the_one(database.write(COMPLETE, {**values, "done": changes["completed"]}))


def toggle_task(caller: str, task: int) -> TaskRow:
    """Turn one task of the caller from open to completed or back, or raise TaskNotFound."""
    return _the_one(database.write(TOGGLE, {"caller": caller, "task": task}))


def delete_task(caller: str, task: int) -> None:
    """Remove one task of the caller, or raise TaskNotFound."""
    if not database.write(DELETE, {"caller": caller, "task": task}):
        raise TaskNotFound


def columns(members: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns that hold what clients call by these names."""
    held = dict(members)
    if "due_date" in held:
        due = held.pop("due_date")
        held["due_at"], held["due_all_day"] = due or (None, False)
    return held | folding.columns(held)


def _the_one(rows: Sequence[Row[Any]]) -> TaskRow:
    if not rows:
        raise TaskNotFound
    return as_task(rows[0])
