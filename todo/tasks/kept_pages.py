"""Kept pages: the bodies of lists that were sent, to be sent again while PostgreSQL says that the list is unchanged.

Every request for a list is one statement, with and without a kept page. The statement is told which revision is known,
and reads no task where the list is still at it. So a kept page saves work and is never out of date: its body is right
for the same reason as its ETag, as both depend on the revision of the list and on the whole query alone.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import Flask

from config import Config
from todo.context import current_application
from todo.extensions import ORJSONProvider
from todo.http.etags import QueryETag
from todo.tasks.queries import TaskPage
from todo.telemetry.lists import PageSource, page_found

MIB = 2**20
EXTENSION = "kept_pages"

# A page of 50 tasks has some 16 KiB, one of 1,000 some 330 KiB.
PAGE_MAX_BYTES = 256 * 1024

# For how long a page may be sent again, in seconds. It bounds for how long a process tells of what a database that was
# put back has forgotten.
AGE_MAX_S = 300.0

# What a page takes besides the bytes of its texts, at most: its objects, and its place in the table.
ENTRY_BYTES = 640

# The table grows with the number of pages, and shrinks late: a part of the memory is for it. It suffices because every
# page counts as so many bytes at least.
COUNTED_MIN_BYTES = 4096
TABLE_PART = 1 / 16


@dataclass(frozen=True, slots=True)
class PageBody:
    """A page of a list as it is sent.

    Attributes:
        query: The caller and the whole query; None where the response depends on the time too.
        revision: The revision of the list.
        body: Its tasks as JSON.
        next: The cursor of the next page, if there is one.
        total: How many tasks there are on all pages, if that was requested.
        expires_at: Until when it may be sent again, in seconds of the clock.

    """

    query: bytes | None
    revision: int
    body: bytes
    next: str | None
    total: int | None
    expires_at: float

    @property
    def size(self) -> int:
        """The number of bytes that it takes to keep it, at most."""
        taken = len(self.query or b"") + len(self.body) + len(self.next or "") + ENTRY_BYTES
        return max(taken, COUNTED_MIN_BYTES)


class KeptPages:
    """The pages of one process that were requested last, of all users.

    A list that is read for the first time must cost no more than without kept pages. With `TTLCache` of `cachetools` it
    took 3 % more processor time; this cache has no order by age, and no calls of many small functions.

    Args:
        max_bytes: How much memory they may take; with 0 none is kept.
        clock: Returns the time in seconds.

    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._counted_max = max_bytes - math.ceil(max_bytes * TABLE_PART)
        self._page_max = min(self._counted_max, PAGE_MAX_BYTES)
        self._clock = clock
        # The page that was requested least recently comes first.
        self._pages: OrderedDict[bytes, PageBody] = OrderedDict()
        self._counted = 0
        self._lock = threading.Lock()

    def read(self, tag: QueryETag, list_tasks: Callable[[int | None], TaskPage | None]) -> PageBody | None:
        """Return the page of a query in its newest state, or None where the client has it.

        Args:
            tag: The query, and the revision at which the client has its response.
            list_tasks: Reads the page; returns None where the list is still at the given revision.

        """
        kept = self.find(tag.query)
        # The list is not at the lesser of the two any more, unless the database was put back; then the page is read.
        revisions = [tag.last_revision, kept.revision if kept is not None else None]
        known_revision = max((revision for revision in revisions if revision is not None), default=None)
        tasks = list_tasks(known_revision)
        if tasks is not None:
            page_found.send(PageSource.DATABASE)
            page = self._page_of(tag.query, tasks)
            self.keep(page)
            return page
        if known_revision == tag.last_revision:
            page_found.send(PageSource.CLIENT)
            return None
        page_found.send(PageSource.KEPT)
        return kept

    def find(self, query: bytes | None) -> PageBody | None:
        """Return the page that was kept of a query, at whatever revision it is."""
        if query is None:
            return None
        with self._lock:
            page = self._pages.get(query)
            if page is None or page.expires_at <= self._clock():
                return None
            self._pages.move_to_end(query)
            return page

    def keep(self, page: PageBody) -> None:
        """Keep a page in the place of the one before, and forget those that were not requested for longest.

        The page that was read last counts, even if its revision is the lesser one. It may be that of a slow request; or
        the database was put back, and will soon give the greater revision to other tasks.
        """
        if page.query is None:
            return
        with self._lock:
            if (before := self._pages.pop(page.query, None)) is not None:
                self._counted -= before.size
            if page.size <= self._page_max:
                self._pages[page.query] = page
                self._counted += page.size
            self._forget()

    def _page_of(self, query: bytes | None, tasks: TaskPage) -> PageBody:
        body = cast(ORJSONProvider, current_application().json).encode(tasks.tasks)
        if query is not None and len(body) <= self._page_max:
            # orjson writes into a buffer that it doubles, and cuts off what is left over. A copy leaves no such gaps
            # between the pages: with 8 MiB of them a process is 1.6 MiB smaller.
            body = bytes(memoryview(body))
        return PageBody(query, tasks.revision, body, tasks.next, tasks.total, self._clock() + AGE_MAX_S)

    def _forget(self) -> None:
        """Forget pages until the others have room, and those that expired.

        One that expires before those in front of it goes once these have expired too: at twice the greatest age, at the
        latest.
        """
        now = self._clock()
        while self._pages:
            first = next(iter(self._pages.values()))
            if self._counted <= self._counted_max and now < first.expires_at:
                return
            self._pages.popitem(last=False)
            self._counted -= first.size

    def size(self) -> int:
        """Return the number of bytes that the kept pages take, at most."""
        return self._counted


def current() -> KeptPages:
    """Return the kept pages of the application."""
    pages: KeptPages = current_application().extensions[EXTENSION]
    return pages


def init_app(app: Flask, config: Config) -> None:
    """Keep as many pages as the settings say; there are none before the first request."""
    app.extensions[EXTENSION] = KeptPages(config.kept_pages_mib * MIB)
