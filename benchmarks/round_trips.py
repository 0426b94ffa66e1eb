"""Round trips to PostgreSQL, counted and delayed by a proxy."""

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

from benchmarks.peer_dataset import LISTED
from benchmarks.services import RunningService

KINDS = ("list", "get", "create", "patch", "delete")
STATUS = {"list": 200, "get": 200, "create": 201, "patch": 200, "delete": 204}
WARM_UP = 40
# The work of a framework after its response, such as returning a connection to the pool, belongs to the request.
SETTLE_S = 0.01
CHUNK = 1 << 16


class Proxy:
    """A proxy in front of PostgreSQL.

    Attributes:
        delay_s: The delay that it adds to each round trip, in seconds.
        round_trips: The number of round trips so far.
        port: The port on which it listens.

    """

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.delay_s = 0.0
        self.round_trips = 0
        self.port = 0

    async def serve(self, started: threading.Event) -> None:
        """Accept connections until cancelled."""
        listening = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        async with listening:
            await listening.serve_forever()

    async def _connect(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_unix_connection(self.socket_path)
        # The first message of the client after one of the server begins a new round trip.
        turn = {"server": True}
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(
                self._forward(client_in, server_out, turn, "client"),
                self._forward(server_in, client_out, turn, "server"),
            )

    async def _forward(self, source: Any, target: Any, turn: dict[str, bool], side: str) -> None:
        loop = asyncio.get_running_loop()
        while data := await source.read(CHUNK):
            self.round_trips += side == "client" and turn["server"]
            turn["server"] = side == "server"
            if self.delay_s:
                loop.call_later(self.delay_s / 2, target.write, data)
            else:
                target.write(data)
        loop.call_later(self.delay_s / 2, target.close)


@contextmanager
def proxy(socket_path: str) -> Iterator[Proxy]:
    """Run a proxy in a separate thread."""
    new_proxy, started = Proxy(socket_path), threading.Event()
    loop = asyncio.new_event_loop()
    serving = loop.create_task(new_proxy.serve(started))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield new_proxy
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join()


class Client:
    """The client of one user, with one connection."""

    def __init__(self, running: RunningService) -> None:
        self.connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        self.path = f"/api/{running.user}/tasks"
        self.headers = {"Authorization": f"Bearer {running.token}"}
        self.title = running.service.title
        self.number = 0
        self.created: list[int] = []

    def send(self, kind: str) -> None:
        """Send one request, and read the response.

        Raises:
            ClickException: The response has another status than that of success.

        """
        self.number += 1
        path = self.path if kind in {"list", "create"} else f"{self.path}/{self._task(kind)}"
        method = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}.get(kind, "GET")
        body = json.dumps({"title": f"{kind} {self.number}"}) if kind in {"create", "patch"} else None
        content_type = {"Content-Type": "application/json"} if body else {}
        self.connection.request(method, path, body, self.headers | content_type)
        response = self.connection.getresponse()
        content = response.read()
        if response.status != STATUS[kind]:
            raise click.ClickException(
                f"The response of {self.title} to {kind} was {response.status}: {content[:200]!r}"
            )
        if kind == "create":
            self.created.append(json.loads(content)["id"])

    def _task(self, kind: str) -> int:
        # The users created tasks in turn, and this is the first user: the ids of its tasks are 1, LISTED + 1, ...
        return self.created.pop() if kind == "delete" else 1 + LISTED * (self.number % 10)


def measure(running: RunningService, route: Proxy, delays_ms: tuple[int, ...], times: int) -> dict[str, Any]:
    """Count the round trips of each kind of request, and measure its time with each delay; return the medians."""
    client = Client(running)
    for kind in KINDS:
        for _ in range(WARM_UP // len(KINDS)):
            client.send(kind)
    counts = {kind: median(_round_trips(client, kind, route) for _ in range(times)) for kind in KINDS}
    medians = {}
    for delay in delays_ms:
        route.delay_s = delay / 1000
        medians[str(delay)] = {kind: median(_time_ms(client, kind, route) for _ in range(times)) for kind in KINDS}
    route.delay_s = 0.0
    return {"round_trips": counts, "median_ms": medians}


def _round_trips(client: Client, kind: str, route: Proxy) -> int:
    before = route.round_trips
    client.send(kind)
    time.sleep(SETTLE_S)
    return route.round_trips - before


def _time_ms(client: Client, kind: str, route: Proxy) -> float:
    started = time.perf_counter()
    client.send(kind)
    time_ms = 1000 * (time.perf_counter() - started)
    time.sleep(SETTLE_S + 2 * route.delay_s)
    return time_ms
