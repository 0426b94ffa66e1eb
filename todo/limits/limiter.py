"""Limits within windows of time, and how answers tell of them.

Windows are fixed: they begin when the clock of the machine is at a multiple of their length. So a caller is one small
number for each limit, all numbers of a request are raised in one round trip, and what the headers promise is exact.
The price is that the end of one window and the beginning of the next may see twice the limit in a row; a second limit
on a shorter window bounds that (`600/minute;30/second`).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from config import Quota
from todo.limits.stores import Store


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands after what was just counted.

    Attributes:
        headers: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
        wait_s: Seconds until the next one is within all limits; 0 when this one is.

    """

    headers: dict[str, str]
    wait_s: int


class Limiter:
    """Counts what one kind of caller does.

    Args:
        subject: What is counted apart, which is also what the headers call the limit.
        quotas: One limit or several, which hold together.
        store: Where the counts are.
        clock: Gives the time as seconds since 1970.

    """

    def __init__(
        self, subject: str, quotas: Sequence[Quota], store: Store, clock: Callable[[], float] = time.time
    ) -> None:
        names = [subject] if len(quotas) == 1 else [f"{subject}-{number}" for number in range(1, len(quotas) + 1)]
        self._limits = [(name, quota.amount, quota.window_s) for name, quota in zip(names, quotas, strict=True)]
        self._policy = ", ".join(f'"{name}";q={amount};w={window_s}' for name, amount, window_s in self._limits)
        self._store = store
        self._clock = clock

    def count(self, who: str) -> Standing | None:
        """Count one more of somebody, and say how they stand; nobody knows while the store is away."""
        now = self._clock()
        counts = self._store.count(
            [(f"todo:{name}:{window_s}:{now // window_s:.0f}:{who}", window_s) for name, _, window_s in self._limits]
        )
        if counts is None:
            return None
        shown, wait_s = [], 0
        for (name, amount, window_s), count in zip(self._limits, counts, strict=True):
            left_s = math.ceil(window_s - now % window_s)
            shown.append(f'"{name}";r={max(0, amount - count)};t={left_s}')
            if count > amount:
                wait_s = max(wait_s, left_s)
        return Standing({"RateLimit": ", ".join(shown), "RateLimit-Policy": self._policy}, wait_s)


def network(address: str) -> str:
    """Give what one client has of the address space: of IPv6 the first 64 bits, as it can choose the others.

    Args:
        address: An IP address. Anything else stands for itself.

    """
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or int(ip) >> 64)
    return address
