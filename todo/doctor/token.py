"""Why a token is good, or what is wrong with it."""

import re
from collections.abc import Iterator
from urllib.parse import quote

import orjson

from config import Config
from todo.auth.jwks import KeysUnavailable
from todo.auth.rules import shown
from todo.auth.verifier import Verifier
from todo.doctor.results import Result, failed, passed
from todo.http.problems import InvalidToken, Problem

# What may stand in front of a token that was copied from somewhere.
PREFIX = re.compile(r"(authorization:)?\s*(bearer\s)?\s*", re.IGNORECASE)

RENEW = "Get a new token from the issuer: Better Auth gives one at /api/auth/token."
THREE_PARTS = (
    "A token has three parts with two dots between them. A session token or a cookie of Better Auth is none: "
    "with it, ask /api/auth/token for one."
)
FORGED = f"It was changed on its way, or another server made it. {RENEW}"
SIGNED_OTHERWISE = "BETTER_AUTH_SECRET must be the secret that the issuer signs with, to the letter."
REMEDIES = {
    "size": "If it is a token, put less into it: definePayload of Better Auth's jwt plugin says what goes in.",
    "form": THREE_PARTS,
    "typ": f"It was made for another purpose. {RENEW}",
    "key source": "No issuer of yours makes such a token: it names the key that it wants to be checked with.",
    "key": f"Its key is no longer published, or another server made it. {RENEW}",
    "purpose": f"It was made for another purpose. {RENEW}",
    "issuer": "Open the front-end by the same host name as here, or set JWT_ISSUER to what the token says.",
    "audience": "Open the front-end by the same host name as here, or set JWT_AUDIENCE to what the token says.",
    "issued at": "Compare the clocks of the two machines.",
    "not before": "Compare the clocks of the two machines.",
    "user": "The payload must name the user in sub, as Better Auth does by default.",
    "expiry": RENEW,
}


def clean(text: str) -> str:
    """Find the token in what was pasted: alone, in quotes, as a header, or as the answer of Better Auth."""
    text = text.strip()
    try:
        answer = orjson.loads(text)
    except ValueError:
        answer = None
    for name in ("data", "token"):
        if isinstance(answer, dict):
            answer = answer.get(name, answer)
    if isinstance(answer, str):
        text = answer
    return PREFIX.sub("", text, count=1).strip()


def check_token(config: Config, verifier: Verifier, text: str) -> Iterator[Result]:
    """Say of each rule whether the token passes it: what was expected, what was received, and what to do."""
    try:
        for name, finding in verifier.explain(text):
            if finding.good:
                yield passed(name, str(finding))
            else:
                yield failed(name, str(finding), _remedy(config, name))
    except InvalidToken as problem:
        name, _, fault = (problem.reason or "").partition(": ")
        yield failed(name, fault, _remedy(config, name))
    except KeysUnavailable as problem:
        yield failed(
            "key", problem.reason or problem.detail, "Without --token, the doctor says what the issuer answers."
        )


def _remedy(config: Config, name: str) -> str:
    if name in REMEDIES:
        return REMEDIES[name]
    if name == "signature":
        return FORGED if config.jwks_url is not None else SIGNED_OTHERWISE
    if config.jwks_url is None:
        return "If Better Auth signs with keys of its own, as it does by default, set BETTER_AUTH_URL to its address."
    return "If Better Auth is set up to sign with a secret, unset BETTER_AUTH_URL and set BETTER_AUTH_SECRET."


def verdict(verifier: Verifier, text: str) -> str:
    """Say in one line what a client that sends this token is answered."""
    try:
        caller = verifier(text)
    except Problem as problem:
        return f"It is refused: {problem.status.value} {problem.detail.rstrip('.')}. The first ✗ says why."
    # An id that is an address of a person is not repeated.
    own = f" and for /api/{quote(caller.id, safe='')}/tasks" if shown(caller.id) == caller.id else ""
    return f"It is good, for /api/me/tasks{own}."
