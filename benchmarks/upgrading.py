"""How long migrations take on a big old table, and how long they make others wait."""

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

from benchmarks import filling, server

DATABASE = "upgrading"
REVISIONS = ("0002_organise_tasks", "0003_fold_texts", "0004_add_revisions", "0005_number_tasks")
ACCENTED = 0.25
CALM_S = 5
TIMEOUT_S = 60

# What a client does meanwhile: to a task that is as likely as any other to be under work.
PROBES = {
    "UPDATE": "UPDATE tasks SET completed = NOT completed, updated_at = greatest(now(), updated_at) "
    "WHERE user_id = %(user)s AND id = %(id)s",
    "SELECT": "SELECT id, title, completed FROM tasks WHERE user_id = %(user)s ORDER BY id LIMIT 50",
}


def run(postgres: Any, rows: int) -> dict[str, Any]:
    """Fill a table of the first version, migrate it step by step, and watch it from elsewhere."""
    server.new(postgres, DATABASE)
    try:
        with server.application(postgres, DATABASE):
            flask_migrate.upgrade(revision="0001_create_tasks")
            people = filling.crowd(rows)
            with server.administration(postgres, DATABASE) as cursor:
                lines = filling.Tasks(people, accented=ACCENTED).old()
                filling.fill(cursor, filling.OLD_COLUMNS, lines, rows)
                cursor.execute(
                    "SELECT count(*) FROM tasks WHERE title ~ '[^[:ascii:]]' OR description ~ '[^[:ascii:]]'"
                )
                accented = cursor.fetchone()[0]
            return {"rows": rows, "accented": accented, "steps": _steps(postgres.get_uri(database=DATABASE))}
    finally:
        server.drop(postgres, DATABASE)


def _steps(uri: str) -> dict[str, Any]:
    """Run each migration while another process works with the table."""
    steps = {"nothing": partial(time.sleep, CALM_S)}
    for revision in REVISIONS:
        steps[revision] = partial(flask_migrate.upgrade, revision=revision)
    told = {}
    for name, step in steps.items():
        click.echo(f"Watching {name} ...")
        told[name] = _watched(uri, step)
    return told


def _watched(uri: str, step: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    begun, ended, waits = context.Event(), context.Event(), context.Queue()
    watcher = context.Process(target=watch, args=(uri, begun, ended, waits), daemon=True)
    watcher.start()
    begun.wait(TIMEOUT_S)
    started = time.monotonic()
    try:
        step()
    finally:
        took = time.monotonic() - started
        ended.set()
    seen: Mapping[str, list[float]] = waits.get(timeout=TIMEOUT_S)
    watcher.join(TIMEOUT_S)
    return {"seconds": took, "waits_ms": {kind: _told(times) for kind, times in seen.items()}}


def _told(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    place = len(ordered) * 99 // 100
    return {"statements": len(ordered), "median": median(ordered), "p99": ordered[place], "longest": ordered[-1]}


def watch(uri: str, begun: Any, ended: Any, waits: Any) -> None:
    """Use the table again and again until it is over; give how long each statement took, in milliseconds."""
    chance = random.Random(0)
    seen: dict[str, list[float]] = {kind: [] for kind in PROBES}
    with closing(psycopg2.connect(uri)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT user_id, id FROM tasks TABLESAMPLE SYSTEM (10)")
        known = cursor.fetchall()
        begun.set()
        while not ended.is_set():
            user, task = chance.choice(known)
            for kind, statement in PROBES.items():
                started = time.perf_counter()
                cursor.execute(statement, {"user": user, "id": task})
                seen[kind].append(1000 * (time.perf_counter() - started))
    waits.put(seen)


def table(found: Mapping[str, Any]) -> list[str]:
    """Give the table as lines of Markdown."""
    lines = ["| migration | time | UPDATE: median, longest | SELECT: median, longest |", "|---|--:|--:|--:|"]
    for name, one in found["steps"].items():
        waits = [f"{w['median']:.2f} ms, {w['longest']:.0f} ms" for w in one["waits_ms"].values()]
        lines.append(f"| {name} | {one['seconds']:.1f} s | {' | '.join(waits)} |")
    return lines
