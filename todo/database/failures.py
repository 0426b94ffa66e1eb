"""Failures of PostgreSQL, of its driver and of the pool, as problems that a client may be told."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from todo.database import embedded
from todo.database.timeouts import NoAnswer
from todo.http.problems import InternalError, Unavailable
from todo.telemetry.requests import database_failed

# The session cannot write: its server is a standby, or is short of something.
READ_ONLY = "25006"

# SQLSTATEs that say "not now" and not "never" (PostgreSQL, appendix A): the class, or the whole code.
PASSING = ("08", READ_ONLY, "40", "53", "55P03", "57", "58")

# Somebody else's transaction was in the way, and nothing of this one took effect. Citus also says so when many write
# for one user.
ROLLED_BACK = ("40001", "40P01")

# A table or a column that is not there: the migrations have not run yet.
SCHEMA_LACKING = ("42P01", "42703")


class DatabaseUnavailable(Unavailable):
    """503: PostgreSQL is away, is restarting, or has no connection left."""

    detail = "The database cannot be reached right now. Please try again in a moment."


class ConnectionLost(DatabaseUnavailable):
    """503: the connection died under a statement, which may have taken effect or not."""


class RolledBack(DatabaseUnavailable):
    """503: the statement was taken back, because another one was in its way."""


class SchemaLacking(DatabaseUnavailable):
    """503: PostgreSQL answers, and its schema is not ours yet."""

    detail = "The database is not ready yet. Please try again in a moment."


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
    if sqlstate in ROLLED_BACK:
        return RolledBack(reason=reason)
    if sqlstate.startswith(PASSING) or isinstance(error.orig, psycopg2.OperationalError | psycopg2.InterfaceError):
        return DatabaseUnavailable(reason=reason)
    # The message of any other error may quote a row.
    return InternalError(reason=f"{sqlstate}: {error.statement}")
