"""The time that PostgreSQL takes for a statement, and its plan, by EXPLAIN ANALYZE."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import orjson
from sqlalchemy import Connection

RUNS = 5

# The time of each node is left out (TIMING OFF): reading the clock for 200,000 rows would take a good part of it.
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, SUMMARY ON, FORMAT JSON) "

# The members of a plan that the result files keep.
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

NODE_NAMES = {
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
    """The times of several runs in milliseconds, and the plan of the last one."""

    runs: list[float]
    plan: dict[str, Any]

    @property
    def min(self) -> float:
        """The shortest time in milliseconds."""
        return min(self.runs)

    @property
    def median(self) -> float:
        """The median time in milliseconds."""
        return median(self.runs)

    def as_json(self) -> dict[str, Any]:
        """Return the times and the plan for the file of results."""
        times = {"min_ms": self.min, "median_ms": self.median, "max_ms": max(self.runs)}
        return times | {"plan_in_words": in_words(self.plan), "plan": reduced(self.plan)}


def explain(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Run a statement, and return the report of EXPLAIN."""
    output = connection.exec_driver_sql(EXPLAIN + sql, dict(parameters)).scalar_one()
    report: dict[str, Any] = (orjson.loads(output) if isinstance(output, str) else output)[0]
    return report


def total_ms(report: Mapping[str, Any]) -> float:
    """Return the time of planning and execution in milliseconds."""
    return float(report["Planning Time"] + report["Execution Time"])


def measure(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> Measurement:
    """Run a statement once to warm up, and then `RUNS` times."""
    return compare(connection, {"": sql}, parameters)[""]


def compare(
    connection: Connection, statements: Mapping[str, str], parameters: Mapping[str, Any]
) -> dict[str, Measurement]:
    """Measure statements in interleaved runs, so that a slow period of the machine affects all of them."""
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in statements}
    for turn in range(RUNS + 1):
        for name, sql in statements.items():
            report = explain(connection, sql, parameters)
            if turn:
                reports[name].append(report)
    return {
        name: Measurement([total_ms(report) for report in runs], runs[-1]["Plan"]) for name, runs in reports.items()
    }


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield all nodes of a plan, from the top."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def in_words(plan: Mapping[str, Any]) -> str:
    """Return the types of the nodes, from the top, such as `limit < index scan`."""
    words: list[str] = []
    for node in nodes(plan):
        word = NODE_NAMES.get(node["Node Type"], "")
        if node.get("Workers Launched"):
            word += f" of {node['Workers Launched']} workers"
        if word and (not words or words[-1] != word):
            words.append(word)
    return " < ".join(words)


def reduced(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with the members in `KEPT` that are not zero."""
    kept = {name: plan[name] for name in KEPT if plan.get(name)}
    children = [reduced(node) for node in plan.get("Plans", ())]
    return kept | ({"Plans": children} if children else {})
