"""The compared services: how each is installed, started and stopped, and what it uses of the machine."""

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

from benchmarks import postgres
from benchmarks.load import LoadCase
from config import ROOT

PEERS = ROOT / "benchmarks" / "peers"
TODO = PEERS / "todo"
INSTALLED = ROOT / "instance" / "peers"
START_S = 60
STOP_S = 2
OK = 200

# The setting of the memory for kept pages.
KEPT_PAGES = "KEPT_PAGES_MIB"

GTHREAD = "-c benchmarks/peers/gthread.py --bind 127.0.0.1:{port}"
UVICORN = "--host 127.0.0.1 --port {port} --workers 2 --no-access-log --log-level warning"


@dataclass(frozen=True, slots=True)
class Service:
    """A compared service.

    Attributes:
        key: Its name in the results.
        title: Its name in tables and messages.
        command: The command that starts it, with `{bin}` and `{port}`.
        folder: The folder of its pinned requirements; None for the environment of the benchmark.
        only_kind: The one kind of request that a baseline supports; None if all are supported.
        settings: Additional environment variables.
        hangs_at: The number of connections after which it may never respond again.
        has_etags: Whether a client that has a list already can ask whether it has changed.
        only_loads: The titles of the loads that it is measured with; all if there are none.

    """

    key: str
    title: str
    command: str
    folder: Path | None = None
    only_kind: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    hangs_at: int | None = None
    has_etags: bool = False
    only_loads: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The folder of its Python environment."""
        return INSTALLED / self.folder.name if self.folder else Path(sys.prefix)

    def supports(self, case: LoadCase) -> bool:
        """Return whether the service is measured with this load; the kind `constant` is for a baseline alone."""
        if self.only_loads:
            return case.title in self.only_loads
        if case.kind == "unchanged":
            return self.has_etags
        return case.kind == self.only_kind if self.only_kind or case.kind == "constant" else True


# The service without kept pages is what the others are compared with; it has two more rows with the default of them.
_gunicorn = "{bin}/gunicorn -c gunicorn.conf.py wsgi:app"
_granian = "{bin}/python -m todo serve --server granian"
_no_pages = ((KEPT_PAGES, "0"),)
_with_pages = ("mix, 16 conn.", "mix, 64 conn.", "list, 16 conn.")

_ninja = f"{{bin}}/gunicorn {GTHREAD} benchmarks.peers.django_ninja.wsgi:app"
_baseline = f"{{bin}}/gunicorn {GTHREAD} benchmarks.peers.baselines"

REFERENCE = Service(
    "fastapi",
    "FastAPI",
    f"{{bin}}/uvicorn {UVICORN} benchmarks.peers.fastapi.app:app",
    PEERS / "fastapi",
    # Its synchronous sessions block the event loop, which then cannot return connections to the pool.
    hangs_at=64,
)
SERVICES = (
    REFERENCE,
    Service("django_ninja", "Django Ninja", _ninja, PEERS / "django_ninja"),
    Service("fastify", "Fastify", "node benchmarks/peers/fastify/server.mjs", PEERS / "fastify"),
    Service("gunicorn", "todo on gunicorn", _gunicorn, TODO, settings=_no_pages, has_etags=True),
    Service("granian", "todo on Granian", _granian, TODO, settings=_no_pages, has_etags=True),
    Service("gunicorn_pages", "todo on gunicorn with pages", _gunicorn, TODO, only_loads=_with_pages),
    Service("granian_pages", "todo on Granian with pages", _granian, TODO, only_loads=_with_pages),
    Service("rows", "baseline: one SELECT", f"{_baseline}.rows:app", only_kind="list"),
    Service("constant", "baseline: constant", f"{_baseline}.constant:app", only_kind="constant"),
)


def install(service: Service) -> None:
    """Install the requirements of a service in a separate folder, unless they are installed.

    Raises:
        ClickException: An installer failed, or npm is missing.

    """
    if service.folder is None:
        return
    npm = (service.folder / "package.json").exists()
    pins = [service.folder / ("package-lock.json" if npm else "requirements.txt")]
    if service.folder == TODO:
        pins.append(ROOT / "requirements.txt")
    stamp = INSTALLED / f"{service.folder.name}.installed"
    content = sha256(b"".join(pin.read_bytes() for pin in pins) + sys.version.encode()).hexdigest()
    installed = service.folder / "node_modules" if npm else service.home
    if installed.exists() and stamp.exists() and stamp.read_text() == content:
        return
    click.echo(f"Installing {service.title} (once) ...")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    _npm(service.folder) if npm else _pip(service.home, pins)
    stamp.write_text(content)


def _npm(folder: Path) -> None:
    if not shutil.which("npm"):
        raise click.ClickException("Fastify needs Node 20 or newer with npm.")
    _run(["npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])


def _pip(home: Path, pins: list[Path]) -> None:
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    requirements = [word for pin in pins for word in ("-r", str(pin))]
    _run([str(home / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check", *requirements])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)  # noqa: S603 (fixed commands)
    except subprocess.CalledProcessError as error:
        raise click.ClickException(f"`{' '.join(command)}` failed: see its output above.") from error


class RunningService:
    """A running service, until it is stopped.

    Args:
        service: The service to start.
        database_url: The URL of its database.
        user: The user of the requests that check whether it responds.
        token: The bearer token of the user.

    """

    def __init__(self, service: Service, database_url: str, user: str, token: str) -> None:
        self.service, self.database_url, self.user, self.token = service, database_url, user, token
        self.log = INSTALLED / f"{service.key}.log"
        self.settings = {"WEB_CONCURRENCY": "2", **dict(service.settings)}
        self.workers = int(self.settings["WEB_CONCURRENCY"])
        self.start()

    def start(self) -> None:
        """Start the service on a free port."""
        self.port = free_port()
        command = self.service.command.format(bin=self.service.home / "bin", port=self.port).split()
        # An empty variable counts as unset, and overrides a file .env.
        unset = ("BETTER_AUTH_URL", "BETTER_AUTH_SECRET_PREVIOUS", "JWT_ISSUER", "JWT_AUDIENCE", "JWKS_URL")
        settings = dict.fromkeys((*unset, "WEB_THREADS", "REQUIRE_IF_MATCH", "HOST", KEPT_PAGES), "") | {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self.database_url,
            "BETTER_AUTH_SECRET": postgres.SECRET,
            "PORT": str(self.port),
            "LOG_LEVEL": "WARNING",
            **self.settings,
        }
        with self.log.open("wb") as log:
            environment = os.environ | settings
            self.process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def wait(self) -> None:
        """Wait until the service responds and its workers are running."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self._status() == OK and len(self.process.children()) >= self.workers:
                    return
            except (OSError, HTTPException):
                pass
            time.sleep(0.1)
        self.stop()
        raise click.ClickException(f"{self.service.title} did not start: see {self.log}.")

    def _status(self) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        headers = {"Authorization": f"Bearer {self.token}", "Connection": "close"}
        connection.request("GET", f"/api/{self.user}/tasks", headers=headers)
        return connection.getresponse().status

    def stop(self) -> None:
        """Stop the service, and kill those of its processes that do not stop."""
        processes = process_tree(self.process)
        if self.process.poll() is None:
            self.process.terminate()
        for remaining in psutil.wait_procs(processes, STOP_S)[1]:
            remaining.kill()
        self.process.wait(STOP_S)

    def resident_mib(self) -> float:
        """Return the resident memory of a worker in MiB: the mean of the two largest processes under the first one."""
        sizes = sorted(child.memory_info().rss for child in self.process.children(recursive=True))
        return float(sum(sizes[-2:]) / 2 / postgres.MIB)


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time in seconds of a process and its descendants, including ended ones."""
    total = 0.0
    for member in process_tree(process):
        try:
            total += sum(member.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
