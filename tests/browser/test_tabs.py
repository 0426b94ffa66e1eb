"""The TypeScript client in tabs of a real browser: its IndexedDB, its Web Locks and its BroadcastChannel."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from support import bearer, new_user
from wire.server import wait_until

OPEN = """
async ([server, token]) => {
  const { createTasks } = await import(`${server}/demo/assets/todo-sync.js`);
  window.tasks = createTasks({ url: server, token: async () => token });
  tasks.subscribe(() => {});
}
"""
TITLES = "tasks.list().map(({ title }) => title).sort().join()"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Return a profile of its own, which lets a test look at a page by what its policy forbids."""
    with browser.new_context(bypass_csp=True) as context:
        yield context


@pytest.fixture
def open_tab(context: BrowserContext, development: str) -> Callable[[], Page]:
    """Return a function that opens a tab of one user."""
    token = bearer(new_user())["Authorization"].removeprefix("Bearer ")

    def open_tab() -> Page:
        tab = context.new_page()
        tab.goto(f"{development}/docs")
        tab.evaluate(OPEN, [development, token])
        return tab

    return open_tab


@pytest.fixture
def streams(context: BrowserContext) -> list[Page]:
    """Return the tabs that have opened a stream of events, in order."""
    opened: list[Page] = []
    context.on("request", lambda request: "/events" in request.url and opened.append(request.frame.page))
    return opened


def wait_for_streams(streams: list[Page], *tabs: Page) -> None:
    """Wait until these tabs have opened a stream, and no others."""

    def have_opened() -> bool:
        tabs[-1].wait_for_timeout(50)
        return streams == list(tabs)

    wait_until(have_opened, "opened")


def in_step(tab: Page) -> None:
    tab.wait_for_function("tasks.status.syncedAt && tasks.status.online && !tasks.status.pending")


def test_tabs_share_one_stream_and_show_the_same(open_tab: Callable[[], Page], streams: list[Page]) -> None:
    first = open_tab()
    in_step(first)
    second = open_tab()
    in_step(second)
    second.evaluate("tasks.add({ title: 'b' })")
    first.evaluate("tasks.add({ title: 'a' })")
    for tab in (first, second):
        tab.wait_for_function(f"{TITLES} === 'a,b'")
        in_step(tab)

    wait_for_streams(streams, first)

    first.close()
    second.evaluate("tasks.add({ title: 'c' })")
    in_step(second)
    second.wait_for_function(f"{TITLES} === 'a,b,c'")
    wait_for_streams(streams, first, second)


def test_edits_made_offline_survive_their_tab(open_tab: Callable[[], Page], context: BrowserContext) -> None:
    first = open_tab()
    key = first.evaluate("tasks.add({ title: 'a' })")
    in_step(first)
    context.set_offline(True)
    first.evaluate("key => { tasks.update(key, { title: 'b' }); tasks.add({ title: 'c' }); }", key)
    first.wait_for_function("!tasks.status.online && tasks.status.pending === 2")
    first.evaluate("tasks.close()")
    first.close()
    context.set_offline(False)

    second = open_tab()
    second.wait_for_function(f"{TITLES} === 'b,c'")
    in_step(second)
    assert isinstance(second.evaluate("key => tasks.get(key).id", key), int)


def test_user_who_signs_out_leaves_nothing(open_tab: Callable[[], Page]) -> None:
    first, second = open_tab(), open_tab()
    first.evaluate("tasks.add({ title: 'a' })")
    for tab in (first, second):
        tab.wait_for_function(f"{TITLES} === 'a'")
        in_step(tab)
    second.evaluate("tasks.clear()")
    first.wait_for_function("!tasks.status.ready && !tasks.list().length")

    stored = """async () => {
      const counts = [];
      for (const { name } of await indexedDB.databases()) {
        const db = await new Promise((done) => (indexedDB.open(name).onsuccess = (event) => done(event.target.result)));
        for (const store of db.objectStoreNames) {
          const request = db.transaction(store).objectStore(store).count();
          counts.push(await new Promise((done) => (request.onsuccess = () => done(request.result))));
        }
      }
      return [counts, Object.keys(localStorage)];
    }"""
    assert second.evaluate(stored) == [[0, 0, 0], []]
