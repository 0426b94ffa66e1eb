"""Side by side with what users would pick instead: `python -m benchmarks.compare --help`."""

import resource
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import psutil

from benchmarks import contenders, growth, load, picture, server, tables, tally, trips
from benchmarks.contenders import CONTENDERS, Contender, Running
from benchmarks.load import Cell
from benchmarks.scale import machine
from config import ROOT

PARTS = ("mix", "kinds", "many", "trips", "growth")
KINDS = ("list", "get", "patch", "create", "constant")
DATA = ROOT / "instance" / "peers-postgres"
PAUSE_MS = 2_000
MANY = 1_000
IDLE = 5_000
FILES = 8_192


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        mix: Loads of all kinds of calls.
        kinds: Loads of one kind of call.
        many: Loads with very many connections.
        rounds: In how many rounds each of these is measured.
        delays_ms: By how much the way to the database is made longer, in milliseconds.
        times: How often each kind of call goes that way.
        sizes: To how many tasks the table grows.

    """

    mix: tuple[Cell, ...]
    kinds: tuple[Cell, ...]
    many: tuple[Cell, ...]
    rounds: dict[str, int]
    delays_ms: tuple[int, ...]
    times: int
    sizes: tuple[int, int]

    def turns(self, parts: Sequence[str]) -> list[tuple[int, Cell]]:
        """Give the loads in the order in which they are measured, each with the number of its round."""
        loads = {"mix": self.mix, "kinds": self.kinds, "many": self.many}
        return [
            (turn, cell)
            for turn in range(max(self.rounds.values()))
            for part, cells in loads.items()
            if part in parts and turn < self.rounds[part]
            for cell in cells
        ]


def _kinds(connections: tuple[int, ...], seconds: int) -> tuple[Cell, ...]:
    return tuple(Cell(kind, number, seconds) for kind in KINDS for number in connections)


FULL = Plan(
    mix=(Cell("mix", 1, 3), Cell("mix", 16, 3), Cell("mix", 64, 3)),
    kinds=_kinds((1, 16, 64, MANY), 1),
    many=(Cell("mix", MANY, 6, PAUSE_MS), Cell("mix", MANY, 5), Cell("mix", 16, 3, idle=IDLE)),
    rounds={"mix": 3, "kinds": 2, "many": 2},
    delays_ms=(5, 20),
    times=15,
    sizes=(1_000_000, 5_000_000),
)
QUICK = Plan(
    mix=(Cell("mix", 16, 1), Cell("mix", 64, 1)),
    kinds=_kinds((16,), 1),
    many=(Cell("mix", MANY, 2, PAUSE_MS),),
    rounds={"mix": 2, "kinds": 1, "many": 1},
    delays_ms=(5,),
    times=3,
    sizes=(20_000, 100_000),
)


@click.command(context_settings={"show_default": True, "max_content_width": 120})
@click.option("--quick", is_flag=True, help="Look briefly, within two minutes once everything is installed.")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="What to measure.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    help="Where the server keeps its data, for the next run too.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "instance" / "results",
    help="Where peers.json and peers.svg go. Those that the README shows are in benchmarks/results.",
)
def main(parts: tuple[str, ...], data: Path, results: Path, *, quick: bool) -> None:
    """Compare this service with others over one PostgreSQL, in interleaved rounds.

    Everything it needs is installed in instance/ and in benchmarks/peers/fastify/node_modules. Ctrl-C stops everything.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    allow_many_files()
    load.ensure_wrk()
    for contender in CONTENDERS:
        contenders.install(contender)
    plan = QUICK if quick else FULL
    postgres, settings = start_postgres(data, connections=200, rows=plan.sizes[-1] if "growth" in parts else 0)
    about = machine() | {"postgresql": server.version(postgres), "settings": settings, "rounds": plan.rounds}
    turns = plan.turns(parts)
    found = {**about, "measured": list(measured(postgres, turns)) if turns else []}
    lines = list(tally.rows(found["measured"]))
    if "trips" in parts:
        found["trips"] = dict(measured_trips(postgres, plan))
        lines += tally.trip_rows(found["trips"])
    shown = tally.table(lines) if lines else []
    if "growth" in parts:
        found["growth"] = growth.run(postgres, plan.sizes)
        shown += ["", *growth.table(found["growth"])]
    click.echo("\n".join(["", *shown, ""]))
    _write(results, found, lines)


def start_postgres(data: Path, *, connections: int, rows: int = 0) -> tuple[Any, dict[str, str]]:
    """Start the server with what everybody is asked for in it, and room for more rows; give it and its settings."""
    settings = server.operator_settings() | {"max_connections": str(connections), "autovacuum": "off"}
    postgres = server.start(data, settings, tables.LISTED * tables.TASKS + rows)
    tables.prepare(postgres)
    return postgres, settings


def allow_many_files() -> None:
    """Let this process and those that it starts have as many connections open as are wanted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if limit < IDLE + MANY:
        raise click.ClickException(f"A process may have {limit} files open; {IDLE + MANY:,} are needed.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@contextmanager
def running(postgres: Any, chosen: Sequence[Contender]) -> Iterator[tuple[list[Running], Path]]:
    """Start all that are compared, and stop them in the end; give them, and the file of users and tokens."""
    people = tables.tokens()
    user, token = next(iter(people["users"].items()))
    with tempfile.TemporaryDirectory(prefix="todo-benchmark-") as folder, ExitStack() as stack:
        file = Path(folder) / "people.lua"
        tables.write_people(file, people)
        started = []
        for contender in chosen:
            started.append(Running(contender, postgres.get_uri(database=tables.DATABASE), user, token))
            stack.callback(started[-1].stop)
        for one in started:
            one.wait()
        yield started, file


def measured(postgres: Any, turns: Sequence[tuple[int, Cell]]) -> Iterator[dict[str, Any]]:
    """Measure each load at each contender in turn, round by round."""
    kinds = {cell.kind for _, cell in turns}
    chosen = [one for one in CONTENDERS if one.only is None or one.only in kinds]
    touched = True
    with running(postgres, chosen) as (started, people), server.administration(postgres, tables.DATABASE) as cursor:
        with click.progressbar(turns, label="Measuring", item_show_func=_shown) as bar:
            for turn, cell in bar:
                for one in started:
                    if one.contender.takes(cell.kind):
                        if touched:
                            tables.restore(cursor)
                        touched = cell.writes
                        yield {"round": turn, "load": cell.title} | measure(postgres, one, cell, people)


def _shown(turn: tuple[int, Cell] | None) -> str | None:
    return turn and f"round {turn[0] + 1}: {turn[1].title}"


def measure(postgres: Any, one: Running, cell: Cell, people: Path) -> dict[str, Any]:
    """Measure one load at one contender; one that failed, or may have seized, is started anew."""
    database = psutil.Process(postgres.get_pid())
    app_s, postgres_s = contenders.cpu_s(one.process), contenders.cpu_s(database)
    with load.idle(one.port, cell.idle) as refused:
        answers = load.run(one.port, cell, people)
    app_s, postgres_s = contenders.cpu_s(one.process) - app_s, contenders.cpu_s(database) - postgres_s
    told = answers.as_json() | {
        "contender": one.contender.key,
        "failed": answers.failed + refused,
        "app_us": 1e6 * app_s / max(answers.right, 1),
        "postgres_us": 1e6 * postgres_s / max(answers.right, 1),
        "worker_mib": one.resident_mib(),
    }
    seizes_at = one.contender.seizes_at
    if told["failed"] or (seizes_at and cell.connections >= seizes_at):
        one.stop()
        one.start()
        one.wait()
    return told


def measured_trips(postgres: Any, plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Count round trips and measure longer ways, one contender after the other."""
    user, token = next(iter(tables.tokens()["users"].items()))
    socket_path = f"{postgres.get_postmaster_info().socket_dir}/.s.PGSQL.5432"
    with trips.proxy(socket_path) as way:
        url = f"postgresql://{postgres.postgres_user}:@127.0.0.1:{way.port}/{tables.DATABASE}"
        for contender in CONTENDERS:
            if contender.only is None:
                one = Running(contender, url, user, token)
                try:
                    one.wait()
                    yield contender.key, trips.measure(one, way, plan.delays_ms, plan.times)
                finally:
                    one.stop()


def _write(results: Path, found: dict[str, Any], lines: Sequence[tally.Row]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    content = found | {"rows": [line.as_json() for line in lines]}
    (results / "peers.json").write_bytes(orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE))
    drawn = [line for line in lines if line.measure == "requests/s" and line.work.startswith("mix")]
    if drawn:
        note = (
            f"{found['date']}, {found['processors']} processors, {found['rounds']} rounds: the middle, and the spread."
        )
        (results / "peers.svg").write_text(picture.draw(drawn, note))
    click.echo(f"Everything is in {results}.")


if __name__ == "__main__":
    main()
