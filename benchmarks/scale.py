"""The queries of lists on a large table, with the application's statements: `python -m benchmarks.scale --help`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from benchmarks import migration_times, page, postgres, query_times, query_variants, worker_memory, write_costs
from benchmarks.environment import load_average, machine
from config import ROOT

PARTS = ("lists", "variants", "writes", "memory", "migrations")
ROWS = 5_000_000
MIGRATED_ROWS = 1_000_000


@click.command(context_settings={"show_default": True, "max_content_width": 120})
@click.option("--rows", type=click.IntRange(20_000, 100_000_000), default=ROWS, help="The number of tasks.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "instance" / "benchmark",
    help="The folder of the server's data, which the next run uses again.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of the results, with all plans: by default in benchmarks/results/, named for rows and settings.",
)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="What to measure.")
@click.option("--fresh", is_flag=True, help="Fill the table again.")
@click.option("--defaults", is_flag=True, help="Keep the default settings of the server, for comparison.")
@click.option("--huge-pages", is_flag=True, help="Reserve huge pages of memory meanwhile; needs root and Linux.")
@click.pass_context
def main(
    context: click.Context,
    rows: int,
    data: Path,
    results: Path | None,
    parts: tuple[str, ...],
    *,
    fresh: bool,
    defaults: bool,
    huge_pages: bool,
) -> None:
    """Measure the queries of lists on a large table, on a separate PostgreSQL server.

    5 million tasks take ten minutes and 8 GB; --rows 200000 takes two minutes.

    Times are those in the database: of each statement, after one run to warm up, the minimum and the median of five.
    Ctrl-C stops everything. A filled table is kept for the next run.
    """
    settings = {} if defaults else postgres.operator_settings()
    if huge_pages:
        context.with_resource(postgres.huge_pages_reserved(settings))
    server = postgres.start(data, settings, rows)
    about = machine() | {
        "postgresql": postgres.version(server),
        "rows": rows,
        "settings": settings,
        "huge_pages": postgres.uses_huge_pages(server),
    }
    name = f"scale{'' if rows == ROWS else f'-{rows}'}{'-defaults' if defaults else ''}.json"
    results = results or page.RESULTS / name
    content = earlier_results(results, about) | about
    results.parent.mkdir(parents=True, exist_ok=True)
    for part, numbers, lines in measure(server, rows, parts, fresh=fresh):
        click.echo("\n".join(["", *lines, ""]))
        content[part] = numbers | {"load": load_average()}
        results.write_bytes(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
    if not about["huge_pages"]:
        click.echo("PostgreSQL had no huge pages: queries that read a whole list took longer than with --huge-pages.")
    click.echo(f"All results, with plans, are in {results}.")
    if rows == ROWS and results.parent == page.RESULTS and content.keys() >= set(PARTS):
        page.update()


def measure(
    server: Any, rows: int, parts: tuple[str, ...], *, fresh: bool
) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Measure one part after another, and yield the name, the results and the table of each."""
    database, users = query_times.prepare(server, rows, fresh=fresh)
    with postgres.application(server, database):
        if "lists" in parts:
            results = query_times.run(users)
            yield "lists", results, [*query_times.table(results), "", *query_times.target_lines(results["targets"])]
        for name, part in (("variants", query_variants), ("writes", write_costs)):
            if name in parts:
                yield name, (results := part.run(users)), part.table(results)
    if "memory" in parts:
        yield "memory", (results := worker_memory.run(server, database, users.largest)), worker_memory.table(results)
    if "migrations" in parts:
        results = migration_times.run(server, min(rows, MIGRATED_ROWS))
        yield "migrations", results, migration_times.table(results)


def earlier_results(file: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of an earlier run on the same day, machine, table and settings, or an empty dictionary."""
    try:
        results: dict[str, Any] = orjson.loads(file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return results if all(results.get(name) == value for name, value in about.items()) else {}


if __name__ == "__main__":
    main()
