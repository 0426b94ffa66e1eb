"""How often a user may call, and how often an address may fail to say who calls. Off until the settings say so."""

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, g, request

from config import IN_MEMORY, Config
from todo.http.problems import TooManyFailures, TooManyRequests, Unauthorized, handle_problem
from todo.telemetry.logs import log

if TYPE_CHECKING:
    from todo.limits.limiter import Limit

__all__ = ["count_call", "init_app"]

CALLS, FAILURES = "call_limit", "failure_limit"


def init_app(app: Flask, config: Config) -> None:
    """Count what the settings limit, and nothing else."""
    app.extensions[CALLS] = app.extensions[FAILURES] = None
    if not (config.rate_limit or config.rate_limit_failed_auth):
        return
    from todo.limits.limiter import limits_of  # noqa: PLC0415 (what it needs takes 10 MiB, and is needed here alone)

    if config.rate_limit_storage_url == IN_MEMORY and config.web_concurrency > 1:
        log.warning(
            "each process counts for itself: without RATE_LIMIT_STORAGE_URL rate limits are as many times higher",
            processes=config.web_concurrency,
        )
    app.extensions[CALLS], app.extensions[FAILURES] = limits_of(app, config)
    if config.rate_limit_failed_auth:
        app.register_error_handler(Unauthorized, _answer_failure)
    app.after_request(_announce)


def count_call(user_id: str) -> None:
    """Count a call of a user against the limit, where there is one.

    Raises:
        TooManyRequests: it is over.

    """
    limit: Limit | None = current_app.extensions[CALLS]
    if limit is not None and (wait_s := limit.count(user_id)):
        raise TooManyRequests(wait_s, reason="rate limit: the user is over it", user_id=user_id)


def _answer_failure(refusal: Unauthorized) -> Response:
    """Answer 429 instead of 401 where an address has failed too often.

    It does not matter to good tokens how often others have failed: many people can be behind one address.
    """
    limit: Limit = current_app.extensions[FAILURES]
    if wait_s := limit.count(network(request.remote_addr or "")):
        return handle_problem(TooManyFailures(wait_s, reason=refusal.reason, user_id=refusal.user_id))
    return handle_problem(refusal)


def _announce(response: Response) -> Response:
    """Say on each answer that was counted what is left."""
    response.headers.extend(g.get("rate_limit", {}))
    return response


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
