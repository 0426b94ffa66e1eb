"""What clients that wait for events cost, and how soon they learn of a change: `python -m benchmarks.event_streams`."""

import os
import random
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from statistics import median
from typing import Any

import click
import orjson

from benchmarks import compare, load, markdown, peer_dataset, postgres
from benchmarks.environment import load_average, machine
from benchmarks.load import LoadCase
from benchmarks.services import INSTALLED, RunningService, Service
from config import ROOT
from todo.auth.tokens import issue

LISTENERS = (1_000, 10_000)
# Of the listeners so many are of the one user whose list is written.
OF_ONE_USER = 20
QUIET = 2_000
WRITES = 20
PAUSE_S = 0.3
LOOK_S = 2.0
MIX = LoadCase("mix", 16, 5)
ROUNDS = 3
AT_ONCE = 100
RESERVED_FILES = 512
DEADLINE_S = 60.0
LIFETIME_S = 24 * 3600
EVENT = b"event: changed"
COMMAND = "{bin}/gunicorn -c gunicorn.conf.py wsgi:app"
SETTINGS = (("EVENTS_MAX", "7000"), ("EVENTS_MAX_SECONDS", "86400"))
RESULTS = ROOT / "instance" / "results" / "event-streams.json"

_numbers = count(1)


class Listeners:
    """Clients that wait for events, all in this thread.

    Attributes:
        sockets: Their connections, each with its user.

    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.sockets: dict[socket.socket, str] = {}

    def open(self, users: Sequence[str]) -> None:
        """Open a stream for each of these users, and wait for their first events."""
        for start in range(0, len(users), AT_ONCE):
            fresh = {self._connect(user) for user in users[start : start + AT_ONCE]}
            waiting = set(fresh)
            for client, _ in self.events(DEADLINE_S):
                waiting.discard(client)
                if not waiting:
                    break
            if waiting:
                raise click.ClickException(f"{len(waiting)} of {len(fresh)} streams did not begin.")

    def _connect(self, user: str) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self._port), DEADLINE_S)
        token = issue(postgres.SECRET, user, lifetime_s=LIFETIME_S)
        head = f"GET /api/me/tasks/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        client.sendall(head.encode())
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ)
        self.sockets[client] = user
        return client

    def events(self, within_s: float) -> Iterator[tuple[socket.socket, float]]:
        """Yield each client that gets an event, and when, until there was none for so long."""
        deadline = time.monotonic() + within_s
        while ready := self._selector.select(deadline - time.monotonic()):
            now = time.monotonic()
            for key, _ in ready:
                client: Any = key.fileobj
                if not (data := client.recv(65536)):
                    raise click.ClickException("A stream has ended: see the log of the service.")
                if EVENT in data:
                    yield client, now
            if time.monotonic() > deadline:
                return

    def arrivals(self, expected: set[socket.socket]) -> dict[socket.socket, float]:
        """Return when each of these clients got its next event."""
        arrived: dict[socket.socket, float] = {}
        for client, now in self.events(DEADLINE_S):
            if client in expected:
                arrived[client] = now
            if len(arrived) == len(expected):
                return arrived
        raise click.ClickException(f"{len(expected) - len(arrived)} of {len(expected)} clients were told nothing.")

    def close(self) -> None:
        """Close all connections."""
        self._selector.close()
        for client in self.sockets:
            client.close()


@contextmanager
def served(key: str, url: str, *settings: tuple[str, str]) -> Iterator[RunningService]:
    """Run the service with two processes."""
    user = "measured"
    token = issue(postgres.SECRET, user, lifetime_s=LIFETIME_S)
    one = RunningService(Service(key, key, COMMAND, settings=(*SETTINGS, *settings)), url, user, token)
    try:
        one.wait()
        yield one
    finally:
        one.stop()


class Writer:
    """A client that writes to the list of one user through one worker."""

    def __init__(self, one: RunningService) -> None:
        self.connection = HTTPConnection("127.0.0.1", one.port, timeout=DEADLINE_S)
        self.headers = {"Authorization": f"Bearer {one.token}", "Content-Type": "application/json"}

    def write(self) -> float:
        """Create a task, and return when the response arrived."""
        self.connection.request("POST", "/api/me/tasks", orjson.dumps({"title": "x"}), self.headers)
        response = self.connection.getresponse()
        response.read()
        if response.status != 201:  # noqa: PLR2004 (Created)
            raise click.ClickException(f"A creation was answered with {response.status}.")
        return time.monotonic()

    @property
    def port(self) -> int:
        """The port of its end of the connection."""
        return int(self.connection.sock.getsockname()[1])


def workers_by_port(one: RunningService) -> dict[int, int]:
    """Return the worker of each connection, by the port of the client's end."""
    found = {}
    for worker in one.process.children():
        for connection in worker.net_connections(kind="tcp"):
            if connection.raddr and connection.laddr.port == one.port:
                found[connection.raddr.port] = worker.pid
    return found


def measure(server: Any, url: str, number: int) -> Iterator[dict[str, Any]]:
    """Measure this many listeners, and yield the rows of the table."""
    with served("events", url) as one, served("events-elsewhere", url) as elsewhere:
        listeners = Listeners(one.port)
        try:
            workers = one.process.children()
            # What a process makes once, it makes for the first clients.
            listeners.open([one.user] * OF_ONE_USER + [f"quiet-{next(_numbers)}" for _ in range(80)])
            before, started = sum(worker.memory_info().rss for worker in workers), time.monotonic()
            threads = sum(worker.num_threads() for worker in workers)
            listeners.open([f"quiet-{next(_numbers)}" for _ in range(number - len(listeners.sockets))])
            taken = time.monotonic() - started
            bytes_each = (sum(worker.memory_info().rss for worker in workers) - before) / (number - 100)
            more = sum(worker.num_threads() for worker in workers) - threads
            yield {"listeners": number, "opened_per_s": (number - 100) / taken, "bytes": bytes_each, "threads": more}
            yield from latencies(one, elsewhere, listeners, number)
            yield from change_of_all(server, listeners, number)
        finally:
            listeners.close()


def latencies(
    one: RunningService, elsewhere: RunningService, listeners: Listeners, number: int
) -> Iterator[dict[str, Any]]:
    """Measure the time from the response to a write to the first and to the last listener of its user."""
    mine = {client for client, user in listeners.sockets.items() if user == one.user}
    delays: dict[str, list[tuple[float, float]]] = {"same worker": [], "sibling": [], "another machine": []}
    for _ in range(WRITES):
        writer = Writer(one)
        answered = writer.write()
        arrived = listeners.arrivals(mine)
        of_port = workers_by_port(one)
        worker = of_port[writer.port]
        for kind in ("same worker", "sibling"):
            of_kind = [
                at - answered
                for client, at in arrived.items()
                if (of_port[client.getsockname()[1]] == worker) == (kind == "same worker")
            ]
            if of_kind:
                delays[kind].append((min(of_kind), max(of_kind)))
        writer.connection.close()
        time.sleep(PAUSE_S)
    writer = Writer(elsewhere)
    for _ in range(WRITES):
        answered = writer.write()
        times = [at - answered for at in listeners.arrivals(mine).values()]
        delays["another machine"].append((min(times), max(times)))
        # At any time between two looks.
        time.sleep(random.uniform(PAUSE_S, LOOK_S))
    writer.connection.close()
    for kind, pairs in delays.items():
        first, last = zip(*pairs, strict=True)
        yield {
            "listeners": number,
            "writer": kind,
            "first_ms": 1000 * median(first),
            "last_ms": 1000 * median(last),
            "worst_ms": 1000 * max(last),
        }


def change_of_all(server: Any, listeners: Listeners, number: int) -> Iterator[dict[str, Any]]:
    """Measure how long it takes to tell everybody, when all lists have changed at once elsewhere."""
    with postgres.administration(server, peer_dataset.DATABASE) as cursor:
        users = list(set(listeners.sockets.values()))
        cursor.execute(
            "INSERT INTO task_lists (user_id, revision) SELECT unnest(%s), 1"
            " ON CONFLICT (user_id) DO UPDATE SET revision = task_lists.revision + 1",
            (users,),
        )
    committed = time.monotonic()
    times = [at - committed for at in listeners.arrivals(set(listeners.sockets)).values()]
    first, last = 1000 * min(times), 1000 * max(times)
    yield {"listeners": number, "writer": "all lists at once", "first_ms": first, "last_ms": last, "worst_ms": last}


def mix(server: Any) -> dict[str, Any]:
    """Measure the mix of requests without and beside quiet listeners, in turn."""
    result: dict[str, list[float]] = {"alone": [], "beside": []}
    p95: dict[str, list[float]] = {"alone": [], "beside": []}
    service = Service("events-mix", "todo", COMMAND, settings=SETTINGS)
    with compare.running(server, [service]) as ((one,), users_file):
        with postgres.administration(server, peer_dataset.DATABASE) as cursor:
            for _ in range(ROUNDS):
                for kind in ("alone", "beside"):
                    peer_dataset.restore(cursor)
                    listeners = Listeners(one.port)
                    try:
                        if kind == "beside":
                            listeners.open([f"quiet-{next(_numbers)}" for _ in range(QUIET)])
                        responses = load.run(one.port, MIX, users_file)
                    finally:
                        listeners.close()
                    result[kind].append(responses.per_s)
                    p95[kind].append(responses.p95_ms)
                    time.sleep(1)
    return {
        "quiet": QUIET,
        "load": MIX.title,
        "alone_per_s": result["alone"],
        "beside_per_s": result["beside"],
        "alone_p95_ms": median(p95["alone"]),
        "beside_p95_ms": median(p95["beside"]),
        "ratio": median(result["beside"]) / median(result["alone"]),
    }


def page(results: Mapping[str, Any]) -> list[str]:
    """Return the results as lines of Markdown."""
    about = (
        f"Measured on {results['date']} with {results['processors']} processors and two processes of eight threads, "
        f"PostgreSQL {results['postgresql']}, after a minute in which {results['load_before']:.1f} processes wanted a "
        "processor."
    )
    rows = results["rows"]
    sizes = [
        [
            f"{row['listeners']:,}",
            f"{row['bytes'] / 1024:.1f} KiB",
            str(row["threads"]),
            f"{row['opened_per_s']:,.0f}/s",
        ]
        for row in rows
        if "bytes" in row
    ]
    delays = [
        [
            f"{row['listeners']:,}",
            row["writer"],
            *(f"{row[key]:,.0f} ms" for key in ("first_ms", "last_ms", "worst_ms")),
        ]
        for row in rows
        if "writer" in row
    ]
    beside = results["mix"]
    sentence = (
        f"The load “{beside['load']}”: {median(beside['alone_per_s']):,.0f} requests/s alone, and "
        f"{median(beside['beside_per_s']):,.0f} beside {beside['quiet']:,} clients that wait, {beside['ratio']:.2f} "
        f"times as many; 95th percentile {beside['alone_p95_ms']:.1f} and {beside['beside_p95_ms']:.1f} ms."
    )
    return [
        about,
        "",
        *markdown.table("rrrr", ["listeners", "memory each", "more threads", "opened"], sizes),
        "",
        *markdown.table("rlrrr", ["listeners", "written by", "first", "last", "worst"], delays),
        "",
        sentence,
    ]


def allow_many_files(number: int) -> None:
    """Raise the limit of open files, for this many connections.

    Raises:
        ClickException: The hard limit is too low.

    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = number + RESERVED_FILES
    if hard not in (resource.RLIM_INFINITY, max(hard, limit)):
        raise click.ClickException(f"A process may have {hard} files open; {limit:,} are needed.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@click.command()
@click.option("--listeners", multiple=True, type=int, default=LISTENERS, help="How many clients wait.")
def main(listeners: Sequence[int]) -> None:
    """Measure streams of events, in some three minutes.

    1,000 and 10,000 clients wait at two processes: the memory of each, and the time from the response to a write to
    the first and to the last of its user's 20 clients, where the same worker, its sibling or another server wrote; then
    all lists change at once. Last the mix of requests beside 2,000 clients that wait. The results are printed, and
    written to instance/results/event-streams.json.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    allow_many_files(max(listeners))
    load.ensure_wrk()
    INSTALLED.mkdir(parents=True, exist_ok=True)
    server, settings = compare.start_postgres(compare.DATA, connections=300)
    about = machine() | {
        "load_before": load_average(),
        "postgresql": postgres.version(server),
        "settings": settings,
    }
    url = server.get_uri(database=peer_dataset.DATABASE)
    rows = []
    for number in listeners:
        for row in measure(server, url, number):
            rows.append(row)
            click.echo(orjson.dumps(row).decode())
    results = about | {"rows": rows, "mix": mix(server)}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(orjson.dumps(results, option=orjson.OPT_APPEND_NEWLINE))
    click.echo(
        "\n".join(["", *page(results), "", f"The results are in {RESULTS}; {os.getloadavg()[0]:.1f} is the load."])
    )


if __name__ == "__main__":
    main()
