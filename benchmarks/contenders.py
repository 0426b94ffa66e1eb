"""Who is compared: how each is installed, started and stopped, and what it takes of the machine."""

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import click
import psutil

from benchmarks import server
from config import ROOT

PEERS = ROOT / "benchmarks" / "peers"
OURS = PEERS / "ours"
INSTALLED = ROOT / "instance" / "peers"
START_S = 60
STOP_S = 2
OK = 200

GTHREAD = "-c benchmarks/peers/gthread.py --bind 127.0.0.1:{port}"
UVICORN = "--host 127.0.0.1 --port {port} --workers 2 --no-access-log --log-level warning"
GRANIAN = (
    "--interface wsgi --host 127.0.0.1 --port {port} --workers 2 --blocking-threads {threads} --backlog 8192 "
    "--no-access-log"
)
GRANIAN_THREADS = 4


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those that are compared; `folder` says where its pinned requirements are, if it has some of its own."""

    key: str
    title: str
    command: str
    folder: Path | None = None
    # What a floor is asked; it knows nothing else.
    only: str | None = None
    # What its environment has besides.
    settings: tuple[tuple[str, str], ...] = ()
    # After so many connections at once it may never answer again.
    seizes_at: int | None = None

    @property
    def home(self) -> Path:
        """Give the folder of its interpreter."""
        return INSTALLED / self.folder.name if self.folder else Path(sys.prefix)

    def takes(self, kind: str) -> bool:
        """Tell whether it is asked this kind of question; the constant answer is for the floor alone."""
        return kind == self.only if self.only or kind == "constant" else True


_ninja = f"{{bin}}/gunicorn {GTHREAD} benchmarks.peers.django_ninja.wsgi:app"
_granian = f"{{bin}}/granian {GRANIAN.replace('{threads}', str(GRANIAN_THREADS))} --log-level warning wsgi:app"
_floor = f"{{bin}}/gunicorn {GTHREAD} benchmarks.peers.floors"

SEED = Contender(
    "fastapi",
    "FastAPI",
    f"{{bin}}/uvicorn {UVICORN} benchmarks.peers.fastapi.app:app",
    PEERS / "fastapi",
    # Its synchronous sessions hold up the loop that should give connections back.
    seizes_at=64,
)
CONTENDERS = (
    SEED,
    Contender("django_ninja", "Django Ninja", _ninja, PEERS / "django_ninja"),
    Contender("fastify", "Fastify", "node benchmarks/peers/fastify/server.mjs", PEERS / "fastify"),
    Contender("gunicorn", "ours, gunicorn", "{bin}/gunicorn -c gunicorn.conf.py wsgi:app", OURS),
    Contender("granian", "ours, Granian", _granian, OURS),
    Contender("rows", "floor: one select", f"{_floor}.rows:app", only="list"),
    Contender("constant", "floor: constant", f"{_floor}.constant:app", only="constant"),
)


def install(contender: Contender) -> None:
    """Install what it needs in a folder of its own, unless that was done."""
    if contender.folder is None:
        return
    npm = (contender.folder / "package.json").exists()
    pins = [contender.folder / ("package-lock.json" if npm else "requirements.txt")]
    if contender.folder == OURS:
        pins.append(ROOT / "requirements.txt")
    stamp = INSTALLED / f"{contender.folder.name}.installed"
    content = sha256(b"".join(pin.read_bytes() for pin in pins) + sys.version.encode()).hexdigest()
    there = contender.folder / "node_modules" if npm else contender.home
    if there.exists() and stamp.exists() and stamp.read_text() == content:
        return
    click.echo(f"Installing {contender.title} (once) ...")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    _npm(contender.folder) if npm else _pip(contender.home, pins)
    stamp.write_text(content)


def _npm(folder: Path) -> None:
    if not shutil.which("npm"):
        raise click.ClickException("Fastify needs Node 20 or newer, with npm: install them first.")
    _run(["npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])


def _pip(home: Path, pins: list[Path]) -> None:
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    requirements = [word for pin in pins for word in ("-r", str(pin))]
    _run([str(home / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check", *requirements])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)  # noqa: S603 (ours)
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"`{' '.join(command)}` failed: see above.") from error


class Running:
    """A contender that runs, until it is stopped."""

    def __init__(self, contender: Contender, database_url: str, user: str, token: str) -> None:
        """Start it; `wait` until it answers."""
        self.contender, self.database_url, self.user, self.token = contender, database_url, user, token
        self.log = INSTALLED / f"{contender.key}.log"
        self.settings = {"WEB_CONCURRENCY": "2", **dict(contender.settings)}
        self.workers = int(self.settings["WEB_CONCURRENCY"])
        self.start()

    def start(self) -> None:
        """Start it on a free port."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        command = self.contender.command.format(bin=self.contender.home / "bin", port=self.port).split()
        # An empty variable counts as unset, whatever a file .env here says.
        unset = ("BETTER_AUTH_URL", "BETTER_AUTH_SECRET_PREVIOUS", "JWT_ISSUER", "JWT_AUDIENCE", "JWKS_URL")
        settings = dict.fromkeys((*unset, "WEB_THREADS", "REQUIRE_IF_MATCH", "HOST"), "") | {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.database_url,
            "BETTER_AUTH_SECRET": server.SECRET,
            "PORT": str(self.port),
            "LOG_LEVEL": "WARNING",
            **self.settings,
        }
        with self.log.open("wb") as log:
            environment = os.environ | settings
            self.process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def wait(self) -> None:
        """Wait until it answers and its workers are there."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self._status() == OK and len(self.process.children()) >= self.workers:
                    return
            except (OSError, HTTPException):
                pass
            time.sleep(0.1)
        self.stop()
        raise click.ClickException(f"{self.contender.title} did not start: see {self.log}.")

    def _status(self) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        headers = {"Authorization": f"Bearer {self.token}", "Connection": "close"}
        connection.request("GET", f"/api/{self.user}/tasks", headers=headers)
        return connection.getresponse().status

    def stop(self) -> None:
        """Stop it; a part of it that does not stop by itself is ended."""
        family = family_of(self.process)
        if self.process.poll() is None:
            self.process.terminate()
        for left in psutil.wait_procs(family, STOP_S)[1]:
            left.kill()
        self.process.wait(STOP_S)

    def resident_mib(self) -> float:
        """Give the memory of a worker: the mean of the two biggest processes under the first one."""
        sizes = sorted(child.memory_info().rss for child in self.process.children(recursive=True))
        return float(sum(sizes[-2:]) / 2 / server.MIB)


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """Give a process and all that came from it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(process: psutil.Process) -> float:
    """Give the processor time of a process and all that came from it, the ended ones too."""
    total = 0.0
    for member in family_of(process):
        try:
            total += sum(member.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
