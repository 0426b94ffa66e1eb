"""The resident memory of a worker of gunicorn, before and after many large pages."""

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

from benchmarks import markdown, postgres
from config import ROOT
from todo.auth.tokens import issue

PAGES = 200
START_S = 30
NEXT = re.compile(r"<([^>]+)>")


class Client:
    """A client with one connection and a token of its user."""

    def __init__(self, port: int, user: str) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=START_S)
        token = issue(postgres.SECRET, user, lifetime_s=3600)
        self.headers = {"Authorization": f"Bearer {token}"}

    def page(self, path: str) -> tuple[int, str | None]:
        """Read a page, and return its size in bytes and the path of the next page."""
        self.connection.request("GET", path, headers=self.headers)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:  # noqa: PLR2004 (OK)
            raise click.ClickException(f"{path.partition('?')[0]} responded with {response.status}: {json.loads(body)}")
        link = NEXT.match(response.headers.get("Link", ""))
        return len(body), link[1] if link else None


def run(server: Any, database: str, user: str) -> dict[str, Any]:
    """Read first pages and deep pages of a user with many tasks, and measure the worker in between."""
    first = "/api/me/tasks"
    with _serving(postgres.url(server, database)) as (worker, port):
        client = Client(port, user)
        results: dict[str, Any] = {"started_mib": _resident(worker)}
        size, _ = client.page(first)
        results |= {"page_bytes": size, "after_one_page_mib": _resident(worker)}
        for _ in range(PAGES):
            client.page(first)
        results["after_first_pages_mib"] = _resident(worker)
        path: str | None = first
        for _ in range(PAGES):
            _, path = client.page(path or first)
        results["after_deep_pages_mib"] = _resident(worker)
    return {"pages": PAGES, **results}


def _resident(worker: psutil.Process) -> float:
    return float(worker.memory_info().rss / postgres.MIB)


@contextmanager
def _serving(database_url: str) -> Iterator[tuple[psutil.Process, int]]:
    """Run gunicorn with one worker, and yield the worker and the port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # An empty variable counts as unset, and overrides a file .env.
    unset = ("BETTER_AUTH_URL", "BETTER_AUTH_SECRET_PREVIOUS", "JWT_ISSUER", "JWT_AUDIENCE", "JWKS_URL", "WEB_THREADS")
    settings = dict.fromkeys(unset, "") | {
        "ENVIRONMENT": "development",
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": postgres.SECRET,
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    master = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings)  # noqa: S603 (a fixed command)
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
    raise click.ClickException("gunicorn did not start: see its output above.")


def table(results: Mapping[str, Any]) -> list[str]:
    """Return the table as lines of Markdown."""
    stages = {
        "started": results["started_mib"],
        f"after one page of {results['page_bytes'] / 1024:.0f} KiB": results["after_one_page_mib"],
        f"after {results['pages']} first pages": results["after_first_pages_mib"],
        f"after {results['pages']} deep pages": results["after_deep_pages_mib"],
    }
    return markdown.table("r" * len(stages), list(stages), [[f"{mib:.1f} MiB" for mib in stages.values()]])
