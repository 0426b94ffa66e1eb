"""How much memory a worker of gunicorn holds, before and after many big pages."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import click
import psutil

from benchmarks import server
from config import ROOT
from todo.auth.tokens import issue

PAGES = 200
START_S = 30
NEXT = re.compile(r"<([^>]+)>")


class Client:
    """A client on one connection."""

    def __init__(self, port: int, user: str) -> None:
        """Get a token."""
        self.connection = HTTPConnection("127.0.0.1", port, timeout=START_S)
        token = issue(server.SECRET, user, lifetime_s=3600)
        self.headers = {"Authorization": f"Bearer {token}"}

    def page(self, path: str) -> tuple[int, str | None]:
        """Read a page; give its size in bytes, and where the next one is."""
        self.connection.request("GET", path, headers=self.headers)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:  # noqa: PLR2004 (OK)
            raise click.ClickException(f"{path.partition('?')[0]} answered {response.status}: {json.loads(body)}")
        link = NEXT.match(response.headers.get("Link", ""))
        return len(body), link[1] if link else None


def run(postgres: Any, database: str, user: str) -> dict[str, Any]:
    """Read first pages and deep pages of a user with many tasks, and look at the worker in between."""
    first = "/api/me/tasks"
    with _serving(server.url(postgres, database)) as (worker, port):
        client = Client(port, user)
        told: dict[str, Any] = {"started_mib": _resident(worker)}
        size, _ = client.page(first)
        told |= {"page_bytes": size, "after_one_page_mib": _resident(worker)}
        for _ in range(PAGES):
            client.page(first)
        told["after_first_pages_mib"] = _resident(worker)
        path: str | None = first
        for _ in range(PAGES):
            _, path = client.page(path or first)
        told["after_deep_pages_mib"] = _resident(worker)
    return {"pages": PAGES, **told}


def _resident(worker: psutil.Process) -> float:
    return float(worker.memory_info().rss / server.MIB)


@contextmanager
def _serving(database_url: str) -> Iterator[tuple[psutil.Process, int]]:
    """Run gunicorn with one worker; give that worker and the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # An empty variable counts as unset, whatever a file .env here says.
    unset = ("BETTER_AUTH_URL", "BETTER_AUTH_SECRET_PREVIOUS", "JWT_ISSUER", "JWT_AUDIENCE", "JWKS_URL", "WEB_THREADS")
    settings = dict.fromkeys(unset, "") | {
        "ENVIRONMENT": "development",
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": server.SECRET,
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    master = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings)  # noqa: S603 (ours)
    try:
        yield _worker(psutil.Process(master.pid), port), port
    finally:
        master.terminate()
        master.wait(START_S)


def _worker(master: psutil.Process, port: int) -> psutil.Process:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return master.children()[0]
        except (OSError, IndexError, psutil.NoSuchProcess):
            time.sleep(0.1)
    raise click.ClickException("gunicorn did not start: see what it said above.")


def table(found: Mapping[str, Any]) -> list[str]:
    """Give the table as lines of Markdown."""
    moments = {
        "started": found["started_mib"],
        f"after one page of {found['page_bytes'] / 1024:.0f} KiB": found["after_one_page_mib"],
        f"after {found['pages']} first pages": found["after_first_pages_mib"],
        f"after {found['pages']} deep pages": found["after_deep_pages_mib"],
    }
    cells = [f"{mib:.1f} MiB" for mib in moments.values()]
    return [f"| {' | '.join(moments)} |", f"|{'--:|' * len(moments)}", f"| {' | '.join(cells)} |"]
