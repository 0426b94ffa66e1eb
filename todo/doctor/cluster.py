"""The checks of a Citus cluster; on any other PostgreSQL there is nothing to check."""

from collections.abc import Iterator, Mapping

from config import Config
from todo.database import distribution
from todo.database.distribution import DISTRIBUTED, Cluster
from todo.database.failures import DatabaseUnavailable
from todo.doctor.results import Result, failed, passed, warning

# The time-outs that have to be known to a node itself: those that are sent along end at the node that they are sent to.
LOCK_TIMEOUT, STATEMENT_TIMEOUT = "lock_timeout", "statement_timeout"
ROLE_LIMITS = {LOCK_TIMEOUT: "3s", STATEMENT_TIMEOUT: "5s"}
UNLIMITED = "0"


def check_cluster(config: Config, found: Mapping[str, str | None], role: str) -> Iterator[Result]:
    """Report whether all nodes answer and all tables are distributed, and what the role lacks.

    Args:
        config: The settings.
        found: The values of `ROLE_LIMITS` in a session in which nothing is set.
        role: The name of the service's role, as SQL.

    """
    if config.database_role_limits:
        for name, value in ROLE_LIMITS.items():
            if found[name] == UNLIMITED:
                remedy = f"ALTER ROLE {role} SET {name} = '{value}'; or unset DATABASE_ROLE_LIMITS."
                yield failed(name, "is not set for the role, and not sent along: statements may take forever", remedy)
    try:
        cluster = distribution.read_cluster()
        if cluster is None:
            return
        yield from _check_nodes(cluster)
        yield from _check_tables(cluster)
    except DatabaseUnavailable as problem:
        yield failed("cluster", f"cannot be examined: {problem.reason}", "Start the nodes that are away.")
        return
    if found[LOCK_TIMEOUT] == UNLIMITED and not config.database_role_limits:
        remedy = f"ALTER ROLE {role} SET {LOCK_TIMEOUT} = '{ROLE_LIMITS[LOCK_TIMEOUT]}';"
        yield warning(LOCK_TIMEOUT, "is not set for the role: writers of one user wait for 5 s, not for 3", remedy)


def _check_nodes(cluster: Cluster) -> Iterator[Result]:
    for node in cluster.nodes:
        subject = "coordinator" if node.is_coordinator else "worker"
        if node.is_alive:
            yield passed(subject, f"{node.name} answers{', and DATABASE_URL leads there' * node.is_here}")
        else:
            yield failed(subject, f"{node.name} does not answer", "Start it: until then its users get 503.")


def _check_tables(cluster: Cluster) -> Iterator[Result]:
    distributed = {name: place for name, (kind, place) in cluster.tables.items() if kind == DISTRIBUTED}
    others = [name for name in distribution.tables() if name not in distributed]
    if not cluster.tables:
        yield warning("tables", "are on the coordinator alone", "Run `todo distribute`.")
    elif others:
        remedy = "Run `todo distribute` again: it goes on where it was interrupted."
        yield failed("tables", f"{', '.join(others)}: not distributed, as the others are", remedy)
    elif len(set(distributed.values())) > 1:
        remedy = "SELECT alter_distributed_table(table, colocate_with => 'task_lists') for each that differs."
        yield failed("tables", "are distributed in different ways, so that the rows of a user are apart", remedy)
    else:
        yield passed("tables", "are distributed by user")
        if all(node.is_alive for node in cluster.nodes):
            yield _check_balance()


def _check_balance() -> Result:
    moves = distribution.count_moves()
    if moves:
        remedy = "SELECT citus_rebalance_start(); on the coordinator, while the service serves."
        return warning("balance", f"{moves} pieces of tables should be on other nodes", remedy)
    return passed("balance", "each node has its share")
