"""Fixed-window rate limits, and the headers that report them.

The end of one window and the beginning of the next may see twice the limit in a row, and what the headers promise is
exact. A second limit on a shorter window bounds that (`600/minute;30/second`).
"""

import math
from typing import NamedTuple, Protocol

from flask import Response, after_this_request, g
from limits import RateLimitItem, parse_many

from todo.telemetry.logs import hashed


class Window(NamedTuple):
    """The state of one window after hits.

    Attributes:
        hits: How often the key was hit in this window.
        left_s: How many seconds are left of it.

    """

    hits: int
    left_s: float


class Store(Protocol):
    """The place where counts are kept."""

    def hit(self, key: str, window_s: int, hits: int = 1) -> Window | None:
        """Add hits to the count of a key, whose window begins with the first; with a negative number, take them back.

        A window that has ended meanwhile has none to take back.

        Returns:
            The window, or None where the hits were not counted.

        """


class Limit:
    """One or several quotas for one kind of caller, all of which count every hit.

    Args:
        subject: What is counted, which is also the name of the limit in the headers.
        quotas: The quotas in the notation of `limits`, such as `600/minute;30/second`.
        store: Where the counts are kept.

    """

    def __init__(self, subject: str, quotas: str, store: Store) -> None:
        self._subject = subject
        self._store = store
        self._quotas = sorted(parse_many(quotas), key=RateLimitItem.get_expiry)
        several = len(self._quotas) > 1
        self._names = [f"{subject}-{number}" if several else subject for number in range(1, len(self._quotas) + 1)]
        self._policy = ", ".join(
            f'"{name}";q={quota.amount};w={quota.get_expiry()}'
            for name, quota in zip(self._names, self._quotas, strict=True)
        )

    @property
    def hits_max(self) -> int:
        """How many hits all quotas allow at once."""
        return min(quota.amount for quota in self._quotas)

    def count(self, identity: str, hits: int = 1) -> int:
        """Count more hits, and set the headers of the response (draft-ietf-httpapi-ratelimit-headers-11).

        Args:
            identity: The caller, of which the store learns a hash only.
            hits: How many; a negative number takes them back.

        Returns:
            The seconds to wait when a quota is exceeded; 0 when none is, or when the store is unavailable.

        """
        caller = hashed(identity)
        states, wait_s = [], 0
        for name, quota in zip(self._names, self._quotas, strict=True):
            window = self._store.hit(quota.key_for(caller, self._subject), quota.get_expiry(), hits)
            if window is None:
                return 0
            left_s = max(1, math.ceil(window.left_s))
            states.append(f'"{name}";r={max(0, quota.amount - window.hits)};t={left_s}')
            if window.hits > quota.amount:
                wait_s = max(wait_s, left_s)
        if "rate_limit" not in g:
            after_this_request(_add_headers)
        g.rate_limit = {"RateLimit": ", ".join(states), "RateLimit-Policy": self._policy}
        return wait_s


def _add_headers(response: Response) -> Response:
    """Add what is left of the limits to the response to a counted request."""
    response.headers.extend(g.rate_limit)
    return response
