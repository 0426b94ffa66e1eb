"""How the engine talks to PostgreSQL: one statement a request, no BEGIN, no ping on a warm connection.

Every statement stands alone in autocommit mode: it is atomic by itself, and on a remote database its one round trip
is the whole latency of a request.
"""

import math
import selectors
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg2
from flask import Flask
from sqlalchemy import Dialect, Engine, QueuePool, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from config import Config
from todo.database import embedded
from todo.database.timeouts import watch
from todo.extensions import db

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

# epoll would cost three more system calls; Windows has select alone.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


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
    event.listen(engine, "connect", watch.begin)
    event.listen(engine, "do_connect", Breaker())
    event.listen(engine, "checkin", _note_idle_since)
    event.listen(engine, "checkout", partial(_check_liveness, engine))


class Pool(QueuePool):
    """Hands out connections, and keeps count of the threads that have none yet.

    Attributes:
        lost_at: When one of its connections was last found dead, in seconds of the monotonic clock.

    """

    lost_at = -math.inf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin with nobody."""
        super().__init__(*args, **kwargs)
        self._asking: set[int] = set()

    def waiting(self) -> int:
        """Tell how many threads wait, for one that is in use or that is being opened."""
        return len(self._asking)

    def _do_get(self) -> Any:
        thread = threading.get_ident()
        self._asking.add(thread)
        try:
            return super()._do_get()
        finally:
            self._asking.discard(thread)


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


def _has_something_to_read(file_descriptor: int) -> bool:
    with _Selector() as selector:
        selector.register(file_descriptor, selectors.EVENT_READ)
        return bool(selector.select(0))
