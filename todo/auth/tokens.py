"""Tokens as clients present them, decoded but not verified, and tokens issued for development."""

import math
import re
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
import orjson

from config import secret_bytes
from todo.auth.keys import ALIASES, Key, canonical
from todo.http.problems import InvalidToken
from todo.telemetry.refusals import Refusal, TokenRule

TOKEN_MAX_BYTES = 8192

# 1 to 255 characters, none of them a control character or half of a surrogate pair: PostgreSQL must be able to
# store it.
USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")

JWS = jwt.PyJWS()
for _alias, _algorithm in ALIASES.items():
    # PyJWT has none of them where only a shared secret is used, which needs no cryptography.
    if _algorithm in JWS.get_algorithms():
        JWS.register_algorithm(_alias, JWS.get_algorithm_by_name(_algorithm))


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated user of a request.

    Attributes:
        id: The id.
        expires_at: When the token expires, as seconds since 1970.
        scopes: What an access token of an assistant allows; None for the token of the user's own front-end.

    """

    id: str
    expires_at: float = field(default=math.inf, compare=False)
    scopes: frozenset[str] | None = None


class Token:
    """A token as a client presented it.

    Attributes:
        text: The whole token, encoded.
        header: Its JOSE header (RFC 7515, section 4).
        claims: Its claims (RFC 7519, section 4); not to be trusted unless `is_genuine`.
        is_genuine: Whether its signature was verified.
        key: The issuer's key that its signature is checked with.
        user_id: The user that it names, once a rule has read it.
        scopes: What it allows, where it is an access token, once a rule has read them.

    """

    def __init__(self, text: str) -> None:
        """Decode the token.

        Raises:
            InvalidToken: the text is too long, or is not a JWT.

        """
        if len(text) > TOKEN_MAX_BYTES:
            raise InvalidToken(Refusal(TokenRule.SIZE, str(len(text)), f"at most {TOKEN_MAX_BYTES} bytes"))
        try:
            parts = JWS.decode_complete(text, options={"verify_signature": False})
            claims = orjson.loads(parts["payload"])
        # Besides its own errors, PyJWT lets through the exceptions that hostile input raises inside it.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise InvalidToken(Refusal(TokenRule.FORM, "something else", "header.claims.signature")) from None
        self.text = text
        self.header: dict[str, Any] = parts["header"]
        self.claims: dict[str, Any] = claims
        self.is_genuine = False
        self.key: Key | None = None
        self.user_id: str | None = None
        self.scopes: frozenset[str] | None = None

    @property
    def type(self) -> Any:
        """The media type (RFC 7515, section 4.1.9), which has no case, and which `application/` may precede."""
        typ = self.header.get("typ", "JWT")
        return typ.lower().removeprefix("application/") if isinstance(typ, str) else typ

    def is_signed_with(self, key: Any, algorithm: str) -> bool:
        """Verify the signature with a key (RFC 7515, section 5.2)."""
        try:
            aliases = [alias for alias in ALIASES if canonical(alias) == algorithm]
            JWS.decode_complete(self.text, key, algorithms=[algorithm, *aliases])
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        self.is_genuine = True
        return True


def issue(
    secret: str,
    user_id: str,
    *,
    lifetime_s: int,
    email: str | None = None,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """Issue a token for development, as the issuer would.

    Args:
        secret: The shared secret.
        user_id: The user that the token names, its `sub`.
        lifetime_s: Seconds until it expires.
        email: Its `email`, if it should carry one.
        issuer: Its `iss`, if that is checked.
        audience: Its `aud`, if that is checked.

    """
    now = int(time.time())
    optional = {"email": email, "iss": issuer, "aud": audience}
    claims = {"sub": user_id, "iat": now, "exp": now + lifetime_s}
    claims |= {name: value for name, value in optional.items() if value is not None}
    return jwt.encode(claims, secret_bytes(secret), algorithm="HS256")
