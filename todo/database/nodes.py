"""A circuit breaker for each node of a cluster: once one has not answered, it holds one thread of a process at most.

With Citus the rows of each user are on one node, and a node that is frozen, or whose network is gone, answers nobody.
Each call of its users would wait for it, until no thread is left for the users of the other nodes. So after a statement
that failed slowly, the node of its user is looked up; from then on one statement at a time is let through to this node,
and all others for its users fail at once, until one has succeeded.

While every node answers there is no statement more. While one does not, the node of each user is looked up in the books
of the coordinator, in a round trip of its own. On a PostgreSQL without Citus there is none to be found.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy.pool import ConnectionPoolEntry

from todo.database.timeouts import REQUEST_LIMITS, NoAnswer, watch

# The server works, and a connection from it to another one does not.
NODE_LOST = ("08000", "08001", "08003", "08006")

# A failure after more than this is slow. A node that is down refuses connections at once, and needs no breaker.
SLOW_FAILURE_S = 1

# How long to remember a node that nobody has asked for since: it may have been removed.
FORGET_S = 60

# How many users whose node is to be looked up are remembered. Those of one node are often many.
SUSPECTS_MAX = 100

# The coordinator knows these by itself.
LOOKUP_MAX_S = 3
IS_CLUSTER = "SELECT to_regclass('pg_dist_placement')"
FIND_NODE = """
    SELECT nodename || ':' || nodeport FROM pg_dist_placement JOIN pg_dist_node USING (groupid)
    WHERE shardid = get_shard_id_for_distribution_column('task_lists', %s::text) AND noderole = 'primary'
"""


class SilentNode(psycopg2.OperationalError):
    """Raised instead of running a statement for a user whose node has not answered another one."""


class Nodes:
    """The nodes of a cluster that do not answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Users whose statements have failed slowly, and whose node has not been looked up yet.
        self._suspects: set[str] = set()
        # Until when each silent node is remembered, and which of them a statement is waiting for.
        self._silent: dict[str, float] = {}
        self._asked: set[str] = set()

    def begin(self, _connection: Any, entry: ConnectionPoolEntry) -> None:
        """Make a new connection know of the nodes."""
        entry.info["nodes"] = self

    @contextmanager
    def guard(self, cursor: Any, parameters: Mapping[str, Any]) -> Iterator[None]:
        """Run statements of a user on a cursor, unless their node is silent and others ask it already.

        Args:
            cursor: A cursor of the driver.
            parameters: The parameters of the statement. The user is the one named `caller`.

        Raises:
            SilentNode: the node of the user does not answer.

        """
        user = parameters.get("caller")
        node = self._enter(cursor, user) if self._suspects or self._silent else None
        began = time.monotonic()
        try:
            yield
        except psycopg2.Error as error:
            is_lost = isinstance(error, NoAnswer) or error.pgcode in NODE_LOST
            if is_lost and user is not None and time.monotonic() - began > SLOW_FAILURE_S:
                self._suspect(user)
            raise
        else:
            if node is not None:
                self._silent.pop(node, None)
        finally:
            if node is not None:
                self._asked.discard(node)

    def _suspect(self, user: str) -> None:
        with self._lock:
            if len(self._suspects) < SUSPECTS_MAX:
                self._suspects.add(user)

    def _enter(self, cursor: Any, user: str | None) -> str | None:
        """Return the node of a user if it is silent, so that this statement asks it whether it still is."""
        if cursor.connection.info.transaction_status != TRANSACTION_STATUS_IDLE:
            # The first statement of the transaction has entered, and a lookup that fails would end the transaction.
            return None
        self._look_up_a_suspect(cursor)
        self._forget()
        if user is None or not self._silent or (node := _look_up(cursor, FIND_NODE, user)) is None:
            return None
        with self._lock:
            if node not in self._silent:
                return None
            if node in self._asked:
                raise SilentNode(f"{node} has not answered other statements")
            self._asked.add(node)
        return node

    def _look_up_a_suspect(self, cursor: Any) -> None:
        with self._lock:
            if not self._suspects:
                return
            user = self._suspects.pop()
        if _look_up(cursor, IS_CLUSTER) and (node := _look_up(cursor, FIND_NODE, user)) is not None:
            self._silent[node] = time.monotonic() + FORGET_S

    def _forget(self) -> None:
        now = time.monotonic()
        for node, until in list(self._silent.items()):
            if until < now:
                self._silent.pop(node, None)


def _look_up(cursor: Any, sql: str, *parameters: str) -> str | None:
    """Return the one value that the books of the coordinator have, if any."""
    # Where the connection turns out to be dead, so does the statement that comes next.
    with suppress(psycopg2.DatabaseError):
        watch.wait(cursor.connection, LOOKUP_MAX_S, cursor.execute, REQUEST_LIMITS.settings + sql, parameters)
        if (row := cursor.fetchone()) is not None:
            value: str | None = row[0]
            return value
    return None
