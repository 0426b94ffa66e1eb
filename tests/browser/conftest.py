"""A real gunicorn and a real Chromium. A page that does anything it should not fails its test."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright
from support import SECRET

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 30
STOP_S = 30

# Chromium tells a page about each violation of its policy; this passes the news on.
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  tellViolation(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


@pytest.fixture(scope="session", params=["", "/behind/a-prefix"], ids=["root", "prefix"])
def server(
    request: pytest.FixtureRequest, root: Path, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give the URL of a running server, mounted at the root and then behind a path prefix."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}{request.param}"
    variables = {
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SECRET,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "SCRIPT_NAME": request.param,
    }
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
            cwd=root,
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            assert is_up(process, f"{url}/health"), log.read_text()
            yield url
        finally:
            process.terminate()
            process.wait(STOP_S)


def is_up(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server answers, ends or has had its time."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=START_S):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Give a running Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """Give a page in a profile of its own, and afterwards assert that it kept to the rules."""
    faults: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            faults.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((f"{server}/", "data:", "blob:")):
            faults.append(f"request elsewhere: {request.url}")

    def on_failure(request: Request) -> None:
        # A reload gives up what is under way, such as the icon.
        if request.failure != "net::ERR_ABORTED":
            faults.append(f"{request.failure}: {request.url}")

    def on_response(response: Response) -> None:
        if not response.ok and response.status != 304:
            faults.append(f"{response.status}: {response.url}")

    with browser.new_context(base_url=server, viewport={"width": 1280, "height": 900}) as context:
        context.expose_function("tellViolation", lambda text: faults.append(f"policy: {text}"))
        context.add_init_script(TELL_VIOLATIONS)
        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on("request", on_request)
        page.on("requestfailed", on_failure)
        page.on("response", on_response)
        yield page
        page.wait_for_load_state("networkidle")
        assert faults == []
