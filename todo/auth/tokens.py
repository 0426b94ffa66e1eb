"""A token as it was presented, taken apart; and one made for development."""

import re
import time
from dataclasses import dataclass
from typing import Any

import jwt
import orjson

from config import secret_bytes
from todo.auth.keys import Key
from todo.http.problems import InvalidToken

TOKEN_MAX_BYTES = 8192

# 1 to 255 characters, none of them a control character or half of a surrogate pair: PostgreSQL must be able to hold it.
USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")

JWS = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request."""

    id: str


class Token:
    """A token as it was presented.

    Attributes:
        text: All of it.
        header: Its JOSE header (RFC 7515, section 4).
        claims: Its claims (RFC 7519, section 4); not to be believed before `genuine`.
        genuine: Whether its signature was verified.
        key: The issuer's key that did it.
        user_id: Whom it names, once a rule has found that out.

    """

    def __init__(self, text: str) -> None:
        """Take it apart.

        Raises:
            InvalidToken: it is too long, or no JWT.

        """
        if len(text) > TOKEN_MAX_BYTES:
            raise InvalidToken(reason=f"size: expected at most {TOKEN_MAX_BYTES} bytes, got {len(text)}")
        try:
            parts = JWS.decode_complete(text, options={"verify_signature": False})
            claims = orjson.loads(parts["payload"])
        # Beside its own errors PyJWT lets through what hostile input raises inside it.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise InvalidToken(reason="form: expected header.claims.signature, got something else") from None
        self.text = text
        self.header: dict[str, Any] = parts["header"]
        self.claims: dict[str, Any] = claims
        self.genuine = False
        self.key: Key | None = None
        self.user_id: str | None = None

    def is_signed_with(self, key: Any, algorithm: str) -> bool:
        """Verify the signature (RFC 7515, section 5.2)."""
        try:
            JWS.decode_complete(self.text, key, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            return False
        self.genuine = True
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
    """Make a token as the issuer would, for development.

    Args:
        secret: The shared secret.
        user_id: Whose token it is, its `sub`.
        lifetime_s: Seconds until it expires.
        email: Its `email`, if it should carry one.
        issuer: Its `iss`, if it is checked.
        audience: Its `aud`, if it is checked.

    """
    now = int(time.time())
    optional = {"email": email, "iss": issuer, "aud": audience}
    claims = {"sub": user_id, "iat": now, "exp": now + lifetime_s}
    claims |= {name: value for name, value in optional.items() if value is not None}
    return jwt.encode(claims, secret_bytes(secret), algorithm="HS256")
