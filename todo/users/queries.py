"""All that is kept of a user: given, line by line, or erased."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Text, bindparam, delete, func, literal_column, select, true, update

from todo.database import failures, statements
from todo.database.statements import Prepared, execute, prepared
from todo.database.timeouts import WORK
from todo.extensions import ORJSONProvider
from todo.tasks.rows import COLUMNS, as_task, columns_of, lists, stored_in, tasks, trash, utc
from todo.telemetry.requests import database_time

LINES = 500
KEY = "idempotency_key"

_caller = bindparam("caller", type_=Text)


def _deleted() -> Prepared:
    stored = stored_in(trash)
    mark = (
        trash.c.id.label("deleted_id"),
        trash.c.revision.label("deleted_in"),
        utc(trash.c.deleted_at).label("deleted_at"),
        utc(trash.c.expires_at).label("expires_at"),
    )
    every = select(*columns_of(stored), stored.c[KEY], *mark).select_from(trash.outerjoin(stored, true()))
    return prepared(every.where(trash.c.user_id == _caller).order_by(trash.c.revision))


def _count(table: Any) -> Any:
    return select(func.count()).select_from(table).where(table.c.user_id == _caller).scalar_subquery()


LIST = prepared(
    select(
        lists.c.user_id,
        lists.c.revision,
        utc(lists.c.erased_at).label("erased_at"),
        _count(tasks).label("tasks"),
        _count(trash).label("deleted"),
    ).where(lists.c.user_id == _caller)
)
TASKS = prepared(select(*COLUMNS, tasks.c[KEY]).where(tasks.c.user_id == _caller).order_by(tasks.c.id))
DELETED = _deleted()

_next = lists.c.revision + literal_column("1")
# Whoever followed the changes begins again: what was deleted here leaves no marks.
ERASE_LIST = prepared(
    update(lists)
    .where(lists.c.user_id == _caller)
    .values(revision=_next, forgotten=_next, erased_at=func.now())
    .returning(lists.c.user_id)
)
ERASE_TASKS = prepared(delete(tasks).where(tasks.c.user_id == _caller))
ERASE_TRASH = prepared(delete(trash).where(trash.c.user_id == _caller))


@dataclass(frozen=True, slots=True)
class Erased:
    """How many tasks there were, and how many deleted ones."""

    tasks: int
    deleted: int


def export(user: str) -> Generator[bytes]:
    """Give all that is kept of a user, as of one moment, in pieces of many lines of JSON each (NDJSON).

    Each line is an object with one member: first `list`, which says how many lines of each kind follow, then a `task`
    each, then a `deleted` each, which holds only its number and time once the task itself is forgotten.

    Raises:
        DatabaseUnavailable: when PostgreSQL cannot answer now; before the first piece, or in the middle.

    """
    with failures.translated(), statements.transaction("REPEATABLE READ") as connection:
        yield _lines([{"list": _list(connection, user)}])
        for rows in _streamed(connection, TASKS, user):
            yield _lines([{"task": as_task(row) | {KEY: row.idempotency_key}} for row in rows])
        for rows in _streamed(connection, DELETED, user):
            yield _lines([{"deleted": _mark(row) if row.id is None else _trashed(row)} for row in rows])


def _list(connection: Connection, user: str) -> dict[str, Any]:
    for row in execute(connection, LIST, {"caller": user}, WORK):
        return row._asdict()
    return {"user_id": user, "revision": 0, "erased_at": None, "tasks": 0, "deleted": 0}


def _streamed(connection: Connection, statement: Prepared, user: str) -> Iterator[Any]:
    streaming = connection.execution_options(stream_results=True, max_row_buffer=LINES)
    partitions = execute(streaming, statement, {"caller": user}).partitions(LINES)
    while rows := _fetched(partitions):
        yield rows


def _fetched(partitions: Iterator[Any]) -> Any:
    with database_time:
        return next(partitions, None)


def _trashed(row: Any) -> dict[str, Any]:
    moments = {"deleted_at": row.deleted_at, "expires_at": row.expires_at}
    return as_task(row) | {KEY: row.idempotency_key} | moments


def _mark(row: Any) -> dict[str, Any]:
    return {"id": row.deleted_id, "revision": row.deleted_in, "deleted_at": row.deleted_at}


def _lines(documents: list[dict[str, Any]]) -> bytes:
    options = ORJSONProvider.OPTIONS | orjson.OPT_APPEND_NEWLINE
    return b"".join(orjson.dumps(document, option=options) for document in documents)


def erase(user: str) -> Erased:
    """Erase all that is kept of a user but one row: the revision, so that no old cursor is ever taken for a good one.

    It is more than one statement, because what others write while the first one waits for them must go too.

    Raises:
        DatabaseUnavailable: when PostgreSQL cannot answer now; then nothing is erased.

    """
    with failures.translated(), statements.transaction() as connection:
        _, *numbers = (
            execute(connection, statement, {"caller": user}, WORK).rowcount
            for statement in (ERASE_LIST, ERASE_TASKS, ERASE_TRASH)
        )
        return Erased(*numbers)
