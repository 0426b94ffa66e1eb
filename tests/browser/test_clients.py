"""Calls of a front-end in a real browser."""

import re
from pathlib import Path

from playwright.sync_api import Page
from support import bearer, new_user
from test_readme import example

CALL = """
async ([method, path, authorization, body]) => {
  const headers = { Authorization: authorization, "Content-Type": "application/json" };
  const response = await fetch(path, { method, headers, body });
  return { status: response.status, etag: response.headers.get("ETag"), body: await response.json() };
}
"""


def call(page: Page, server: str, method: str, path: str, user: str, body: str | None = None) -> dict:
    """Call the API as a front-end does that knows nothing of ETags."""
    return page.evaluate(CALL, [method, f"{server}/api/me{path}", bearer(user)["Authorization"], body])


def test_checksum_in_typescript_is_that_of_the_feed(page: Page, server: str, root: Path) -> None:
    page.goto(f"{server}/docs")
    user = new_user()
    for title in ("a", "b"):
        call(page, server, "POST", "/tasks", user, f'{{"title": "{title}"}}')
    feed = call(page, server, "GET", "/tasks/changes", user)["body"]
    # The browser runs JavaScript, which has no type annotations.
    script = re.sub(r"(\(tasks): .*?\)(: Promise<string>)", r"\1)", example((root / "README.md").read_text(), "ts"))

    checksums = page.evaluate(
        f"async (tasks) => {{ {script}; return [await checksum(tasks), await checksum([])]; }}", feed["tasks"]
    )

    assert feed["count"] == 2
    assert checksums[0] == feed["checksum"]
    assert checksums[1] != checksums[0]


def test_lists_cached_by_the_browser_are_never_stale_and_never_of_another_user(page: Page, server: str) -> None:
    page.goto(f"{server}/docs")
    first, second = new_user(), new_user()
    for user in (first, second):
        call(page, server, "POST", "/tasks", user, f'{{"title": "{user}"}}')
    for user in (first, first, second, first):
        response = call(page, server, "GET", "/tasks", user)
        assert response["status"] == 200
        assert [task["title"] for task in response["body"]] == [user]
    call(page, server, "POST", "/tasks", first, '{"title": "newer"}')
    assert [task["title"] for task in call(page, server, "GET", "/tasks", first)["body"]] == [first, "newer"]
