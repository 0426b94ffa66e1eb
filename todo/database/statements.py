"""The one way in which statements run: SQL text on a cursor of the driver, alone, in one round trip.

Fixed statements stand in `.sql` files beside the modules that run them, under names:

    -- prepared: get_task
    SELECT {columns} FROM tasks WHERE user_id = %(caller)s AND id = %(task_id)s;

Behind `-- name: ` stands a statement that is sent as it is, behind `-- prepared: ` one that sessions keep prepared.
`%(name)s` is a parameter of the driver, and `{name}` a fragment of SQL that the module fills in. Values only ever reach
SQL as parameters.
"""

import re
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import psycopg2
from blinker import Signal
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from todo.database.embedded import EmbeddedUnavailable
from todo.database.engine import Pool
from todo.database.failures import (
    READ_ONLY,
    ConnectionLost,
    DatabaseUnavailable,
    RolledBack,
    problem_of,
    report,
)
from todo.database.nodes import NODE_LOST, Nodes
from todo.database.prepared import SEPARATOR, STALE, Prepared, Session
from todo.database.timeouts import NO_TRANSACTION_TIMEOUT, REQUEST_LIMITS, TimeLimits, watch
from todo.extensions import db
from todo.telemetry.requests import database_time

NAME = re.compile(r"^-- (name|prepared): (\w+)\n", re.MULTILINE)
COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)

Parameters = Mapping[str, Any]


class ListChange(NamedTuple):
    """A user whose list was written, and the revision that it has at least since then."""

    user: str
    revision: int


# Sent with the ListChange of each write that has taken effect, also with that of one that changed nothing.
list_changed = Signal()


def load(module: str, **fragments: str) -> dict[str, str]:
    """Read the statements of the `.sql` file beside a module.

    Several statements under one name are sent as one message: one round trip and one transaction (PostgreSQL, 'Multiple
    Statements in a Simple Query'), in which each statement sees what other transactions committed while the one before
    it waited for a lock. The rows are those of the last statement.

    Args:
        module: The module's `__file__`.
        **fragments: The SQL that stands for `{name}`. A name without a fragment is left for `fill`.

    Returns:
        The text of each statement by its name, without comments.

    """
    _, *parts = NAME.split(Path(module).with_suffix(".sql").read_text())
    texts = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    found = {}
    for kind, name, text in texts:
        sql = COMMENT.sub("", text).strip().removesuffix(";")
        found[name] = fill(Prepared(sql, name) if kind == "prepared" else sql, **fragments)
    return found


def fill(template: str, **fragments: str) -> str:
    """Return a statement with its fragments; these are SQL of this service, never a value."""
    text = template
    for name, fragment in fragments.items():
        text = text.replace(f"{{{name}}}", fragment)
    return Prepared(text, template.name) if isinstance(template, Prepared) else text


def read(sql: str, parameters: Parameters, within: TimeLimits = REQUEST_LIMITS) -> Sequence[Any]:
    """Run a statement that changes nothing, and return its rows.

    It is run once more when its connection turns out to be dead, or when PostgreSQL rolled it back.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    try:
        return _run(sql, parameters, within)
    except (ConnectionLost, RolledBack):
        return _run(sql, parameters, within)


def write(sql: str, parameters: Parameters, within: TimeLimits = REQUEST_LIMITS) -> Sequence[Any]:
    """Run a statement that changes something, and return its rows.

    It is run once: after a lost response it is unknown whether it took effect. Only when PostgreSQL reports that it was
    rolled back is it run once more. A statement that does not get its lock in time fails: the writes of one user, which
    wait for each other, must not occupy all threads.

    The revision of the list that it raises is announced, so its rows must have it: as `list_revision`, or as `revision`
    where that is the same.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    try:
        rows = _run(sql, parameters, within)
    except RolledBack:
        rows = _run(sql, parameters, within)
    _announce(_change_of(parameters, rows))
    return rows


def _change_of(parameters: Parameters, rows: Sequence[Any]) -> ListChange | None:
    """Return what the rows of a write state about the list of its user, if anything."""
    revision = max((getattr(row, "list_revision", getattr(row, "revision", 0)) for row in rows), default=0)
    caller = parameters.get("caller")
    return ListChange(caller, revision) if caller is not None and revision else None


def _announce(change: ListChange | None) -> None:
    if change is not None:
        list_changed.send(change)


def _run(sql: str, parameters: Parameters, within: TimeLimits) -> Sequence[Any]:
    with database_time, _connection(sql) as lent:
        connection: Any = lent.dbapi_connection
        session: Session = lent.info["session"]
        nodes: Nodes = lent.info["nodes"]
        settings = "" if session.has_limits and within is REQUEST_LIMITS else within.settings
        with connection.cursor() as cursor, nodes.guard(cursor, parameters):
            message = session.message(sql)
            try:
                watch.wait(connection, within.result_s, cursor.execute, settings + message, parameters)
            except STALE as error:
                if message is sql:
                    raise
                # Nothing of the message took effect. What the session keeps now is unknown, so it ends afterwards.
                session.give_up(error)
                lent.invalidate(soft=True)
                watch.wait(connection, within.result_s, cursor.execute, settings + sql, parameters)
            return _rows(cursor, cursor.fetchall())


class Transaction:
    """A transaction of several round trips, for work that cannot be one message.

    Args:
        lent: A connection of the pool, which commits each statement by itself unless SQL says otherwise.
        within: The time-outs of the statements.
        isolation_level: The isolation level.

    """

    def __init__(self, lent: ConnectionPoolEntry, within: TimeLimits, isolation_level: str) -> None:
        self._connection: Any = lent.dbapi_connection
        self._nodes: Nodes = lent.info["nodes"]
        self._within = within
        # The first statement carries these, which saves a round trip; `SET LOCAL` holds until the end. The last level
        # that is set before the first query counts.
        level = f"SET TRANSACTION ISOLATION LEVEL {isolation_level}"
        self._prefix = SEPARATOR.join(("BEGIN", f"{within.settings}{level}", NO_TRANSACTION_TIMEOUT, ""))
        self._changes: list[ListChange | None] = []

    def read(self, sql: str, parameters: Parameters) -> Sequence[Any]:
        """Run a statement, and return its rows."""
        with self._connection.cursor() as cursor:
            self._execute(cursor, sql, parameters)
            return _rows(cursor, cursor.fetchall())

    def returning(self, sql: str, parameters: Parameters) -> Sequence[Any]:
        """Run a statement that writes, and return its rows. What they state is announced after the commit."""
        rows = self.read(sql, parameters)
        self._changes.append(_change_of(parameters, rows))
        return rows

    def write(self, sql: str, parameters: Parameters) -> int:
        """Run a statement, and return how many rows it wrote. What its rows state is announced after the commit."""
        with self._connection.cursor() as cursor:
            self._execute(cursor, sql, parameters)
            if cursor.description:
                self._changes.append(_change_of(parameters, _rows(cursor, cursor.fetchall())))
            return int(cursor.rowcount)

    def stream(self, sql: str, parameters: Parameters, size: int) -> Iterator[Sequence[Any]]:
        """Run a query, and yield its rows in batches of at most `size`, each in a round trip of its own."""
        fetch = f"FETCH {size} FROM stream"
        rows = self.read(f"DECLARE stream NO SCROLL CURSOR FOR {sql}{SEPARATOR}{fetch}", parameters)
        while rows:
            yield rows
            rows = self.read(fetch, {})
        self.write("CLOSE stream", {})

    def announce(self) -> None:
        """Announce what was written."""
        for change in self._changes:
            _announce(change)

    def end(self, sql: str) -> None:
        """Commit or roll back, if anything was opened."""
        if not self._prefix:
            with self._connection.cursor() as cursor:
                self._execute(cursor, sql, {})

    def _execute(self, cursor: Any, sql: str, parameters: Parameters) -> None:
        with database_time, self._nodes.guard(cursor, parameters):
            prefix, self._prefix = self._prefix, ""
            watch.wait(self._connection, self._within.result_s, cursor.execute, prefix + sql, parameters)


@contextmanager
def transaction(
    within: TimeLimits, isolation_level: Literal["READ COMMITTED", "REPEATABLE READ"] = "READ COMMITTED"
) -> Iterator[Transaction]:
    """Open a transaction; an error rolls all of it back.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    with _connection("a transaction") as lent:
        opened = Transaction(lent, within, isolation_level)
        try:
            yield opened
        except BaseException:
            # The failure that ended the transaction is the one to report.
            with suppress(psycopg2.Error):
                opened.end("ROLLBACK")
            raise
        opened.end("COMMIT")
    opened.announce()


@contextmanager
def session() -> Iterator[Callable[[str, Parameters], None]]:
    """Lend a session for statements that can be no part of a message, and end it afterwards with what they have set.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    with _connection("a session") as lent:
        connection: Any = lent.dbapi_connection
        try:
            with connection.cursor() as cursor:
                yield cursor.execute
        finally:
            lent.invalidate()


@contextmanager
def _connection(sql: str) -> Iterator[ConnectionPoolEntry]:
    """Borrow a connection from the pool.

    Raises:
        DatabaseUnavailable: there is none to be had, or PostgreSQL cannot answer now.
        InternalError: PostgreSQL refused the statement, which is a bug of this service.

    """
    engine: Engine = db.engine
    pool = cast(Pool, engine.pool)
    lent: ConnectionPoolEntry | None = None
    try:
        lent = pool.lend()
        yield lent
    except psycopg2.Error as error:
        is_lost = lent is not None and _discard_if_lost(engine, lent, error)
        raise report(problem_of(error, sql, is_lost=is_lost)) from error
    except DBAPIError as error:
        # SQLAlchemy ran it: the first connection of a process asks for the server's version, and migrations run so.
        raise report(problem_of(cast(psycopg2.Error, error.orig), sql, is_lost=False)) from error.orig
    except PoolTimeoutError as error:
        raise report(DatabaseUnavailable(reason="every pooled connection is in use")) from error
    except EmbeddedUnavailable as error:
        raise report(DatabaseUnavailable(reason=str(error))) from error
    finally:
        if lent is not None:
            if lent.dbapi_connection is not None and lent.dbapi_connection.closed:
                lent.invalidate()
            pool.take_back(lent)


def _discard_if_lost(engine: Engine, lent: ConnectionPoolEntry, error: psycopg2.Error) -> bool:
    """Discard a connection that is dead or cannot write, and report whether it was.

    After a failover the same host name may lead to a server that can write.
    """
    if error.pgcode in NODE_LOST:
        # The connection to this server works: its message may be that of another connection.
        return False
    if error.pgcode != READ_ONLY:
        if not engine.dialect.is_disconnect(error, lent.dbapi_connection, None):  # type: ignore[arg-type]
            return False
        cast(Pool, engine.pool).lost_at = time.monotonic()
    lent.invalidate(error)
    return True


def _rows(cursor: Any, rows: Sequence[Any]) -> Sequence[Any]:
    row = _row_class(tuple([column.name for column in cursor.description]))
    # What `row._make` does, without a call of a function of Python for each row.
    return list(map(partial(tuple.__new__, row), rows))


# A statement that is put together from many keys has many shapes of rows; few of them are in use at a time.
@lru_cache(maxsize=256)
def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("_Row", names, rename=True)  # noqa: PYI024 (the names are PostgreSQL's)
