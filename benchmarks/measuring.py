"""How long PostgreSQL takes for a statement, and how it goes about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import orjson
from sqlalchemy import Connection, event

from todo.database.statements import Statement, execute

RUNS = 5

# What each node costs in time is left out: reading the clock for 200,000 rows would itself take a good part of it.
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, SUMMARY ON, FORMAT JSON) "

# Of a plan's many members these are worth keeping.
KEPT = (
    "Node Type",
    "Index Name",
    "Scan Direction",
    "Index Cond",
    "Filter",
    "Recheck Cond",
    "Sort Key",
    "Sort Method",
    "Sort Space Used",
    "CTE Name",
    "Subplan Name",
    "Workers Launched",
    "Plan Rows",
    "Actual Rows",
    "Rows Removed by Filter",
    "Rows Removed by Index Recheck",
    "Heap Fetches",
    "Exact Heap Blocks",
    "Lossy Heap Blocks",
    "Shared Hit Blocks",
    "Shared Read Blocks",
    "Temp Written Blocks",
    "WAL Bytes",
)

SHORT = {
    "Index Scan": "index scan",
    "Index Only Scan": "index-only scan",
    "Bitmap Heap Scan": "bitmap scan",
    "Seq Scan": "sequential scan",
    "Gather": "gather",
    "Gather Merge": "gather",
    "Limit": "limit",
    "Sort": "sort",
    "Incremental Sort": "incremental sort",
    "Aggregate": "aggregate",
    "CTE Scan": "CTE",
    "Nested Loop": "nested loop",
    "Hash Join": "hash join",
    "Merge Join": "merge join",
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """The times of some runs in milliseconds, and the plan of the last one."""

    runs: list[float]
    plan: dict[str, Any]

    @property
    def least(self) -> float:
        """Give the shortest time."""
        return min(self.runs)

    @property
    def median(self) -> float:
        """Give the time that as many runs were above as below."""
        return median(self.runs)

    def as_json(self) -> dict[str, Any]:
        """Give what is written down."""
        times = {"min_ms": self.least, "median_ms": self.median, "max_ms": max(self.runs)}
        return times | {"plan_in_words": in_words(self.plan), "plan": lean(self.plan)}


def explain(connection: Connection, statement: Statement, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Run a statement as the application does, and give what PostgreSQL says about it instead of its rows."""

    def prefixed(_c: Any, _cursor: Any, sql: str, values: Any, _context: Any, _many: Any) -> tuple[str, Any]:
        return EXPLAIN + sql, values

    event.listen(connection, "before_cursor_execute", prefixed, retval=True)
    try:
        said = execute(connection, statement, parameters).cursor.fetchone()[0]  # type: ignore[index]
    finally:
        event.remove(connection, "before_cursor_execute", prefixed)
    report: dict[str, Any] = (orjson.loads(said) if isinstance(said, str) else said)[0]
    return report


def total_ms(report: Mapping[str, Any]) -> float:
    """Give how long it took to plan and to run."""
    return float(report["Planning Time"] + report["Execution Time"])


def measure(connection: Connection, statement: Statement, parameters: Mapping[str, Any]) -> Measurement:
    """Run a statement once to warm up and then some times."""
    return compare(connection, {"": statement}, parameters)[""]


def compare(
    connection: Connection, statements: Mapping[str, Statement], parameters: Mapping[str, Any]
) -> dict[str, Measurement]:
    """Measure statements in turns, so that a slow moment of the machine meets all of them."""
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in statements}
    for turn in range(RUNS + 1):
        for name, statement in statements.items():
            report = explain(connection, statement, parameters)
            if turn:
                reports[name].append(report)
    return {name: Measurement([total_ms(report) for report in of], of[-1]["Plan"]) for name, of in reports.items()}


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give all nodes, from the top."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def in_words(plan: Mapping[str, Any]) -> str:
    """Give the nodes that matter, from the top."""
    words: list[str] = []
    for node in nodes(plan):
        word = SHORT.get(node["Node Type"], "")
        if node.get("Workers Launched"):
            word += f" of {node['Workers Launched']} workers"
        if word and (not words or words[-1] != word):
            words.append(word)
    return " < ".join(words)


def lean(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Give a plan without what is zero or says nothing here."""
    kept = {name: plan[name] for name in KEPT if plan.get(name)}
    below = [lean(node) for node in plan.get("Plans", ())]
    return kept | ({"Plans": below} if below else {})
