"""Limits that Flask-Limiter counts, and how answers tell of them.

Windows are fixed: the end of one and the beginning of the next may see twice the limit in a row, and what the headers
promise is exact. A second limit on a shorter window bounds that (`600/minute;30/second`).
"""

import logging
import math
import time
from contextlib import suppress
from typing import Any

import flask_limiter
from flask import Flask, g
from limits.errors import StorageError
from limits.storage import RedisStorage
from werkzeug.exceptions import TooManyRequests

from config import IN_MEMORY, Config
from todo.logs import Forwarder, hashed

# A store that is at hand answers in a millisecond.
TIMEOUT_S = 0.1

# How often, and until when: of what was counted elsewhere, because the store was away until now.
NOT_COUNTED = (0, 0.0)

# What Flask-Limiter says of its store, and what it means here.
UNREACHABLE = "Rate limit storage unreachable - falling back to in-memory storage"
RECOVERED = "Rate limit storage recovered"
AWAY, BACK = "rate limits are not held: their store does not answer", "rate limits are held again"


class Limit:
    """One limit or several, which hold together, for one kind of caller.

    Args:
        limiter: Counts.
        subject: What is counted apart, which is also what the headers call the limit.
        quotas: How often, in the notation of Flask-Limiter.

    """

    def __init__(self, limiter: flask_limiter.Limiter, subject: str, quotas: str) -> None:
        def hit() -> None:
            """Do nothing: that it is called counts."""

        # Flask-Limiter knows what it decorates by name.
        hit.__qualname__ = subject
        self._hit = limiter.shared_limit(quotas, scope=subject, key_func=_counted)(hit)
        self._limiter = limiter
        self._subject = subject

    def count(self, who: str) -> int:
        """Count one more of somebody, and give how many seconds to wait; 0 when this one is within all limits.

        Answers say what is left (draft-ietf-httpapi-ratelimit-headers-11). The store learns a hash of who it is; while
        it is away nobody waits.
        """
        g.counted = who
        with suppress(TooManyRequests):
            self._hit()
        counted = self._limiter.current_limits
        shown, policy, wait_s = [], [], 0
        for number, one in enumerate(counted, 1):
            name = self._subject if len(counted) == 1 else f"{self._subject}-{number}"
            left_s = max(1, math.ceil(one.window.reset_time - time.time()))
            policy.append(f'"{name}";q={one.limit.amount};w={one.limit.get_expiry()}')
            shown.append(f'"{name}";r={one.remaining};t={left_s}')
            if one.breached:
                wait_s = max(wait_s, left_s)
        if counted:
            g.rate_limit = {"RateLimit": ", ".join(shown), "RateLimit-Policy": ", ".join(policy)}
        return wait_s


class RedisStore(RedisStorage):
    """A store in Redis that tells with a count, in the same round trip, what `limits` would ask for in two more.

    It connects when it first counts, and raises `StorageError` when it cannot.
    """

    # Limiters have this one where they would have that of `limits`.
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
        """Raise a count that is forgotten after so many seconds."""
        count, left_ms = self._script([self.prefixed_key(key)], [expiry, amount])
        _windows()[key] = (int(count), time.time() + left_ms / 1000)
        return int(count)

    def get(self, key: str) -> int:
        """Give a count that this request has raised; 0 of any other."""
        return _windows().get(key, NOT_COUNTED)[0]

    def get_expiry(self, key: str) -> float:
        """Give when a count that this request has raised is forgotten, in seconds since 1970."""
        return _windows().get(key, NOT_COUNTED)[1]


def _windows() -> dict[str, tuple[int, float]]:
    """Give what was counted in this request: how often, and until when."""
    windows: dict[str, tuple[int, float]] = g.setdefault("counted_windows", {})
    return windows


def _counted() -> str:
    return hashed(g.counted)


def limits_of(app: Flask, config: Config) -> tuple[Limit | None, Limit | None]:
    """Give the limit of a user's calls, and that of an address's failures."""
    _report()
    limiter = flask_limiter.Limiter(
        key_func=_counted,
        strategy="fixed-window",
        fail_on_first_breach=False,
        # Of several threads that find the store away at once, it catches the first one's error.
        swallow_errors=True,
        storage_uri=config.rate_limit_storage_url,
        storage_options=store_options(config.rate_limit_storage_url),
        # While the store is away this one limit holds, which nobody has; now and then it is looked whether it is back.
        in_memory_fallback=[flask_limiter.Limit("1/year", _counted, exempt_when=lambda: True)],  # type: ignore[list-item]
    )
    limiter.init_app(app)
    return (
        Limit(limiter, "user", config.rate_limit) if config.rate_limit else None,
        Limit(limiter, "address", config.rate_limit_failed_auth) if config.rate_limit_failed_auth else None,
    )


def store_options(url: str) -> dict[str, Any]:
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


def _report() -> None:
    """Let the log tell when the store goes and comes back."""
    logger = logging.getLogger("flask-limiter")
    logger.setLevel(logging.INFO)
    logger.addFilter(_translated)
    logger.handlers = [Forwarder()]
    logger.propagate = False


def _translated(record: logging.LogRecord) -> bool:
    """Say of a store what it means here, and of callers nothing: what they are answered is in the log anyway."""
    if record.msg == UNREACHABLE or (record.exc_info and isinstance(record.exc_info[1], StorageError)):
        record.msg, record.levelno, record.exc_info = AWAY, logging.ERROR, None
    if record.msg == RECOVERED:
        record.msg = BACK
        return True
    return record.levelno >= logging.WARNING
