"""Statements that the sessions of PostgreSQL keep prepared, because it would parse and plan them anew for each request.

The first use in a session prepares a statement in the same message that executes it, so there is no other round trip.
The statement's name is a digest of its text: a session that other clients share has either the same statement under it
or none.

Sessions are shared behind a pooler in transaction mode, where the next message may reach a session without the
statement. PostgreSQL then refuses the message before anything of it takes effect. The message is sent again as plain
text, and from then on nothing is prepared in this process.
"""

import hashlib
import re
from collections import OrderedDict
from functools import lru_cache
from typing import Any, NamedTuple, Self

import psycopg2
from psycopg2 import errors
from sqlalchemy.pool import ConnectionPoolEntry

from todo.telemetry.logs import log

# How many statements a session keeps, some 30 KiB each. The least recently used one makes room.
PREPARED_MAX = 64

# What separates the statements of one message.
SEPARATOR = ";\n"

# A parameter of the driver, with its cast. The same value as an argument of EXECUTE needs the same cast: an array of
# texts, say, is no array of priorities there.
PARAMETER = re.compile(r"%\((\w+)\)s(::\w+(?:\[\])?)?")

# The classes of errors that a statement has because it is prepared: the session has none of this name (26000), has one
# already (42P05), or cannot use it any more because a migration changed the types of its result (0A000).
STALE = (errors.InvalidSqlStatementName, psycopg2.ProgrammingError, psycopg2.NotSupportedError)


class Prepared(str):
    """The text of a statement, or of several that are one message, which sessions keep prepared.

    Its plan may not depend on the values of its parameters: after five executions PostgreSQL may use one plan for all.

    Args:
        text: The SQL.
        name: What it does, for those who look at what PostgreSQL works on.

    """

    __slots__ = ("name",)

    name: str

    def __new__(cls, text: str, name: str) -> Self:
        """Return a text with a name."""
        sql = super().__new__(cls, text)
        sql.name = name
        return sql


class Form(NamedTuple):
    """How a statement is prepared and executed.

    Attributes:
        name: Its name in a session.
        preparation: The SQL that prepares it.
        execution: The SQL that executes it, with the parameters of the driver.

    """

    name: str
    preparation: str
    execution: str


class Sessions:
    """Whether the sessions of this process keep statements prepared.

    Args:
        is_on: Whether they do, until one of them turns out to be shared.
        has_limits: Whether their role has the time-outs of requests.

    """

    def __init__(self, *, is_on: bool, has_limits: bool = False) -> None:
        self.is_on = is_on
        self.has_limits = has_limits

    def begin(self, _connection: Any, entry: ConnectionPoolEntry) -> None:
        """Begin to count what a new session keeps."""
        entry.info["session"] = Session(self)


class Session:
    """What one session keeps prepared."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self.has_limits = sessions.has_limits
        self._held: OrderedDict[str, None] = OrderedDict()

    def message(self, sql: str) -> str:
        """Return the message that runs a statement here: as plain text if it is not to be prepared."""
        if not self._sessions.is_on or not isinstance(sql, Prepared):
            return sql
        held = self._held
        forms, execution = forms_of(sql)
        first = ""
        for form in forms:
            if form.name in held:
                held.move_to_end(form.name)
                continue
            if len(held) >= PREPARED_MAX:
                first += f"DEALLOCATE {held.popitem(last=False)[0]}{SEPARATOR}"
            held[form.name] = None
            first += form.preparation + SEPARATOR
        return first + execution

    def give_up(self, error: Exception) -> None:
        """Keep nothing prepared any more in this process, if the error shows that its sessions are shared."""
        if isinstance(error, errors.InvalidSqlStatementName) and self._sessions.is_on:
            self._sessions.is_on = False
            log.info("statements are not prepared: the sessions of PostgreSQL are shared with other clients")


# As many as lists have shapes in use at a time; the text of one has some 3 KiB.
@lru_cache(maxsize=512)
def forms_of(sql: Prepared) -> tuple[tuple[Form, ...], str]:
    """Return the forms of the statements in a message, and the message that executes all of them."""
    forms = tuple([_form_of(sql.name, statement) for statement in sql.split(SEPARATOR)])
    return forms, SEPARATOR.join(form.execution for form in forms)


def _form_of(name: str, statement: str) -> Form:
    # Each parameter has one number, however often it stands in the text.
    numbers: dict[str, int] = {}
    values: list[str] = []

    def number(match: re.Match[str]) -> str:
        parameter, cast = match[1], match[2] or ""
        if parameter not in numbers:
            numbers[parameter] = len(numbers) + 1
            values.append(match[0])
        return f"${numbers[parameter]}{cast}"

    text = PARAMETER.sub(number, statement)
    name = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    arguments = f" ({', '.join(values)})" if values else ""
    return Form(name, f"PREPARE {name} AS {text}", f"EXECUTE {name}{arguments}")
