"""The statements of an import, one round trip each, the caller's id always first."""

from collections.abc import Collection
from typing import Any

import orjson

from todo.database import statements
from todo.database.timeouts import BATCH_LIMITS
from todo.tasks import queries
from todo.tasks.rows import STORED
from todo.trash import queries as trash

SQL = statements.load(
    __file__,
    names=", ".join(STORED),
    lock_list=queries.SQL["lock_list"],
    lock_trash=trash.SQL["lock_tasks"],
)
JUDGED = SQL.pop("judged")
SQL = {name: statements.fill(sql, judged=JUDGED) for name, sql in SQL.items()}

Rows = list[dict[str, Any]]


def find_known(caller: str, rows: Rows) -> Collection[int]:
    """Return the places of the rows whose tasks the caller has, or has deleted."""
    (found,) = statements.read(SQL["find_known"], _parameters(caller, rows), BATCH_LIMITS)
    return {place - 1 for place in found.known}


def create_tasks(caller: str, rows: Rows) -> Collection[int]:
    """Add tasks to the caller's list, in this order, and return the places of those that were known and left alone."""
    (found,) = statements.write(SQL["create_tasks"], _parameters(caller, rows), BATCH_LIMITS)
    return {place - 1 for place in found.known}


def _parameters(caller: str, rows: Rows) -> dict[str, Any]:
    return {
        "caller": caller,
        "tasks": orjson.dumps(rows).decode(),
        "keys": [row["idempotency_key"] for row in rows if row.get("idempotency_key") is not None],
        "ids": [row["id"] for row in rows if row.get("id") is not None],
    }
