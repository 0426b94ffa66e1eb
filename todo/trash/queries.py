"""One function for each operation on the trash, one round trip each, the caller's id always first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from todo.database import statements
from todo.http.etags import NO_PRECONDITIONS, Preconditions
from todo.http.problems import PreconditionFailed, TaskNotFound
from todo.tasks.responses import task_tag
from todo.tasks.rows import COLUMNS, TaskRow, as_task, tasks

# The columns of a task that come back as they were; and its user, from outside the record.
KEPT = tuple(name for name in tasks.c.keys() if name not in ("user_id", "updated_at", "revision"))  # noqa: SIM118 (columns iterate as columns)
SQL = statements.load(
    __file__, columns=COLUMNS, names=", ".join(KEPT), stored=", ".join(f"stored.{name}" for name in KEPT)
)
SQL["list_and_count_trash"] = statements.fill(SQL["list_and_count_trash"], page=SQL["list_trash"])

NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashRequest:
    """A request for a page of the trash: the newest deletions before a revision."""

    limit: int
    offset: int = 0
    before: int = NEWEST
    count: bool = False


@dataclass(frozen=True, slots=True)
class TrashPage:
    """A page of the trash.

    Attributes:
        tasks: The deleted tasks of the page, the newest deletion first.
        next: The revision before which the next page begins, if there is one.
        total: How many deleted tasks there are, if that was requested.

    """

    tasks: list[TaskRow]
    next: int | None
    total: int | None


def list_trash(caller: str, wanted: TrashRequest) -> TrashPage:
    """Return one page of the caller's deleted tasks."""
    sql = SQL["list_and_count_trash" if wanted.count else "list_trash"]
    place = {"before": wanted.before, "rows": wanted.limit + 1, "offset": wanted.offset}
    rows = statements.read(sql, {"caller": caller, **place})
    total = rows[0].total if wanted.count else None
    if wanted.count and rows[0].id is None:
        rows = []
    page = rows[: wanted.limit]
    deleted = [as_task(row) | {"deleted_at": row.deleted_at, "expires_at": row.expires_at} for row in page]
    return TrashPage(deleted, page[-1].deleted_in if len(rows) > wanted.limit else None, total)


def restore_task(caller: str, task_id: int, preconditions: Preconditions = NO_PRECONDITIONS) -> TaskRow:
    """Restore a deleted task of the caller, and return it.

    Raises:
        TaskNotFound: the caller's trash has no such task.
        PreconditionFailed: it was deleted in another state.

    """
    (row,) = _change(SQL["restore_task"], caller, task_id, preconditions)
    return as_task(row)


def discard_task(caller: str, task_id: int, preconditions: Preconditions = NO_PRECONDITIONS) -> None:
    """Purge a deleted task of the caller before it expires; its tombstone stays. Raise as `restore_task` does."""
    _change(SQL["discard_task"], caller, task_id, preconditions)


def _change(sql: str, caller: str, task_id: int, preconditions: Preconditions) -> Sequence[Any]:
    place = {"caller": caller, "task_id": task_id}
    rows = statements.write(sql, place | preconditions.parameters())
    if rows:
        return rows
    if not preconditions or not (deleted := statements.read(SQL["get_deleted_task"], place)):
        raise TaskNotFound
    current = as_task(deleted[0])
    preconditions.check(lambda etags: etags.include(task_tag(current)), current=current)
    # It changed between the two statements.
    raise PreconditionFailed(current=current)


def empty_trash(caller: str) -> None:
    """Purge all deleted tasks of the caller before they expire; their tombstones stay."""
    statements.write(SQL["empty_trash"], {"caller": caller})
