"""How long a statement may take: in PostgreSQL, which gives it up, and until its answer is here.

The bounds that PostgreSQL keeps are sent along, in the same message as the statement, and end with its transaction.
That works everywhere and costs no round trip. Behind a pooler that shares sessions between transactions nothing else
does: it refuses `options` at start-up, and what SET changes would be found by whoever gets the session next.

They cannot help where a statement never reaches PostgreSQL, as in the queue of a pooler, or where PostgreSQL itself
stands still. There we hang up.
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
LOOK_S = 0.5


class NoAnswer(psycopg2.OperationalError):
    """Raised when a connection was hung up because nothing came: the statement may have taken effect or not."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a statement is allowed.

    Attributes:
        settings: What is sent in front of it.
        answer_s: When its answer must be here, in seconds.

    """

    settings: str
    answer_s: float


def _bounds(statement_timeout_ms: int, *, answer_s: float, idle_timeout_ms: int | None = None) -> Bounds:
    settings = {
        "lock_timeout": LOCK_TIMEOUT_MS,
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": idle_timeout_ms,
    }
    given = [f"SET LOCAL {name} = {value};\n" for name, value in settings.items() if value is not None]
    return Bounds("".join(given), answer_s)


# A statement of a call takes milliseconds. Those that wait for one another, the writes of one user, must not take all
# threads from the others.
CALL = _bounds(5_000, answer_s=10)

# One that goes through everything of a user may take longer. Whoever falls silent between two must not keep its locks.
WORK = _bounds(60_000, idle_timeout_ms=60_000, answer_s=70)

# The seed command may add millions of tasks in one transaction, and waits for another one that does.
UNBOUNDED = Bounds("", math.inf)


class Watch:
    """Hangs up on servers that do not answer in time."""

    def __init__(self) -> None:
        self._waiting: dict[object, tuple[float, Any]] = {}
        self._hanging_up = threading.Lock()
        self._watcher = threading.Thread()

    def begin(self, *_: object) -> None:
        """Make sure that this process has a thread that looks at the clock; a fork leaves it behind."""
        if not self._watcher.is_alive():
            self._hanging_up = threading.Lock()
            self._watcher = threading.Thread(target=self._look, name="watch", daemon=True)
            self._watcher.start()

    def wait(self, connection: Any, answer_s: float, ask: Callable[..., object], *arguments: Any) -> None:
        """Ask something on a connection, and wait for the answer.

        Raises:
            NoAnswer: it did not come in time.

        """
        ticket = object()
        self._waiting[ticket] = time.monotonic() + answer_s, connection
        try:
            ask(*arguments)
        finally:
            if self._waiting.pop(ticket, None) is None:
                # The socket must stay what it is until it has been hung up.
                with self._hanging_up:
                    raise NoAnswer(f"no answer within {answer_s} s")

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with self._hanging_up:
                now = time.monotonic()
                for ticket, (deadline, connection) in list(self._waiting.items()):
                    if deadline < now and self._waiting.pop(ticket, None) is not None:
                        _hang_up(connection)


def _hang_up(connection: Any) -> None:
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


watch = Watch()
