"""Kept pages: the bodies of lists that were sent, to be sent again while PostgreSQL says that the list is unchanged.

Every request for a list is one statement, with and without a kept page. The statement is told which revision is known,
and reads no task where the list is still at it. So a kept page saves work and is never out of date: its body is right
for the same reason as its ETag, as both depend on the revision of the list and on the whole query alone.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from cachetools import TTLCache
from flask import Flask, current_app

from config import Config
from todo.extensions import ORJSONProvider
from todo.http.etags import QueryETag
from todo.tasks.queries import TaskPage
from todo.telemetry.lists import PageSource, page_found

MIB = 2**20
EXTENSION = "kept_pages"

# A page of 50 tasks has some 16 KiB, one of 1,000 some 330 KiB.
PAGE_MAX_BYTES = 256 * 1024

# How long a page is kept, in seconds, however often it is sent. It bounds how long a process remembers what was erased,
# and what a database that was put back has forgotten.
AGE_MAX_S = 300.0

# What a page takes besides the bytes of its texts, at most: the objects of the page and of the cache.
ENTRY_BYTES = 640

# The tables of the cache grow with the number of pages, and shrink late: a part of the memory is theirs. It suffices
# because every page counts as so many bytes at least.
COUNTED_MIN_BYTES = 4096
TABLES_PART = 1 / 10


@dataclass(frozen=True, slots=True)
class PageBody:
    """A page of a list as it is sent.

    Attributes:
        query: The caller and the whole query; None where the response depends on the time too.
        revision: The revision of the list.
        body: Its tasks as JSON.
        next: The cursor of the next page, if there is one.
        total: How many tasks there are on all pages, if that was requested.

    """

    query: bytes | None
    revision: int
    body: bytes
    next: str | None
    total: int | None

    @property
    def size(self) -> int:
        """The number of bytes that it takes to keep it, at most."""
        taken = len(self.query or b"") + len(self.body) + len(self.next or "") + ENTRY_BYTES
        return max(taken, COUNTED_MIN_BYTES)


class KeptPages:
    """The pages of one process that were requested last, of all users.

    Args:
        max_bytes: How much memory they may take; with 0 none is kept.
        clock: Returns the time in seconds.

    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        counted_max = max_bytes - math.ceil(max_bytes * TABLES_PART)
        self._page_max = min(counted_max, PAGE_MAX_BYTES)
        self._pages: TTLCache[bytes, PageBody] = TTLCache(counted_max, AGE_MAX_S, clock, lambda page: page.size)
        self._lock = threading.Lock()

    def read(self, tag: QueryETag, list_tasks: Callable[[int | None], TaskPage | None]) -> PageBody | None:
        """Return the page of a query in its newest state, or None where the client has it.

        Args:
            tag: The query, and the revision at which the client has its response.
            list_tasks: Reads the page; returns None where the list is still at the given revision.

        """
        kept = self.find(tag.query)
        # At the lesser of the two the list is no more, unless the database was put back; then the page is read.
        revisions = [tag.last_revision, kept.revision if kept is not None else None]
        known_revision = max((revision for revision in revisions if revision is not None), default=None)
        tasks = list_tasks(known_revision)
        if tasks is not None:
            page_found.send(PageSource.DATABASE)
            json = cast(ORJSONProvider, current_app.json)
            page = PageBody(tag.query, tasks.revision, json.encode(tasks.tasks), tasks.next, tasks.total)
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
            # What is too old goes now, also that of others.
            self._pages.expire()
            return self._pages.get(query)

    def keep(self, page: PageBody) -> None:
        """Keep a page in the place of the one before, and forget those that were not requested for longest.

        The page that was read last counts, even if its revision is the lesser one. It may be that of a slow request; or
        the database was put back, and will soon give the greater revision to other tasks.
        """
        if page.query is None:
            return
        with self._lock:
            if page.size <= self._page_max:
                self._pages[page.query] = page
            else:
                self._pages.pop(page.query, None)

    def size(self) -> int:
        """Return the number of bytes that the kept pages take, at most."""
        with self._lock:
            return int(self._pages.currsize)


def current() -> KeptPages:
    """Return the kept pages of the application."""
    pages: KeptPages = current_app.extensions[EXTENSION]
    return pages


def init_app(app: Flask, config: Config) -> None:
    """Keep as many pages as the settings say; there are none before the first request."""
    app.extensions[EXTENSION] = KeptPages(config.kept_pages_mib * MIB)
