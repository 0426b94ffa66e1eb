"""How lists behave on a big table, with the statements of the application: `python -m benchmarks.scale --help`."""

import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
import psutil

from benchmarks import forms, lists, memory, server, upgrading, writes
from config import ROOT

PARTS = ("lists", "forms", "writes", "memory", "migrations")
ROWS = 5_000_000
MIGRATED_ROWS = 1_000_000
RESULTS = ROOT / "benchmarks" / "results"


@click.command(context_settings={"show_default": True, "max_content_width": 120})
@click.option("--rows", type=click.IntRange(20_000, 100_000_000), default=ROWS, help="How many tasks in all.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "instance" / "benchmark",
    help="Where the server keeps its data, for the next run too.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the numbers go, with all plans: by default a file in benchmarks/results/ named for rows and settings.",
)
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="What to measure.")
@click.option("--fresh", is_flag=True, help="Fill the table anew.")
@click.option("--defaults", is_flag=True, help="Leave the server's settings as they come, for comparison.")
@click.option("--huge-pages", is_flag=True, help="As root, have Linux lend huge pages of memory meanwhile.")
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
    """Measure how lists behave on a big table, with a PostgreSQL of its own.

    5 million tasks take ten minutes and 8 GB. --rows 200000 gives a first look in two minutes.

    Times are in the database: of each statement one run to warm up, then the least and the median of five. Ctrl-C
    stops everything; a table that is filled stays for the next run.
    """
    settings = {} if defaults else server.operator_settings()
    if huge_pages:
        context.with_resource(server.lent_huge_pages(settings))
    postgres = server.start(data, settings, rows)
    about = machine() | {
        "postgresql": server.version(postgres),
        "rows": rows,
        "settings": settings,
        "huge_pages": server.huge_pages(postgres),
    }
    results = results or RESULTS / f"scale{'' if rows == ROWS else f'-{rows}'}{'-defaults' if defaults else ''}.json"
    found = earlier(results, about) | about
    results.parent.mkdir(parents=True, exist_ok=True)
    for name, numbers, lines in measured(postgres, rows, parts, fresh=fresh):
        click.echo("\n".join(["", *lines, ""]))
        found[name] = numbers | {"load": load()}
        results.write_bytes(orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE))
    if not about["huge_pages"]:
        click.echo("PostgreSQL had no huge pages: what reads a whole list took longer than with --huge-pages.")
    click.echo(f"Everything, with plans, is in {results}.")


def machine() -> dict[str, Any]:
    """Say what the numbers were measured on, and when."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processors": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def load() -> float:
    """Say how many processes wanted a processor in the last five minutes, ours among them."""
    return float(round(psutil.getloadavg()[1], 2))


def measured(
    postgres: Any, rows: int, parts: tuple[str, ...], *, fresh: bool
) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Measure one part after another; give its name, its numbers and its table."""
    database, people = lists.prepare(postgres, rows, fresh=fresh)
    with server.application(postgres, database):
        for name, part in (("lists", lists), ("forms", forms), ("writes", writes)):
            if name in parts:
                yield name, (found := part.run(people)), part.table(found)
    if "memory" in parts:
        yield "memory", (found := memory.run(postgres, database, people.big)), memory.table(found)
    if "migrations" in parts:
        yield "migrations", (found := upgrading.run(postgres, min(rows, MIGRATED_ROWS))), upgrading.table(found)


def earlier(results: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Give what an earlier run found of other parts, if it ran on the same day, machine, table and settings."""
    try:
        found: dict[str, Any] = orjson.loads(results.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return found if all(found.get(name) == value for name, value in about.items()) else {}


if __name__ == "__main__":
    main()
