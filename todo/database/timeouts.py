"""Time-outs of statements: in PostgreSQL, which cancels a statement, and in this process, which waits for the result.

The time-outs that PostgreSQL enforces are sent in the same message as the statement, and end with its transaction. So
is the isolation level, for which a role or a database may have another default. That works everywhere and costs no
round trip. Behind a pooler that shares sessions between transactions nothing else works: it refuses `options` at
start-up, and a setting changed with SET would apply to the next client of the session.

They have no effect while a statement does not reach PostgreSQL, as in the queue of a pooler, or while PostgreSQL itself
is suspended. In these cases the watch closes the connection.
"""

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg2

LOCK_TIMEOUT_MS = 3_000

# What every transaction begins with. Under another level PostgreSQL rolls back writes that were in each other's way.
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;\n"
CHECK_INTERVAL_S = 0.5


class NoAnswer(psycopg2.OperationalError):
    """Raised when the watch has closed the connection of a statement, which may have taken effect or not."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The time-outs of a statement.

    Attributes:
        settings: SQL that is sent in front of the statement and sets the time-outs of PostgreSQL, and what else the
            role or the database may have another default for.
        result_s: Seconds until its result must have arrived. Longer than PostgreSQL takes to cancel it.

    """

    settings: str
    result_s: float


def _time_limits(
    statement_timeout_ms: int,
    *,
    result_s: float,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    idle_timeout_ms: int | None = None,
) -> TimeLimits:
    settings = {
        "lock_timeout": lock_timeout_ms,
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": idle_timeout_ms,
    }
    commands = [f"SET LOCAL {name} = {value};\n" for name, value in settings.items() if value is not None]
    return TimeLimits(READ_COMMITTED + "".join(commands), result_s)


# A statement of a request takes milliseconds. The writes of one user wait for one another, and must not hold all
# threads.
REQUEST_LIMITS = _time_limits(5_000, result_s=9)

# A statement that reads or writes all data of a user may take longer. A client that stops between two statements must
# not keep its locks.
BATCH_LIMITS = _time_limits(60_000, idle_timeout_ms=60_000, result_s=70)

# A lock on whole tables, behind which every request waits, is given up before these fail.
TABLE_LIMITS = _time_limits(60_000, lock_timeout_ms=2_000, result_s=70)

# The seed command may add millions of tasks in one transaction, and waits for another one that does. The session that
# holds the lock of the migrations is idle for as long as they take.
NO_LIMITS = _time_limits(0, lock_timeout_ms=0, idle_timeout_ms=0, result_s=math.inf)

# A time-out of PostgreSQL 17 and later, which would end transactions of several statements: an export, a migration.
NO_TRANSACTION_TIMEOUT = """
    SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('transaction_timeout', true) IS NOT NULL
"""


class Watch:
    """Closes connections whose server does not respond in time."""

    def __init__(self) -> None:
        self._waiting: dict[object, tuple[float, Any]] = {}
        self._closing = threading.Lock()
        self._thread = threading.Thread()

    def start(self, *_: object) -> None:
        """Start the thread that checks the clock, unless this process has one. A forked process has none."""
        if not self._thread.is_alive():
            self._closing = threading.Lock()
            self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
            self._thread.start()

    def wait(self, connection: Any, result_s: float, call: Callable[..., object], *arguments: Any) -> None:
        """Make a call that uses a connection, and wait until it returns.

        Raises:
            NoAnswer: the call took longer than `result_s` seconds, and the connection was closed.

        """
        ticket = object()
        self._waiting[ticket] = time.monotonic() + result_s, connection
        try:
            call(*arguments)
        finally:
            if self._waiting.pop(ticket, None) is None:
                # Until it has been shut down, the socket must not be closed: its number could be another one's by then.
                with self._closing:
                    raise NoAnswer(f"no answer within {result_s} s")

    def _run(self) -> None:
        while True:
            time.sleep(CHECK_INTERVAL_S)
            with self._closing:
                now = time.monotonic()
                for ticket, (deadline, connection) in list(self._waiting.items()):
                    if deadline < now and self._waiting.pop(ticket, None) is not None:
                        _shut_down(connection)


def _shut_down(connection: Any) -> None:
    """Shut the socket of a connection down, which wakes the thread that waits for it."""
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


watch = Watch()
