"""This service beside others, over one PostgreSQL: `python -m benchmarks.compare --help`."""

import resource
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import psutil

from benchmarks import chart, load, peer_dataset, postgres, ratios, round_trips, services, table_growth
from benchmarks.environment import machine
from benchmarks.load import LoadCase
from benchmarks.services import SERVICES, RunningService, Service
from config import ROOT

PARTS = ("mix", "kinds", "many", "round-trips", "growth")
KINDS = ("list", "unchanged", "get", "patch", "create", "constant")
DATA = ROOT / "instance" / "peers-postgres"
PAUSE_MS = 2_000
MANY = 1_000
IDLE = 5_000
OPEN_FILES = 8_192


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and how often.

    Attributes:
        mix: Loads of all kinds of requests.
        kinds: Loads of one kind of request.
        many: Loads with very many connections.
        rounds: The number of rounds of each of these.
        delays_ms: The delays that are added to a round trip to the database, in milliseconds.
        times: How often each kind of request is sent with each delay.
        sizes: The numbers of tasks to which the table grows.

    """

    mix: tuple[LoadCase, ...]
    kinds: tuple[LoadCase, ...]
    many: tuple[LoadCase, ...]
    rounds: dict[str, int]
    delays_ms: tuple[int, ...]
    times: int
    sizes: tuple[int, int]

    def turns(self, parts: Sequence[str]) -> list[tuple[int, LoadCase]]:
        """Return the loads in the order of their measurement, each with the number of its round."""
        loads = {"mix": self.mix, "kinds": self.kinds, "many": self.many}
        return [
            (number, case)
            for number in range(max(self.rounds.values()))
            for part, cases in loads.items()
            if part in parts and number < self.rounds[part]
            for case in cases
        ]


def _kinds(connections: tuple[int, ...], seconds: int) -> tuple[LoadCase, ...]:
    return tuple(LoadCase(kind, number, seconds) for kind in KINDS for number in connections)


FULL = Plan(
    mix=(LoadCase("mix", 1, 3), LoadCase("mix", 16, 3), LoadCase("mix", 64, 3)),
    kinds=_kinds((1, 16, 64, MANY), 1),
    # Some servers need seconds for clients that connect and then pause, so that one is measured for longer.
    many=(LoadCase("mix", MANY, 25, PAUSE_MS), LoadCase("mix", MANY, 5), LoadCase("mix", 16, 3, idle=IDLE)),
    rounds={"mix": 3, "kinds": 2, "many": 2},
    delays_ms=(5, 20),
    times=15,
    sizes=(1_000_000, 5_000_000),
)
QUICK = Plan(
    mix=(LoadCase("mix", 16, 1), LoadCase("mix", 64, 1)),
    kinds=_kinds((16,), 1),
    many=(LoadCase("mix", MANY, 2, PAUSE_MS),),
    rounds={"mix": 2, "kinds": 1, "many": 1},
    delays_ms=(5,),
    times=3,
    sizes=(20_000, 100_000),
)


@click.command(context_settings={"show_default": True, "max_content_width": 120})
@click.option("--quick", is_flag=True, help="Measure briefly: two minutes, once everything is installed.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="What to measure.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    help="The folder of the server's data, which the next run uses again.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "instance" / "results",
    help="The folder of peers.json and peers.svg. The page of results shows those in benchmarks/results.",
)
def main(parts: tuple[str, ...], data: Path, results: Path, *, quick: bool) -> None:
    """Compare this service with others over one PostgreSQL, in interleaved rounds.

    All requirements are installed in instance/ and in benchmarks/peers/fastify/node_modules. Ctrl-C stops everything.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    allow_many_files()
    load.ensure_wrk()
    for service in SERVICES:
        services.install(service)
    plan = QUICK if quick else FULL
    server, settings = start_postgres(data, connections=200, rows=plan.sizes[-1] if "growth" in parts else 0)
    about = machine() | {"postgresql": postgres.version(server), "settings": settings, "rounds": plan.rounds}
    turns = plan.turns(parts)
    content = {**about, "measured": list(measure_loads(server, turns)) if turns else []}
    rows = list(ratios.rows(content["measured"]))
    if "round-trips" in parts:
        content["round_trips"] = dict(measure_round_trips(server, plan))
        rows += ratios.round_trip_rows(content["round_trips"])
    lines = ratios.table(rows) if rows else []
    if "growth" in parts:
        content["growth"] = table_growth.run(server, plan.sizes)
        lines += ["", *table_growth.table(content["growth"])]
    click.echo("\n".join(["", *lines, ""]))
    _write(results, content | {"rows": [row.as_json() for row in rows]})


def start_postgres(data: Path, *, connections: int, rows: int = 0) -> tuple[Any, dict[str, str]]:
    """Start the server with the tables of the comparison and space for more rows; return it and its settings."""
    settings = postgres.operator_settings() | {"max_connections": str(connections), "autovacuum": "off"}
    server = postgres.start(data, settings, peer_dataset.LISTED * peer_dataset.TASKS + rows)
    peer_dataset.prepare(server)
    return server, settings


def allow_many_files() -> None:
    """Raise the limit of open files of this process and its children.

    Raises:
        ClickException: The hard limit is too low for the connections of the loads.

    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if limit < IDLE + MANY:
        raise click.ClickException(f"A process may have {limit} files open; {IDLE + MANY:,} are needed.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@contextmanager
def running(server: Any, chosen: Sequence[Service]) -> Iterator[tuple[list[RunningService], Path]]:
    """Start services, and yield them and the file of users and tokens; stop them at the end."""
    tokens = peer_dataset.tokens()
    user, token = next(iter(tokens["users"].items()))
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-") as folder, ExitStack() as stack:
        users_file = Path(folder) / "users.lua"
        peer_dataset.write_users(users_file, tokens)
        started = []
        for service in chosen:
            started.append(RunningService(service, server.get_uri(database=peer_dataset.DATABASE), user, token))
            stack.callback(started[-1].stop)
        for one in started:
            one.wait()
        yield started, users_file


def measure_loads(server: Any, turns: Sequence[tuple[int, LoadCase]]) -> Iterator[dict[str, Any]]:
    """Measure each load with each service in turn, round by round."""
    chosen = [service for service in SERVICES if any(service.supports(case) for _, case in turns)]
    changed = True
    with running(server, chosen) as (started, users_file):
        with postgres.administration(server, peer_dataset.DATABASE) as cursor:
            with click.progressbar(turns, label="Measuring", item_show_func=_progress) as bar:
                for number, case in bar:
                    for one in started:
                        if one.service.supports(case):
                            if changed:
                                peer_dataset.restore(cursor)
                            changed = case.writes
                            yield {"round": number, "load": case.title} | measure(server, one, case, users_file)


def _progress(turn: tuple[int, LoadCase] | None) -> str | None:
    return turn and f"round {turn[0] + 1}: {turn[1].title}"


def measure(server: Any, one: RunningService, case: LoadCase, users_file: Path) -> dict[str, Any]:
    """Measure one load with one service. A service that failed, or may hang, is restarted afterwards."""
    database = psutil.Process(server.get_pid())
    app_s, postgres_s = services.cpu_s(one.process), services.cpu_s(database)
    with load.idle(one.port, case.idle) as refused:
        responses = load.run(one.port, case, users_file)
    app_s, postgres_s = services.cpu_s(one.process) - app_s, services.cpu_s(database) - postgres_s
    result = responses.as_json() | {
        "service": one.service.key,
        "failed": responses.failed + refused,
        "app_us": 1e6 * app_s / max(responses.correct, 1),
        "postgres_us": 1e6 * postgres_s / max(responses.correct, 1),
        "worker_mib": one.resident_mib(),
    }
    hangs_at = one.service.hangs_at
    if result["failed"] or (hangs_at and case.connections >= hangs_at):
        one.stop()
        one.start()
        one.wait()
    return result


def measure_round_trips(server: Any, plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Count the round trips of each service, and measure it with a distant database, one service after another."""
    user, token = next(iter(peer_dataset.tokens()["users"].items()))
    socket_path = f"{server.get_postmaster_info().socket_dir}/.s.PGSQL.5432"
    with round_trips.proxy(socket_path) as route:
        url = f"postgresql://{server.postgres_user}:@127.0.0.1:{route.port}/{peer_dataset.DATABASE}"
        for service in SERVICES:
            if service.only_kind is None and not service.only_loads:
                one = RunningService(service, url, user, token)
                try:
                    one.wait()
                    yield service.key, round_trips.measure(one, route, plan.delays_ms, plan.times)
                finally:
                    one.stop()


def _write(results: Path, content: Mapping[str, Any]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    (results / "peers.json").write_bytes(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
    if picture := draw_chart(content):
        (results / "peers.svg").write_text(picture)
    click.echo(f"All results are in {results}. `python -m benchmarks.page` shows those in benchmarks/results.")


def draw_chart(content: Mapping[str, Any]) -> str | None:
    """Return the chart of the mix of requests, or None if it was not measured."""
    if not any(result["load"].startswith("mix, 16 conn.") for result in content["measured"]):
        return None
    note = f"{content['date']}, {content['processors']} processors: the median of all rounds, and their spread."
    return chart.draw(content["measured"], note)


if __name__ == "__main__":
    main()
