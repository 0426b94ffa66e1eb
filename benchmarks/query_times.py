"""The time of each query of a list in the database, for a user with very many tasks and for one with a thousand."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import flask_migrate
from sqlalchemy import text

from benchmarks import dataset, markdown, postgres
from benchmarks.explain import measure
from benchmarks.list_queries import QueriedUser, queries_of
from todo.extensions import db

# The greatest accepted median in milliseconds, for the user with very many tasks and for the one with a thousand.
TARGETS = {"instant": (1.0, 1.0), "list": (150.0, 5.0)}
TITLES = {
    "instant": "first page, deep page and one task",
    "list": "every filter, search and order",
}

# The queries of the short table.
SHOWN = (
    "first page, limit 50",
    "deep page by cursor, limit 50",
    "get one",
    "first page, limit 1000",
    "offset 10000",
    "sort due_date",
    "sort title",
    "search one word: many",
    "search one word: none",
    "filter two tags, the rarest",
    "count, all",
    "summary",
)

# A table that was filled by another version of the dataset is filled again.
DATASET_VERSION = "2"


def prepare(server: Any, rows: int, *, fresh: bool) -> tuple[str, dataset.Users]:
    """Fill a database unless an earlier run did, and return its name and its users."""
    database, content = f"lists_{rows}", f"{rows} rows by recipe {DATASET_VERSION}"
    users = dataset.users_of(rows)
    is_filled = not fresh and postgres.is_filled(server, database, content)
    if not is_filled:
        postgres.create(server, database)
    with postgres.application(server, database):
        flask_migrate.upgrade()
    if not is_filled:
        with postgres.administration(server, database) as cursor:
            dataset.fill(cursor, dataset.COLUMNS, dataset.Tasks(users, accented=0.1).current(), rows)
            dataset.create_lists(cursor)
        postgres.mark_filled(server, database, content)
    with postgres.administration(server, database) as cursor:
        # Reads the table into memory, which may not have happened since the machine started: a measured statement is
        # cancelled after five seconds.
        cursor.execute("SELECT count(title) FROM tasks")
    return database, users


def run(users: dataset.Users) -> dict[str, Any]:
    """Measure all queries for both users."""
    measured_users = {"big": QueriedUser(users.largest), "small": QueriedUser(users.medium)}
    queries = {size: list(queries_of(user)) for size, user in measured_users.items()}
    measured: dict[str, Any] = {}
    with db.engine.connect() as connection:
        with click.progressbar(length=2 * len(queries["big"]), label="Measuring queries") as bar:
            for pair in zip(*queries.values(), strict=True):
                result: dict[str, Any] = {"group": pair[0].group}
                for size, query in zip(measured_users, pair, strict=True):
                    result[size] = measure(connection, query.statement, query.parameters).as_json()
                    bar.update(1)
                measured[pair[0].name] = result
        sizes = connection.execute(
            text("SELECT pg_table_size('tasks') AS table_bytes, pg_indexes_size('tasks') AS index_bytes")
        ).one()
    tasks = {size: user.tasks for size, user in measured_users.items()}
    return {"tasks": tasks, **sizes._mapping, "queries": measured, "targets": targets(measured)}  # noqa: SLF001 (public)


def targets(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each target the queries that miss it, and the slowest one."""
    results = []
    for group, limits in TARGETS.items():
        for size, limit in zip(("big", "small"), limits, strict=True):
            times = {name: query[size]["median_ms"] for name, query in measured.items() if query["group"] == group}
            missed = {name: time for name, time in times.items() if time > limit}
            slowest_ms, slowest = max((time, name) for name, time in times.items())
            results.append(
                {
                    "target": f"{TITLES[group]}, {size} user: at most {limit:g} ms",
                    "queries": len(times),
                    "missed": missed,
                    "slowest": {slowest: slowest_ms},
                }
            )
    return results


def table(results: Mapping[str, Any]) -> list[str]:
    """Return the table as lines of Markdown."""
    big, small = (f"{results['tasks'][size]:,} tasks" for size in ("big", "small"))
    titles = ["query", f"{big}: min", "median", f"{small}: min", "median", f"plan for {big}"]
    rows = []
    for name, query in results["queries"].items():
        times = [f"{query[size][time]:.2f}" for size in ("big", "small") for time in ("min_ms", "median_ms")]
        rows.append([name, *times, query["big"]["plan_in_words"]])
    return markdown.table("lrrrrl", titles, rows)


def short_table(results: Mapping[str, Any]) -> list[str]:
    """Return the table of some queries as lines of Markdown."""
    titles = ["query", *(f"{results['tasks'][size]:,} tasks" for size in ("big", "small"))]
    rows = [
        [name, *(f"{results['queries'][name][size]['median_ms']:.2f}" for size in ("big", "small"))] for name in SHOWN
    ]
    return markdown.table("lrr", titles, rows)


def target_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line of Markdown for each target: whether it is met, and its slowest query."""
    lines = []
    for target in results:
        (slowest, time), missed = next(iter(target["slowest"].items())), target["missed"]
        verdict = f"missed by {len(missed)} of {target['queries']}" if missed else f"met by all {target['queries']}"
        lines.append(f"- {target['target']}: {verdict} (the slowest is “{slowest}”, {time:.2f} ms).")
    return lines
