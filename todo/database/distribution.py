"""Citus: whether the tables are distributed by user over several machines, and how they come to be.

The statements of the service are such that Citus accepts them; apart from that, nothing else knows of it. On any other
PostgreSQL there is no cluster to read.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from todo.database import statements
from todo.database.failures import ROLLED_BACK, DatabaseUnavailable
from todo.database.statements import Transaction
from todo.database.timeouts import BATCH_LIMITS, TABLE_LIMITS
from todo.extensions import db

SQL = statements.load(__file__)

# The table that is distributed first, and with which all others are colocated.
FIRST = "task_lists"
DISTRIBUTED = "distributed"

# The library with which Citus decodes the log of PostgreSQL.
DECODER = "citus"

# The SQLSTATEs of a step that others are in the way of: another transaction has the lock.
IN_THE_WAY = (*ROLLED_BACK, "55P03")
# What Citus says, without a SQLSTATE for it, where another distribution runs. That may be an earlier one, which was
# interrupted here and is still at work in PostgreSQL.
AT_WORK = "operation is in progress"

# How often such a step is tried, and how long to wait before the next attempt.
ATTEMPTS = 60
PAUSE_S = 2.0

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Node:
    """A server of the cluster.

    Attributes:
        name: Its host and port.
        is_coordinator: Whether it is the coordinator.
        is_here: Whether the statements of this service reach it first.
        is_alive: Whether it answers.
        has_shards: Whether it may hold rows of users.
        wal_level: Its setting of that name; none if it does not answer.
        decoders: The libraries that may decode its log; none where all may.
        statement_timeout: How long a statement of this role may take there; none if it does not answer.

    """

    name: str
    is_coordinator: bool
    is_here: bool
    is_alive: bool
    has_shards: bool
    wal_level: str | None
    decoders: str | None
    statement_timeout: str | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of Citus.

    Attributes:
        nodes: Its servers, the coordinator first.
        tables: What Citus knows each table as, and the number of its colocation. Ordinary tables are left out.

    """

    nodes: list[Node]
    tables: Mapping[str, tuple[str, int]]


@cache
def tables() -> tuple[str, ...]:
    """Return the tables with rows of users, in the order in which they are locked."""
    found = [table.name for table in db.metadata.sorted_tables if "user_id" in table.columns]
    return FIRST, *(name for name in found if name != FIRST)


def has_citus() -> bool:
    """Check whether the database is one of Citus."""
    return bool(statements.read(SQL["find_citus"], {})[0].is_there)


def read_cluster() -> Cluster | None:
    """Return the cluster; none on any other PostgreSQL.

    Raises:
        DatabaseUnavailable: The database cannot answer now.

    """
    if not has_citus():
        return None
    rows = statements.read(SQL["list_nodes"], {"command": SQL["get_settings"]}, BATCH_LIMITS)
    return Cluster([_node(row) for row in rows], read_tables())


def _node(row: Any) -> Node:
    settings = json.loads(row.answer) if row.is_alive else (None, None, None)
    return Node(row.name, row.is_coordinator, row.is_here, row.is_alive, row.has_shards, *settings)


def read_tables() -> Mapping[str, tuple[str, int]]:
    """Return what Citus knows each table as, and the number of its colocation."""
    rows = statements.read(SQL["list_tables"], {"tables": list(tables())}, BATCH_LIMITS)
    return {row.name: (row.kind, row.colocation) for row in rows}


def is_distributed() -> bool:
    """Check whether the tables are distributed."""
    return has_citus() and all(read_tables().get(name, ("",))[0] == DISTRIBUTED for name in tables())


def count_moves() -> int:
    """Return how many pieces of tables a rebalancing would move. All nodes have to answer."""
    return int(statements.read(SQL["count_moves"], {}, BATCH_LIMITS)[0].number)


def faults(cluster: Cluster) -> Iterator[str]:
    """Yield what keeps the tables from being distributed, each with what to do about it."""
    here = [node for node in cluster.nodes if node.is_here]
    if not any(node.is_coordinator for node in cluster.nodes):
        yield "the cluster has no coordinator: run SELECT citus_set_coordinator_host('host', port) on it"
    elif not any(node.is_coordinator for node in here):
        yield "this node is a worker: DATABASE_URL has to lead to the coordinator here"
    if not any(node.has_shards for node in cluster.nodes):
        yield "no node may have pieces of tables: run SELECT citus_add_node('host', port) for each worker"
    for node in cluster.nodes:
        if not node.is_alive:
            yield f"the node {node.name} does not answer"
            continue
        if node.wal_level != "logical":
            yield f"wal_level is {node.wal_level} on {node.name}: set it to logical, and restart it"
        if node.decoders is not None and DECODER not in node.decoders.replace(" ", "").split(","):
            yield f"output_plugin_libraries does not name {DECODER} on {node.name}: add it"
        # Here the session says how long it may take; that does not reach the others.
        if not node.is_here and node.statement_timeout != "0":
            yield (
                f"statement_timeout of this role is {node.statement_timeout} on {node.name}, and the copy of a table "
                "may take longer: use another role"
            )


def distribute(shards: int, report: Report, show_all: Callable[[], object]) -> None:
    """Distribute all tables by user, while others read and write. What an interrupted run has done stays done.

    In between, the list of a user is on a machine, and the tasks are still on another. A transaction that writes both
    is not visible at the same moment on both, so a client may take a list for newer than the tasks that it got. The
    changes feed waits for such a transaction, by a lock on the list. That needs the lists to be distributed first: a
    transaction takes effect on the coordinator before it does on any other machine.

    Args:
        shards: How many pieces each table has.
        report: Called with each step, as a sentence.
        show_all: Called at the end, to give each list a new revision, at which all clients read it anew.

    Raises:
        DatabaseUnavailable: The database cannot do it now.

    """
    if not is_distributed():
        # Its locks would wait for writers of distributed tables on several machines, and these for it.
        if len(read_tables()) < len(tables()):
            _repeat(_make_known, report)
        for name in tables():
            _repeat(partial(_distribute, name, shards, report), report)
    if statements.read(SQL["is_begun"], {})[0].is_begun:
        report("Raising the lists ...")
        show_all()
        with statements.transaction(BATCH_LIMITS) as transaction:
            transaction.write(SQL["end"], {})
    report("The tables are distributed.")


def _make_known() -> None:
    """Make all tables known to Citus at once: a statement may not join one that it knows and one that it does not."""
    with statements.transaction(TABLE_LIMITS) as transaction:
        transaction.write(statements.fill(SQL["lock_tables"], tables=", ".join(tables())), {})
        known = {row.name for row in transaction.read(SQL["list_tables"], {"tables": list(tables())})}
        (last_id,) = transaction.read(SQL["get_last_id"], {})
        for name in tables():
            if name not in known:
                transaction.read(SQL["make_known"], {"table": name})
        if last_id.last is not None:
            transaction.read(SQL["set_last_id"], {"last": last_id.last})
        # Not earlier: the table that has the rows then goes by another name, and takes its comment along.
        transaction.write(SQL["begin"], {})


def _distribute(name: str, shards: int, report: Report) -> None:
    if read_tables()[name][0] == DISTRIBUTED:
        return
    report(f"Distributing {name} ...")
    step = "distribute_first" if name == FIRST else "distribute_other"
    with statements.session() as run:
        for preparation in (
            "SET statement_timeout = 0",
            "SET lock_timeout = 0",
            SQL["allow_triggers"],
            SQL["clean_up"],
        ):
            run(preparation, {})
        run(SQL[step], {"table": name, "shards": shards, "first": FIRST})


def _repeat(step: Callable[[], None], report: Report) -> None:
    """Do something that others may be in the way of for a while."""
    attempts = 0
    while True:
        attempts += 1
        try:
            return step()
        except DatabaseUnavailable as problem:
            if attempts >= ATTEMPTS or not _is_in_the_way(problem.__cause__):
                raise
        report(f"Others are in the way; once more in {PAUSE_S:.0f} s.")
        time.sleep(PAUSE_S)


def _is_in_the_way(error: BaseException | None) -> bool:
    return getattr(error, "pgcode", None) in IN_THE_WAY or AT_WORK in str(error)


def distribute_new(transaction: Transaction) -> Iterator[str]:
    """Distribute the tables that a migration has created, if the others are distributed; yield the name of each."""
    if not transaction.read(SQL["find_citus"], {})[0].is_there:
        return
    known = {row.name: row.kind for row in transaction.read(SQL["list_tables"], {"tables": list(tables())})}
    if known.get(FIRST) != DISTRIBUTED:
        return
    for name in tables():
        if name not in known:
            transaction.read(SQL["distribute_new"], {"table": name, "first": FIRST})
            yield name
