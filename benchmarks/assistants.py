"""Calls of tools beside the calls of the API that do the same: the CPU time of the service.

The service runs on gunicorn, as it is served. Rounds of both kinds alternate, so what else the machine does changes
both sides alike: compare them with each other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import flask_migrate
import orjson
import psutil

from benchmarks import markdown, postgres
from benchmarks.environment import load_average, machine
from benchmarks.services import INSTALLED, RunningService, Service
from config import ROOT, Config
from todo import create_app
from todo.auth.tokens import issue
from todo.extensions import db

USER = "user-1"
LISTED = 25
# What a call of a tool may cost beside its twin.
GOAL = 1.2
LIFETIME_S = 24 * 3600
OK = (200, 201)
REVISION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
TASK = {
    "title": "Book the dentist",
    "description": "Ask for an appointment before nine, and bring the card.",
    "priority": "high",
    "due_date": "2026-03-01",
    "tags": ["health", "errands"],
}
SERVICE = Service(
    "assistants",
    "todo",
    "{bin}/gunicorn -c gunicorn.conf.py wsgi:app",
    settings=(("WEB_CONCURRENCY", "1"), ("WEB_THREADS", "2")),
)
RESULTS = ROOT / "instance" / "results" / "assistants.json"

_ids = count(1)

# A method, a path, headers and a body.
Request = tuple[str, str, Mapping[str, str], bytes | None]


def tool(name: str, **arguments: Any) -> Request:
    """Return the request that calls a tool."""
    params = {"name": name, "arguments": arguments, "_meta": META}
    body = {"jsonrpc": "2.0", "id": next(_ids), "method": "tools/call", "params": params}
    headers = {"MCP-Protocol-Version": REVISION, "Mcp-Method": "tools/call", "Mcp-Name": name}
    return "POST", "/mcp", headers, orjson.dumps(body)


def twin(method: str, path: str, body: Any = None) -> Request:
    """Return the request of the API."""
    return method, f"/api/me/tasks{path}", {}, None if body is None else orjson.dumps(body)


def pairs(task_id: int) -> dict[str, tuple[Callable[[], Request], Callable[[], Request]]]:
    """Return what makes the requests of both kinds, by the name of the tool."""
    path = f"/{task_id}"
    return {
        "list_tasks": (lambda: tool("list_tasks"), lambda: twin("GET", f"?limit={LISTED}")),
        "get_task": (lambda: tool("get_task", task_id=task_id), lambda: twin("GET", path)),
        "add_task": (lambda: tool("add_task", **TASK), lambda: twin("POST", "", TASK)),
        "complete_task": (
            lambda: tool("complete_task", task_id=task_id),
            lambda: twin("PATCH", f"{path}/complete", {"completed": True}),
        ),
    }


class Client:
    """A client with one connection, and the CPU time of the processes that serve it."""

    def __init__(self, one: RunningService) -> None:
        self._connection = HTTPConnection("127.0.0.1", one.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {one.token}", "Content-Type": "application/json"}
        self._workers: list[psutil.Process] = one.process.children()

    def send(self, request: Request) -> Any:
        """Send a request, and return the body of its response.

        Raises:
            ClickException: The response is an error.

        """
        method, path, headers, body = request
        self._connection.request(method, path, body, self._headers | dict(headers))
        response = self._connection.getresponse()
        content = orjson.loads(response.read())
        if response.status not in OK or "error" in content:
            raise click.ClickException(f"{method} {path}: {str(content)[:200]}")
        return content

    def cpu_ms(self, make: Callable[[], Request], number: int) -> float:
        """Send so many requests, and return the CPU time of the service for each, in milliseconds."""
        requests = [make() for _ in range(number)]
        before = self._cpu_s()
        for request in requests:
            self.send(request)
        return 1000 * (self._cpu_s() - before) / number

    def _cpu_s(self) -> float:
        return float(sum(sum(worker.cpu_times()[:2]) for worker in self._workers))


def measure(client: Client, rounds: int, number: int) -> list[dict[str, Any]]:
    """Return the CPU times of each tool and of its twin, of all rounds."""
    task_id = client.send(twin("POST", "", TASK))["id"]
    for _ in range(LISTED):
        client.send(twin("POST", "", TASK))
    rows = []
    for name, (call, of_the_api) in pairs(task_id).items():
        # What is done once is done here.
        client.cpu_ms(call, number // 10 + 1)
        client.cpu_ms(of_the_api, number // 10 + 1)
        times: dict[str, list[float]] = {"tool": [], "api": []}
        for round_ in range(rounds):
            order = [("tool", call), ("api", of_the_api)]
            for kind, make in order if round_ % 2 else reversed(order):
                times[kind].append(client.cpu_ms(make, number))
        ratio = median(one / other for one, other in zip(times["tool"], times["api"], strict=True))
        rows.append({"tool": name, "tool_ms": median(times["tool"]), "api_ms": median(times["api"]), "ratio": ratio})
    return rows


@contextmanager
def served(folder: Path) -> Iterator[tuple[RunningService, str]]:
    """Run the service on a database of its own, and yield it with the version of PostgreSQL."""
    server = postgres.start(folder / "data", {}, rows=0)
    try:
        url = server.get_uri()
        app = create_app(Config(database_url=url, better_auth_secret=postgres.SECRET, environment="test"))
        with app.app_context():
            flask_migrate.upgrade()
            version = db.session.execute(db.text("SHOW server_version")).scalar_one()
            db.session.remove()
            db.engine.dispose()
        INSTALLED.mkdir(parents=True, exist_ok=True)
        one = RunningService(SERVICE, url, USER, issue(postgres.SECRET, USER, lifetime_s=LIFETIME_S))
        try:
            one.wait()
            yield one, version
        finally:
            one.stop()
    finally:
        server.cleanup()


def page(results: Mapping[str, Any]) -> list[str]:
    """Return the results as lines of Markdown."""
    about = (
        f"Measured on {results['date']} with {results['processors']} processors and one process of two threads, "
        f"{results['system']}, PostgreSQL {results['postgresql']}; {results['rounds']} rounds of {results['number']:,} "
        f"requests of each kind, in turn. Other programs used the machine too: {results['load_before']:.1f} processes "
        "wanted a processor before."
    )
    rows: Sequence[Mapping[str, Any]] = results["rows"]
    cells = [
        (f"`{row['tool']}`", f"{row['tool_ms']:.2f} ms", f"{row['api_ms']:.2f} ms", f"{row['ratio']:.2f}")
        for row in rows
    ]
    return [about, "", *markdown.table("lrrr", ["tool", "a call", "its twin", "times as much"], cells)]


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=11, show_default=True, help="How often each is measured.")
@click.option("--number", type=click.IntRange(1), default=1000, show_default=True, help="Requests in each round.")
def main(rounds: int, number: int) -> None:
    """Measure tools beside the calls of the API, in some four minutes, and write the results."""
    before = load_average()
    with TemporaryDirectory(prefix="todo-assistants-") as folder:
        Path(folder).chmod(0o755)
        with served(Path(folder)) as (one, version):
            rows = measure(Client(one), rounds, number)
    of_the_run = {"load_before": before, "postgresql": version, "rounds": rounds, "number": number}
    results = machine() | of_the_run | {"goal": GOAL, "rows": rows}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    click.echo("\n".join(page(results)))
    click.echo(f"\nWrote {RESULTS}. To publish it: copy it to benchmarks/results, and run python -m benchmarks.page.")


if __name__ == "__main__":
    main()
