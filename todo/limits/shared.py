"""The counts of all processes that share a Redis, and what becomes of calls while it is away."""

import threading
import time

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from todo.limits.limiter import Store, Window
from todo.telemetry.logs import log

# A Redis on the same network responds within a millisecond.
TIMEOUT_S = 0.1

# The longest pause between two attempts while the store is away.
PAUSE_MAX_S = 32

AWAY, BACK = "rate limits are not enforced: their store is unavailable", "rate limits are enforced again"


class RedisStore:
    """A store that takes one round trip each time.

    The Redis storage of `limits` would take a second one to find out when the window ends.

    Args:
        url: The URL of the Redis, whose own options (`?socket_timeout=0.3`) take precedence. Nothing is connected yet.

    """

    PREFIX = "LIMITS:"

    SCRIPT = """
        local count = redis.call("INCRBY", KEYS[1], ARGV[2])
        if count <= 0 then
            redis.call("DEL", KEYS[1])
            return {0, ARGV[1] * 1000}
        end
        if count == tonumber(ARGV[2]) then
            redis.call("EXPIRE", KEYS[1], ARGV[1])
        end
        return {count, redis.call("PTTL", KEYS[1])}
    """

    def __init__(self, url: str) -> None:
        client = Redis.from_url(
            url,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            # A second attempt would double what a request waits while the store is away.
            retry=Retry(NoBackoff(), 0),
            # Every version of Redis speaks protocol 2.
            protocol=2,
        )
        # It is run by its digest, and sent in full where Redis does not know it.
        self._script = client.register_script(self.SCRIPT)

    def hit(self, key: str, window_s: int, hits: int = 1) -> Window:
        """Add hits to the count of a key, whose window begins with the first; with a negative number, take them back.

        Raises:
            RedisError: the store did not respond in time, or refused.

        """
        count, left_ms = self._script([self.PREFIX + key], [window_s, hits])
        return Window(count, left_ms / 1000)


class FailOpenStore:
    """A store whose failures let all calls pass: while it is unavailable, hits are not counted.

    After 1, 2, 4 and up to 32 s a single hit tries it again. The log has one line when it goes and one when it is back.

    Args:
        store: The store that may fail.

    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        # The pause before the next attempt, which is 0 while the store is available, and when it ends.
        self._pause_s = 0
        self._pause_ends_at = 0.0

    def hit(self, key: str, window_s: int, hits: int = 1) -> Window | None:
        """Add hits to the count of a key, or return None where the store is unavailable."""
        is_attempt = self._pause_s > 0
        if is_attempt and not self._may_try_again():
            return None
        try:
            window = self._store.hit(key, window_s, hits)
        except RedisError:
            self._pause()
            return None
        # A hit that was under way when another one failed proves nothing.
        if is_attempt:
            self._resume()
        return window

    def _may_try_again(self) -> bool:
        """Let one hit through when the pause is over; the others keep passing uncounted until it has succeeded."""
        now = time.monotonic()
        with self._lock:
            if now < self._pause_ends_at:
                return False
            self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            self._pause_ends_at = now + self._pause_s
            return True

    def _pause(self) -> None:
        """Begin with the shortest pause; of several threads that fail at once, the first one does."""
        with self._lock:
            if self._pause_s:
                return
            self._pause_s = 1
            self._pause_ends_at = time.monotonic() + self._pause_s
        log.error(AWAY)

    def _resume(self) -> None:
        with self._lock:
            self._pause_s = 0
        log.info(BACK)
