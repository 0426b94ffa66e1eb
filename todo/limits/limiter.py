"""Limits that Flask-Limiter counts, and how answers tell of them.

Windows are fixed: the end of one and the beginning of the next may see twice the limit in a row, and what the headers
promise is exact. A second limit on a shorter window bounds that (`600/minute;30/second`).
"""

import logging
import math
import time
from contextlib import suppress

import flask_limiter
from flask import Flask, g
from limits.errors import StorageError
from werkzeug.exceptions import TooManyRequests

from config import Config
from todo.limits.stores import options
from todo.telemetry.logs import Forwarder, hashed

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
        storage_options=options(config.rate_limit_storage_url),
        # While the store is away this one limit holds, which nobody has; now and then it is looked whether it is back.
        in_memory_fallback=[flask_limiter.Limit("1/year", _counted, exempt_when=lambda: True)],  # type: ignore[list-item]
    )
    limiter.init_app(app)
    return (
        Limit(limiter, "user", config.rate_limit) if config.rate_limit else None,
        Limit(limiter, "address", config.rate_limit_failed_auth) if config.rate_limit_failed_auth else None,
    )


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
