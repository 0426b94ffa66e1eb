"""The pages with results: `python -m benchmarks.page` writes their tables from the committed results.

benchmarks/README.md has every table, docs/performance.md what a reader needs first. The prose stands in the pages
themselves. Each table stands between a comment with its name and an end comment, and is
replaced as a whole.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from benchmarks import (
    assistants,
    event_streams,
    goals,
    gunicorn_settings,
    kept_pages,
    migration_times,
    query_times,
    query_variants,
    ratios,
    table_growth,
    under_attack,
    worker_memory,
    write_costs,
)
from config import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "performance.md")
CHART = ROOT / "docs" / "assets" / "peers.svg"
BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Results = Mapping[str, Any]

# The number of connections of the tables that show one.
SOME = "16 conn."

# The file of results of each block, and the function that writes its lines.
BLOCKS: Mapping[str, tuple[str, Callable[[Results], list[str]]]] = {
    "sizes": ("scale.json", lambda results: [_sizes(results["lists"])]),
    "machine": ("scale.json", lambda results: [_machine(results)]),
    "targets": ("scale.json", lambda results: query_times.target_lines(results["lists"]["targets"])),
    "targets-defaults": ("scale-defaults.json", lambda results: query_times.target_lines(results["lists"]["targets"])),
    "lists": ("scale.json", lambda results: query_times.table(results["lists"])),
    "variants": ("scale.json", lambda results: query_variants.table(results["variants"])),
    "writes": ("scale.json", lambda results: write_costs.table(results["writes"])),
    "migrations": ("scale.json", lambda results: migration_times.table(results["migrations"])),
    "refolding": (
        "scale-1000000.json",
        lambda results: [_machine(results), "", *migration_times.table(results["migrations"])],
    ),
    "memory": ("scale.json", lambda results: worker_memory.table(results["memory"])),
    "gunicorn-settings": ("gunicorn-settings.json", lambda results: gunicorn_settings.table(results["rows"])),
    "under-attack": ("under-attack.json", under_attack.page),
    "assistants": ("assistants.json", assistants.page),
    "kept-pages": ("kept-pages.json", kept_pages.page),
    "event-streams": ("event-streams.json", event_streams.page),
    "peers-machine": ("peers.json", lambda results: [_peers_machine(results)]),
    "peers": ("peers.json", lambda results: ratios.throughput_table(ratios.rows(results["measured"]))),
    "peers-mix": ("peers.json", lambda results: ratios.throughput_table(ratios.rows(results["measured"]), "mix")),
    "peers-cpu": ("peers.json", lambda results: ratios.cpu_table(ratios.rows(results["measured"]), SOME)),
    "unchanged": ("peers.json", lambda results: ratios.unchanged_table(results["measured"], SOME)),
    "goals": ("peers.json", goals.table),
    "large-table": ("scale.json", lambda results: query_times.short_table(results["lists"])),
    "round-trips": ("peers.json", lambda results: ratios.table(list(ratios.round_trip_rows(results["round_trips"])))),
    "growth": ("peers.json", lambda results: table_growth.table(results["growth"])),
}


def _peers_machine(results: Results) -> str:
    settings = ", ".join(f"`{name} = {value}`" for name, value in results["settings"].items())
    rounds = ", ".join(f"{number} of {part}" for part, number in results["rounds"].items())
    return (
        f"Measured on {results['date']} on a virtual machine with {results['processors']} processors and "
        f"{results['memory_gib']} GiB of memory, {results['system']}, that the services, PostgreSQL "
        f"{results['postgresql']} and the load generator shared; {settings}. Rounds: {rounds}."
    )


def _machine(results: Results) -> str:
    settings = ", ".join(f"`{name} = {value}`" for name, value in results["settings"].items())
    pages = " on huge pages of memory" if results["huge_pages"] else ""
    return (
        f"Measured on {results['date']} on a virtual machine with {results['processors']} processors and "
        f"{results['memory_gib']} GiB of memory, {results['system']}, PostgreSQL {results['postgresql']}, with "
        f"{settings}; shared buffers{pages}."
    )


def _sizes(lists: Results) -> str:
    table, indexes = lists["table_bytes"] / 1024**3, lists["index_bytes"] / 1024**2
    return f"The table has {table:.2f} GiB, and its indexes, which grew with the rows, have {indexes:,.0f} MiB."


def render(page: str, results: Path = RESULTS) -> str:
    """Return the page with every block written anew from the results in a folder."""

    def block(match: re.Match[str]) -> str:
        file, lines = BLOCKS[match[2]]
        text = "\n".join(lines(orjson.loads((results / file).read_bytes())))
        return f"{match[1]}\n{text}\n\n{match[3]}"

    return BLOCK.sub(block, page)


def update() -> None:
    """Write the pages with the committed results."""
    for page in PAGES:
        page.write_text(render(page.read_text()))
    CHART.write_text((RESULTS / "peers.svg").read_text())
    click.echo(f"Wrote the tables of {' and '.join(str(page.relative_to(ROOT)) for page in PAGES)}.")


@click.command()
def main() -> None:
    """Write the tables of benchmarks/README.md and docs/performance.md from the files in benchmarks/results."""
    update()


if __name__ == "__main__":
    main()
