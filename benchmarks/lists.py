"""How long each question takes for a user with very many tasks and for one with a thousand."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import flask_migrate
from sqlalchemy import text

from benchmarks import filling, server
from benchmarks.measuring import measure
from benchmarks.shapes import Subject, shapes
from todo.extensions import db

# Milliseconds in the database, as medians: for the user with very many tasks, and for the one with a thousand.
TARGETS = {"instant": (1.0, 1.0), "list": (150.0, 5.0)}
MEANING = {
    "instant": "first page, deep page and one task",
    "list": "every filter, search and order",
}
RECIPE = "2"


def prepare(postgres: Any, rows: int, *, fresh: bool) -> tuple[str, filling.Crowd]:
    """Fill a database, unless an earlier run did; give its name and its users."""
    database, content = f"lists_{rows}", f"{rows} rows by recipe {RECIPE}"
    people = filling.crowd(rows)
    there = not fresh and server.kept(postgres, database, content)
    if not there:
        server.new(postgres, database)
    with server.application(postgres, database):
        flask_migrate.upgrade()
    if not there:
        with server.administration(postgres, database) as cursor:
            filling.fill(cursor, filling.COLUMNS, filling.Tasks(people, accented=0.1).new(), rows)
            filling.number_lists(cursor)
        server.keep(postgres, database, content)
    with server.administration(postgres, database) as cursor:
        # Since the machine was started nobody may have read it, and a question is given up after five seconds.
        cursor.execute("SELECT count(title) FROM tasks")
    return database, people


def run(people: filling.Crowd) -> dict[str, Any]:
    """Measure all shapes for both users."""
    subjects = {"big": Subject(people.big), "small": Subject(people.middle)}
    asked = {who: list(shapes(subject)) for who, subject in subjects.items()}
    measured: dict[str, Any] = {}
    with db.engine.connect() as connection:
        with click.progressbar(length=2 * len(asked["big"]), label="Asking for lists") as bar:
            for both in zip(*asked.values(), strict=True):
                found: dict[str, Any] = {"group": both[0].group}
                for who, shape in zip(subjects, both, strict=True):
                    found[who] = measure(connection, shape.statement, shape.parameters).as_json()
                    bar.update(1)
                measured[both[0].name] = found
        size = connection.execute(
            text("SELECT pg_table_size('tasks') AS table_bytes, pg_indexes_size('tasks') AS index_bytes")
        ).one()
    tasks = {who: subject.tasks for who, subject in subjects.items()}
    return {"tasks": tasks, **size._mapping, "shapes": measured, "targets": verdicts(measured)}  # noqa: SLF001 (public)


def verdicts(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tell for each target which shapes miss it."""
    told = []
    for group, limits in TARGETS.items():
        for who, limit in zip(("big", "small"), limits, strict=True):
            times = {name: one[who]["median_ms"] for name, one in measured.items() if one["group"] == group}
            missed = {name: one for name, one in times.items() if one > limit}
            time, worst = max((time, name) for name, time in times.items())
            told.append(
                {
                    "target": f"{MEANING[group]}, {who} user: at most {limit:g} ms",
                    "shapes": len(times),
                    "missed": missed,
                    "worst": {worst: time},
                }
            )
    return told


def table(found: Mapping[str, Any]) -> list[str]:
    """Give the table as lines of Markdown."""
    big, small = (f"{found['tasks'][who]:,} tasks" for who in ("big", "small"))
    lines = [
        f"| question | {big}: min | median | {small}: min | median | plan for {big} |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, one in found["shapes"].items():
        times = " | ".join(f"{one[who][of]:.2f}" for who in ("big", "small") for of in ("min_ms", "median_ms"))
        lines.append(f"| {name} | {times} | {one['big']['plan_in_words']} |")
    return [*lines, "", *summary_lines(found["targets"])]


def summary_lines(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say plainly which targets are met."""
    lines = []
    for one in targets:
        (worst, time), missed = next(iter(one["worst"].items())), one["missed"]
        verdict = f"missed by {len(missed)} of {one['shapes']}" if missed else f"met by all {one['shapes']}"
        lines.append(f"- {one['target']}: {verdict} (the slowest is “{worst}”, {time:.2f} ms).")
    return lines
