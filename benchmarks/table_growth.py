"""The times of the calls of one user while the tasks of the other users grow in number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import click
import flask_migrate
from flask import Flask

from benchmarks import markdown, postgres, worker_memory
from benchmarks.dataset import AS_OF, create_lists
from benchmarks.explain import RUNS, explain, total_ms
from benchmarks.list_queries import PAGE, page_of
from todo.auth.tokens import issue
from todo.database import statements
from todo.extensions import db
from todo.tasks import queries
from todo.tasks.listing import Filters, Listing, Position
from todo.tasks.rows import INITIAL, columns_of

DATABASE = "table_growth"
USER = "user-with-very-many"
# One in five of the first tasks is the user's; every other user has fifty tasks.
SHARE = 5
OTHERS_TASKS = 50

# The tasks of a user are spread over the table: the users create one each in turn, as if all had started together.
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
class Call:
    """A call to measure: its statement, with parameters for each run, and the request of a client for it."""

    name: str
    statement: str
    parameters: Callable[[int], Mapping[str, Any]]
    method: str
    path: str
    body: dict[str, Any] | None = None


def run(server: Any, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Fill a table to one size after the other, and measure the calls at each."""
    postgres.create(server, DATABASE)
    results: list[dict[str, Any]] = []
    try:
        with postgres.application(server, DATABASE) as app:
            flask_migrate.upgrade()
            for before, rows in pairwise((0, *sizes)):
                click.echo(f"Filling {rows - before:,} tasks ...")
                with postgres.administration(server, DATABASE) as cursor:
                    _fill(cursor, before, rows - before)
                result = {"rows": rows, "tasks": sizes[0] // SHARE, "calls": dict(_measured(app))}
                results.append(result | {"memory": worker_memory.run(server, DATABASE, USER)})
    finally:
        postgres.drop(server, DATABASE)
    return results


def _fill(cursor: Any, first: int, rows: int) -> None:
    cursor.execute("SET synchronous_commit = off")
    share = 0 if first else SHARE
    with _without_indexes(cursor):
        values = {"user": USER, "first": first, "rows": rows, "share": share, "each": OTHERS_TASKS, "as_of": AS_OF}
        cursor.execute(FILL, values)
    cursor.execute("TRUNCATE task_lists")
    create_lists(cursor)
    cursor.execute("VACUUM (ANALYZE) tasks")
    cursor.execute("CHECKPOINT")


@contextmanager
def _without_indexes(cursor: Any) -> Iterator[None]:
    """Drop the indexes, and build them at the end, which is many times faster than row by row."""
    cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'pk_tasks'")
    (key,) = cursor.fetchone()
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename = 'tasks' AND indexname <> 'pk_tasks'"
    )
    indexes = cursor.fetchall()
    cursor.execute("ALTER TABLE tasks DROP CONSTRAINT pk_tasks")
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    cursor.execute("SET maintenance_work_mem = '512MB'")
    cursor.execute(f"ALTER TABLE tasks ADD CONSTRAINT pk_tasks {key}")
    for _, definition in indexes:
        cursor.execute(definition)


def calls(task_id: int) -> Iterator[Call]:
    """Yield the calls to measure, given the id of a task in the middle of the user's."""
    middle = Position((task_id,), task_id, AS_OF)
    path = f"/api/me/tasks/{task_id}"

    def page(name: str, path: str, **fields: Any) -> Call:
        statement, parameters = page_of(USER, Listing(as_of=AS_OF, limit=PAGE, **fields))
        return Call(name, statement, lambda _: parameters, "GET", path)

    yield page("first page of 50", f"/api/me/tasks?limit={PAGE}")
    yield page("deep page of 50", f"/api/me/tasks?limit={PAGE}", after=middle)
    task = {"caller": USER, "task_id": task_id}
    yield Call("get one", queries.SQL["get_task"], lambda _: task, "GET", path)
    created = {"caller": USER, **INITIAL, **columns_of({"title": "One more"})}
    yield Call("create", queries.SQL["create_task"], lambda _: created, "POST", "/api/me/tasks", {"title": "One more"})
    statement = queries.update_statement(frozenset(columns_of({"title": ""})))
    yield Call(
        "patch a title",
        statement,
        lambda turn: {**columns_of({"title": f"Changed {turn}"}), **task, "among": None, "besides": []},
        "PATCH",
        path,
        {"title": "Changed by HTTP"},
    )
    for name, word in {"search, a word of many": "invoice", "search, a word of none": "nowherezz"}.items():
        yield page(name, f"/api/me/tasks?limit={PAGE}&q={word}", filters=Filters(words=(word,)))


def _measured(app: Flask) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each call its name, its time in the database in milliseconds, and the size of its response in bytes."""
    task = statements.read(*page_of(USER, Listing(as_of=AS_OF, limit=1, offset=1000)))[0]
    with db.engine.connect() as connection:
        client = app.test_client()
        token = {"Authorization": f"Bearer {issue(postgres.SECRET, USER, lifetime_s=3600)}"}
        for call in calls(task.id):
            reports = [explain(connection, call.statement, call.parameters(turn)) for turn in range(RUNS + 1)]
            times = [total_ms(report) for report in reports[1:]]
            response = client.open(call.path, method=call.method, json=call.body, headers=token)
            if not response.status.startswith("2"):
                raise click.ClickException(f"The response to {call.name} was {response.status}.")
            yield call.name, {"median_ms": median(times), "min_ms": min(times), "bytes": len(response.data)}


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table as lines of Markdown."""
    first, last = results[0], results[-1]
    sizes = [f"{size['rows']:,} tasks of all users" for size in results]
    rows = []
    for name, call in last["calls"].items():
        times = [size["calls"][name]["median_ms"] for size in results]
        cells = [f"{time:.2f} ms" for time in times]
        rows.append(
            [f"{name}, in the database", *cells, f"{times[-1] / times[0]:.2f}", f"{call['bytes'] / 1024:.1f} KiB"]
        )
    for name, stage in {"started": "started_mib", "after 400 pages of 1,000": "after_deep_pages_mib"}.items():
        memory = [size["memory"][stage] for size in results]
        cells = [f"{mib:.1f} MiB" for mib in memory]
        rows.append([f"memory of a worker, {name}", *cells, f"{memory[-1] / memory[0]:.2f}", ""])
    titles = [f"a user with {first['tasks']:,}", *sizes, "ratio", "response"]
    return markdown.table(f"l{'r' * (len(sizes) + 2)}", titles, rows)
