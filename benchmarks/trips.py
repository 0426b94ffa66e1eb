"""Round trips to PostgreSQL, counted and slowed down on the way by a proxy."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from statistics import median
from typing import Any

import click

from benchmarks.contenders import Running
from benchmarks.tables import LISTED

KINDS = ("list", "get", "create", "patch", "delete")
STATUS = {"list": 200, "get": 200, "create": 201, "patch": 200, "delete": 204}
WARMING = 40
# What a framework does after its answer, such as giving a connection back, belongs to the request.
SETTLING_S = 0.01
CHUNK = 1 << 16


class Proxy:
    """A way to PostgreSQL that is as long as `delay_s` says, there and back; `trips` counts who went it."""

    def __init__(self, socket_path: str) -> None:
        """Take the socket of the server."""
        self.socket_path = socket_path
        self.delay_s = 0.0
        self.trips = 0
        self.port = 0

    async def serve(self, started: threading.Event) -> None:
        """Serve until cancelled."""
        listening = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        async with listening:
            await listening.serve_forever()

    async def _connect(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_unix_connection(self.socket_path)
        # Whatever the client sends once the server has answered begins a new trip, in however many messages.
        turn = {"server": True}
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(
                self._pass_on(client_in, server_out, turn, "client"),
                self._pass_on(server_in, client_out, turn, "server"),
            )

    async def _pass_on(self, source: Any, target: Any, turn: dict[str, bool], side: str) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(CHUNK):
            self.trips += side == "client" and turn["server"]
            turn["server"] = side == "server"
            if self.delay_s:
                loop.call_later(self.delay_s / 2, target.write, data)
            else:
                target.write(data)
        loop.call_later(self.delay_s / 2, target.close)


@contextmanager
def proxy(socket_path: str) -> Iterator[Proxy]:
    """Run a proxy in a thread of its own."""
    made, started = Proxy(socket_path), threading.Event()
    loop = asyncio.new_event_loop()
    serving = loop.create_task(made.serve(started))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()


class Client:
    """One user at one connection, who asks one thing after another."""

    def __init__(self, running: Running) -> None:
        """Connect."""
        self.connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        self.path = f"/api/{running.user}/tasks"
        self.headers = {"Authorization": f"Bearer {running.token}"}
        self.title = running.contender.title
        self.number = 0
        # The first user's tasks are the first, and every so many more.
        self.made: list[int] = []

    def ask(self, kind: str) -> None:
        """Ask once; a wrong answer ends everything."""
        self.number += 1
        path = self.path if kind in {"list", "create"} else f"{self.path}/{self._task(kind)}"
        method = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}.get(kind, "GET")
        body = json.dumps({"title": f"{kind} {self.number}"}) if kind in {"create", "patch"} else None
        typed = {"Content-Type": "application/json"} if body else {}
        self.connection.request(method, path, body, self.headers | typed)
        response = self.connection.getresponse()
        said = response.read()
        if response.status != STATUS[kind]:
            raise click.ClickException(f"{self.title} answered {kind} with {response.status}: {said[:200]!r}")
        if kind == "create":
            self.made.append(json.loads(said)["id"])

    def _task(self, kind: str) -> int:
        return self.made.pop() if kind == "delete" else 1 + LISTED * (self.number % 10)


def measure(running: Running, way: Proxy, delays_ms: tuple[int, ...], times: int) -> dict[str, Any]:
    """Count the trips of each kind of request, and say how long each takes on longer ways."""
    client = Client(running)
    for kind in KINDS:
        for _ in range(WARMING // len(KINDS)):
            client.ask(kind)
    counted = {kind: median(_trips(client, kind, way) for _ in range(times)) for kind in KINDS}
    medians = {}
    for delay in delays_ms:
        way.delay_s = delay / 1000
        medians[str(delay)] = {kind: median(_time_ms(client, kind, way) for _ in range(times)) for kind in KINDS}
    way.delay_s = 0.0
    return {"trips": counted, "median_ms": medians}


def _trips(client: Client, kind: str, way: Proxy) -> int:
    before = way.trips
    client.ask(kind)
    time.sleep(SETTLING_S)
    return way.trips - before


def _time_ms(client: Client, kind: str, way: Proxy) -> float:
    started = time.perf_counter()
    client.ask(kind)
    took = 1000 * (time.perf_counter() - started)
    time.sleep(SETTLING_S + 2 * way.delay_s)
    return took
