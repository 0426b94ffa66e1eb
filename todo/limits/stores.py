"""Where counts are kept: in the memory of one process, or in a Redis that processes share."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from cachetools import LRUCache

from todo.logs import log

# How many counts a process keeps, some 200 bytes each. Those that nobody raises any more are pushed out first.
COUNTS_MAX = 16_384

# A store that is at hand answers in a millisecond. While it does not, one request in each pause pays to find out.
TIMEOUT_S = 0.1
PAUSE_S = 1.0
REPORT_EVERY_S = 10.0

# What is counted, and how many seconds the count matters.
Window = tuple[str, int]


class Store(Protocol):
    """Keeps counts."""

    def count(self, windows: Sequence[Window]) -> list[int] | None:
        """Raise the count of each window by one, and give the counts; None when they cannot be known now."""


class MemoryStore:
    """The counts of this process alone."""

    def __init__(self) -> None:
        self._counts: LRUCache[str, int] = LRUCache(COUNTS_MAX)
        self._lock = threading.Lock()

    def count(self, windows: Sequence[Window]) -> list[int]:
        """Raise the counts while nobody else does."""
        counts = []
        with self._lock:
            for key, _ in windows:
                count = self._counts.get(key, 0) + 1
                self._counts[key] = count
                counts.append(count)
        return counts


class RedisStore:
    """The counts of all processes that share a Redis. It connects when it first counts.

    Args:
        url: Where it is. Options in it go before ours, such as `?socket_timeout=0.3`.

    Attributes:
        failure: What is raised when it does not do as it should.

    """

    def __init__(self, url: str) -> None:
        import redis  # noqa: PLC0415 (it takes 5 MiB, and is needed here alone)
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        self.failure: type[Exception] = redis.RedisError
        # Whoever waits for an answer does not want to wait for a second try. Protocol 2 is what every Redis speaks.
        self._redis = redis.from_url(
            url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0), protocol=2
        )

    def count(self, windows: Sequence[Window]) -> list[int]:
        """Raise the counts, all in one round trip. Each one is forgotten some time after its window."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for key, lifetime_s in windows:
                pipeline.incr(key)
                pipeline.expire(key, lifetime_s)
            counts: list[int] = pipeline.execute()[::2]
        return counts


class Forgiving:
    """A store that knows no counts while another one fails: then nobody is limited, and nobody waits.

    Args:
        store: The other one.
        failure: What it raises when it fails.
        clock: Gives the time as seconds since some moment.

    """

    def __init__(self, store: Store, failure: type[Exception], clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._failure = failure
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_until: float | None = None
        self._silent_until = 0.0

    def count(self, windows: Sequence[Window]) -> list[int] | None:
        """Ask the store, unless it has just failed."""
        if self._paused_until is not None and not self._may_try():
            return None
        try:
            counts = self._store.count(windows)
        except self._failure as error:
            self._pause(error)
            return None
        self._paused_until = None
        return counts

    def _may_try(self) -> bool:
        """Let one request in each pause find out whether the store is back; the others go on without."""
        with self._lock:
            now = self._clock()
            if self._paused_until is not None and now < self._paused_until:
                return False
            self._paused_until = now + PAUSE_S
            return True

    def _pause(self, error: Exception) -> None:
        with self._lock:
            now = self._clock()
            self._paused_until = now + PAUSE_S
            if now < self._silent_until:
                return
            self._silent_until = now + REPORT_EVERY_S
        log.error("rate limits are not held: their store does not answer", reason=str(error))
