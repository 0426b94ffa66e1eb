"""What the numbers in gunicorn.conf.py are worth: `python -m benchmarks.settings`.

The same application in one run, in interleaved rounds: with more and fewer threads and processes, with processes that
are replaced now and then, and with gunicorn's own threaded worker.
"""

import signal
import sys
from statistics import median
from typing import Any

import click

from benchmarks import compare, load, server, tables
from benchmarks.contenders import Contender
from benchmarks.load import Cell

GUNICORN = "{bin}/gunicorn -c gunicorn.conf.py"
CELLS = (Cell("mix", 64, 3), Cell("mix", compare.MANY, 5, compare.PAUSE_MS))
IDLE = Cell("mix", 64, 3, idle=compare.IDLE)
ROUNDS = 3


def _ours(title: str, options: str = "", **settings: str) -> Contender:
    return Contender(title.replace(" ", "-"), title, f"{GUNICORN} {options} wsgi:app", settings=tuple(settings.items()))


VARIANTS = (
    _ours("2 processes, 8 threads each"),
    _ours("2 processes, 2 threads each", WEB_THREADS="2"),
    _ours("2 processes, 4 threads each", WEB_THREADS="4"),
    _ours("2 processes, 16 threads each", WEB_THREADS="16"),
    _ours("1 process, 8 threads", WEB_CONCURRENCY="1"),
    _ours("4 processes, 8 threads each", WEB_CONCURRENCY="4"),
    _ours("a new process each 5,000 requests", "--max-requests 5000 --max-requests-jitter 1000"),
    _ours("gunicorn's own threaded worker", "--worker-class gthread"),
)


@click.command()
def main() -> None:
    """Measure the settings of gunicorn, in some four minutes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    compare.allow_many_files()
    load.ensure_wrk()
    postgres, _ = compare.start_postgres(compare.DATA, connections=300)
    found: list[tuple[str, str, dict[str, Any]]] = []
    with compare.running(postgres, VARIANTS) as (started, people):
        with server.administration(postgres, tables.DATABASE) as cursor:
            for _ in range(ROUNDS):
                for cell in (*CELLS, IDLE):
                    for one in started:
                        # The others may not have so many at once.
                        if cell is not IDLE or one is started[0]:
                            tables.restore(cursor)
                            told = compare.measure(postgres, one, cell, people)
                            found.append((cell.title, one.contender.title, told))
                            click.echo(".", nl=False)
        click.echo()
    for line in table(found):
        click.echo(line)


def table(found: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Give the middle of all rounds as lines of Markdown; the first variant is what the others are compared with."""
    lines = ["| work | variant | requests/s | against the first | p95 | failed |", "|---|---|--:|--:|--:|--:|"]
    first: dict[str, float] = {}
    for work, title in dict.fromkeys((work, title) for work, title, _ in found):
        here = [told for a_work, a_title, told in found if (a_work, a_title) == (work, title)]
        per_s = median(told["per_s"] for told in here)
        ratio = per_s / first.setdefault(work, per_s)
        p95 = median(told["p95_ms"] for told in here)
        failed = sum(told["failed"] for told in here)
        lines.append(f"| {work} | {title} | {per_s:,.0f} | {ratio:.2f} | {p95:,.1f} ms | {failed} |")
    return lines


if __name__ == "__main__":
    main()
