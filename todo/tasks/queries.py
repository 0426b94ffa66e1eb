"""One function for each operation on tasks, one round trip each, the caller's id always first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from todo.database import statements
from todo.database.timeouts import REQUEST_LIMITS
from todo.http.etags import NO_PRECONDITIONS, Preconditions
from todo.http.idempotency import Idempotency
from todo.http.problems import IdempotencyKeyReused, PreconditionFailed, TaskNotFound
from todo.tasks import listing
from todo.tasks.cursors import encode
from todo.tasks.listing import Listing, Position
from todo.tasks.responses import task_tag
from todo.tasks.rows import COLUMNS, INITIAL, STORED, WRITTEN, TaskRow, as_task, columns_of, value

# The time of a change, as an expression that is IMMUTABLE: the sum with a time zone is not.
MOVED_AT = "greatest(moment, timezone('UTC', timezone('UTC', updated_at) + interval '1 microsecond'))"
SQL = statements.load(
    __file__, columns=COLUMNS, names=", ".join(STORED), values=", ".join(map(value, STORED)), moved_at=MOVED_AT
)
SQL["create_task_once"] = statements.fill(SQL["create_task_once"], lock_list=SQL["lock_list"])
TOGGLE = statements.fill(
    SQL["update_task"], assignments="completed = NOT completed", completed="NOT completed", differs="true"
)


@cache
def update_statement(columns: frozenset[str]) -> str:
    """Return the statement that writes to these columns of a task."""
    return statements.fill(
        SQL["update_task"],
        assignments=", ".join(f"{name} = {value(name)}" for name in sorted(columns)),
        completed="%(completed)s" if "completed" in columns else "completed",
        differs=" OR ".join(f"{name} IS DISTINCT FROM {value(name)}" for name in WRITTEN if name in columns),
    )


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of a list.

    Attributes:
        tasks: The tasks of the page, in order.
        next: The cursor of the next page, if there is one.
        total: How many tasks there are on all pages, if that was requested.
        revision: The revision of the caller's list.

    """

    tasks: list[TaskRow]
    next: str | None
    total: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """A task that was deleted.

    Attributes:
        task: The task as it was.
        revision: The revision of the list at the deletion.
        deleted_at: When that was, in UTC without an offset.
        expires_at: Until when the task can be restored, at least; None where it cannot.

    """

    task: TaskRow
    revision: int
    deleted_at: datetime
    expires_at: datetime | None


def list_tasks(caller: str, wanted: Listing, known_revision: int | None = None) -> TaskPage | None:
    """Return one page of the caller's tasks, or None where the list is still at the revision that the caller knows."""
    rows = statements.read(*listing.statement(caller, wanted, -1 if known_revision is None else known_revision))
    if not rows:
        return None
    revision, total = rows[0].list_revision, rows[0].total if wanted.count else None
    if rows[0].id is None:
        rows = []
    page, more = rows[: wanted.limit], rows[wanted.limit :]
    return TaskPage([as_task(row) for row in page], _cursor(wanted, page[-1]) if more else None, total, revision)


def _cursor(wanted: Listing, last: Any) -> str:
    values = tuple(last.id if key.name == "id" else getattr(last, key.column) for key in wanted.sort)
    return encode(wanted.filters, wanted.sort, Position(values, last.id, wanted.as_of))


def create_task(
    caller: str,
    members: Mapping[str, Any],
    idempotency: Idempotency | None = None,
    preconditions: Preconditions = NO_PRECONDITIONS,
) -> tuple[TaskRow, bool]:
    """Add a task to the caller's list.

    Args:
        caller: The id of the caller.
        members: The validated body.
        idempotency: The client's name for this creation.
        preconditions: What must be true of the list. With any of them it takes several round trips.

    Returns:
        The task, and whether it was created now: one that the same key created before is returned as it is today, with
        the time of its deletion if it is in the trash.

    Raises:
        IdempotencyKeyReused: the key created a task of another body.
        PreconditionFailed: the list is in another state.

    """
    if not preconditions:
        return _create(statements.write, caller, members, idempotency)
    with statements.transaction(REQUEST_LIMITS) as transaction:
        (locked,) = transaction.read(SQL["lock_list"], {"caller": caller})
        task, is_new = _create(transaction.returning, caller, members, idempotency)
        # A creation that is repeated has succeeded already, and changed the list itself.
        if is_new:
            preconditions.check(lambda etags: etags.include_list(locked.revision))
    return task, is_new


def _create(
    write: Callable[[str, Mapping[str, Any]], Sequence[Any]],
    caller: str,
    members: Mapping[str, Any],
    idempotency: Idempotency | None,
) -> tuple[TaskRow, bool]:
    parameters = {"caller": caller, **INITIAL, **columns_of(members)}
    if idempotency is None:
        (row,) = write(SQL["create_task"], parameters)
        return as_task(row), True
    parameters |= {"key": idempotency.key, "digest": idempotency.digest}
    (row,) = write(SQL["create_task_once"], parameters)
    if bytes(row.idempotency_digest) != idempotency.digest:
        raise IdempotencyKeyReused
    deletion = {} if row.deleted_at is None else {"deleted_at": row.deleted_at}
    return as_task(row) | deletion, row.created


def get_task(caller: str, task_id: int) -> TaskRow:
    """Return one task of the caller.

    Raises:
        TaskNotFound: the caller has no such task.

    """
    rows = statements.read(SQL["get_task"], {"caller": caller, "task_id": task_id})
    if not rows:
        raise TaskNotFound
    return as_task(rows[0])


def update_task(
    caller: str, task_id: int, members: Mapping[str, Any], preconditions: Preconditions = NO_PRECONDITIONS
) -> TaskRow:
    """Write the given members of one task of the caller, and return it.

    Raises:
        TaskNotFound: the caller has no such task.
        PreconditionFailed: it is in another state, and other than these members would make it.

    """
    columns = columns_of(members)
    return as_task(_change(update_statement(frozenset(columns)), columns, caller, task_id, preconditions))


def toggle_task(caller: str, task_id: int, preconditions: Preconditions = NO_PRECONDITIONS) -> TaskRow:
    """Complete or reopen one task of the caller, and return it; raise as `update_task` does."""
    return as_task(_change(TOGGLE, {}, caller, task_id, preconditions))


def delete_task(
    caller: str, task_id: int, trash_days: int, preconditions: Preconditions = NO_PRECONDITIONS
) -> Deletion:
    """Move one task of the caller into the trash; raise as `update_task` does.

    Args:
        caller: The id of the caller.
        task_id: The id of the task.
        trash_days: How many days the trash keeps it; with 0 only its tombstone is left.
        preconditions: What must be true of it.

    """
    row = _change(SQL["delete_task"], {"days": trash_days}, caller, task_id, preconditions)
    return Deletion(as_task(row), row.list_revision, row.deleted_at, row.expires_at)


def _change(sql: str, values: Mapping[str, Any], caller: str, task_id: int, preconditions: Preconditions) -> Any:
    parameters = {**values, "caller": caller, "task_id": task_id, **preconditions.parameters()}
    rows = statements.write(sql, parameters)
    if rows:
        return rows[0]
    if not preconditions:
        raise TaskNotFound
    current = get_task(caller, task_id)
    preconditions.check(lambda etags: etags.include(task_tag(current)), current=current)
    # It changed between the two statements.
    raise PreconditionFailed(current=current)
