"""Load by wrk, with a script that checks every response (`load.lua`)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Any

import click
import orjson

SCRIPT = Path(__file__).with_name("load.lua")
GRACE_S = 20
TIMEOUT_S = 30
IDLE_TIMEOUT_S = 5

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class LoadCase:
    """A load.

    Attributes:
        kind: The kind of request: `mix`, `writes` (a mix in which most are writes), `list`, `unchanged` (a list that
            the client has already), `get`, `patch`, `create` or `constant`.
        connections: The number of connections.
        seconds: Its duration.
        pause_ms: The mean pause between two requests of a connection, in milliseconds.
        idle: The number of further connections, which stay open and idle.

    """

    kind: str
    connections: int
    seconds: int
    pause_ms: int = 0
    idle: int = 0

    @property
    def writes(self) -> bool:
        """Whether the load changes the tables."""
        return self.kind in {"mix", "writes", "patch", "create"}

    @property
    def title(self) -> str:
        """The name of the load in tables and messages."""
        pause = f", each pausing {self.pause_ms / 1000:g} s" if self.pause_ms else ""
        idle = f" beside {self.idle:,} idle ones" if self.idle else ""
        return f"{self.kind}, {self.connections:,} conn.{pause}{idle}"


@dataclass(frozen=True, slots=True)
class Responses:
    """The result of a load: the correct responses, their latencies in milliseconds, and the number of failures."""

    correct: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int
    first_failure: str

    def as_json(self) -> dict[str, Any]:
        """Return the result for the file of results."""
        return asdict(self)


def ensure_wrk() -> None:
    """Install wrk with apt-get if it is missing.

    Raises:
        ClickException: wrk cannot be installed.

    """
    if not shutil.which("wrk") and os.geteuid() == 0 and (apt := shutil.which("apt-get")):
        click.echo("Installing wrk ...")
        for command in ("update", "install"):
            packages = ["wrk"] if command == "install" else []
            subprocess.run([apt, command, "--yes", "-qq", *packages], check=False, stdout=subprocess.DEVNULL)  # noqa: S603 (fixed words)
    if not shutil.which("wrk"):
        raise click.ClickException("wrk is not installed: run `sudo apt-get install wrk`, and then this command again.")


@contextmanager
def idle(port: int, number: int) -> Iterator[int]:
    """Keep this many connections open and idle after one request each, and yield how many could not be opened."""
    with ExitStack() as stack:
        for opened in range(number):
            connection = HTTPConnection("127.0.0.1", port, timeout=IDLE_TIMEOUT_S)
            stack.callback(connection.close)
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except (OSError, HTTPException):
                yield number - opened
                return
        yield 0


def run(port: int, case: LoadCase, users_file: Path) -> Responses:
    """Run wrk with a load.

    Raises:
        ClickException: wrk failed or did not end.

    """
    # Each run writes titles with its own name, so a response with such a title belongs to this run.
    name = f"{os.getpid()}x{next(_numbers)}"
    wrk = ["wrk", "--threads", "1", "--connections", str(case.connections), "--duration", f"{case.seconds}s"]
    script = ["--timeout", f"{TIMEOUT_S}s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}/"]
    arguments = ["--", str(users_file), case.kind, str(case.pause_ms), name]
    try:
        completed = subprocess.run(  # noqa: S603 (a fixed command)
            [*wrk, *script, *arguments], capture_output=True, text=True, timeout=case.seconds + GRACE_S, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"“{case.title}” did not end: does the server accept connections?") from error
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"wrk failed: {error.stderr.strip() or error.stdout.strip()}") from error
    return _parse(completed.stdout + completed.stderr)


def _parse(output: str) -> Responses:
    """Parse the output of the script; an error of the script itself is raised."""
    lines = dict(line.partition(" ")[::2] for line in output.splitlines() if line.startswith(("result ", "failure ")))
    if "result" not in lines:
        raise click.ClickException(f"The output of wrk has no result: {output.strip()}")
    result = orjson.loads(lines["result"])
    times = sorted(result["tenths"])
    return Responses(
        correct=result["correct"],
        per_s=result["correct"] / result["seconds"],
        p50_ms=_percentile(times, 50),
        p95_ms=_percentile(times, 95),
        p99_ms=_percentile(times, 99),
        failed=result["wrong"] + result["lost"] + result["overdue"],
        first_failure=lines.get("failure", "").strip(),
    )


def _percentile(times: list[list[int]], percent: int) -> float:
    """Return a percentile in milliseconds of pairs of a time in tenths of a millisecond and its frequency."""
    remaining = sum(number for _, number in times) * percent / 100
    for tenths, number in times:
        remaining -= number
        if remaining <= 0:
            return (tenths + 1) / 10
    return 0.0
