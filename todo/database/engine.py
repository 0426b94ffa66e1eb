"""The engine and its connection pool: autocommit, no ping on a warm connection, and no wait for a server that is gone.

Every statement is a transaction by itself: it is atomic, and on a remote database its one round trip is nearly all of
the latency of a request.
"""

import math
import select
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg2
from flask import Flask
from psycopg2.extensions import parse_dsn
from sqlalchemy import Dialect, Engine, QueuePool, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from config import Config
from todo.database import embedded
from todo.database.nodes import Nodes
from todo.database.prepared import Sessions
from todo.database.timeouts import watch
from todo.extensions import db

# How long a thread waits for a connection of the pool, and for PostgreSQL to accept a new one: together, and with a
# ping or the second attempt of a read between them, under 10 s.
POOL_TIMEOUT_S = 3
CONNECT_TIMEOUT_S = 3

# After an attempt to connect that took longer than SLOW_FAILURE_S to fail, other attempts fail at once for PAUSE_S: if
# all threads of a process waited in turn for a host that does not answer, none would be left to respond with a 503.
SLOW_FAILURE_S = 1
PAUSE_S = 2

# A connection that was idle for longer than this is pinged before it is used, and the ping must be answered in PING_S.
TRUSTED_IDLE_S = 30
PING_S = 3

CONNECT_ARGS: Mapping[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "todo",
    # Whatever the role or the database has for a default. PostgreSQL decodes a message before it runs what is in it, so
    # this has to be said when the connection is made; PgBouncer passes it on to each session that it lends.
    "client_encoding": "utf8",
    # A server that vanishes without closing the connection is noticed in seconds, not in the two hours of the kernel's
    # defaults: 3 s after data that it has not acknowledged; and while a response is awaited, 8 s, after the first lost
    # probe (where there is no `tcp_user_timeout`, 14 s, after the third).
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}


def configure(app: Flask, config: Config) -> None:
    """Set the options with which Flask-SQLAlchemy builds the engine."""
    options: dict[str, Any] = {
        "isolation_level": "AUTOCOMMIT",
        "poolclass": Pool,
        # One connection for each thread that serves requests, opened when it is first needed. Migrations take two.
        "pool_size": max(config.web_threads, 2),
        "max_overflow": 0,
        "pool_timeout": POOL_TIMEOUT_S,
        # The values of parameters stay out of messages, and so out of the log.
        "hide_parameters": True,
        # In autocommit mode there is no transaction to roll back.
        "pool_reset_on_return": None,
        # The most recently used connection is borrowed first, so that few are open, and those are warm.
        "pool_use_lifo": True,
    }
    if config.database_url is None:
        options["creator"] = partial(_connect_to_embedded, Path(app.instance_path) / "postgres")
    else:
        # libpq reads the URL, because SQLAlchemy takes several hosts and sockets for something else.
        options["connect_args"] = {**parse_dsn(config.database_url), **CONNECT_ARGS}
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options


def _connect_to_embedded(data_dir: Path) -> Any:
    return psycopg2.connect(embedded.start(data_dir).get_uri(), **CONNECT_ARGS)


def init_app(app: Flask, config: Config) -> None:
    """Find dead connections before a request uses them, and watch what does not answer: statements and nodes."""
    with app.app_context():
        engine: Engine = db.engine
    # Flask-SQLAlchemy ends the session of each request. None is ever opened.
    app.teardown_appcontext_funcs.clear()
    sessions = Sessions(is_on=config.database_prepare, has_limits=config.database_role_limits)
    event.listen(engine, "connect", watch.start)
    event.listen(engine, "connect", sessions.begin)
    event.listen(engine, "connect", Nodes().begin)
    event.listen(engine, "do_connect", Breaker())
    # For those who borrow through SQLAlchemy; requests take `Pool.lend`.
    event.listen(engine, "checkin", _note_idle_since)
    event.listen(engine, "checkout", partial(_check_liveness, engine))


class Pool(QueuePool):
    """A connection pool that knows how many threads wait for a connection.

    Attributes:
        lost_at: When a connection of the pool was last found dead, in seconds of the monotonic clock.

    """

    lost_at = -math.inf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: set[int] = set()

    def waiting(self) -> int:
        """Return how many threads wait for a connection that is in use or is being opened."""
        return len(self._waiting)

    def lend(self) -> ConnectionPoolEntry:
        """Return an entry with a connection, which `take_back` must get.

        SQLAlchemy makes several objects for each time that a connection is used, so that one that nobody returns comes
        back by itself. Of a request that is a tenth.

        Raises:
            psycopg2.Error: PostgreSQL cannot be reached.
            sqlalchemy.exc.TimeoutError: all connections are in use.

        """
        # Its public class lacks `get_connection`.
        entry: Any = self._do_get()
        try:
            connection = entry.get_connection()
            if not self.is_trusted(connection, entry.info):
                self.lost_at = time.monotonic()
                entry.invalidate()
                entry.get_connection()
        except BaseException:
            self._do_return_conn(entry)
            raise
        return cast(ConnectionPoolEntry, entry)

    def take_back(self, entry: ConnectionPoolEntry) -> None:
        """Take back an entry that was lent."""
        entry.info["idle_since"] = time.monotonic()
        self._do_return_conn(entry)

    def is_trusted(self, connection: Any, info: dict[str, Any]) -> bool:
        """Return whether a connection is alive, for all that is known; ping it if it may be dead.

        It may be dead when it was idle for long, because a suspended database drops its connections without closing
        them; and when there is data to read, because the last message of a server that was restarted waits in the
        socket. One that has been idle since before another one was found dead is not trusted.
        """
        idle_since = info.pop("idle_since", None)
        if idle_since is None:
            return True
        if idle_since < self.lost_at:
            return False
        if time.monotonic() - idle_since > TRUSTED_IDLE_S or _has_something_to_read(connection.fileno()):
            try:
                watch.wait(connection, PING_S, cast(Dialect, self._dialect).do_ping, connection)
            except psycopg2.Error:
                return False
        return True

    def _do_get(self) -> Any:
        thread = threading.get_ident()
        self._waiting.add(thread)
        try:
            return super()._do_get()
        finally:
            self._waiting.discard(thread)


class Breaker:
    """A circuit breaker: after an attempt to connect that failed slowly, others fail at once for a while."""

    def __init__(self) -> None:
        self._paused_until = 0.0

    def __call__(self, dialect: Dialect, _entry: ConnectionPoolEntry, arguments: Any, options: Any) -> Any:
        """Connect, unless it is too early to try again.

        Raises:
            psycopg2.OperationalError: PostgreSQL cannot be reached, or could not be a moment ago.

        """
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
    if not cast(Pool, engine.pool).is_trusted(connection, entry.info):
        raise InvalidatePoolError


def _has_something_to_read(file_descriptor: int) -> bool:
    # epoll would take three more system calls, and `selectors` four times as long.
    poll = select.poll()
    poll.register(file_descriptor, select.POLLIN)
    return bool(poll.poll(0))
