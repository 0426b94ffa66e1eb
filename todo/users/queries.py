"""Everything that is kept of a user: exported line by line, or erased."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import orjson

from todo.database import statements
from todo.database.statements import Transaction
from todo.database.timeouts import BATCH_LIMITS
from todo.extensions import ORJSONProvider
from todo.tasks.rows import COLUMNS, as_task

SQL = statements.load(__file__, columns=COLUMNS)

# How many rows of an export are in memory at once.
BATCH = 500
KEY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class Erased:
    """How many tasks and how many deleted tasks an erasure erases."""

    tasks: int
    deleted: int


def export(user: str) -> Generator[bytes]:
    """Yield everything that is kept of a user, as of one moment, in pieces of many lines of JSON each (NDJSON).

    Each line is an object with one member: first `list`, which has the number of lines of each kind that follow, then a
    `task` for each task, then a `deleted` for each deleted one, which has a number and a time alone once it was purged.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now; before the first piece, or between two.

    """
    parameters = {"caller": user}
    with statements.transaction(BATCH_LIMITS, "REPEATABLE READ") as transaction:
        yield _lines([{"list": _list(transaction, user)}])
        for rows in transaction.stream(SQL["list_tasks"], parameters, BATCH):
            yield _lines([{"task": as_task(row) | {KEY: row.idempotency_key}} for row in rows])
        for rows in transaction.stream(SQL["list_deleted"], parameters, BATCH):
            yield _lines([{"deleted": _tombstone(row) if row.id is None else _deleted(row)} for row in rows])


def _list(transaction: Transaction, user: str) -> dict[str, Any]:
    for row in transaction.read(SQL["get_list"], {"caller": user}):
        return dict(row._asdict())
    return {"user_id": user, "revision": 0, "erased_at": None, "tasks": 0, "deleted": 0}


def _deleted(row: Any) -> dict[str, Any]:
    times = {"deleted_at": row.deleted_at, "expires_at": row.expires_at}
    return as_task(row) | {KEY: row.idempotency_key} | times


def _tombstone(row: Any) -> dict[str, Any]:
    return {"id": row.deleted_id, "revision": row.deleted_in, "deleted_at": row.deleted_at}


def _lines(documents: list[dict[str, Any]]) -> bytes:
    options = ORJSONProvider.OPTIONS | orjson.OPT_APPEND_NEWLINE
    return b"".join(orjson.dumps(document, option=options) for document in documents)


def count(user: str) -> Erased:
    """Return how much an erasure would erase now.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    return Erased(*statements.read(SQL["count"], {"caller": user}, BATCH_LIMITS)[0])


def erase(user: str) -> Erased:
    """Erase everything that is kept of a user but the row of the list, so that no old cursor is taken for a valid one.

    This takes more than one statement: what other requests wrote while the first one waited for them must go too.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now; then nothing is erased.

    """
    with statements.transaction(BATCH_LIMITS) as transaction:
        transaction.write(SQL["erase_list"], {"caller": user})
        return Erased(*(transaction.write(SQL[name], {"caller": user}) for name in ("erase_tasks", "erase_trash")))
