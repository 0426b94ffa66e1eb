"""A server and a Chromium. A page that breaks a rule fails its test."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright
from wire.server import Server

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

# Chromium raises an event in the page for each violation of its policy; this script reports them to the test.
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  reportViolation(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


@pytest.fixture(scope="session", params=["", "/behind/a-prefix"], ids=["root", "prefix"])
def server(
    request: pytest.FixtureRequest, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return the URL of a running server, mounted at the root and then behind a path prefix."""
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    server = Server(log, DATABASE_URL=database_url, SCRIPT_NAME=request.param)
    try:
        server.wait_until_healthy(f"{request.param}/health")
        yield f"{server.url}{request.param}"
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.fixture(scope="session")
def development(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a server for development, since no other has the demo; behind a prefix, the harder case."""
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    server = Server(log, DATABASE_URL=database_url, SCRIPT_NAME="/behind/a-prefix", ENVIRONMENT="development")
    try:
        server.wait_until_healthy("/behind/a-prefix/health")
        yield f"{server.url}/behind/a-prefix"
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return a running Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """Return a page in a profile of its own, and assert afterwards that it broke no rule."""
    faults: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            faults.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((f"{server}/", "data:", "blob:")):
            faults.append(f"request to another origin: {request.url}")

    def on_failure(request: Request) -> None:
        # A reload aborts requests that are under way, such as that of the icon.
        if request.failure != "net::ERR_ABORTED":
            faults.append(f"{request.failure}: {request.url}")

    def on_response(response: Response) -> None:
        if not response.ok and response.status != 304:
            faults.append(f"{response.status}: {response.url}")

    with browser.new_context(base_url=server, viewport={"width": 1280, "height": 900}) as context:
        context.expose_function("reportViolation", lambda text: faults.append(f"policy: {text}"))
        context.add_init_script(REPORT_VIOLATIONS)
        page = context.new_page()
        page.on("console", on_console)
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on("request", on_request)
        page.on("requestfailed", on_failure)
        page.on("response", on_response)
        yield page
        page.wait_for_load_state("networkidle")
        assert faults == []
