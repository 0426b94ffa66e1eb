"""The cost of a change with different indexes, on copies of a table."""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from statistics import median, quantiles
from typing import Any

import click
from sqlalchemy import Connection, text

from benchmarks import markdown
from benchmarks.dataset import AS_OF, DAY_S, Users
from benchmarks.explain import explain, total_ms
from benchmarks.list_queries import NEVER
from todo.extensions import db
from todo.tasks import queries
from todo.tasks.rows import INITIAL, columns_of

Run = tuple[str, dict[str, Any]]
Change = Callable[[Any, int, random.Random], Run]

COPIED_MAX = 200_000
CHANGES = 2_000
ROUNDS = 3

BARE = "UNIQUE INDEX ON {schema}.tasks (user_id, revision) INCLUDE (id)"
COVERING = (
    "UNIQUE INDEX ON {schema}.tasks (user_id, revision) INCLUDE "
    "(id, completed, created_at, updated_at, priority, due_at, due_all_day, completed_at)"
)
BY_DUE = "INDEX ON {schema}.tasks (user_id, due_at, id)"
BY_UPDATE = "INDEX ON {schema}.tasks (user_id, updated_at, id)"

INDEXES: Mapping[str, tuple[str, ...]] = {
    "by revision": (BARE,),
    "by revision, with the columns that lists need (the application's)": (COVERING,),
    "by revision, and by due_at": (BARE, BY_DUE),
    "by revision, by due_at and by updated_at": (BARE, BY_DUE, BY_UPDATE),
}

# A copy has the name of the table and comes first in the search path, so the application's statements use it.
COPY = """
    DROP SCHEMA IF EXISTS {schema} CASCADE;
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.tasks (LIKE public.tasks INCLUDING ALL EXCLUDING INDEXES) WITH (autovacuum_enabled = off);
    CREATE TABLE {schema}.task_lists (LIKE public.task_lists INCLUDING ALL) WITH (autovacuum_enabled = off);
    INSERT INTO {schema}.task_lists SELECT * FROM public.task_lists;
    INSERT INTO {schema}.tasks OVERRIDING SYSTEM VALUE SELECT * FROM public.tasks WHERE id <= {rows} ORDER BY id;
    ALTER TABLE {schema}.tasks ADD PRIMARY KEY (user_id, id);
    SELECT setval(pg_get_serial_sequence('{schema}.tasks', 'id'), {rows});
"""
# Users mostly change recent tasks.
NEWEST = text("SELECT user_id, id FROM tasks WHERE id > :rows * 9 / 10 AND id <= :rows ORDER BY id")
STATISTICS = text("""
    SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot, pg_indexes_size(relid) AS index_bytes
    FROM pg_stat_user_tables WHERE schemaname = :schema AND relname = 'tasks'
""")


def run(users: Users) -> dict[str, Any]:
    """Measure each kind of change on each copy, interleaved, so that a slow period affects all of them."""
    rows = min(COPIED_MAX, len(users.owners))
    times: dict[str, dict[str, Any]] = {name: {} for name in INDEXES}
    turns = [(turn, kind, number) for turn in range(ROUNDS) for kind in CHANGE for number in range(len(INDEXES))]
    with db.engine.connect() as connection:
        for number, indexes in enumerate(INDEXES.values()):
            _copy(connection, f"copy_{number}", rows, indexes)
        newest = connection.execute(NEWEST, {"rows": rows}).all()
        with click.progressbar(turns, label="Changing tasks") as bar:
            for turn, kind, number in bar:
                costs = times[list(INDEXES)[number]].setdefault(kind, {"us": [], "wal": [], "updates": 0, "hot": 0})
                _measure(connection, f"copy_{number}", CHANGE[kind], random.Random(turn), newest, costs=costs)
        for number in range(len(INDEXES)):
            connection.execute(text(f"DROP SCHEMA copy_{number} CASCADE"))
    return {
        "rows": rows,
        "changes": CHANGES * ROUNDS,
        "writes": {name: _summaries(costs) for name, costs in times.items()},
    }


def _copy(connection: Connection, schema: str, rows: int, indexes: tuple[str, ...]) -> None:
    for statement in COPY.format(schema=schema, rows=rows).split(";")[:-1]:
        connection.execute(text(statement))
    for index in indexes:
        connection.execute(text(f"CREATE {index.format(schema=schema)}"))
    connection.execute(text(f"VACUUM (ANALYZE) {schema}.tasks, {schema}.task_lists"))


def _measure(
    connection: Connection, schema: str, change: Change, chance: random.Random, newest: Sequence[Any], *, costs: Any
) -> None:
    """Run many changes of one kind on one copy, the same ones on every copy, and add their costs."""
    connection.execute(text(f"SET search_path = {schema}, public"))
    before = _statistics(connection, schema)
    for number, task in enumerate(chance.sample(newest, min(CHANGES, len(newest)))):
        report = explain(connection, *change(task, number, chance))
        costs["us"].append(1000 * total_ms(report))
        costs["wal"].append(report["Plan"].get("WAL Bytes", 0))
    after = _statistics(connection, schema)
    costs["updates"] += after.updates - before.updates
    costs["hot"] += after.hot - before.hot
    connection.execute(text("RESET search_path"))
    connection.execute(text(f"VACUUM {schema}.tasks, {schema}.task_lists"))


def _statistics(connection: Connection, schema: str) -> Any:
    connection.execute(text("SELECT pg_stat_force_next_flush()"))
    return connection.execute(STATISTICS, {"schema": schema}).one()


def _create(task: Any, number: int, _chance: random.Random) -> Run:
    values = {"title": f"Call about invoice {number}", "priority": "high", "tags": ["home"]}
    columns = columns_of(values | {"due_date": (NEVER, False)})
    return queries.SQL["create_task"], {"caller": task.user_id, **INITIAL, **columns}


def _patch(task: Any, changes: Mapping[str, Any]) -> Run:
    columns = columns_of(changes)
    sql = queries.update_statement(frozenset(columns))
    return sql, {"caller": task.user_id, "task_id": task.id, "among": None, "besides": [], **columns}


def _patch_title(task: Any, number: int, _chance: random.Random) -> Run:
    return _patch(task, {"title": f"Call again about invoice {number}"})


def _complete(task: Any, number: int, _chance: random.Random) -> Run:
    return _patch(task, {"completed": bool(number % 2)})


def _patch_due_date(task: Any, _number: int, chance: random.Random) -> Run:
    return _patch(task, {"due_date": (AS_OF + timedelta(seconds=chance.randrange(60 * DAY_S)), False)})


CHANGE: Mapping[str, Change] = {
    "create": _create,
    "patch title": _patch_title,
    "complete": _complete,
    "patch due_date": _patch_due_date,
}


def _summaries(kinds: Mapping[str, Any]) -> dict[str, Any]:
    results = {}
    for kind, costs in kinds.items():
        tenths = quantiles(costs["us"], n=10)
        results[kind] = {
            "median_us": median(costs["us"]),
            "p10_us": tenths[0],
            "p90_us": tenths[-1],
            "median_wal_bytes": median(costs["wal"]),
            "hot_percent": 100 * costs["hot"] / costs["updates"] if costs["updates"] else None,
        }
    return results


def table(results: Mapping[str, Any]) -> list[str]:
    """Return the table as lines of Markdown."""
    rows = [[name, *map(_cell, kinds.values())] for name, kinds in results["writes"].items()]
    return markdown.table("l" * (len(CHANGE) + 1), ["indexes", *CHANGE], rows)


def _cell(cost: Mapping[str, Any]) -> str:
    hot = "" if cost["hot_percent"] is None else f", HOT {cost['hot_percent']:.0f} %"
    spread = f"({cost['p10_us']:.0f} to {cost['p90_us']:.0f})"
    return f"{cost['median_us']:.0f} {spread} µs, {cost['median_wal_bytes']:.0f} B{hot}"
