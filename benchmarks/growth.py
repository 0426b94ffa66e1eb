"""How the calls of one user fare while the tasks of all others grow in number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import click
import flask_migrate
from flask import Flask

from benchmarks import memory, server
from benchmarks.filling import AS_OF, number_lists
from benchmarks.measuring import RUNS, explain, total_ms
from benchmarks.shapes import PAGE, page_of
from todo.auth.tokens import issue
from todo.database.statements import Statement, execute
from todo.extensions import db
from todo.tasks import queries
from todo.tasks.listing import Filters, Listing, Position

DATABASE = "growth"
USER = "user-with-very-many"
# Of the tasks that are there first, this part is the user's; all others have fifty each.
SHARE = 5
OTHERS_TASKS = 50

# The tasks of a user do not lie together: everybody makes one in turn, as if all had begun on the same day.
FILL = """
    INSERT INTO tasks (user_id, title, description, tags, folded_tags, completed, created_at, updated_at, completed_at,
                       priority, due_at, revision)
    SELECT CASE WHEN is_users THEN %(user)s ELSE 'user-' || %(first)s + place %% others END,
           format('%%s the %%s, number %%s', kind[1 + place %% 5], kind[6 + place %% 7 %% 5], %(first)s + place),
           CASE WHEN place %% 3 = 0 THEN repeat(md5(place::text) || ' ', 1 + (place %% 8)::integer) END,
           CASE WHEN place %% 2 = 0 THEN ARRAY['home', 'garden'] ELSE '{}' END,
           CASE WHEN place %% 2 = 0 THEN E'home\\ngarden' END,
           place %% 4 < 2, moment, moment, CASE WHEN place %% 4 < 2 THEN moment END,
           CASE place %% 6 WHEN 0 THEN 'low' WHEN 1 THEN 'medium' WHEN 2 THEN 'high' END::priority,
           CASE WHEN place %% 2 = 0 THEN moment + interval '30 days' END,
           CASE WHEN is_users THEN place / %(share)s + 1 ELSE place / others + 1 END
    FROM generate_series(0, %(rows)s::bigint - 1) AS place,
         LATERAL (SELECT %(share)s > 0 AND place %% nullif(%(share)s, 0) = 0 AS is_users,
                         %(as_of)s::timestamptz - (%(rows)s - place) * interval '1 second' AS moment,
                         greatest(%(rows)s / %(each)s, 1) AS others,
                         ARRAY['Read', 'Write', 'Send', 'Mend', 'Buy', 'report', 'invoice', 'letter', 'bike', 'milk']
                             AS kind) AS made
"""


@dataclass(frozen=True, slots=True)
class Question:
    """One call: what PostgreSQL is asked, each time a little differently, and what a client sends for it."""

    name: str
    statement: Statement
    parameters: Callable[[int], Mapping[str, Any]]
    method: str
    path: str
    body: dict[str, Any] | None = None


def run(postgres: Any, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Fill a table to one size after the other, and measure at each."""
    server.new(postgres, DATABASE)
    told = []
    try:
        with server.application(postgres, DATABASE) as app:
            flask_migrate.upgrade()
            for before, rows in pairwise((0, *sizes)):
                click.echo(f"Filling {rows - before:,} tasks ...")
                with server.administration(postgres, DATABASE) as cursor:
                    _fill(cursor, before, rows - before)
                told.append({"rows": rows, "tasks": sizes[0] // SHARE, "calls": dict(_measured(app))})
                told[-1]["memory"] = memory.run(postgres, DATABASE, USER)
    finally:
        server.drop(postgres, DATABASE)
    return told


def _fill(cursor: Any, first: int, rows: int) -> None:
    cursor.execute("SET synchronous_commit = off")
    share = 0 if first else SHARE
    with _without_indexes(cursor):
        values = {"user": USER, "first": first, "rows": rows, "share": share, "each": OTHERS_TASKS, "as_of": AS_OF}
        cursor.execute(FILL, values)
    cursor.execute("TRUNCATE task_lists")
    number_lists(cursor)
    cursor.execute("VACUUM (ANALYZE) tasks")
    cursor.execute("CHECKPOINT")


@contextmanager
def _without_indexes(cursor: Any) -> Iterator[None]:
    """Build the indexes at once in the end, which is many times faster than row by row."""
    cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'pk_tasks'")
    (key,) = cursor.fetchone()
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename = 'tasks' AND indexname <> 'pk_tasks'"
    )
    others = cursor.fetchall()
    cursor.execute("ALTER TABLE tasks DROP CONSTRAINT pk_tasks")
    for name, _ in others:
        cursor.execute(f"DROP INDEX {name}")
    yield
    cursor.execute("SET maintenance_work_mem = '512MB'")
    cursor.execute(f"ALTER TABLE tasks ADD CONSTRAINT pk_tasks {key}")
    for _, definition in others:
        cursor.execute(definition)


def questions(some: int) -> Iterator[Question]:
    """Give the calls that are measured; `some` is the id of a task in the middle of the user's."""
    middle = Position((some,), some, AS_OF)
    one = f"/api/me/tasks/{some}"

    def page(name: str, path: str, **asked: Any) -> Question:
        statement, parameters = page_of(USER, Listing(as_of=AS_OF, limit=PAGE, **asked))
        return Question(name, statement, lambda _: parameters, "GET", path)

    yield page("first page of 50", f"/api/me/tasks?limit={PAGE}")
    yield page("deep page of 50", f"/api/me/tasks?limit={PAGE}", after=middle)
    mine = {"caller": USER, "task": some}
    yield Question("get one", queries.GET, lambda _: mine, "GET", one)
    made = {"caller": USER, "key": None, "digest": None, **queries.making({"title": "One more"})}
    yield Question("create", queries.CREATE, lambda _: made, "POST", "/api/me/tasks", {"title": "One more"})
    statement, _ = queries.setting({"title": ""})
    yield Question(
        "patch a title",
        statement,
        lambda turn: {**queries.setting({"title": f"Changed {turn}"})[1], **mine, "revisions": None},
        "PATCH",
        one,
        {"title": "Changed by HTTP"},
    )
    for name, word in {"search, a word of many": "invoice", "search, a word of none": "nowherezz"}.items():
        yield page(name, f"/api/me/tasks?limit={PAGE}&q={word}", filters=Filters(words=(word,)))


def _measured(app: Flask) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give for each call its time in the database in milliseconds, and the bytes of its answer."""
    middle, _ = page_of(USER, Listing(as_of=AS_OF, limit=1, offset=1000))
    with db.engine.connect() as connection:
        some = execute(connection, middle, {}).all()[0]
        client = app.test_client()
        token = {"Authorization": f"Bearer {issue(server.SECRET, USER, lifetime_s=3600)}"}
        for question in questions(some.id):
            reports = [explain(connection, question.statement, question.parameters(turn)) for turn in range(RUNS + 1)]
            times = [total_ms(report) for report in reports[1:]]
            answer = client.open(question.path, method=question.method, json=question.body, headers=token)
            if not answer.status.startswith("2"):
                raise click.ClickException(f"{question.name} was answered with {answer.status}")
            yield question.name, {"median_ms": median(times), "min_ms": min(times), "bytes": len(answer.data)}


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Give the table as lines of Markdown."""
    sizes = " | ".join(f"{one['rows']:,} tasks of all users" for one in found)
    first, last = found[0], found[-1]
    lines = [f"| a user with {first['tasks']:,} | {sizes} | ratio | answer |", f"|---|{'--:|' * (len(found) + 2)}"]
    for name, call in last["calls"].items():
        times = " | ".join(f"{one['calls'][name]['median_ms']:.2f} ms" for one in found)
        ratio = call["median_ms"] / first["calls"][name]["median_ms"]
        lines.append(f"| {name}, in the database | {times} | {ratio:.2f} | {call['bytes'] / 1024:.1f} KiB |")
    for name, moment in {"started": "started_mib", "after 400 pages of 1,000": "after_deep_pages_mib"}.items():
        held = [one["memory"][moment] for one in found]
        cells = " | ".join(f"{mib:.1f} MiB" for mib in held)
        lines.append(f"| memory of a worker, {name} | {cells} | {held[-1] / held[0]:.2f} | |")
    return lines
