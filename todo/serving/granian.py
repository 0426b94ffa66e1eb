"""Granian as the server: what it is told, and what its processes share or must have each for itself.

Granian reads and writes outside of the interpreter, and calls the application from threads of its own. Only its
documented interface is used: the options of `Granian`, and a function that each process calls for the application.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
from contextlib import suppress
from typing import Any

from flask import Flask
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

import boot
from config import ROOT, Config
from todo import auth
from todo.extensions import db
from todo.serving.framing import HEAD_MAX_BYTES
from todo.serving.listening import listen
from todo.serving.logger import remove_quotation
from todo.telemetry.logs import log

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Of prctl(2).
PR_SET_PDEATHSIG = 1

# Granian's lines, those of its parts in Rust, and those of all libraries have the form of the application's.
LOGGING: dict[str, Any] = {
    "filters": {"quotations": {"()": lambda: remove_quotation}},
    "handlers": {"log": {"class": "todo.telemetry.logs.Forwarder", "filters": ["quotations"]}},
    "loggers": {"_granian": {"handlers": ["log"], "propagate": False}},
    "root": {"handlers": ["log"], "level": logging.WARNING},
}


def serve(settings: Config) -> None:
    """Serve the application until the server is stopped.

    Raises:
        SystemExit: It cannot start, or a process ends again and again.

    """
    os.chdir(ROOT)
    clients = boot.raise_file_limit()
    boot.report_misspelt(log.warning)
    # Granian lets several servers have one port, and takes no names of hosts.
    with listen("PORT", settings.host, settings.port) as listener:
        address = listener.getsockname()[0]
    # The application is loaded once and then forked: processes start at once and share its memory. Python 3.14 would
    # start each of them from nothing.
    from wsgi import app  # noqa: PLC0415

    multiprocessing.set_start_method("fork", force=True)
    os.register_at_fork(before=block_stop_signals, after_in_parent=unblock_stop_signals, after_in_child=follow_server)
    exporter = None
    if settings.metrics_port is not None:
        # The exporter and its library stay out of processes without metrics.
        from todo.serving.exporter import Exporter  # noqa: PLC0415

        exporter = app.extensions["exporter"] = Exporter(app, settings)
    try:
        Granian(**options(settings, address, clients)).serve()
    finally:
        if exporter is not None:
            exporter.close()


def options(settings: Config, address: str, clients: int) -> dict[str, Any]:
    """Return what Granian is told.

    Args:
        settings: The settings.
        address: The IP address to listen on.
        clients: How many connections each process accepts.

    """
    return {
        "target": f"{__name__}:start_worker",
        "factory": True,
        "interface": Interfaces.WSGI,
        "address": address,
        "port": settings.port,
        "workers": settings.web_concurrency,
        "blocking_threads": settings.web_threads,
        # Where both versions are accepted, no time-out applies before the first bytes tell which one it is.
        "http": HTTPModes.http1,
        "websockets": False,
        "backlog": boot.BACKLOG,
        # Further connections wait in the backlog. A lower number would bound the requests that wait for a thread, but
        # idle connections count as well.
        "backpressure": clients,
        # One time-out for the header of a request and for the silence before it, on a connection that is kept alive
        # too. The buffer bounds the header; the body goes through it in pieces.
        "http1_settings": HTTP1Settings(
            header_read_timeout=boot.KEEP_ALIVE_S * 1000, keep_alive=True, max_buffer_size=HEAD_MAX_BYTES
        ),
        "log_level": LogLevels(settings.log_level.lower()),
        "log_dictconfig": LOGGING,
        # A process that dies is replaced; when the new one dies within seconds too, the server ends.
        "respawn_failed_workers": True,
        "workers_kill_timeout": boot.SHUTDOWN_S,
    }


def start_worker() -> Flask:
    """Set up what processes cannot share, and return the application. Each new process calls it."""
    # The module is loaded already.
    from wsgi import app  # noqa: PLC0415

    with app.app_context():
        db.engine.dispose(close=False)
    auth.after_fork(app)
    if (exporter := app.extensions.get("exporter")) is not None:
        number = exporter.claim()
        # What a dead process with this number had in use.
        exporter.forget(number)
        exporter.serve(number)
    return app


def block_stop_signals() -> None:
    """Hold signals back while a process is forked: it has the handlers of its parent, which would lose them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def unblock_stop_signals() -> None:
    """Receive what was held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def follow_server() -> None:
    """End with the server, also before Granian has installed its handlers here, and when the server is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C reaches a whole group. The server alone takes it, and ends the others.
    os.setpgid(0, 0)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    unblock_stop_signals()
