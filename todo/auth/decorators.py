"""The guard in front of every view that touches somebody's data."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import current_app, request
from flask_smorest import Blueprint

from todo.auth.tokens import Caller
from todo.http.problems import InvalidToken, MissingToken, WrongUser
from todo.limits import count_call
from todo.telemetry import requests

P = ParamSpec("P")
R = TypeVar("R")

Verify = Callable[[str], Caller]


def authenticate(authorization: str | None, verify: Verify) -> Caller:
    """Find out who sends a request, from its `Authorization` header (RFC 6750, section 2.1).

    Raises:
        MissingToken: there is no header, it has another scheme, or nothing follows the scheme.
        Unauthorized: the token is no good; the subclass says how.

    """
    scheme, _, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise MissingToken(reason="Authorization: no bearer token")
    # Servers join two headers with a comma, which no token contains: nobody can say which of them counts.
    if "," in token:
        raise InvalidToken(reason="Authorization: more than one header")
    return verify(token)


def authorize(caller: Caller, path_user: str) -> str:
    """Give the id of the user whose data the path names.

    Raises:
        WrongUser: the path names neither the caller nor `me`.

    """
    if path_user not in (caller.id, "me"):
        raise WrongUser(reason="the path names another user", user_id=caller.id)
    return caller.id


def require_jwt(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view run for the caller's own path alone, and hand it the caller's id as `user_id`."""
    # Where nobody can tell now whether a token is good, or where the data is, the answer is 503.
    responses = {401: "Unauthorized", 403: "WrongUser", 429: "TooManyRequests", 503: "Unavailable"}
    documented = Blueprint.doc(responses=responses)(view)

    @wraps(documented)
    def guarded(*args: Any, user_id: str, **kwargs: Any) -> R:
        caller = authenticate(request.headers.get("Authorization"), current_app.extensions["token_verifier"])
        requests.current().user_id = caller.id
        user_id = authorize(caller, user_id)
        count_call(user_id)
        return view(*args, user_id=user_id, **kwargs)  # type: ignore[arg-type]

    return guarded  # type: ignore[return-value]
