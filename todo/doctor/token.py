"""Explanations of one token: why it is valid, or which rules it breaks and what to do about it."""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import orjson

from config import Config
from todo.auth.access import SCOPES
from todo.auth.jwks import KeysUnavailable
from todo.auth.rules import ACCESS_TOKEN, describe
from todo.auth.verifier import Verifier
from todo.doctor.results import Result, failed, passed
from todo.http.problems import InvalidToken, Problem
from todo.telemetry.refusals import Refusal, TokenRule

# What may precede a token in a copied header.
PREFIX = re.compile(r"(authorization:)?\s*(bearer\s)?\s*", re.IGNORECASE)

# The ids that a segment of a path can hold. A server decodes %2F before it splits the path, and clients take a segment
# of one or two dots, percent-encoded or not, for a step in the tree (RFC 3986, section 5.2.4).
IN_A_PATH = re.compile(r"(?!\.{1,2}$)[^/]+")
ONLY_ME = (
    "It is good, for /api/me/tasks. Only me reaches this user: a path cannot hold an id that has a slash in it, or "
    "that is one or two dots."
)

RENEW = "Get a new token from the issuer: Better Auth issues one at /api/auth/token."
THREE_PARTS = (
    "A token has three parts with two dots between them. A session token or a cookie of Better Auth is not a token: "
    "use it to request one from /api/auth/token."
)
FORGED = f"It was changed on its way, or another server made it. {RENEW}"
SIGNED_OTHERWISE = "BETTER_AUTH_SECRET must be exactly the secret that the issuer signs with."
COMPARE_CLOCKS = "Compare the clocks of the two machines."
REMEDIES = {
    TokenRule.SIZE: "If it is a token, put less into it: definePayload of Better Auth's jwt plugin sets its content.",
    TokenRule.FORM: THREE_PARTS,
    TokenRule.TYPE: f"It was made for another purpose. {RENEW}",
    TokenRule.KEY_SOURCE: "It names the key to verify it with, which no token of your issuer does.",
    TokenRule.KEY: f"Its key is no longer published, or another server made it. {RENEW}",
    TokenRule.PURPOSE: f"It was made for another purpose. {RENEW}",
    TokenRule.CONFIRMATION: "It is good for the holder of a key alone (DPoP): turn that off in Better Auth.",
    TokenRule.CLIENT: "It was issued to a client for itself, and names no user: use the authorization code flow.",
    TokenRule.SCOPE: f"It allows nothing that can be read. {RENEW}",
    TokenRule.ISSUER: "Open the front-end by the same host name as here, or set JWT_ISSUER to the issuer of the token.",
    TokenRule.AUDIENCE: (
        "Open the front-end by the same host name as here, or set JWT_AUDIENCE to the audience of the token."
    ),
    TokenRule.ISSUED_AT: COMPARE_CLOCKS,
    TokenRule.NOT_BEFORE: COMPARE_CLOCKS,
    TokenRule.USER: "The payload must name the user in sub, as Better Auth does by default.",
    TokenRule.EXPIRY: RENEW,
}


# Of access tokens of assistants.
ACCESS_TOKEN_REMEDIES = {
    TokenRule.ISSUER: "BETTER_AUTH_URL must be the baseURL of Better Auth, with the path of its API if it has one.",
    TokenRule.AUDIENCE: "Set resource of the plugin mcp() of Better Auth to what is expected, or correct PUBLIC_URL.",
}


def decode(data: bytes) -> str:
    """Decode pasted bytes: UTF-8, -16 or -32, with or without a byte order mark, as editors and shells write them."""
    return data.decode(json.detect_encoding(data), errors="replace")


def clean(text: str) -> str:
    """Extract the token from pasted text: the token alone, in quotes, a header, or a JSON response of Better Auth."""
    text = text.strip()
    try:
        document = orjson.loads(text)
    except ValueError:
        document = None
    for name in ("data", "token"):
        if isinstance(document, dict):
            document = document.get(name, document)
    if isinstance(document, str):
        text = document
    return PREFIX.sub("", text, count=1).strip()


def check_token(config: Config, verifier: Verifier, text: str) -> Iterator[Result]:
    """Yield a result for each rule: whether the token passes it, and if not, what to do."""
    remedies = REMEDIES
    try:
        for rule, result in verifier.explain(text):
            if rule is TokenRule.TYPE and result.passed and result.expected == ACCESS_TOKEN:
                remedies = REMEDIES | ACCESS_TOKEN_REMEDIES
            if result.passed:
                yield passed(rule, result.got)
            else:
                yield _failure(config, result.refusal(rule), remedies)
    except InvalidToken as problem:
        yield _failure(config, problem.refusal, remedies)
    except KeysUnavailable as problem:
        yield failed("key", problem.reason or problem.detail, "Without --token, the doctor checks the issuer itself.")


def _failure(config: Config, refusal: Refusal, remedies: Mapping[TokenRule, str]) -> Result:
    return failed(refusal.rule, refusal.fault, remedies.get(refusal.rule) or _remedy(config, refusal.rule))


def _remedy(config: Config, rule: TokenRule) -> str:
    if rule is TokenRule.SIGNATURE:
        return FORGED if config.jwks_url is not None else SIGNED_OTHERWISE
    if config.jwks_url is None:
        return "If Better Auth signs with keys of its own, as it does by default, set BETTER_AUTH_URL to its address."
    return "If Better Auth is set up to sign with a secret, unset BETTER_AUTH_URL and set BETTER_AUTH_SECRET."


def verdict(verifier: Verifier, text: str) -> str:
    """Return one line on how the service responds to a client with this token."""
    try:
        caller = verifier(text)
    except Problem as problem:
        return f"It is refused: {problem.status.value} {problem.detail.rstrip('.')}. The first ✗ says why."
    if caller.scopes is not None:
        allowed = [scope for scope in SCOPES if scope in caller.scopes]
        return f"It is good, for /mcp: it allows {' and '.join(allowed) or 'nothing there'}."
    if not IN_A_PATH.fullmatch(caller.id):
        return ONLY_ME
    # An id that is an e-mail address is not repeated.
    own = f" and for /api/{quote(caller.id, safe='')}/tasks" if describe(caller.id) == caller.id else ""
    return f"It is good, for /api/me/tasks{own}."
