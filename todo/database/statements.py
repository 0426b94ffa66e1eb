"""Running statements: one for each request, alone, on the cursor of the driver."""

import time
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import psycopg2
from sqlalchemy import ClauseElement, Connection, CursorResult, Engine, Executable
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from todo.database.engine import Pool
from todo.database.failures import READ_ONLY, ConnectionLost, RolledBack, translated
from todo.database.timeouts import CALL, Bounds, watch
from todo.extensions import db
from todo.telemetry.requests import database_time


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement in the words of the driver: to build and to compile it would take longer than to run it.

    Attributes:
        sql: Its text.
        constants: The parameters that are always the same.

    """

    sql: str
    constants: Mapping[str, Any]

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Give the constants and these parameters, as the driver takes them."""
        return {**self.constants, **parameters}


def prepared(*statements: ClauseElement) -> Prepared:
    """Compile a statement, or several that are sent as one.

    Several make one round trip and one transaction (PostgreSQL, 'Multiple Statements in a Simple Query'), and each sees
    what others committed while the one before it waited for a lock. The rows are those of the last.
    """
    dialect = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
    compiled = [statement.compile(dialect=dialect) for statement in statements]
    constants: dict[str, Any] = {}
    for one in compiled:
        constants |= {name: value for name, value in one.params.items() if value is not None}
    return Prepared(";\n".join(str(one) for one in compiled), constants)


Statement = Executable | Prepared


def read(statement: Statement, parameters: Mapping[str, Any], within: Bounds = CALL) -> Sequence[Any]:
    """Run one statement that changes nothing; when its connection turns out to be dead, or it is taken back, again.

    Raises:
        DatabaseUnavailable: when PostgreSQL cannot answer now.

    """
    try:
        return _run(statement, parameters, within)
    except (ConnectionLost, RolledBack):
        return _run(statement, parameters, within)


def write(statement: Statement, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Run one statement that changes something, once: after a lost answer nobody knows whether it took effect.

    Only when PostgreSQL says that it took the statement back is it run once more. What does not get its lock in time
    gives up: the writes of one user, who wait for each other, must not take all threads from the others.

    Raises:
        DatabaseUnavailable: when PostgreSQL cannot answer now.

    """
    try:
        return _run(statement, parameters, CALL)
    except RolledBack:
        return _run(statement, parameters, CALL)


def _run(statement: Statement, parameters: Mapping[str, Any], within: Bounds) -> Sequence[Any]:
    with database_time, translated():
        if isinstance(statement, Prepared):
            return _run_prepared(statement, parameters, within)
        with db.engine.connect() as connection:
            return execute(connection, statement, parameters, within).all()


def _run_prepared(statement: Prepared, parameters: Mapping[str, Any], within: Bounds) -> Sequence[Any]:
    """Run a statement on the driver's own cursor: there is nothing to translate, and SQLAlchemy would look for it.

    Raises:
        DBAPIError: as SQLAlchemy says what the driver raised.

    """
    engine, lent = db.engine, None
    sql, values = within.settings + statement.sql, statement.values(parameters)
    try:
        lent = engine.raw_connection()
        connection: Any = lent.dbapi_connection
        with connection.cursor() as cursor:
            watch.wait(connection, within.answer_s, cursor.execute, sql, values)
            row = _row_class(tuple([column.name for column in cursor.description]))
            return [row._make(found) for found in cursor.fetchall()]
    except psycopg2.Error as error:
        lost = lent is not None and _give_up_if_lost(lent, error)
        raise DBAPIError.instance(
            statement.sql, None, error, psycopg2.Error, hide_parameters=True, connection_invalidated=lost
        ) from error
    finally:
        if lent is not None:
            lent.close()


@cache
def _row_class(names: tuple[str, ...]) -> Any:
    return namedtuple("_Row", names)  # noqa: PYI024 (the names are PostgreSQL's)


def _give_up_if_lost(lent: PoolProxiedConnection, error: Any) -> bool:
    """Throw a connection away that is dead or cannot write, and tell whether it was."""
    engine: Engine = db.engine
    if error.pgcode != READ_ONLY:
        if not engine.dialect.is_disconnect(error, lent, None):
            return False
        cast(Pool, engine.pool).lost_at = time.monotonic()
    lent.invalidate(error)
    return True


def execute(
    connection: Connection, statement: Statement, parameters: Mapping[str, Any], within: Bounds | None = None
) -> CursorResult[Any]:
    """Run a statement on a connection, within bounds that hold until its transaction ends."""
    options = {"bounds": within}
    with database_time:
        if isinstance(statement, Prepared):
            return connection.exec_driver_sql(statement.sql, statement.values(parameters), execution_options=options)
        return connection.execute(statement, dict(parameters), execution_options=options)


@contextmanager
def transaction(isolation_level: IsolationLevel = "READ COMMITTED") -> Iterator[Connection]:
    """Open the one explicit transaction of work that cannot be one statement; an error takes all of it back."""
    with db.engine.connect().execution_options(isolation_level=isolation_level) as connection, connection.begin():
        yield connection
