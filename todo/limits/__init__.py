"""Rate limits: how often a user may call, and how often an address may fail to authenticate. Off until they are set.

How often a calendar may be read is always limited: nobody but its reader knows how often that program asks.
"""

import re
from functools import cache, partial
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, request

from config import IN_MEMORY, Config
from todo.context import current_application
from todo.http.problems import ContentTooLarge, TooManyFailures, TooManyRequests, Unauthorized, handle_problem
from todo.telemetry.logs import log

if TYPE_CHECKING:
    from todo.limits.limiter import Limit, Store

__all__ = ["count_call", "count_operations", "count_read", "init_app"]

CALLS, FAILURES, READS = "call_limit", "failure_limit", "read_limit"

# How often one calendar may be read.
CALENDAR_READS_MAX = 60

# The client whose address is not known.
UNKNOWN = "unknown"

# Zeros in front of a number of an address.
PADDING = re.compile("(?<![0-9a-f])0+(?=[0-9a-f])")


def init_app(app: Flask, config: Config) -> None:
    """Build the limits that the settings name, in one store."""
    app.extensions[CALLS] = app.extensions[FAILURES] = None
    app.extensions[READS] = cache(partial(_read_limit, config.rate_limit_storage_url))
    if not (config.rate_limit or config.rate_limit_failed_auth):
        return
    # Only an application with limits pays for what this imports, and for Redis only one that uses it.
    from todo.limits.limiter import Limit  # noqa: PLC0415

    if config.rate_limit_storage_url == IN_MEMORY and config.web_concurrency > 1:
        log.warning(
            "each process counts for itself: without RATE_LIMIT_STORAGE_URL rate limits are as many times higher",
            processes=config.web_concurrency,
        )
    store = _store(config.rate_limit_storage_url)
    if config.rate_limit:
        app.extensions[CALLS] = Limit("user", config.rate_limit, store)
    if config.rate_limit_failed_auth:
        app.extensions[FAILURES] = Limit("address", config.rate_limit_failed_auth, store)
        app.register_error_handler(Unauthorized, _handle_failure)


def _store(url: str) -> "Store":
    if url == IN_MEMORY:
        from todo.limits.memory import MemoryStore  # noqa: PLC0415

        return MemoryStore()
    from todo.limits.shared import FailOpenStore, RedisStore  # noqa: PLC0415

    return FailOpenStore(RedisStore(url))


def _read_limit(url: str) -> "Limit":
    """Build the limit of a calendar when the first one is read: no other process pays for what this imports."""
    from todo.limits.limiter import Limit  # noqa: PLC0415

    return Limit("calendar", f"{CALENDAR_READS_MAX}/hour", _store(url))


def count_read(calendar: str) -> None:
    """Count a read of a calendar.

    Args:
        calendar: What identifies it, of which the store learns a hash only.

    Raises:
        TooManyRequests: it was read too often.

    """
    limit: Limit = current_app.extensions[READS]()
    if wait_s := limit.count(calendar):
        raise TooManyRequests(wait_s, reason="rate limit: the calendar is over it")


def count_call(user_id: str) -> None:
    """Count a call of a user against the limit, where there is one.

    Raises:
        TooManyRequests: the limit is exceeded.

    """
    limit: Limit | None = current_application().extensions[CALLS]
    if limit is not None and (wait_s := limit.count(user_id)):
        raise TooManyRequests(wait_s, reason="rate limit: the user is over it", user_id=user_id)


def count_operations(user_id: str, number: int) -> None:
    """Count a call, which is counted once already, as so many calls; where that is too much, as none.

    Raises:
        ContentTooLarge: the limit never allows so many at once.
        TooManyRequests: the limit would be exceeded.

    """
    limit: Limit | None = current_app.extensions[CALLS]
    if limit is None or number == 1:
        return
    if number > limit.hits_max:
        limit.count(user_id, -1)
        rule = f"The rate limit allows {limit.hits_max} operations at once: send no more of them in one request."
        raise ContentTooLarge(rule, reason="rate limit: more operations than it ever allows", user_id=user_id)
    if wait_s := limit.count(user_id, number - 1):
        limit.count(user_id, -number)
        raise TooManyRequests(wait_s, reason="rate limit: the user is over it", user_id=user_id)


def _handle_failure(refusal: Unauthorized) -> Response:
    """Respond with 429 instead of 401 where an address has failed too often.

    Valid tokens pass however often their address has failed, because many people can share one address.
    """
    limit: Limit = current_app.extensions[FAILURES]
    if wait_s := limit.count(network(request.remote_addr or "")):
        return handle_problem(TooManyFailures(wait_s, reason=refusal.reason, user_id=refusal.user_id))
    return handle_problem(refusal)


def network(address: str) -> str:
    """Return the part of an IP address that identifies one client, however the address is written.

    Proxies write an address with or without a port, brackets and a zone, and with zeros that pad its numbers. Of an
    IPv6 address the first 64 bits count, as a client can choose the rest (RFC 4291, section 2.5.1). An IPv4 address
    mapped into IPv6 is that IPv4 address.

    Args:
        address: The address of the peer, or what a trusted proxy states. All texts that are no address are one client,
            so that nobody is a new client with each of them.

    """
    host = address.strip().lower()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    host = PADDING.sub("", host.partition("%")[0])
    try:
        ip = ip_address(host)
    except ValueError:
        return UNKNOWN
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or int(ip) >> 64)
    return host
