"""The service with other settings of gunicorn: `python -m benchmarks.gunicorn_settings --help`."""

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import click
import orjson

from benchmarks import compare, load, markdown, peer_dataset, postgres
from benchmarks.environment import machine
from benchmarks.load import LoadCase
from benchmarks.services import Service
from config import ROOT

GUNICORN = "{bin}/gunicorn -c gunicorn.conf.py"
LOADS = (LoadCase("mix", 64, 3), LoadCase("mix", compare.MANY, 5, compare.PAUSE_MS))
IDLE_LOAD = LoadCase("mix", 64, 3, idle=compare.IDLE)
ROUNDS = 3
RESULTS = ROOT / "instance" / "results" / "gunicorn-settings.json"


def _variant(title: str, options: str = "", **settings: str) -> Service:
    command = f"{GUNICORN} {options} wsgi:app"
    return Service(title.replace(" ", "-"), title, command, settings=tuple(settings.items()))


VARIANTS = (
    _variant("2 processes, 8 threads each"),
    _variant("2 processes, 2 threads each", WEB_THREADS="2"),
    _variant("2 processes, 4 threads each", WEB_THREADS="4"),
    _variant("2 processes, 16 threads each", WEB_THREADS="16"),
    _variant("1 process, 8 threads", WEB_CONCURRENCY="1"),
    _variant("4 processes, 8 threads each", WEB_CONCURRENCY="4"),
    _variant("a new process each 5,000 requests", "--max-requests 5000 --max-requests-jitter 1000"),
    _variant("gunicorn's own threaded worker", "--worker-class gthread"),
)


@click.command()
def main() -> None:
    """Compare the settings of gunicorn, in some four minutes.

    The service runs with more and fewer threads and processes, with processes that are replaced now and then, and
    with gunicorn's own threaded worker, in interleaved rounds. The results are printed, and written to
    instance/results/gunicorn-settings.json; the page of results shows those in benchmarks/results.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    compare.allow_many_files()
    load.ensure_wrk()
    server, settings = compare.start_postgres(compare.DATA, connections=300)
    about = machine() | {"postgresql": postgres.version(server), "settings": settings, "rounds": ROUNDS}
    content = about | {"rows": list(summaries(list(measure(server))))}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
    click.echo("\n".join(["", *table(content["rows"]), "", f"The results are in {RESULTS}."]))


def measure(server: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Measure each load with each variant in turn, round by round; yield the load, the variant and the result."""
    with compare.running(server, VARIANTS) as (services, users_file):
        with postgres.administration(server, peer_dataset.DATABASE) as cursor:
            for _ in range(ROUNDS):
                for case in (*LOADS, IDLE_LOAD):
                    for running in services:
                        # Only the first variant is sure to accept so many idle connections.
                        if case is not IDLE_LOAD or running is services[0]:
                            peer_dataset.restore(cursor)
                            result = compare.measure(server, running, case, users_file)
                            yield case.title, running.service.title, result
                            click.echo(".", nl=False)


def summaries(results: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the medians of all rounds; the ratio is that to the first variant."""
    first: dict[str, float] = {}
    for load_title, variant in dict.fromkeys((load_title, variant) for load_title, variant, _ in results):
        rounds = [result for *names, result in results if names == [load_title, variant]]
        per_s = median(result["per_s"] for result in rounds)
        yield {
            "load": load_title,
            "variant": variant,
            "per_s": per_s,
            "ratio": per_s / first.setdefault(load_title, per_s),
            "p95_ms": median(result["p95_ms"] for result in rounds),
            "failed": sum(result["failed"] for result in rounds),
        }


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table as lines of Markdown."""
    titles = ["work", "variant", "requests/s", "against the first", "p95", "failed"]
    cells = (
        [
            row["load"],
            row["variant"],
            f"{row['per_s']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['p95_ms']:,.1f} ms",
            f"{row['failed']:,}",
        ]
        for row in rows
    )
    return markdown.table("llrrrr", titles, cells)


if __name__ == "__main__":
    main()
