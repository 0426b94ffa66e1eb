"""The metrics of all workers for Prometheus, on a port of their own that every worker serves.

The master binds the port before it forks, so that a port in use ends the start. Each worker counts in files of its own,
in memory, and serves the sum of all files from one thread. The master itself runs no thread.
"""

import os
import shutil
import socket
import sys
import tempfile
from http.server import HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from flask import Flask
from prometheus_client import CollectorRegistry, values
from prometheus_client.exposition import MetricsHandler
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from config import Config
from todo.extensions import db
from todo.telemetry.logs import log
from todo.telemetry.metrics import Metrics

# How often a worker samples the resources in use.
SAMPLE_S = 1.0

# The connection of a scraper that is silent for longer is closed.
SILENCE_MAX_S = 5

# The variable that names the folder of the library's files. The library takes it from the environment alone.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = Path("/dev/shm")  # noqa: S108 (the folder in it has a random name)  # nosec B108


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
        self._listener = listen(config.host.strip("[]"), config.metrics_port)
        self._folder = tempfile.mkdtemp(prefix="todo-metrics-", dir=MEMORY if MEMORY.is_dir() else None)
        os.environ[FOLDER] = self._folder
        self._process: int | str = "master"
        values.ValueClass = values.MultiProcessValue(lambda: self._process)  # type: ignore[no-untyped-call]
        with app.app_context():
            engine = db.engine
        keys = app.extensions["issuer_keys"]
        self._metrics = Metrics(CollectorRegistry(), engine=engine, key_age=None if keys is None else keys.age)

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

    def forget(self, number: int) -> None:
        """Remove the resources that a dead worker had in use from the sums; its counts stay in them."""
        mark_process_dead(number, self._folder)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Release the port and remove the files."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def listen(host: str, port: int | None) -> socket.socket:
    """Bind a port, for this process and those that it forks.

    Raises:
        SystemExit: the port cannot be bound.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        fault = os.strerror(error.errno or 0)
        raise SystemExit(f"todo cannot start: METRICS_PORT {port} cannot be bound: {fault}.") from None
    listener.setblocking(False)
    return listener
