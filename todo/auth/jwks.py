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

# At most one fetch starts in this time, however many tokens name unknown keys, and whether or not it fails.
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
        self._is_failing = False
        self._starting = threading.Lock()
        self._waiting = threading.BoundedSemaphore(waiting_max)

    def find(self, kid: str) -> Key | None:
        """Return the issuer's key with this id, or None when the issuer publishes no such key.

        Raises:
            KeysUnavailable: the key is not cached, and whether the issuer publishes it cannot be determined now.

        """
        if self.age() > FRESH_S:
            self.refresh()
        if (key := self._find_cached(kid)) is not None:
            return key
        attempt = self.refresh()
        self._wait(attempt)
        # Read before the key is looked up: keys that arrive in between are found, and never taken for missing.
        failed = attempt.failed
        if (key := self._find_cached(kid)) is None and failed:
            raise self._unavailable(f"the last fetch of the issuer's keys failed: {attempt.fault}")
        return key

    def holds(self, kid: str) -> bool:
        """Return whether the key with this id is cached, so that `find` returns it without waiting."""
        return self._find_cached(kid) is not None

    def refresh(self) -> Attempt:
        """Start a fetch, unless one is running or started less than `ATTEMPT_INTERVAL_S` ago.

        Returns:
            The newest attempt, which may still be running.

        """
        if (attempt := self._attempt) is not None and not self._is_next_due(attempt):
            return attempt
        with self._starting:
            if (attempt := self._attempt) is None or self._is_next_due(attempt):
                attempt = self._attempt = Attempt(self._clock())
                try:
                    threading.Thread(target=self._run, args=(attempt,), name="issuer-keys", daemon=True).start()
                except RuntimeError as error:
                    self._finish(attempt, str(error))
            return attempt

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
        return last.finished.is_set() and self._seconds_to_next(last) <= 0

    def _seconds_to_next(self, last: Attempt) -> float:
        """Return the seconds until the attempt after this one may start."""
        return last.started_at + ATTEMPT_INTERVAL_S - self._clock()

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
            raise self._unavailable("enough threads are waiting for the issuer's keys already")
        try:
            attempt.finished.wait(self._seconds_to_deadline(attempt))
        finally:
            self._waiting.release()

    def _unavailable(self, reason: str) -> KeysUnavailable:
        """Build the problem. Its `Retry-After` is when the running fetch must be over, or when the next may start."""
        attempt = self.refresh()
        is_finished = attempt.finished.is_set()
        wait_s = self._seconds_to_next(attempt) if is_finished else self._seconds_to_deadline(attempt)
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
