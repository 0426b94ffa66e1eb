"""Where counts are kept: in the memory of one process, or in a Redis that processes share.

Both are stores of `limits`, in the place of its own. That in memory looks at every key many times a second, and keeps
as many as come; that in Redis asks three times for what is told at once.
"""

import threading
import time
from typing import Any

from cachetools import TLRUCache
from flask import g
from limits.storage import RedisStorage, Storage

from config import IN_MEMORY

# How many counts a process keeps, some 300 bytes each. Those that nobody raises any more are pushed out first.
COUNTS_MAX = 16_384

# A store that is at hand answers in a millisecond.
TIMEOUT_S = 0.1

# How often, and until when in seconds since 1970.
Window = tuple[int, float]
NOT_COUNTED: Window = (0, 0.0)


class Remembering:
    """Remembers what a store told in this request, so that nothing is asked twice."""

    def get(self, key: str) -> int:
        """Give a count that this request has raised; 0 of any other."""
        return _told().get(key, NOT_COUNTED)[0]

    def get_expiry(self, key: str) -> float:
        """Give when a count that this request has raised is forgotten, in seconds since 1970."""
        return _told().get(key, NOT_COUNTED)[1]


class MemoryStore(Remembering, Storage):
    """The counts of this process alone."""

    STORAGE_SCHEME = ["memory"]  # noqa: RUF012 (as it is declared)
    # Nothing is raised, since nothing can fail.
    base_exceptions = ()

    def __init__(self, uri: str | None = None, **options: Any) -> None:
        super().__init__(uri, **options)
        self._windows: TLRUCache[str, Window] = TLRUCache(COUNTS_MAX, lambda _, window, __: window[1], time.time)
        self._lock = threading.Lock()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Raise a count that is forgotten after so many seconds, while nobody else does."""
        with self._lock:
            count, until = self._windows.get(key) or (0, time.time() + expiry)
            self._windows[key] = _told()[key] = (count + amount, until)
        return count + amount

    def check(self) -> bool:
        """Tell that it is there."""
        return True

    def reset(self) -> int:
        """Forget all counts, and give how many there were."""
        with self._lock:
            there = len(self._windows)
            self._windows.clear()
        return there

    def clear(self, key: str) -> None:
        """Forget a count."""
        with self._lock:
            self._windows.pop(key, None)


class RedisStore(Remembering, RedisStorage):
    """The counts of all processes that share a Redis.

    It connects when it first counts, and raises `StorageError` when it cannot.
    """

    STORAGE_SCHEME = ["redis", "rediss"]  # noqa: RUF012 (as it is declared)

    SCRIPT = b"""
        local count = redis.call("INCRBY", KEYS[1], ARGV[2])
        if count == tonumber(ARGV[2]) then
            redis.call("EXPIRE", KEYS[1], ARGV[1])
        end
        return {count, redis.call("PTTL", KEYS[1])}
    """

    def initialize_storage(self, uri: str) -> None:
        """Name the script by its digest: it is sent when Redis does not know it."""
        super().initialize_storage(uri)
        self._script = self.get_connection().register_script(self.SCRIPT)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Raise a count that is forgotten after so many seconds, all in one round trip."""
        count, left_ms = self._script([self.prefixed_key(key)], [expiry, amount])
        _told()[key] = (int(count), time.time() + left_ms / 1000)
        return int(count)


def _told() -> dict[str, Window]:
    """Give what was counted in this request."""
    told: dict[str, Window] = g.setdefault("counted_windows", {})
    return told


def options(url: str) -> dict[str, Any]:
    """Give what a store takes beside its URL, whose own options count before these (`?socket_timeout=0.3`)."""
    if url == IN_MEMORY:
        return {}
    from redis.backoff import NoBackoff  # noqa: PLC0415 (it takes 6 MiB, and is needed here alone)
    from redis.retry import Retry  # noqa: PLC0415

    # Whoever waits for an answer does not want to wait for a second try. Protocol 2 is what every Redis speaks.
    return {
        "socket_connect_timeout": TIMEOUT_S,
        "socket_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "wrap_exceptions": True,
    }
