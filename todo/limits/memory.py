"""The counts of one process, in its memory."""

import threading
import time

from cachetools import TLRUCache

from todo.limits.limiter import Window

# Each count takes some 300 bytes.
COUNTS_MAX = 16_384


class MemoryStore:
    """A bounded store: the least recently raised count makes room for a new one.

    The memory storage of `limits` is not bounded, and a timer of its own looks at every key many times a second.
    """

    def __init__(self) -> None:
        self._windows: TLRUCache[str, tuple[int, float]] = TLRUCache(
            COUNTS_MAX, lambda _key, window, _now: window[1], time.monotonic
        )
        self._lock = threading.Lock()

    def hit(self, key: str, window_s: int, hits: int = 1) -> Window:
        """Add hits to the count of a key, whose window begins with the first; a negative number takes them back."""
        now = time.monotonic()
        with self._lock:
            count, ends_at = self._windows.get(key) or (0, now + window_s)
            count = max(0, count + hits)
            self._windows[key] = (count, ends_at)
        return Window(count, ends_at - now)
