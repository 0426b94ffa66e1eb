"""How often a user may call, and how often an address may fail to say who calls. Off until the settings say so."""

from flask import Flask, Response, current_app, g, request

from config import IN_MEMORY, Config
from todo.errors import TooManyFailures, TooManyRequests, Unauthorized, handle_problem
from todo.limits.limiter import Limiter, network
from todo.limits.stores import Forgiving, MemoryStore, RedisStore, Store
from todo.logs import hashed, log

__all__ = ["count_call", "init_app"]

CALLS, FAILURES = "call_limiter", "failure_limiter"


def init_app(app: Flask, config: Config) -> None:
    """Count what the settings limit, and nothing else."""
    app.extensions[CALLS] = app.extensions[FAILURES] = None
    if not (config.rate_limit or config.rate_limit_failed_auth):
        return
    store = _store(config)
    if config.rate_limit:
        app.extensions[CALLS] = Limiter("user", config.rate_limit, store)
    if config.rate_limit_failed_auth:
        app.extensions[FAILURES] = Limiter("address", config.rate_limit_failed_auth, store)
        app.register_error_handler(Unauthorized, _answer_failure)
    app.after_request(_announce)


def _store(config: Config) -> Store:
    if config.rate_limit_storage_url == IN_MEMORY:
        if config.web_concurrency > 1:
            log.warning(
                "each process counts for itself: without RATE_LIMIT_STORAGE_URL rate limits are as many times higher",
                processes=config.web_concurrency,
            )
        return MemoryStore()
    shared = RedisStore(config.rate_limit_storage_url)
    return Forgiving(shared, shared.failure)


def count_call(user_id: str) -> None:
    """Count a call of a user against the limit, where there is one.

    Raises:
        TooManyRequests: it is over.

    """
    limiter: Limiter | None = current_app.extensions[CALLS]
    if limiter is not None and (wait_s := _count(limiter, user_id)):
        raise TooManyRequests(wait_s, reason="rate limit: the user is over it", user_id=user_id)


def _answer_failure(refusal: Unauthorized) -> Response:
    """Answer 429 instead of 401 where an address has failed too often.

    It does not matter to good tokens how often others have failed: many people can be behind one address.
    """
    if wait_s := _count(current_app.extensions[FAILURES], network(request.remote_addr or "")):
        return handle_problem(TooManyFailures(wait_s, reason=refusal.reason, user_id=refusal.user_id))
    return handle_problem(refusal)


def _count(limiter: Limiter, who: str) -> int:
    """Count something of somebody, and give how many seconds to wait; the store learns a hash of who it is."""
    standing = limiter.count(hashed(who))
    if standing is None:
        return 0
    g.rate_limit = standing.headers
    return standing.wait_s


def _announce(response: Response) -> Response:
    """Say on each answer that was counted what is left."""
    response.headers.extend(g.get("rate_limit", {}))
    return response
