"""A batch of 100 operations beside 100 requests of their own: time, round trips to PostgreSQL, and CPU.

The service runs in this process, and PostgreSQL in others, behind a proxy that counts. What else the machine does
changes both sides alike, so compare them with each other.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

import click
import flask_migrate
import psutil

from benchmarks import markdown, postgres
from benchmarks.round_trips import SETTLE_S, Proxy, proxy
from config import Config
from todo import create_app
from todo.auth.tokens import issue
from todo.extensions import db

NUMBER = 100
KINDS = ("create", "update", "delete", "restore")
USER = "user-1"

Request = tuple[str, str, dict[str, str], Any]


class Cost(NamedTuple):
    """What requests cost.

    Attributes:
        time_ms: How long they took, one after the other.
        round_trips: The round trips to PostgreSQL.
        cpu_ms: The CPU time of the service and of PostgreSQL.

    """

    time_ms: float
    round_trips: int
    cpu_ms: float


def operations(kind: str, ids: Sequence[int]) -> Iterator[tuple[dict[str, Any], Request]]:
    """Yield each operation of a batch, and the request of its own that does the same."""
    for task_id in ids:
        key, path = uuid4().hex, f"/{task_id}"
        task: dict[str, Any] = {"title": f"Task {key}"} if kind == "create" else {"completed": True}
        yield {
            "create": ({"op": kind, "key": key, "task": task}, ("POST", "/tasks", {"Idempotency-Key": key}, task)),
            "update": ({"op": kind, "id": task_id, "task": task}, ("PATCH", f"/tasks{path}", {}, task)),
            "delete": ({"op": kind, "id": task_id}, ("DELETE", f"/tasks{path}", {}, None)),
            "restore": ({"op": kind, "id": task_id}, ("POST", f"/trash{path}/restore", {}, None)),
        }[kind]


class Bench:
    """A client of the service, and the counters of what it costs."""

    def __init__(self, client: Any, token: str, route: Proxy, server: psutil.Process) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}
        self._route = route
        self._server = server

    def send(self, request: Request) -> Any:
        """Send a request, and return the body of its response.

        Raises:
            ClickException: The response is an error.

        """
        method, path, headers, body = request
        response = self._client.open(f"/api/me{path}", method=method, headers=self._headers | headers, json=body)
        if response.status_code >= 400:  # noqa: PLR2004 (the first status of an error)
            raise click.ClickException(f"{method} {path}: {response.get_data(as_text=True)[:200]}")
        return response.json

    def cost(self, requests: Sequence[Request]) -> Cost:
        """Send requests one after the other, and return what they cost."""
        cpu, trips, started = self._cpu_s(), self._route.round_trips, time.perf_counter()
        for request in requests:
            self.send(request)
        time_s = time.perf_counter() - started
        return Cost(1000 * time_s, self._route.round_trips - trips, 1000 * (self._cpu_s() - cpu))

    def _cpu_s(self) -> float:
        """Return the CPU time of the service and of the sessions of PostgreSQL so far, in seconds."""
        sessions = self._server.children(recursive=True)
        return time.process_time() + sum(sum(session.cpu_times()[:2]) for session in sessions)


def measure(bench: Bench, rounds: int) -> dict[str, tuple[Cost, Cost]]:
    """Return the median costs of a batch and of single requests, by kind of operation."""
    found: dict[str, list[tuple[Cost, Cost]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        batched, single_ids = created(bench), created(bench)
        for kind in KINDS:
            batch = [operation for operation, _ in operations(kind, batched)]
            single = [request for _, request in operations(kind, single_ids)]
            found[kind].append((bench.cost([("POST", "/tasks/batch", {}, {"operations": batch})]), bench.cost(single)))
    return {kind: (middle(costs, 0), middle(costs, 1)) for kind, costs in found.items()}


def created(bench: Bench) -> list[int]:
    """Create tasks, and return their ids."""
    queue = [operation for operation, _ in operations("create", range(NUMBER))]
    return [
        result["task"]["id"] for result in bench.send(("POST", "/tasks/batch", {}, {"operations": queue}))["results"]
    ]


def middle(costs: Sequence[tuple[Cost, Cost]], side: int) -> Cost:
    """Return the medians of the costs of one side."""
    return Cost(*(median(values) for values in zip(*(pair[side] for pair in costs), strict=True)))


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="How often everything is measured."
)
def main(rounds: int) -> None:
    """Measure a batch beside single requests, and print a table."""
    with TemporaryDirectory(prefix="todo-batch-") as folder:
        Path(folder).chmod(0o755)
        server = postgres.start(Path(folder) / "data", {}, rows=0)
        try:
            with proxy(str(server.get_postmaster_info().socket_path)) as route:
                url = (
                    f"postgresql+psycopg2://postgres@127.0.0.1:{route.port}/postgres?sslmode=disable&gssencmode=disable"
                )
                app = create_app(
                    Config(
                        database_url=url, better_auth_secret=postgres.SECRET, log_level="WARNING", environment="test"
                    )
                )
                with app.app_context():
                    flask_migrate.upgrade()
                token = issue(postgres.SECRET, USER, lifetime_s=3600)
                process = psutil.Process(server.get_postmaster_info().pid)
                found = measure(Bench(app.test_client(), token, route, process), rounds)
                with app.app_context():
                    db.engine.dispose()
                # The proxy notices the end of its connections.
                time.sleep(10 * SETTLE_S)
        finally:
            server.cleanup()
    click.echo(table(found))


def table(found: dict[str, tuple[Cost, Cost]]) -> str:
    """Return the table of the costs: those of a batch before those of single requests."""
    show: Callable[[float], str] = "{:,.0f}".format
    rows = [
        (
            kind,
            *(f"{show(one)} / {show(many)}" for one, many in zip(batch, single, strict=True)),
            f"{single.time_ms / batch.time_ms:.1f}",
        )
        for kind, (batch, single) in found.items()
    ]
    heading = (f"{NUMBER} operations", "ms", "round trips", "ms of CPU", "times as fast")
    return "\n".join(markdown.table("lrrrr", heading, rows))


if __name__ == "__main__":
    main()
