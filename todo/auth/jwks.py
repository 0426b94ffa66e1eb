"""The issuer's public keys, kept by each process for itself.

A lookup takes no lock and waits for nobody while its key is at hand: a fresh key is simply used, a stale one is used
while one fetch runs in the background. Only a token whose key is not at hand waits for a fetch.
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

# After that the keys stay in use this long while they cannot be fetched anew (as in RFC 5861, section 4).
STALE_S = 3600

# However many tokens name unknown keys, and whether or not it fails, there is one fetch in this time.
ATTEMPT_INTERVAL_S = 10


class KeysUnavailable(Unavailable):
    """503: nobody can say now whether the token is good, because its key may be one that we could not fetch."""

    detail = "The keys of the token issuer cannot be fetched right now. Please try again in a moment."
    explained = True


class Kept(NamedTuple):
    """The keys of the last good fetch, and when it began, in seconds of the clock."""

    keys: Mapping[str, Key]
    since: float


class Attempt:
    """One fetch: when it began, whether it is over, and what went wrong."""

    def __init__(self, started: float) -> None:
        """Begin it; what went wrong so far is that nothing came."""
        self.started = started
        self.over = threading.Event()
        self.fault: str | None = f"no complete answer within {DEADLINE_S} s"

    @property
    def failed(self) -> bool:
        """Tell whether it has not brought keys; one that is not over has not."""
        return self.fault is not None


class KeyCache:
    """Keys by their `kid`.

    Args:
        fetch: Gives the issuer's keys, or raises. It runs in a thread of its own.
        clock: Gives seconds that only grow.
        waiting_max: How many threads may wait for a fetch at once.

    """

    def __init__(
        self, fetch: Callable[[], KeySet], *, clock: Callable[[], float] = time.monotonic, waiting_max: int = 1
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._kept = Kept({}, -math.inf)
        self._attempt: Attempt | None = None
        self._is_failing = False
        self._starting = threading.Lock()
        self._seats = threading.BoundedSemaphore(waiting_max)

    def find(self, kid: str) -> Key | None:
        """Give the issuer's key of this name, or None when the issuer has none.

        Raises:
            KeysUnavailable: when that cannot be known now.

        """
        if self.age() > FRESH_S:
            self.refresh()
        if (key := self._at_hand(kid)) is not None:
            return key
        attempt = self.refresh()
        self._wait(attempt)
        # Asked before the key is looked for: what arrives in between is found, and never taken for missing.
        failed = attempt.failed
        if (key := self._at_hand(kid)) is None and failed:
            raise self._unavailable(f"the last fetch of the issuer's keys failed: {attempt.fault}")
        return key

    def refresh(self) -> Attempt:
        """Start a fetch, unless one is under way or was a moment ago; give the newest one without waiting for it."""
        if (attempt := self._attempt) is not None and not self._is_due(attempt):
            return attempt
        with self._starting:
            if (attempt := self._attempt) is None or self._is_due(attempt):
                attempt = self._attempt = Attempt(self._clock())
                try:
                    threading.Thread(target=self._run, args=(attempt,), name="issuer-keys", daemon=True).start()
                except RuntimeError as error:
                    self._end(attempt, str(error))
            return attempt

    def age(self) -> float:
        """Give the seconds since the last good fetch began; without any it is infinite."""
        return self._clock() - self._kept.since

    def state(self) -> Literal["ok", "stale", "expired", "failed"]:
        """Tell how the keys are: good, kept since the last good fetch, kept for too long, or never fetched."""
        if self.age() <= FRESH_S and not self._is_failing:
            return "ok"
        attempt = self.refresh()
        if not self._kept.keys:
            with suppress(KeysUnavailable):
                self._wait(attempt)
        if not self._kept.keys:
            return "failed"
        if self.age() > FRESH_S + STALE_S:
            return "expired"
        is_overdue = attempt.failed and self._left(attempt) == 0
        return "stale" if self._is_failing or is_overdue else "ok"

    def _at_hand(self, kid: str) -> Key | None:
        kept = self._kept
        return kept.keys.get(kid) if self._clock() - kept.since <= FRESH_S + STALE_S else None

    def _is_due(self, last: Attempt) -> bool:
        return last.over.is_set() and self._pause(last) <= 0

    def _pause(self, attempt: Attempt) -> float:
        """Give the seconds until the next attempt may begin."""
        return attempt.started + ATTEMPT_INTERVAL_S - self._clock()

    def _left(self, attempt: Attempt) -> float:
        """Give the seconds that it still makes sense to wait for an attempt."""
        return max(0, attempt.started + DEADLINE_S - self._clock())

    def _wait(self, attempt: Attempt) -> None:
        """Wait for a fetch until its deadline; when all seats are taken, not at all."""
        if attempt.over.is_set():
            return
        if not self._seats.acquire(blocking=False):
            raise self._unavailable("enough threads are waiting for the issuer's keys already")
        try:
            attempt.over.wait(self._left(attempt))
        finally:
            self._seats.release()

    def _unavailable(self, reason: str) -> KeysUnavailable:
        """Say when to try again: when the fetch that is under way must be over, or the next one may begin."""
        attempt = self.refresh()
        pause = self._pause(attempt) if attempt.over.is_set() else self._left(attempt)
        return KeysUnavailable(reason=reason, headers={"Retry-After": str(max(1, math.ceil(pause)))})

    def _run(self, attempt: Attempt) -> None:
        try:
            fetched = self._fetch()
        except Exception as error:  # noqa: BLE001 (whatever it is, tokens of known keys are still verified)
            self._end(attempt, str(error) or type(error).__name__)
            return
        if fetched.keys != self._kept.keys:
            log.info("issuer keys fetched", keys=len(fetched.keys), dropped=list(fetched.dropped))
        self._kept = Kept(fetched.keys, attempt.started)
        self._end(attempt, None)

    def _end(self, attempt: Attempt, fault: str | None) -> None:
        if fault is not None:
            log.warning("issuer keys not fetched", reason=fault)
        attempt.fault = fault
        self._is_failing = attempt.failed
        attempt.over.set()
