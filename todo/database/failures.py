"""Failures of PostgreSQL, of its driver and of the connection pool, translated into problems."""

from collections.abc import Mapping
from typing import ClassVar

import psycopg2

from todo.database.nodes import NODE_LOST, SilentNode
from todo.database.timeouts import NoAnswer
from todo.http.problems import InternalError, Unavailable
from todo.telemetry.requests import database_failed

# The session cannot write: its server is a standby, or has run out of a resource.
READ_ONLY = "25006"

# SQLSTATEs of temporary failures (PostgreSQL, appendix A): the class, or the whole code.
TEMPORARY = ("08", READ_ONLY, "40", "53", "55P03", "57", "58")

# The server cannot do this. So says Citus while some of the tables are distributed already and others are not.
NOT_SUPPORTED = "0A000"

# Another transaction was in the way, and nothing of this one took effect. Citus also reports them when many clients
# write for one user.
ROLLED_BACK = ("40001", "40P01")

# PostgreSQL itself failed, and nothing took effect. Citus does at the moment in which a piece of a table moves.
INTERNAL = "XX000"

# A table or a column is missing: the migrations have not run yet.
SCHEMA_LACKING = ("42P01", "42703")


class DatabaseUnavailable(Unavailable):
    """503: PostgreSQL is down, is restarting, or has no connection left.

    Attributes:
        kind: The kind of the failure, as `database_errors_total` labels it. A subclass without its own inherits it.

    """

    kind: ClassVar[str] = "unavailable"
    detail = "The database cannot be reached right now. Please try again in a moment."


class ConnectionLost(DatabaseUnavailable):
    """503: the connection was lost during a statement, which may have taken effect or not."""

    kind = "connection_lost"


class RolledBack(DatabaseUnavailable):
    """503: the statement was rolled back, because another one was in its way."""

    kind = "undone"


class NodeUnavailable(DatabaseUnavailable):
    """503: PostgreSQL works, and the machine that has the rows of this user does not."""

    kind = "node"


class NotSupported(DatabaseUnavailable):
    """503: PostgreSQL works, and cannot run this statement while the tables are being distributed."""

    kind = "not_supported"
    detail = "The database is being moved. Please try again in a moment."


class SchemaLacking(DatabaseUnavailable):
    """503: PostgreSQL works, and its schema is not yet the one that this version needs."""

    kind = "schema"
    detail = "The database is not ready yet. Please try again in a moment."


PROBLEMS: Mapping[str, type[DatabaseUnavailable]] = {
    **dict.fromkeys(SCHEMA_LACKING, SchemaLacking),
    **dict.fromkeys((*ROLLED_BACK, INTERNAL), RolledBack),
    **dict.fromkeys(NODE_LOST, NodeUnavailable),
    NOT_SUPPORTED: NotSupported,
}


def report(problem: DatabaseUnavailable | InternalError) -> DatabaseUnavailable | InternalError:
    """Send `database_failed` with a problem, and return the problem."""
    database_failed.send(problem)
    return problem


def first_line(error: Exception) -> str:
    """Return the message of PostgreSQL or of its driver, without the lines that may quote a row."""
    return str(_driver_error(error)).strip().partition("\n")[0]


def lacks_schema(error: Exception) -> bool:
    """Return whether a statement failed because the migrations have not run."""
    return _sqlstate(error) in SCHEMA_LACKING


def _driver_error(error: Exception) -> Exception:
    """Return the error of the driver, which SQLAlchemy wraps where it runs a statement itself."""
    return getattr(error, "orig", None) or error


def _sqlstate(error: Exception) -> str:
    return getattr(_driver_error(error), "pgcode", None) or ""


def problem_of(error: psycopg2.Error, sql: str, *, is_lost: bool) -> DatabaseUnavailable | InternalError:
    """Return the problem for an error of the driver: a temporary failure or a bug.

    Its reason has nothing in it that users wrote.

    Args:
        error: The error.
        sql: The statement, with its parameters by name.
        is_lost: Whether the connection died under it.

    """
    sqlstate = _sqlstate(error)
    reason = f"{sqlstate or 'no SQLSTATE'}: {first_line(error)}"
    if isinstance(error, NoAnswer):
        # Not ConnectionLost, which is retried: a client that has waited for so long does not wait a second time.
        return DatabaseUnavailable(reason=reason)
    if isinstance(error, SilentNode):
        return NodeUnavailable(reason=reason)
    if is_lost:
        return ConnectionLost(reason=reason)
    if sqlstate in PROBLEMS:
        return PROBLEMS[sqlstate](reason=reason)
    if sqlstate.startswith(TEMPORARY) or isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return DatabaseUnavailable(reason=reason)
    # The message of any other error may quote a row.
    return InternalError(reason=f"{sqlstate}: {sql}")
