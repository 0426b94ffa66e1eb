"""The guards in front of every view that reads or writes a user's data."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import g

from todo.auth.access import SCOPES, challenge
from todo.auth.rules import ACCESS_TOKEN, LEEWAY_S
from todo.auth.tokens import Caller
from todo.context import current_application, current_globals, current_request
from todo.http.documented import Blueprint
from todo.http.problems import InvalidToken, MissingToken, Unauthorized, WrongUser
from todo.http.routing import user_hint
from todo.limits import count_call
from todo.telemetry import requests
from todo.telemetry.refusals import Refusal, TokenRule

P = ParamSpec("P")
R = TypeVar("R")

Verify = Callable[[str], Caller]


def authenticate(authorization: str | None, verify: Verify) -> Caller:
    """Return the caller that a request's `Authorization` header names (RFC 6750, section 2.1).

    Raises:
        MissingToken: there is no header, it has another scheme, or nothing follows the scheme.
        Unauthorized: the token is refused; the subclass and its `refusal` are the reason.
        KeysUnavailable: the token cannot be verified now.

    """
    scheme, _, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken(Refusal(TokenRule.AUTHORIZATION, "no bearer token"))
    # Servers join two headers with a comma, which no token contains, and neither of them counts more than the other.
    if "," in token:
        raise InvalidToken(Refusal(TokenRule.AUTHORIZATION, "more than one header"))
    return verify(token)


def authorize(caller: Caller, path_user: str) -> str:
    """Return the id of the user whose data the path names.

    Raises:
        WrongUser: the path names neither the caller nor `me`.

    """
    if path_user not in (caller.id, "me"):
        hint = user_hint(path_user)
        detail = f"{WrongUser.detail}.{hint}" if hint else None
        raise WrongUser(detail, reason="the path names another user", user_id=caller.id)
    return caller.id


def require_jwt(view: Callable[P, R]) -> Callable[P, R]:
    """Restrict a view to the caller's own path, and pass it the caller's id as `user_id`."""
    # 503 is the response when the issuer's keys or the database are unavailable.
    responses = {401: "Unauthorized", 403: "WrongUser", 429: "TooManyRequests", 503: "Unavailable"}
    documented = Blueprint.doc(responses=responses)(view)

    @wraps(documented)
    def guarded(*args: Any, user_id: str, **kwargs: Any) -> R:
        user_id = authorize(_identify(_refuse_access_tokens), user_id)
        count_call(user_id)
        return view(*args, user_id=user_id, **kwargs)  # type: ignore[arg-type]

    return guarded  # type: ignore[return-value]


def allow_access_tokens(view: Callable[P, R]) -> Callable[P, R]:
    """Restrict a view to callers, and pass it the caller as `caller`, with the scopes of an access token.

    A 401 says where clients find the issuer of access tokens, if there is one (RFC 9728, section 5.1).
    """

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> R:
        try:
            caller = _identify()
        except Unauthorized as problem:
            problem.headers = {"WWW-Authenticate": challenge(problem.headers["WWW-Authenticate"], SCOPES)}
            raise
        count_call(caller.id)
        return view(*args, caller=caller, **kwargs)  # type: ignore[arg-type]

    return guarded


def _identify(check: Callable[[Caller], None] | None = None) -> Caller:
    """Return the caller of the request, recorded, if a further check of them passes."""
    record = requests.current()
    try:
        header = current_request().environ.get("HTTP_AUTHORIZATION")
        caller = authenticate(header, current_application().extensions["token_verifier"])
        if check is not None:
            check(caller)
    except Unauthorized as problem:
        # Recorded before the problem is handled, because a rate limit turns the 401 into a 429.
        record.refused_rule = problem.refusal.rule
        raise
    record.user_id = caller.id
    current_globals().caller = caller
    return caller


def _refuse_access_tokens(caller: Caller) -> None:
    """Refuse the tokens of assistants, which are good for nothing but `/mcp`."""
    if caller.scopes is not None:
        raise InvalidToken(Refusal(TokenRule.TYPE, ACCESS_TOKEN, "JWT or none"), user_id=caller.id)


def token_lifetime_s() -> float:
    """Return the seconds until the token of the current request is refused as expired."""
    caller: Caller = g.caller
    return caller.expires_at + LEEWAY_S - time.time()
