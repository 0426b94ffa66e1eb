"""The cache of the issuer's public keys. Each process has its own.

A lookup takes no lock and waits for no fetch while its key is cached: a fresh key is simply used, a stale one is used
while one fetch runs in the background. Only a token whose key is not cached waits for a fetch.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from todo.auth.fetch import DEADLINE_S
from todo.auth.keys import Key, KeySet
from todo.http.problems import Unavailable
from todo.telemetry.logs import log

FRESH_S = 300

# After that the keys stay in use for this long while they cannot be fetched again (as in RFC 5861, section 4).
STALE_S = 3600

# A bucket holds so many attempts to fetch the keys, and another one comes back after each interval, however many tokens
# name unknown keys, and whether or not an attempt fails. Several at once, because an issuer may publish a key in the
# moment after a fetch: it makes its first key with its first token.
ATTEMPTS = 3
ATTEMPT_INTERVAL_S = 10


class KeysUnavailable(Unavailable):
    """503: the token cannot be verified now, because its key may be one that could not be fetched."""

    detail = "The keys of the token issuer cannot be fetched right now. Please try again in a moment."
    explained = True


class CachedKeys(NamedTuple):
    """The keys of the last successful fetch, and when it started, in seconds of the clock."""

    keys: Mapping[str, Key]
    fetched_at: float


class Attempt:
    """One fetch of the keys.

    Attributes:
        started_at: When it started, in seconds of the clock.
        finished: Set when it has succeeded or failed.
        fault: Why it has not brought keys, or None when it has; until it finishes, that it is not complete.

    """

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.finished = threading.Event()
        self.fault: str | None = f"no complete response within {DEADLINE_S} s"

    @property
    def failed(self) -> bool:
        """Whether it has not brought keys; true until it finishes."""
        return self.fault is not None


class KeyCache:
    """The issuer's keys by their `kid`.

    Args:
        fetch: Returns the issuer's keys, or raises. It runs in a thread of its own.
        clock: Returns monotonic time in seconds.
        waiting_max: How many threads may wait for a fetch at once.

    """

    def __init__(
        self, fetch: Callable[[], KeySet], *, clock: Callable[[], float] = time.monotonic, waiting_max: int = 1
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._cached = CachedKeys({}, -math.inf)
        self._attempt: Attempt | None = None
        # When the bucket has all its attempts again.
        self._full_at = -math.inf
        self._is_failing = False
        self._starting = threading.Lock()
        self._waiting = threading.BoundedSemaphore(waiting_max)

    def find(self, kid: str) -> Key | None:
        """Return the issuer's key with this id, or None when the issuer publishes no such key.

        That it publishes none takes a fetch that began after the token came, because the key may be newer than the one
        before.

        Raises:
            KeysUnavailable: the key is not cached, and whether the issuer publishes it cannot be determined now.

        """
        earlier = self._attempt
        if (key := self.find_cached(kid)) is not None:
            return key
        attempt = self._after(earlier)
        self._wait(attempt)
        if attempt is earlier and not attempt.failed:
            # It ran already when the token came, and if it has not brought the key, the next one may.
            if (key := self._find_cached(kid)) is not None:
                return key
            attempt = self._after(earlier)
            self._wait(attempt)
        # Read before the key is looked up: keys that arrive in between are found, and never taken for missing.
        failed = attempt.failed
        if (key := self._find_cached(kid)) is not None:
            return key
        if failed:
            raise self._unavailable(f"the last fetch of the issuer's keys failed: {attempt.fault}", attempt)
        if attempt is earlier:
            raise self._unavailable("the key is unknown, and the next fetch of the keys is not due yet", attempt)
        return None

    def find_cached(self, kid: str) -> Key | None:
        """Return the key with this id if it is cached, without waiting; start a fetch if the cache is stale."""
        if self.age() > FRESH_S:
            self.refresh()
        return self._find_cached(kid)

    def refresh(self) -> Attempt:
        """Start a fetch, unless one is running or the bucket holds no attempt.

        Returns:
            The newest attempt, which may still be running.

        """
        if (attempt := self._attempt) is not None and not self._is_next_due(attempt):
            return attempt
        with self._starting:
            if (attempt := self._attempt) is None or self._is_next_due(attempt):
                now = self._clock()
                attempt = self._attempt = Attempt(now)
                self._full_at = max(self._full_at, now) + ATTEMPT_INTERVAL_S
                try:
                    threading.Thread(target=self._run, args=(attempt,), name="issuer-keys", daemon=True).start()
                except RuntimeError as error:
                    self._finish(attempt, str(error))
            return attempt

    def _after(self, earlier: Attempt | None) -> Attempt:
        """Return the newest attempt; start one if none began after the earlier one, and the bucket holds one."""
        newest = self._attempt
        return self.refresh() if newest is None or newest is earlier else newest

    def age(self) -> float:
        """Return the seconds since the last successful fetch started; without one, infinity."""
        return self._clock() - self._cached.fetched_at

    def state(self) -> Literal["ok", "stale", "expired", "failed"]:
        """Return the state of the keys.

        They are good (`ok`), cached although the last fetch failed (`stale`), cached for too long (`expired`), or were
        never fetched (`failed`).
        """
        if self.age() <= FRESH_S and not self._is_failing:
            return "ok"
        attempt = self.refresh()
        if not self._cached.keys:
            with suppress(KeysUnavailable):
                self._wait(attempt)
        if not self._cached.keys:
            return "failed"
        if self.age() > FRESH_S + STALE_S:
            return "expired"
        is_overdue = attempt.failed and self._seconds_to_deadline(attempt) == 0
        return "stale" if self._is_failing or is_overdue else "ok"

    def _find_cached(self, kid: str) -> Key | None:
        cached = self._cached
        return cached.keys.get(kid) if self._clock() - cached.fetched_at <= FRESH_S + STALE_S else None

    def _is_next_due(self, last: Attempt) -> bool:
        return last.finished.is_set() and self._seconds_to_next() <= 0

    def _seconds_to_next(self) -> float:
        """Return the seconds until the bucket holds an attempt; not more than 0 when it holds one now."""
        return self._full_at - (ATTEMPTS - 1) * ATTEMPT_INTERVAL_S - self._clock()

    def _seconds_to_deadline(self, attempt: Attempt) -> float:
        """Return the seconds for which it still makes sense to wait for an attempt."""
        return max(0, attempt.started_at + DEADLINE_S - self._clock())

    def _wait(self, attempt: Attempt) -> None:
        """Wait for a fetch until its deadline; not at all when the maximum of threads is waiting already.

        Raises:
            KeysUnavailable: the maximum of threads is waiting.

        """
        if attempt.finished.is_set():
            return
        if not self._waiting.acquire(blocking=False):
            raise self._unavailable("enough threads are waiting for the issuer's keys already", attempt)
        try:
            attempt.finished.wait(self._seconds_to_deadline(attempt))
        finally:
            self._waiting.release()

    def _unavailable(self, reason: str, attempt: Attempt) -> KeysUnavailable:
        """Build the problem. Its `Retry-After` is when the attempt must be over, or when the next may start."""
        is_finished = attempt.finished.is_set()
        wait_s = self._seconds_to_next() if is_finished else self._seconds_to_deadline(attempt)
        return KeysUnavailable(reason=reason, headers={"Retry-After": str(max(1, math.ceil(wait_s)))})

    def _run(self, attempt: Attempt) -> None:
        try:
            fetched = self._fetch()
        except Exception as error:  # noqa: BLE001 (whatever it is, tokens of cached keys are still verified)
            self._finish(attempt, str(error) or type(error).__name__)
            return
        if fetched.keys != self._cached.keys:
            log.info("issuer keys fetched", keys=len(fetched.keys), dropped=list(fetched.dropped))
        self._cached = CachedKeys(fetched.keys, attempt.started_at)
        self._finish(attempt, None)

    def _finish(self, attempt: Attempt, fault: str | None) -> None:
        if fault is not None:
            log.warning("issuer keys not fetched", reason=fault)
        attempt.fault = fault
        self._is_failing = attempt.failed
        attempt.finished.set()
