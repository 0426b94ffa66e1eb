"""What a front-end does, in a browser."""

import re
from pathlib import Path

from playwright.sync_api import Page
from support import bearer, new_user
from test_docs import example

FETCH = """
async ([method, path, authorization, body]) => {
  const headers = { Authorization: authorization, "Content-Type": "application/json" };
  const response = await fetch(path, { method, headers, body });
  return { status: response.status, etag: response.headers.get("ETag"), body: await response.json() };
}
"""


def fetch(page: Page, server: str, method: str, path: str, user: str, body: str | None = None) -> dict:
    """Call as a front-end does that knows nothing of tags."""
    return page.evaluate(FETCH, [method, f"{server}/api/me{path}", bearer(user)["Authorization"], body])


def test_checksum_in_typescript_is_that_of_the_feed(page: Page, server: str, root: Path) -> None:
    page.goto(f"{server}/docs")
    user = new_user()
    for title in ("a", "b"):
        fetch(page, server, "POST", "/tasks", user, f'{{"title": "{title}"}}')
    feed = fetch(page, server, "GET", "/tasks/changes", user)["body"]
    # The browser knows no types.
    script = re.sub(
        r"(\(tasks): .*?\)(: Promise<string>)", r"\1)", example((root / "docs/api/sync.md").read_text(), "ts")
    )

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
        fetch(page, server, "POST", "/tasks", user, f'{{"title": "{user}"}}')
    for user in (first, first, second, first):
        response = fetch(page, server, "GET", "/tasks", user)
        assert response["status"] == 200
        assert [task["title"] for task in response["body"]] == [user]
    fetch(page, server, "POST", "/tasks", first, '{"title": "newer"}')
    assert [task["title"] for task in fetch(page, server, "GET", "/tasks", first)["body"]] == [first, "newer"]
