"""The rules that a token must pass.

A token is valid when it passes every rule of a list, in order. The list is the mode of verification, chosen by the
settings and never by the token. The rules before the signature read the header alone; those after it may trust the
claims.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeGuard

from config import secret_bytes
from todo.auth.jwks import KeyCache
from todo.auth.keys import ALGORITHMS, canonical
from todo.auth.tokens import USER_ID, Token
from todo.http.problems import AnonymousToken, ExpiredToken, InvalidToken, Unauthorized
from todo.telemetry.refusals import Refusal, TokenRule

LEEWAY_S = 15

# Headers by which a token tries to choose the key that it is checked with (RFC 7515, sections 4.1.2 to 4.1.6).
KEY_SOURCES = ("jku", "jwk", "x5u", "x5c")

# The secret also signs other documents: an e-mail verification carries one of the first two claims, a session cookie
# the last.
NOT_A_LOGIN = ("updateTo", "requestType", "session")

# The media type of access tokens (RFC 9068, section 2.1), in lower case.
ACCESS_TOKEN = "at+jwt"  # noqa: S105 (no password)  # nosec B105

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
class RuleResult:
    """The result of one rule. Its texts are safe to log: they are short and name no person.

    Attributes:
        passed: Whether the token passes the rule.
        expected: What the rule expects.
        got: What the token has.
        problem: The problem to raise when the token fails the rule.

    """

    passed: bool
    expected: str
    got: str
    problem: type[Unauthorized] = InvalidToken

    def refusal(self, rule: TokenRule) -> Refusal:
        """Return the refusal of a token that fails the rule."""
        return Refusal(rule, self.got, self.expected)


Rules = Mapping[TokenRule, Callable[[Token], RuleResult]]


def shared_secret_rules(
    secrets: Sequence[str],
    *,
    issuers: Sequence[str] = (),
    audiences: Sequence[str] = (),
    clock: Callable[[], float] = time.time,
) -> Rules:
    """Return the rules for HS256 tokens (RFC 7518, section 3.2), signed with a secret that the issuer shares.

    Args:
        secrets: The current secret, then the previous one while it is being rotated.
        issuers: The accepted values of `iss`; without any, `iss` is not checked.
        audiences: The accepted values of `aud`; without any, `aud` is not checked.
        clock: Returns the time as seconds since 1970.

    """
    origin_rules: dict[TokenRule, Callable[[Token], RuleResult]] = {}
    if issuers:
        origin_rules[TokenRule.ISSUER] = lambda token: _issuer(token, issuers)
    if audiences:
        origin_rules[TokenRule.AUDIENCE] = lambda token: _audience(token, audiences)
    return {
        TokenRule.TYPE: _type,
        TokenRule.KEY_SOURCE: _key_source,
        TokenRule.ALGORITHM: lambda token: _algorithm(token, ["HS256"]),
        TokenRule.SIGNATURE: lambda token: _signature_by_secret(token, secrets),
        TokenRule.PURPOSE: _purpose,
        TokenRule.USER: lambda token: _user_by_secret(token, is_origin_checked=bool(origin_rules)),
        **origin_rules,
        TokenRule.ISSUED_AT: lambda token: _start(token, "iat", clock()),
        TokenRule.NOT_BEFORE: lambda token: _start(token, "nbf", clock()),
        # The last rule, so that a token which is reported as expired was valid before.
        TokenRule.EXPIRY: lambda token: _expiry(token, clock()),
    }


def issuer_rules(
    keys: KeyCache,
    *,
    issuers: Sequence[str],
    audiences: Sequence[str],
    clock: Callable[[], float] = time.time,
) -> Rules:
    """Return the rules for tokens that the issuer signs with a private key whose public half it publishes.

    Args:
        keys: The issuer's public keys.
        issuers: The accepted values of `iss`.
        audiences: The accepted values of `aud`.
        clock: Returns the time as seconds since 1970.

    """
    return {
        TokenRule.TYPE: _type,
        TokenRule.KEY_SOURCE: _key_source,
        TokenRule.ALGORITHM: lambda token: _algorithm(token, ALGORITHMS),
        TokenRule.KEY: lambda token: _key(token, keys),
        TokenRule.SIGNATURE: _signature_by_key,
        TokenRule.USER: _user_by_key,
        TokenRule.ISSUER: lambda token: _issuer(token, issuers),
        TokenRule.AUDIENCE: lambda token: _audience(token, audiences),
        TokenRule.ISSUED_AT: lambda token: _start(token, "iat", clock(), required=True),
        TokenRule.NOT_BEFORE: lambda token: _start(token, "nbf", clock()),
        # The last rule, so that a token which is reported as expired was valid before.
        TokenRule.EXPIRY: lambda token: _expiry(token, clock()),
    }


def access_token_rules(
    keys: KeyCache,
    *,
    issuer: str,
    resource: str,
    clock: Callable[[], float] = time.time,
) -> Rules:
    """Return the rules for access tokens of the issuer's OAuth provider (RFC 9068), with which assistants call.

    Args:
        keys: The issuer's public keys.
        issuer: The one value of `iss`.
        resource: The one accepted value of `aud`.
        clock: Returns the time as seconds since 1970.

    """
    rules = dict(issuer_rules(keys, issuers=[issuer], audiences=[resource], clock=clock))
    expiry = rules.pop(TokenRule.EXPIRY)
    return {
        **rules,
        TokenRule.TYPE: _access_token_type,
        TokenRule.CONFIRMATION: _confirmation,
        TokenRule.CLIENT: _client,
        TokenRule.SCOPE: _scope,
        # Still the last one.
        TokenRule.EXPIRY: expiry,
    }


def describe(value: Any) -> str:
    """Return a value of a token as text: the value itself where it is safe to log, else its JSON type."""
    if isinstance(value, list) and 0 < len(value) <= REPEATED_MAX:
        return f"[{', '.join(_describe_scalar(member) for member in value)}]"
    return _describe_scalar(value)


def _describe_scalar(value: Any) -> str:
    return value if isinstance(value, str) and REPEATABLE.fullmatch(value) else JSON_TYPES[type(value)]


def _type(token: Token) -> RuleResult:
    return RuleResult(token.type == "jwt", "JWT or none", describe(token.header.get("typ")))


def _access_token_type(token: Token) -> RuleResult:
    return RuleResult(token.type == ACCESS_TOKEN, ACCESS_TOKEN, describe(token.header.get("typ")))


def _confirmation(token: Token) -> RuleResult:
    """Refuse a token that is good for the holder of a key alone (RFC 7800), because no proof of that is checked."""
    return RuleResult("cnf" not in token.claims, "none", "one")


def _client(token: Token) -> RuleResult:
    """Check that the token names the client that acts, and that it acts for somebody else (RFC 9068, section 2.2)."""
    client = token.claims.get("client_id")
    passed = isinstance(client, str) and client not in ("", token.claims.get("sub"))
    return RuleResult(passed, "the id of a client that acts for a user", describe(client))


def _scope(token: Token) -> RuleResult:
    """Read the scopes, which are one text with spaces between them (RFC 9068, section 2.2.3)."""
    scope = token.claims.get("scope")
    passed = isinstance(scope, str)
    token.scopes = frozenset(str(scope).split()) if passed else None
    return RuleResult(passed, "a text", describe(scope.split() if isinstance(scope, str) else scope))


def _key_source(token: Token) -> RuleResult:
    sources = [name for name in KEY_SOURCES if name in token.header]
    return RuleResult(not sources, "none in the header", ", ".join(sources) or "none")


def _algorithm(token: Token, algorithms: Sequence[str]) -> RuleResult:
    algorithm = canonical(token.header.get("alg"))
    return RuleResult(algorithm in algorithms, " or ".join(algorithms), describe(algorithm))


def _key(token: Token, keys: KeyCache) -> RuleResult:
    kid = token.header.get("kid")
    token.key = keys.find(kid) if isinstance(kid, str) else None
    if token.key is None:
        return RuleResult(False, "the kid of one of the issuer's keys", describe(kid))
    algorithm = canonical(token.header.get("alg"))
    return RuleResult(
        token.key.algorithm == algorithm,
        f"{token.key.algorithm}, as the key says",
        f"{describe(kid)} ({describe(algorithm)})",
    )


def _signature_by_key(token: Token) -> RuleResult:
    passed = token.key is not None and token.is_signed_with(token.key.public, token.key.algorithm)
    return RuleResult(passed, "one made with the issuer's key", "made with that key" if passed else "one that was not")


def _signature_by_secret(token: Token, secrets: Sequence[str]) -> RuleResult:
    for secret in secrets:
        if token.is_signed_with(secret_bytes(secret), "HS256"):
            return RuleResult(
                True, "", "made with the secret" if secret == secrets[0] else "made with the previous secret"
            )
    return RuleResult(False, "one made with the secret", "one made with another")


def _purpose(token: Token) -> RuleResult:
    purposes = [name for name in NOT_A_LOGIN if name in token.claims]
    return RuleResult(
        not purposes, "a login", f"claims of another purpose ({', '.join(purposes)})" if purposes else "a login"
    )


def _issuer(token: Token, issuers: Sequence[str]) -> RuleResult:
    issuer = token.claims.get("iss")
    return RuleResult(issuer in issuers, " or ".join(issuers), describe(issuer))


def _audience(token: Token, audiences: Sequence[str]) -> RuleResult:
    audience = token.claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    return RuleResult(any(member in audiences for member in members), " or ".join(audiences), describe(audience))


def _start(token: Token, claim: str, now: float, *, required: bool = False) -> RuleResult:
    """Check the claim that fixes from which date-time on a token is valid."""
    date = token.claims.get(claim)
    if date is None and not required:
        return RuleResult(True, "", "none")
    if not _is_numeric_date(date):
        return RuleResult(False, "a number of seconds", JSON_TYPES[type(date)])
    return RuleResult(date <= now + LEEWAY_S, "a moment in the past", _relative(date, now))


def _expiry(token: Token, now: float) -> RuleResult:
    date = token.claims.get("exp")
    if not _is_numeric_date(date):
        return RuleResult(False, "a number of seconds", JSON_TYPES[type(date)])
    return RuleResult(now < date + LEEWAY_S, "a moment in the future", _relative(date, now), ExpiredToken)


def _is_numeric_date(value: Any) -> TypeGuard[float]:
    """Check whether a value is a NumericDate (RFC 7519, section 2)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _relative(date: float, now: float) -> str:
    seconds = round(date - now)
    if abs(seconds) > FAR_S:
        return "one that is years away"
    return f"in {seconds} s" if seconds > 0 else f"{-seconds} s ago"


def _user_by_key(token: Token) -> RuleResult:
    """Read the user from `sub` alone: the issuer always writes it."""
    return _user(token, "sub")


def _user_by_secret(token: Token, *, is_origin_checked: bool) -> RuleResult:
    """Read the user from `sub`, else from `userId`.

    An untyped token with `userId` alone may have been made for another purpose. It passes only where the issuer or the
    audience is checked too.
    """
    users = {name: token.claims[name] for name in ("sub", "userId") if token.claims.get(name) not in (None, "")}
    if len(users) == 2 and users["sub"] != users["userId"]:  # noqa: PLR2004
        return RuleResult(False, "the same user in sub and userId", "two different ones")
    if list(users) == ["userId"] and "typ" not in token.header and not is_origin_checked:
        return RuleResult(False, "sub, or userId with typ JWT, or an issuer or audience to check", "userId alone")
    return _user(token, next(iter(users), "sub"))


def _user(token: Token, name: str) -> RuleResult:
    value = token.claims.get(name)
    if value in (None, ""):
        return RuleResult(False, "the id of a user in sub", "none", AnonymousToken)
    passed = isinstance(value, str) and USER_ID.fullmatch(value) is not None
    if passed:
        token.user_id = value
    return RuleResult(passed, f"1 to 255 printable characters in {name}", describe(value))
