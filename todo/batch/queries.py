"""The statements of a batch: one message, one round trip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from todo.batch.operations import Batch
from todo.database import statements
from todo.database.prepared import SEPARATOR
from todo.database.timeouts import REQUEST_LIMITS
from todo.http.etags import NO_PRECONDITIONS, Preconditions
from todo.http.problems import OperationsRefused, PreconditionFailed, Problem, TaskNotFound, UnprocessableContent
from todo.tasks.queries import SQL as TASK_SQL
from todo.tasks.rows import COLUMNS, STORED, WRITTEN, TaskRow, as_task, tasks
from todo.trash.queries import KEPT
from todo.trash.queries import SQL as TRASH_SQL

Result = dict[str, Any]

SQL = statements.load(
    __file__,
    columns=COLUMNS,
    names=", ".join(STORED),
    created=", ".join(f"(written).{name}" for name in STORED),
    kept_names=", ".join(KEPT),
    restored=", ".join(f"(stored).{name}" for name in KEPT),
    assignments=", ".join(f"{name} = (written).{name}" for name in STORED),
    row=", ".join(tasks.c.keys()),
    live=", ".join(f"(live).{name}" for name in WRITTEN),
    written=", ".join(f"written.{name}" for name in WRITTEN),
)
SQL = {name: statements.fill(sql, verdicts=SQL["verdicts"]) for name, sql in SQL.items()}

# The statements of a batch in their order, and the operations that need them. Insertions come first, because the rest
# still sees the list without them.
STATEMENTS = (
    (TASK_SQL["lock_list"], None),
    (TRASH_SQL["lock_tasks"], {"create", "restore"}),
    (SQL["insert_created"], {"create"}),
    (SQL["insert_restored"], {"restore"}),
    (SQL["insert_deleted"], {"delete"}),
    (SQL["finish"], None),
)


@cache
def message(ops: frozenset[str]) -> str:
    """Return the statements of a batch that has these kinds of operations."""
    return SEPARATOR.join(sql for sql, needed_by in STATEMENTS if needed_by is None or needed_by & ops)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a batch.

    Attributes:
        results: The result of each operation, in order.
        before: The revision of the caller's list before the batch.
        revision: The revision after it, which is that of its last change.

    """

    results: list[Result]
    before: int
    revision: int


def run_batch(caller: str, batch: Batch, trash_days: int, preconditions: Preconditions = NO_PRECONDITIONS) -> Outcome:
    """Apply a batch to the caller's list.

    Args:
        caller: The id of the caller.
        batch: The operations.
        trash_days: How many days the trash keeps deleted tasks; with 0 only their tombstones are left.
        preconditions: What must be true of the list. With any of them it takes several round trips.

    Raises:
        OperationsRefused: An operation was refused, and the batch is all or nothing.
        PreconditionFailed: The list is in another state.

    """
    if batch.is_atomic and batch.refused:
        raise OperationsRefused(batch.refused)
    if not preconditions:
        return _run(statements.write, caller, batch, trash_days)
    with statements.transaction(REQUEST_LIMITS) as transaction:
        outcome = _run(transaction.returning, caller, batch, trash_days)
        # A batch that is sent again has succeeded already, and changed the list itself.
        if outcome.revision > outcome.before:
            preconditions.check(lambda etags: etags.include_list(outcome.before))
    return outcome


def _run(
    write: Callable[[str, Mapping[str, Any]], Sequence[Any]], caller: str, batch: Batch, trash_days: int
) -> Outcome:
    rows = write(
        message(frozenset(operation.op for operation in batch.operations)),
        {
            "caller": caller,
            "operations": orjson.dumps(batch.operations).decode(),
            "keys": [operation.key for operation in batch.operations if operation.key is not None],
            "ids": [operation.id for operation in batch.operations if operation.op == "restore"],
            "atomic": batch.is_atomic,
            "days": trash_days,
        },
    )
    # The one row of a batch that has no operation left tells the revision alone.
    judged = _judge([row for row in rows if row.number is not None])
    refused = {number: verdict for number, verdict in judged.items() if isinstance(verdict, Problem)}
    if batch.is_atomic and refused:
        raise OperationsRefused(refused)
    verdicts = judged | batch.refused
    results = [_result(verdicts[number]) for number in sorted(verdicts)]
    return Outcome(results, rows[0].last_revision, rows[0].list_revision)


def _result(verdict: Result | Problem) -> Result:
    if isinstance(verdict, Problem):
        return {"status": verdict.status.value, "problem": verdict.as_members()}
    return verdict


def _judge(rows: Sequence[Any]) -> dict[int, Result | Problem]:
    """Return the result of each operation, or its problem, by its position in the batch.

    A replayed creation shows its task as the operations before it have left it.
    """
    verdicts: dict[int, Result | Problem] = {}
    states: dict[int, tuple[TaskRow, Result]] = {}
    for row in rows:
        state = as_task(row), _deletion(row)
        if row.outcome == "replayed":
            state = states.get(row.target, state)
        states[row.target] = state
        verdicts[row.number] = _verdict(row, *state)
    return verdicts


def _deletion(row: Any) -> Result:
    """Return the deletion of a task as a member of a result; none if the task is not deleted."""
    if row.deleted_in is None:
        return {}
    return {"deleted": {"id": row.target, "revision": row.deleted_in, "deleted_at": row.deleted_at}}


def _verdict(row: Any, task: TaskRow, deletion: Result) -> Result | Problem:
    verdict: Result | Problem
    match row.outcome:
        case "created":
            verdict = {"status": 201, "task": task}
        case "replayed":
            verdict = {"status": 201, "task": task, "replayed": True} | deletion
        case "deleted":
            verdict = {"status": 204} | deletion
        case "already":
            verdict = {"status": 204} | deletion | {"already": True}
        case "absent":
            verdict = TaskNotFound()
        case "stale":
            verdict = PreconditionFailed(current=task)
        case "reused":
            rule = "key has been used for another task: take a new key for a new task."
            verdict = UnprocessableContent([{"pointer": f"#/operations/{row.number}/key", "detail": rule}])
        case _:
            verdict = {"status": 200, "task": task}
    return verdict
