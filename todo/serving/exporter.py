"""The metrics of all workers for Prometheus, on a port of their own that every worker serves.

The master binds the port before it forks, so that a port in use ends the start. Each worker counts in files of its own,
in memory, and serves the sum of all files from one thread. The master itself runs no thread.

The files are in a folder that is locked while any process of the server lives. A server that is killed removes nothing,
but its lock goes with it, and the next server removes its folder.
"""

import fcntl
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from flask import Flask
from prometheus_client import CollectorRegistry, values
from prometheus_client.exposition import MetricsHandler
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from config import Config
from todo.extensions import db
from todo.serving.listening import listen
from todo.tasks import kept_pages
from todo.telemetry.logs import log
from todo.telemetry.metrics import Metrics

# How often a worker samples the resources in use.
SAMPLE_S = 1.0

# The connection of a scraper that is silent for longer is closed.
SILENCE_MAX_S = 5

# The variable that names the folder of the library's files. The library takes it from the environment alone.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = Path("/dev/shm")  # noqa: S108 (the folder in it has a random name)  # nosec B108
NAME = "todo-metrics-server-"


class ScrapeHandler(MetricsHandler):
    """Responds to one scrape."""

    timeout: ClassVar[int] = SILENCE_MAX_S
    server_version = "todo"
    sys_version = ""


class ScrapeServer(HTTPServer):
    """Serves scrapes one by one, on a socket that other processes listen on too.

    Args:
        listener: The socket. It does not block, as another process may accept the connection first.
        metrics: The metrics of this process.

    """

    def __init__(self, listener: socket.socket, metrics: Metrics) -> None:
        collector = MultiProcessCollector(CollectorRegistry())  # type: ignore[no-untyped-call]
        super().__init__(listener.getsockname()[:2], ScrapeHandler.factory(collector), bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._metrics = metrics

    def service_actions(self) -> None:
        """Sample the resources that this process has in use."""
        self._metrics.sample()

    def handle_error(self, *_: Any) -> None:
        """Log that a scraper did not wait for the metrics."""
        log.info("scrape aborted", exc_info=sys.exc_info())


class Exporter:
    """The port, the files and the metrics.

    Args:
        app: The application, as the workers will run it.
        config: The settings, with a port for the metrics.

    Raises:
        SystemExit: the port cannot be bound.

    """

    def __init__(self, app: Flask, config: Config) -> None:
        self._listener = listen("METRICS_PORT", config.host, config.metrics_port)
        # Whichever process accepts a connection first has it; the others must not wait for the next one.
        self._listener.setblocking(False)
        place = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
        remove_folders_of_dead_servers(place)
        self._folder, self._lock = make_folder(place)
        os.environ[FOLDER] = self._folder
        self._process: int | str = "master"
        values.ValueClass = values.MultiProcessValue(lambda: self._process)  # type: ignore[no-untyped-call]
        with app.app_context():
            engine = db.engine
        keys = app.extensions["issuer_keys"]
        hub = app.extensions["events"]
        self._metrics = Metrics(
            CollectorRegistry(),
            engine=engine,
            key_age=None if keys is None else keys.age,
            streams=lambda: hub.number,
            kept_bytes=app.extensions[kept_pages.EXTENSION].size,
        )

    def serve(self, number: int) -> ScrapeServer:
        """Count in this worker, and return the server of scrapes, which runs in a thread of its own.

        Args:
            number: The number of the worker. One that replaces another takes over its number, and with it its counts.

        """
        self._process = number
        self._metrics.sample()
        self._metrics.observe()
        server = ScrapeServer(self._listener, self._metrics)
        Thread(target=server.serve_forever, args=(SAMPLE_S,), name="scrapes", daemon=True).start()
        return server

    def claim(self) -> int:
        """Return the least number that no living process of the server has, and keep it until this process ends.

        It serves where the server does not number its processes.
        """
        return next(number for number in count() if self._is_claimed(number))

    def _is_claimed(self, number: int) -> bool:
        lock = os.open(Path(self._folder) / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        return True

    def forget(self, number: int) -> None:
        """Remove the resources that a dead worker had in use from the sums; its counts stay in them."""
        mark_process_dead(number, self._folder)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Release the port and remove the files."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def make_folder(place: Path) -> tuple[str, int]:
    """Create a folder, and lock it until this process and all that it forks have ended.

    It gets its name once it is locked: no other server may take it for the folder of a dead one.

    Returns:
        Its path, and the descriptor that holds the lock.

    """
    unlocked = Path(tempfile.mkdtemp(prefix=f".{NAME}", dir=place))
    lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return str(unlocked.rename(place / unlocked.name.removeprefix("."))), lock


def remove_folders_of_dead_servers(place: Path) -> None:
    """Remove the folders that servers of this user left behind when they were killed."""
    for folder in place.glob(f"{NAME}*"):
        with locked(folder) as is_ours_and_dead:
            if is_ours_and_dead:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a folder if it belongs to this user and no process holds its lock, and report whether that was so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        # It is closed to this user, no folder, or gone.
        yield False
        return
    try:
        is_ours = os.fstat(descriptor).st_uid == os.geteuid()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_ours = False
        yield is_ours
    finally:
        os.close(descriptor)
