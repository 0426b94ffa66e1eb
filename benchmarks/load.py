"""Load by wrk, whose script checks every answer (`load.lua`)."""

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
SPARE_S = 20
LATE_S = 30
IDLE_LATE_S = 5

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load."""

    kind: str
    connections: int
    seconds: int
    pause_ms: int = 0
    # Connections that are open besides, and idle.
    idle: int = 0

    @property
    def writes(self) -> bool:
        """Tell whether it leaves something behind."""
        return self.kind in {"mix", "patch", "create"}

    @property
    def title(self) -> str:
        """Name it for people."""
        pause = f", each pausing {self.pause_ms / 1000:g} s" if self.pause_ms else ""
        idle = f" beside {self.idle:,} idle ones" if self.idle else ""
        return f"{self.kind}, {self.connections:,} conn.{pause}{idle}"


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back: right answers in a second, how long they took, and how many questions went wrong."""

    right: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int
    first_wrong: str

    def as_json(self) -> dict[str, Any]:
        """Give it for the file of results."""
        return asdict(self)


def ensure_wrk() -> None:
    """Install wrk where it is missing and can be installed."""
    if not shutil.which("wrk") and os.geteuid() == 0 and (apt := shutil.which("apt-get")):
        click.echo("Installing wrk ...")
        for command in ("update", "install"):
            packages = ["wrk"] if command == "install" else []
            subprocess.run([apt, command, "--yes", "-qq", *packages], check=False, stdout=subprocess.DEVNULL)  # noqa: S603 (fixed words)
    if not shutil.which("wrk"):
        raise click.ClickException("wrk is not installed and cannot be: `sudo apt-get install wrk`, then come again.")


@contextmanager
def idle(port: int, number: int) -> Iterator[int]:
    """Hold so many connections open that have been used once, and say nothing on them any more.

    Give how many could not be had.
    """
    with ExitStack() as stack:
        for held in range(number):
            connection = HTTPConnection("127.0.0.1", port, timeout=IDLE_LATE_S)
            stack.callback(connection.close)
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except (OSError, HTTPException):
                yield number - held
                return
        yield 0


def run(port: int, cell: Cell, people: Path) -> Answers:
    """Ask for some seconds."""
    # Every run writes titles that no other wrote: an answer that shows one is an answer to this run.
    name = f"{os.getpid()}x{next(_numbers)}"
    wrk = ["wrk", "--threads", "1", "--connections", str(cell.connections), "--duration", f"{cell.seconds}s"]
    script = ["--timeout", f"{LATE_S}s", "--script", str(SCRIPT), f"http://127.0.0.1:{port}/"]
    arguments = ["--", str(people), cell.kind, str(cell.pause_ms), name]
    try:
        done = subprocess.run(  # noqa: S603 (ours)
            [*wrk, *script, *arguments], capture_output=True, text=True, timeout=cell.seconds + SPARE_S, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise click.ClickException(f"“{cell.title}” came to no end: does the server accept connections?") from error
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"wrk failed: {error.stderr.strip() or error.stdout.strip()}") from error
    return _read(done.stdout + done.stderr)


def _read(said: str) -> Answers:
    """Take the numbers from what the script said; an error of the script's own goes on to whoever runs this."""
    lines = dict(line.partition(" ")[::2] for line in said.splitlines() if line.startswith(("found ", "broken ")))
    if "found" not in lines:
        raise click.ClickException(f"wrk told nothing: {said.strip()}")
    found = orjson.loads(lines["found"])
    times = sorted(found["tenths"])
    return Answers(
        right=found["right"],
        per_s=found["right"] / found["seconds"],
        p50_ms=_percentile(times, 50),
        p95_ms=_percentile(times, 95),
        p99_ms=_percentile(times, 99),
        failed=found["wrong"] + found["lost"] + found["overdue"],
        first_wrong=lines.get("broken", "").strip(),
    )


def _percentile(times: list[list[int]], percent: int) -> float:
    """Give the time, in milliseconds, that so many of the answers took at most; times come in tenths of one."""
    left = sum(number for _, number in times) * percent / 100
    for tenths, number in times:
        left -= number
        if left <= 0:
            return (tenths + 1) / 10
    return 0.0
