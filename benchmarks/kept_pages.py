"""The service with kept pages beside the service without them: `python -m benchmarks.kept_pages --help`.

Each round measures each load with each amount of memory, one after the other, so what else the machine does changes all
of them alike: compare the cells of one load. How many pages were kept is counted by the workers themselves, and printed
with each cell.
"""

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from statistics import median
from threading import Event
from typing import Any
from urllib.request import urlopen

import click
import orjson
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import compare, load, markdown, peer_dataset, postgres, services
from benchmarks.environment import load_average, machine
from benchmarks.load import LoadCase
from benchmarks.services import KEPT_PAGES, SERVICES, RunningService, Service, free_port
from config import ROOT, Config
from todo.auth.tokens import issue

RESULTS = ROOT / "instance" / "results" / "kept-pages.json"

# In MiB for each worker, which has room for some 55 lists of 50 tasks in each: with 2 MiB, for a ninth of the users.
OFF, FEW, DEFAULT, ALL = 0, 2, Config().kept_pages_mib, 32
AMOUNTS = (OFF, FEW, DEFAULT, ALL)

SOURCES = ("client", "kept", "database")
CONNECTIONS = 16
OK = (200, 201)

# Every user is read once, and all lists change before the next time.
COLD = "each list once"
RAISE = "UPDATE task_lists SET revision = revision + 1"
# How often each list is read before the loads of a round, which begin with lists that were read before.
WARMINGS = 3

# What a list that is read for the first time may cost more at most.
COLD_GOAL = 0.98


@dataclass(frozen=True, slots=True)
class Cell:
    """A load, and the amounts of memory that it is measured with.

    Attributes:
        title: What the clients do.
        case: The load; None for lists that are read once.
        amounts: In MiB.

    """

    title: str
    case: LoadCase | None
    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often everything is measured.

    Attributes:
        seconds: The duration of a load.
        rounds: The number of rounds.
        passes: How often each list is read once, in each round.
        fresh_s: For how long it is checked that nothing is out of date.

    """

    seconds: int
    rounds: int
    passes: int
    fresh_s: int

    def cells(self) -> tuple[Cell, ...]:
        """Return all loads."""

        def case(kind: str, connections: int = CONNECTIONS) -> LoadCase:
            return LoadCase(kind, connections, self.seconds)

        return (
            Cell("mix", case("mix"), AMOUNTS),
            Cell("mix, 64 connections", case("mix", 64), (OFF, DEFAULT)),
            Cell("lists", case("list"), AMOUNTS),
            Cell("mix of 70 % writes", case("writes"), (OFF, DEFAULT, ALL)),
            Cell("lists that the client has (304)", case("unchanged"), (OFF, DEFAULT)),
            Cell(COLD, None, (OFF, DEFAULT, ALL)),
        )


FULL = Plan(seconds=3, rounds=7, passes=4, fresh_s=20)
QUICK = Plan(seconds=1, rounds=2, passes=1, fresh_s=3)


class Counts:
    """What the workers of a service count."""

    def __init__(self, one: RunningService) -> None:
        self._address = f"http://127.0.0.1:{one.settings['METRICS_PORT']}/metrics"

    def read(self) -> dict[str, int]:
        """Return how many pages came from where."""
        with urlopen(self._address, timeout=services.START_S) as response:  # noqa: S310 (this machine)
            families = text_string_to_metric_families(response.read().decode())
        samples = (sample for family in families for sample in family.samples)
        found = {s.labels["source"]: int(s.value) for s in samples if s.name == "list_pages_total"}
        return {source: found.get(source, 0) for source in SOURCES}


def variant(server: str, mib: int) -> Service:
    """Return the service on a server with so much memory for kept pages."""
    (service,) = (one for one in SERVICES if one.key == server)
    settings = ((KEPT_PAGES, str(mib)), ("METRICS_PORT", str(free_port())))
    return replace(service, key=f"{server}-{mib}-mib", settings=settings)


def measure(
    server: Any, started: Mapping[int, RunningService], users_file: Path, plan: Plan
) -> Iterator[Mapping[str, Any]]:
    """Measure each load with each amount in turn, round by round, each second round in the reverse order."""
    tokens = peer_dataset.tokens()["users"]
    with postgres.administration(server, peer_dataset.DATABASE) as cursor:
        for number in range(plan.rounds):
            # Any worker answers, so most lists are then known to both.
            for one in started.values():
                for _ in range(WARMINGS):
                    read_once(one, tokens)
            for cell in plan.cells():
                for mib in cell.amounts if number % 2 else reversed(cell.amounts):
                    one = started[mib]
                    counts = Counts(one)
                    peer_dataset.restore(cursor)
                    before = counts.read()
                    result = (
                        compare.measure(server, one, cell.case, users_file)
                        if cell.case
                        else measure_cold(server, one, cursor, tokens, plan.passes)
                    )
                    sources = {source: counts.read()[source] - before[source] for source in SOURCES}
                    yield {"cell": cell.title, "mib": mib, "round": number, "sources": sources} | result
                click.echo(".", nl=False)


def measure_cold(
    server: Any, one: RunningService, cursor: Any, tokens: Mapping[str, str], passes: int
) -> dict[str, Any]:
    """Read each list once, so often as asked, and raise all revisions before."""
    database = psutil.Process(server.get_pid())
    app_s = postgres_s = 0.0
    for _ in range(passes):
        cursor.execute(RAISE)
        peer_dataset.restore(cursor)
        before = services.cpu_s(one.process), services.cpu_s(database)
        read_once(one, tokens)
        app_s += services.cpu_s(one.process) - before[0]
        postgres_s += services.cpu_s(database) - before[1]
    number = passes * len(tokens)
    return {
        "correct": number,
        "failed": 0,
        "app_us": 1e6 * app_s / number,
        "postgres_us": 1e6 * postgres_s / number,
        "worker_mib": one.resident_mib(),
    }


class Client:
    """A client with one connection."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=services.START_S)

    def send(self, method: str, path: str, token: str, body: Any = None) -> Any:
        """Send a request, and return the body of its response.

        Raises:
            ClickException: The response is an error.

        """
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection.request(method, f"/api/me/tasks{path}", body and orjson.dumps(body), headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status not in OK:
            raise click.ClickException(f"{method} was answered with {response.status}: {content[:200]!r}")
        return orjson.loads(content)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def read_once(one: RunningService, tokens: Mapping[str, str]) -> None:
    """Read the list of each user once, with several connections."""

    def read(some: Sequence[str]) -> None:
        client = Client(one.port)
        for token in some:
            tasks = client.send("GET", "", token)
            if len(tasks) != peer_dataset.TASKS:
                raise click.ClickException(f"A list has {len(tasks)} tasks.")
        client.close()

    every = list(tokens.values())
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(read, (every[place::CONNECTIONS] for place in range(CONNECTIONS))))


def check_freshness(one: RunningService, users_file: Path, seconds: int) -> dict[str, Any]:
    """Write through some connections and read through others, beside a load, and count what was out of date.

    The connections are of any worker, so most writes are read through other workers than the one that made them.
    """
    counts, done = Counts(one), Event()
    before = counts.read()
    with ThreadPoolExecutor(3) as threads:
        checks = [threads.submit(_check, one.port, number, done) for number in range(3)]
        responses = load.run(one.port, LoadCase("mix", CONNECTIONS, seconds), users_file)
        done.set()
        found = [check.result() for check in checks]
    return {
        "seconds": seconds,
        "reads": sum(reads for reads, _ in found),
        "stale": sum(stale for _, stale in found),
        "failed": responses.failed,
        "sources": {source: counts.read()[source] - before[source] for source in SOURCES},
    }


def _check(port: int, number: int, done: Event) -> tuple[int, int]:
    """Change a task again and again, and read its list through six connections; return the reads and the stale ones."""
    user, random = f"checker-{number}", Random(number)
    token = issue(postgres.SECRET, user, lifetime_s=peer_dataset.LIFETIME_S)
    clients = [Client(port) for _ in range(6)]
    task = clients[0].send("POST", "", token, {"title": "x"})
    reads = stale = 0
    while not done.is_set():
        changed = random.choice(clients).send("PATCH", f"/{task['id']}", token, {"title": f"{number} {reads}"})
        for client in random.sample(clients, len(clients)):
            reads += 1
            stale += changed not in client.send("GET", "", token)
    for client in clients:
        client.close()
    return reads, stale


def summary(measured: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the medians of each cell, and of the ratios of its processor times to those without kept pages."""
    titles = list(dict.fromkeys(one["cell"] for one in measured))
    for title, mib in sorted(
        {(one["cell"], one["mib"]) for one in measured}, key=lambda key: (titles.index(key[0]), key[1])
    ):
        own, off = ([one for one in measured if (one["cell"], one["mib"]) == (title, each)] for each in (mib, OFF))
        pages = sum(sum(one["sources"].values()) for one in own)
        yield {
            "cell": title,
            "mib": mib,
            "per_s": median(rates) if (rates := [one["per_s"] for one in own if "per_s" in one]) else None,
            "app_us": median(one["app_us"] for one in own),
            "postgres_us": median(one["postgres_us"] for one in own),
            # How many times as many requests the same processors could serve.
            "ratio": median(_cpu_us(one) for one in off) / median(_cpu_us(one) for one in own),
            "kept": sum(one["sources"]["kept"] for one in own) / pages,
            "failed": sum(one["failed"] for one in own),
            "worker_mib": max(one["worker_mib"] for one in own),
        }


def _cpu_us(one: Mapping[str, Any]) -> float:
    return float(one["app_us"] + one["postgres_us"])


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of all cells as lines of Markdown."""
    titles = ["load", "memory for pages", "lists from kept pages", "requests/s", "µs of CPU", "for the CPU", "a worker"]
    cells = (
        [
            row["cell"],
            f"{row['mib']} MiB" if row["mib"] else "off",
            f"{100 * row['kept']:.0f} %",
            "" if row["per_s"] is None else f"{row['per_s']:,.0f}",
            f"{row['app_us']:,.0f} + {row['postgres_us']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{row['worker_mib']:.0f} MiB",
        ]
        for row in rows
    )
    return markdown.table("lrrrrrr", titles, cells)


def page(results: Mapping[str, Any]) -> list[str]:
    """Return the results as lines of Markdown."""
    rows, fresh = results["rows"], results["fresh"]
    (cold,) = (row["ratio"] for row in rows if row["cell"] == COLD and row["mib"] == DEFAULT)
    failed = fresh["failed"] + sum(row["failed"] for row in rows)
    about = (
        f"Measured on {results['date']} with {results['processors']} processors, which the load shared, two workers of "
        f"{results['server']}, {results['system']}, PostgreSQL {results['postgresql']}; medians of {results['rounds']} "
        f"rounds, {peer_dataset.LISTED:,} users with {peer_dataset.TASKS} tasks. Other programs used the machine too: "
        f"{results['load_before']:.1f} processes wanted a processor before."
    )
    checked = (
        f"Freshness, in {fresh['seconds']} s beside the mix: {fresh['reads']:,} reads of lists that had just been "
        f"written through other connections, {fresh['stale']:,} of them out of date; "
        f"{fresh['sources']['kept']:,} lists were kept pages. Requests that failed, in all loads: {failed:,}."
    )
    goal = (
        f"A list that is read for the first time: {cold:.3f} of what it is without kept pages; the goal is "
        f"{COLD_GOAL}, {'met' if cold >= COLD_GOAL else '**missed**'}."
    )
    return [about, "", *table(rows), "", checked, "", goal]


@click.command(context_settings={"show_default": True, "max_content_width": 120})
@click.option("--quick", is_flag=True, help="Measure briefly, in a minute.")
@click.option("--server", "name", type=click.Choice(["gunicorn", "granian"]), default="gunicorn", help="The server.")
def main(name: str, *, quick: bool) -> None:
    """Measure the service with and without kept pages, in some eleven minutes.

    Two workers run for each amount of memory, over one PostgreSQL, and take turns. The results are printed, and written
    to instance/results/kept-pages.json; the pages of results show those in benchmarks/results.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load.ensure_wrk()
    plan, before = QUICK if quick else FULL, load_average()
    server, settings = compare.start_postgres(compare.DATA, connections=200)
    variants = [variant(name, mib) for mib in AMOUNTS]
    services.install(variants[0])
    with compare.running(server, variants) as (started, users_file):
        by_amount = dict(zip(AMOUNTS, started, strict=True))
        measured = list(measure(server, by_amount, users_file, plan))
        fresh = check_freshness(by_amount[DEFAULT], users_file, plan.fresh_s)
    about = machine() | {"postgresql": postgres.version(server), "settings": settings, "load_before": before}
    content = about | {"server": name, "rounds": plan.rounds, "rows": list(summary(measured)), "fresh": fresh}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(orjson.dumps(content | {"measured": measured}, option=orjson.OPT_APPEND_NEWLINE))
    click.echo("\n".join(["", *page(content)]))
    click.echo(f"\nWrote {RESULTS}. To publish it: copy it to benchmarks/results, and run python -m benchmarks.page.")


if __name__ == "__main__":
    main()
