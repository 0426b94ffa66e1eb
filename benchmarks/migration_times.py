"""The time of each migration on a large table of the first version, and the waits of another session meanwhile."""

import multiprocessing
import random
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from statistics import median
from typing import Any

import click
import flask_migrate
import psycopg2

from benchmarks import dataset, markdown, postgres

DATABASE = "migration_times"
REVISIONS = ("0002_organise_tasks", "0003_fold_texts", "0004_add_revisions", "0005_number_tasks", "0006_refold_texts")
# `0003_fold_texts` leaves nothing to do for a migration that folds the same texts once more.
EARLIER_FOLDS = """
    UPDATE tasks SET folded_title = title, folded_description = description
    WHERE folded_title IS NOT NULL OR folded_description IS NOT NULL
"""
ACCENTED = 0.25
IDLE_S = 5
TIMEOUT_S = 60

# The statements of the other session, each on a task that is chosen at random.
PROBES = {
    "UPDATE": "UPDATE tasks SET completed = NOT completed, updated_at = greatest(now(), updated_at) "
    "WHERE user_id = %(user)s AND id = %(id)s",
    "SELECT": "SELECT id, title, completed FROM tasks WHERE user_id = %(user)s ORDER BY id LIMIT 50",
}


def run(server: Any, rows: int) -> dict[str, Any]:
    """Fill a table of the first version, and migrate it step by step while another session uses it."""
    postgres.create(server, DATABASE)
    try:
        with postgres.application(server, DATABASE):
            flask_migrate.upgrade(revision="0001_create_tasks")
            users = dataset.users_of(rows)
            with postgres.administration(server, DATABASE) as cursor:
                lines = dataset.Tasks(users, accented=ACCENTED).first_version()
                dataset.fill(cursor, dataset.FIRST_COLUMNS, lines, rows)
                cursor.execute(
                    "SELECT count(*) FROM tasks WHERE title ~ '[^[:ascii:]]' OR description ~ '[^[:ascii:]]'"
                )
                accented = cursor.fetchone()[0]
            return {"rows": rows, "accented": accented, "steps": _steps(server)}
    finally:
        postgres.drop(server, DATABASE)


def _steps(server: Any) -> dict[str, Any]:
    """Run each migration while another process uses the table."""
    steps = {"nothing": partial(time.sleep, IDLE_S)}
    for revision in REVISIONS:
        steps[revision] = partial(flask_migrate.upgrade, revision=revision)
    results = {}
    for name, step in steps.items():
        if name == "0006_refold_texts":
            with postgres.administration(server, DATABASE) as cursor:
                cursor.execute(EARLIER_FOLDS)
                cursor.execute("VACUUM ANALYZE tasks")
        click.echo(f"Running {name} ...")
        results[name] = _measured(server.get_uri(database=DATABASE), step)
    return results


def _measured(uri: str, step: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ready, ended, waits = context.Event(), context.Event(), context.Queue()
    session = context.Process(target=use_table, args=(uri, ready, ended, waits), daemon=True)
    session.start()
    ready.wait(TIMEOUT_S)
    started = time.monotonic()
    try:
        step()
    finally:
        duration_s = time.monotonic() - started
        ended.set()
    times: Mapping[str, list[float]] = waits.get(timeout=TIMEOUT_S)
    session.join(TIMEOUT_S)
    return {"seconds": duration_s, "waits_ms": {kind: _summary(times_ms) for kind, times_ms in times.items()}}


def _summary(times_ms: list[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    p99 = ordered[len(ordered) * 99 // 100]
    return {"statements": len(ordered), "median": median(ordered), "p99": p99, "longest": ordered[-1]}


def use_table(uri: str, ready: Any, ended: Any, waits: Any) -> None:
    """Run the statements in turn until the event `ended`, and put their times in milliseconds into the queue."""
    chance = random.Random(0)
    times: dict[str, list[float]] = {kind: [] for kind in PROBES}
    with closing(psycopg2.connect(uri)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT user_id, id FROM tasks TABLESAMPLE SYSTEM (10)")
        tasks = cursor.fetchall()
        ready.set()
        while not ended.is_set():
            user, task = chance.choice(tasks)
            for kind, statement in PROBES.items():
                started = time.perf_counter()
                cursor.execute(statement, {"user": user, "id": task})
                times[kind].append(1000 * (time.perf_counter() - started))
    waits.put(times)


def table(results: Mapping[str, Any]) -> list[str]:
    """Return the table as lines of Markdown."""
    rows = []
    for name, step in results["steps"].items():
        waits = [f"{wait['median']:.2f} ms, {wait['longest']:.0f} ms" for wait in step["waits_ms"].values()]
        rows.append([name, f"{step['seconds']:.1f} s", *waits])
    return markdown.table("lrrr", ["migration", "time", "UPDATE: median, longest", "SELECT: median, longest"], rows)
