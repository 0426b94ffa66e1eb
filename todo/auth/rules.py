"""What must be true of a token, rule by rule.

A token is good when it passes every rule of a list, in order. The list is the mode, chosen by the settings and never
by the token. The rules before the signature look at the header alone; those after it may believe the claims.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeGuard

from config import secret_bytes
from todo.auth.jwks import KeyCache
from todo.auth.keys import ALGORITHMS
from todo.auth.tokens import USER_ID, Token
from todo.http.problems import AnonymousToken, ExpiredToken, InvalidToken, Unauthorized

LEEWAY_S = 15

# Headers by which a token tries to choose the key that it is checked with (RFC 7515, sections 4.1.2 to 4.1.6).
KEY_SOURCES = ("jku", "jwk", "x5u", "x5c")

# The secret signs other things too: an e-mail verification carries one of the first two, a session cookie the last.
NOT_A_LOGIN = ("updateTo", "requestType", "session")

# What a reason may repeat of a token: an origin, a name, an id. No e-mail address fits, and no token.
REPEATABLE = re.compile(r"[A-Za-z0-9._~:/+-]{1,100}")
REPEATED_MAX = 5
FAR_S = 100_000_000
JSON_TYPES = {
    type(None): "none",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of a token. Its text is safe to show: nothing of it is long, or names a person."""

    good: bool
    expected: str
    got: str
    problem: type[Unauthorized] = InvalidToken

    def __str__(self) -> str:
        """Say what was found, and where that is a fault, what should have been."""
        return self.got if self.good else f"expected {self.expected}, got {self.got}"


Rule = Callable[[Token], Finding]
Rules = Mapping[str, Rule]


def shared_secret_rules(
    secrets: Sequence[str],
    *,
    issuers: Sequence[str] = (),
    audiences: Sequence[str] = (),
    clock: Callable[[], float] = time.time,
) -> Rules:
    """Give the rules for HS256 tokens (RFC 7518, section 3.2), signed with a secret that the issuer shares with us.

    Args:
        secrets: The current secret, then the previous one while it is being rotated.
        issuers: The accepted values of `iss`; none means that it is not checked.
        audiences: The accepted values of `aud`; none means that it is not checked.
        clock: Gives the time as seconds since 1970.

    """
    checked: dict[str, Rule] = {}
    if issuers:
        checked["issuer"] = lambda token: _issuer(token, issuers)
    if audiences:
        checked["audience"] = lambda token: _audience(token, audiences)
    return {
        "typ": _typ,
        "key source": _key_source,
        "algorithm": lambda token: _algorithm(token, ["HS256"]),
        "signature": lambda token: _signature_by_secret(token, secrets),
        "purpose": _purpose,
        "user": lambda token: _user_of_secret(token, is_meant_for_us=bool(checked)),
        **checked,
        "issued at": lambda token: _begun(token, "iat", clock()),
        "not before": lambda token: _begun(token, "nbf", clock()),
        # Last, so that a token of which we say that it has expired is one that was good.
        "expiry": lambda token: _expiry(token, clock()),
    }


def issuer_rules(
    keys: KeyCache,
    *,
    issuers: Sequence[str],
    audiences: Sequence[str],
    clock: Callable[[], float] = time.time,
) -> Rules:
    """Give the rules for tokens that the issuer signs with a key of its own and publishes the other half of.

    Args:
        keys: The issuer's keys.
        issuers: The accepted values of `iss`.
        audiences: The accepted values of `aud`.
        clock: Gives the time as seconds since 1970.

    """
    return {
        "typ": _typ,
        "key source": _key_source,
        "algorithm": lambda token: _algorithm(token, ALGORITHMS),
        "key": lambda token: _key(token, keys),
        "signature": _signature_by_key,
        "user": _user_of_issuer,
        "issuer": lambda token: _issuer(token, issuers),
        "audience": lambda token: _audience(token, audiences),
        "issued at": lambda token: _begun(token, "iat", clock(), required=True),
        "not before": lambda token: _begun(token, "nbf", clock()),
        # Last, so that a token of which we say that it has expired is one that was good.
        "expiry": lambda token: _expiry(token, clock()),
    }


def shown(value: Any) -> str:
    """Repeat a value of a token where that is harmless, and say of any other what it is."""
    if isinstance(value, list) and 0 < len(value) <= REPEATED_MAX:
        return f"[{', '.join(_shown_alone(member) for member in value)}]"
    return _shown_alone(value)


def _shown_alone(value: Any) -> str:
    return value if isinstance(value, str) and REPEATABLE.fullmatch(value) else JSON_TYPES[type(value)]


def _typ(token: Token) -> Finding:
    typ = token.header.get("typ", "JWT")
    return Finding(typ == "JWT", "JWT or none", shown(token.header.get("typ")))


def _key_source(token: Token) -> Finding:
    sources = [name for name in KEY_SOURCES if name in token.header]
    return Finding(not sources, "none in the header", ", ".join(sources) or "none")


def _algorithm(token: Token, algorithms: Sequence[str]) -> Finding:
    algorithm = token.header.get("alg")
    return Finding(algorithm in algorithms, " or ".join(algorithms), shown(algorithm))


def _key(token: Token, keys: KeyCache) -> Finding:
    kid = token.header.get("kid")
    token.key = keys.find(kid) if isinstance(kid, str) else None
    if token.key is None:
        return Finding(False, "the kid of one of the issuer's keys", shown(kid))
    algorithm = token.header.get("alg")
    return Finding(
        token.key.algorithm == algorithm,
        f"{token.key.algorithm}, as the key says",
        f"{shown(kid)} ({shown(algorithm)})",
    )


def _signature_by_key(token: Token) -> Finding:
    good = token.key is not None and token.is_signed_with(token.key.public, token.key.algorithm)
    return Finding(good, "one made with the issuer's key", "made with that key" if good else "one that was not")


def _signature_by_secret(token: Token, secrets: Sequence[str]) -> Finding:
    for secret in secrets:
        if token.is_signed_with(secret_bytes(secret), "HS256"):
            return Finding(
                True, "", "made with the secret" if secret == secrets[0] else "made with the previous secret"
            )
    return Finding(False, "one made with the secret", "one made with another")


def _purpose(token: Token) -> Finding:
    purposes = [name for name in NOT_A_LOGIN if name in token.claims]
    return Finding(
        not purposes, "a login", f"claims of another purpose ({', '.join(purposes)})" if purposes else "a login"
    )


def _issuer(token: Token, issuers: Sequence[str]) -> Finding:
    issuer = token.claims.get("iss")
    return Finding(issuer in issuers, " or ".join(issuers), shown(issuer))


def _audience(token: Token, audiences: Sequence[str]) -> Finding:
    audience = token.claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    return Finding(any(member in audiences for member in members), " or ".join(audiences), shown(audience))


def _begun(token: Token, claim: str, now: float, *, required: bool = False) -> Finding:
    moment = token.claims.get(claim)
    if moment is None and not required:
        return Finding(True, "", "none")
    if not _is_moment(moment):
        return Finding(False, "a number of seconds", JSON_TYPES[type(moment)])
    return Finding(moment <= now + LEEWAY_S, "a moment in the past", _relative(moment, now))


def _expiry(token: Token, now: float) -> Finding:
    moment = token.claims.get("exp")
    if not _is_moment(moment):
        return Finding(False, "a number of seconds", JSON_TYPES[type(moment)])
    return Finding(now < moment + LEEWAY_S, "a moment in the future", _relative(moment, now), ExpiredToken)


def _is_moment(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a NumericDate (RFC 7519, section 2)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _relative(moment: float, now: float) -> str:
    seconds = round(moment - now)
    if abs(seconds) > FAR_S:
        return "one that is years away"
    return f"in {seconds} s" if seconds > 0 else f"{-seconds} s ago"


def _user_of_issuer(token: Token) -> Finding:
    """Take `sub` and nothing else: it is the issuer's own word for the user."""
    return _user(token, "sub")


def _user_of_secret(token: Token, *, is_meant_for_us: bool) -> Finding:
    """Take `sub`, else `userId`, but not the latter from a token that might have been made for something else."""
    names = {name: token.claims[name] for name in ("sub", "userId") if token.claims.get(name) not in (None, "")}
    if len(names) == 2 and names["sub"] != names["userId"]:  # noqa: PLR2004
        return Finding(False, "the same user in sub and userId", "two different ones")
    if list(names) == ["userId"] and "typ" not in token.header and not is_meant_for_us:
        return Finding(False, "sub, or userId with typ JWT, or an issuer or audience to check", "userId alone")
    return _user(token, next(iter(names), "sub"))


def _user(token: Token, name: str) -> Finding:
    value = token.claims.get(name)
    if value in (None, ""):
        return Finding(False, "the id of a user in sub", "none", AnonymousToken)
    good = isinstance(value, str) and USER_ID.fullmatch(value) is not None
    if good:
        token.user_id = value
    return Finding(good, f"1 to 255 printable characters in {name}", shown(value))
