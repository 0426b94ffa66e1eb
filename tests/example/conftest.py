"""The example application, the service that keeps its tasks, and a Chromium."""

import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from browser.conftest import browser
from playwright.sync_api import Browser, BrowserContext, Page
from support import SECRET
from wire.server import ROOT, Server, free_port, wait_until

__all__ = ["browser"]

EXAMPLE = ROOT / "examples" / "next-better-auth"


@pytest.fixture(scope="session")
def example(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of the built application, beside a server that knows it by that URL alone."""
    folder = tmp_path_factory.mktemp("example")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = Server(
        folder / "gunicorn", DATABASE_URL=database_url, BETTER_AUTH_SECRET="", BETTER_AUTH_URL=url, CORS_ORIGINS=url
    )
    log = folder / "next"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "NEXT_TELEMETRY_DISABLED": "1",
        "BETTER_AUTH_SECRET": SECRET,
        "BETTER_AUTH_URL": url,
        "TODO_URL": server.url,
    }
    with log.open("w") as output:
        application = subprocess.Popen(
            ["node", "node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1", "--port", str(port)],
            cwd=EXAMPLE,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def answers() -> bool:
        assert application.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url) as response:
                return response.status == 200
        except OSError:
            return False

    try:
        wait_until(answers, "the application serves", 120)
        server.wait_until_healthy()
        yield url
        assert server.stop() == 0
    finally:
        server.kill()
        application.terminate()
        application.wait()


@pytest.fixture
def open_browser(browser: Browser, example: str) -> Iterator[Callable[..., Page]]:
    """Return a function that opens the application on another device, which may be signed in as one before it."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(signed_in: Page | None = None) -> Page:
        cookies = signed_in.context.storage_state() if signed_in else None
        context = browser.new_context(base_url=example, storage_state=cookies)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto("/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
