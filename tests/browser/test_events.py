"""Two tabs of a browser, which follow the changes with the reader of the documentation."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support import bearer, new_user
from test_docs import FENCE


def reader(root: Path) -> str:
    """Return the reader as a browser takes it, which knows no types."""
    ((_, script),) = [block for block in FENCE.findall((root / "docs/api/events.md").read_text()) if block[0] == "ts"]
    script = re.sub(r"\((url): .*?\) \{$", "(url, token, read, signal) {", script, count=1, flags=re.MULTILINE)
    return script.replace("blocks.pop()!", "blocks.pop()")


# What a front-end brings to the reader: a token, and how it reads the feed. It follows until it is told to stop.
FOLLOW = """
async ([url, authorization]) => {
  SCRIPT;
  window.titles = [];
  window.reads = 0;
  let next = "";
  const token = async () => authorization.replace("Bearer ", "");
  const read = async () => {
    window.reads += 1;
    for (let page = { has_more: true }; page.has_more; next = page.next) {
      const query = next ? `?since=${next}` : "";
      const response = await fetch(`${url}/tasks/changes${query}`, { headers: { Authorization: authorization } });
      page = await response.json();
      window.titles.push(...page.tasks.map((task) => task.title));
    }
    return next;
  };
  window.stop = new AbortController();
  window.followed = follow(url, token, read, window.stop.signal);
}
"""

WRITE = """
async ([url, authorization, title]) => {
  const headers = { Authorization: authorization, "Content-Type": "application/json" };
  return (await fetch(`${url}/tasks`, { method: "POST", headers, body: JSON.stringify({ title }) })).status;
}
"""


@pytest.fixture
def tabs(browser: Browser, server: str):
    """Return two tabs of one browser, and what went wrong in them."""
    faults = []
    with browser.new_context() as context:
        pages = [context.new_page() for _ in range(2)]
        for page in pages:
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"{server}/docs")
        yield pages
    assert faults == []


def test_task_that_one_tab_creates_appears_in_the_other(tabs, server: str, root: Path) -> None:
    user = new_user()
    url, authorization = f"{server}/api/me", bearer(user)["Authorization"]
    for page in tabs:
        page.evaluate(FOLLOW.replace("SCRIPT", reader(root)), [url, authorization])
        page.wait_for_function("window.reads > 0")
    for number, (writing, reading) in enumerate([tabs, tabs[::-1]]):
        title = f"number {number}"
        assert writing.evaluate(WRITE, [url, authorization, title]) == 201
        for page in (writing, reading):
            page.wait_for_function("(title) => window.titles.includes(title)", arg=title)
    for page in tabs:
        page.evaluate("() => { window.stop.abort(); return window.followed; }")
        # Nothing came twice.
        assert page.evaluate("window.titles") == ["number 0", "number 1"]
