"""How the engine talks to PostgreSQL: one statement a request, no BEGIN, no ping on a warm connection.

Every statement stands alone in autocommit mode: it is atomic by itself, and on a remote database its one round trip
is the whole latency of a request.
"""

import selectors
import time
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import psycopg2
from flask import Flask
from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect, Engine, Executable, event
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext, IsolationLevel
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from config import Config
from todo import bounds, embedded
from todo.bounds import CALL, Bounds, NoAnswer, watch
from todo.extensions import db
from todo.http.problems import InternalError, Unavailable
from todo.pooling import Pool
from todo.telemetry.requests import database_failed, database_time

# A thread waits this long for a connection of the pool, and this long for PostgreSQL to accept a new one:
# together, and with a ping or a read's second attempt between them, under 10 s.
POOL_TIMEOUT_S = 3
CONNECT_TIMEOUT_S = 3

# After an attempt that failed slowly, nobody else tries for this long: all threads of a process waiting in turn for
# a host that does not answer would leave none to say so.
SLOW_FAILURE_S = 1
PAUSE_S = 2

# A connection that was idle for longer is asked whether it still lives before it is used, and must say so soon.
TRUSTED_IDLE_S = 30
PING_S = 3

CONNECT_ARGS: Mapping[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "todo",
    # A peer that vanished without a word is noticed in seconds, not in the kernel's two hours: 3 s after something that
    # it has not acknowledged; and while an answer is awaited, after the first lost probe, 8 s (where there is no
    # `tcp_user_timeout`, after the third, 14 s).
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}

# The session cannot write: its server is a standby, or is short of something.
READ_ONLY = "25006"

# SQLSTATEs that say "not now" and not "never" (PostgreSQL, appendix A): the class, or the whole code.
PASSING = ("08", READ_ONLY, "40", "53", "55P03", "57", "58")

# Somebody else's transaction was in the way, and nothing of this one took effect. Citus also says so when many write
# for one user.
UNDONE = ("40001", "40P01")

# A table or a column that is not there: the migrations have not run yet.
SCHEMA_LACKING = ("42P01", "42703")

# epoll would cost three more system calls; Windows has select alone.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class DatabaseUnavailable(Unavailable):
    """503: PostgreSQL is away, is restarting, or has no connection left."""

    detail = "The database cannot be reached right now. Please try again in a moment."


class ConnectionLost(DatabaseUnavailable):
    """503: the connection died under a statement, which may have taken effect or not."""


class Undone(DatabaseUnavailable):
    """503: the statement was taken back, because another one was in its way."""


class SchemaLacking(DatabaseUnavailable):
    """503: PostgreSQL answers, and its schema is not ours yet."""

    detail = "The database is not ready yet. Please try again in a moment."


def configure(app: Flask, config: Config) -> None:
    """Set what Flask-SQLAlchemy needs to build the engine."""
    options: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        "poolclass": Pool,
        # One connection for each thread that serves requests, opened when first needed. Migrations take two.
        "pool_size": max(config.web_threads, 2),
        "max_overflow": 0,
        "pool_timeout": POOL_TIMEOUT_S,
        # What users write stays out of messages, and so out of the log.
        "hide_parameters": True,
        # Nothing was begun, so there is nothing to roll back.
        "pool_reset_on_return": None,
        # The most recently used connection first: the fewest stay open, and those stay warm.
        "pool_use_lifo": True,
    }
    if config.database_url is None:
        options["creator"] = partial(_connect_to_embedded, Path(app.instance_path) / "postgres")
    else:
        options["connect_args"] = dict(CONNECT_ARGS)
    app.config["SQLALCHEMY_DATABASE_URI"] = config.database_url or "postgresql+psycopg2://"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options


def _connect_to_embedded(data_dir: Path) -> Any:
    return psycopg2.connect(embedded.start(data_dir).get_uri(), **CONNECT_ARGS)


def init_app(app: Flask) -> None:
    """Watch the engine: a dead connection is found before a request uses it, and statements get their bounds."""
    with app.app_context():
        engine: Engine = db.engine
    bounds.keep(engine)
    event.listen(engine, "do_connect", Breaker())
    event.listen(engine, "handle_error", _leave_the_read_only)
    event.listen(engine, "checkin", _note_idle_since)
    event.listen(engine, "checkout", partial(_check_liveness, engine))


class Breaker:
    """Opens connections, and fails at once for a while after an attempt that took long to fail."""

    def __init__(self) -> None:
        """Begin with trust."""
        self._paused_until = 0.0

    def __call__(self, dialect: Dialect, _entry: ConnectionPoolEntry, arguments: Any, options: Any) -> Any:
        """Connect as the dialect does, unless it is too early to try again."""
        started = time.monotonic()
        if started < self._paused_until:
            raise psycopg2.OperationalError("PostgreSQL did not answer a moment ago")
        try:
            return dialect.connect(*arguments, **options)
        except psycopg2.OperationalError:
            if time.monotonic() - started > SLOW_FAILURE_S:
                self._paused_until = time.monotonic() + PAUSE_S
            raise


def _note_idle_since(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info["idle_since"] = time.monotonic()


def _check_liveness(engine: Engine, connection: Any, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """Ping a connection before use, only when there is a reason to doubt it.

    A long rest is one reason (a suspended database drops its connections in silence). A server that said something
    while nobody asked is the other: its farewell, when it was restarted, waits in the socket to be read. One that has
    rested since before another was lost is not even asked.
    """
    idle_since = entry.info.pop("idle_since", None)
    if idle_since is None:
        return
    if idle_since < cast(Pool, engine.pool).lost_at:
        raise InvalidatePoolError
    if time.monotonic() - idle_since > TRUSTED_IDLE_S or _has_something_to_read(connection.fileno()):
        try:
            watch.wait(connection, PING_S, engine.dialect.do_ping, connection)
        except psycopg2.Error as error:
            raise InvalidatePoolError from error


def _leave_the_read_only(context: ExceptionContext) -> None:
    """Drop a connection that cannot write: after a failover the same name may lead to a server that can."""
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = False


def _has_something_to_read(file_descriptor: int) -> bool:
    with _Selector() as selector:
        selector.register(file_descriptor, selectors.EVENT_READ)
        return bool(selector.select(0))


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
    except (ConnectionLost, Undone):
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
    except Undone:
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
def translated() -> Iterator[None]:
    """Make of what the driver and the pool raise what a client may be told.

    Raises:
        DatabaseUnavailable: when PostgreSQL cannot answer now.

    """
    try:
        yield
    except DBAPIError as error:
        raise _seen(_translated(error)) from error
    except PoolTimeoutError as error:
        raise _seen(DatabaseUnavailable(reason="every pooled connection is in use")) from error
    except embedded.EmbeddedUnavailable as error:
        raise _seen(DatabaseUnavailable(reason=str(error))) from error


def _seen(problem: Exception) -> Exception:
    database_failed.send(problem)
    return problem


@contextmanager
def transaction(isolation_level: IsolationLevel = "READ COMMITTED") -> Iterator[Connection]:
    """Open the one explicit transaction of work that cannot be one statement; an error takes all of it back."""
    with db.engine.connect().execution_options(isolation_level=isolation_level) as connection, connection.begin():
        yield connection


def first_line(error: DBAPIError) -> str:
    """Give what PostgreSQL or its driver says went wrong, without the lines that may quote a row."""
    return str(error.orig).strip().partition("\n")[0]


def lacks_schema(error: Exception) -> bool:
    """Tell whether a statement failed because the migrations have not run."""
    return _sqlstate(error) in SCHEMA_LACKING


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "pgcode", None) or ""


def _translated(error: DBAPIError) -> Exception:
    """Tell "not now" from a bug of ours, and give a reason that holds nothing of what users wrote."""
    sqlstate = _sqlstate(error)
    reason = f"{sqlstate or 'no SQLSTATE'}: {first_line(error)}"
    if lacks_schema(error):
        return SchemaLacking(reason=reason)
    if isinstance(error.orig, NoAnswer):
        # Whoever has waited for so long is not made to wait a second time.
        return DatabaseUnavailable(reason=reason)
    if error.connection_invalidated:
        return ConnectionLost(reason=reason)
    if sqlstate in UNDONE:
        return Undone(reason=reason)
    if sqlstate.startswith(PASSING) or isinstance(error.orig, psycopg2.OperationalError | psycopg2.InterfaceError):
        return DatabaseUnavailable(reason=reason)
    # The message of any other error may quote a row.
    return InternalError(reason=f"{sqlstate}: {error.statement}")
