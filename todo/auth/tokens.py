"""The bytes of a token in, a Caller out, or a reason why not. The only importer of jwt."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from todo.errors import AnonymousToken, ExpiredToken, InvalidToken

TOKEN_MAX_BYTES = 8192
LEEWAY_S = 15

# Headers by which a token tries to choose the key that it is checked with (RFC 7515, sections 4.1.2 to 4.1.6).
KEY_SOURCES = ("jku", "jwk", "x5u", "x5c")

# The secret signs other things too: an e-mail verification carries one of the first two, a session cookie the last.
NOT_A_LOGIN = ("updateTo", "requestType", "session")

# 1 to 255 characters, none of them a control character or half of a surrogate pair: PostgreSQL must be able to hold it.
USER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request. Only `id` owns anything; the e-mail address is information."""

    id: str
    email: str | None = None


class SharedSecretVerifier:
    """Verifies HS256 tokens (RFC 7518, section 3.2) that the issuer signs with a secret it shares with us."""

    def __init__(self, secrets: Sequence[str], *, issuers: Sequence[str] = (), audiences: Sequence[str] = ()) -> None:
        """Take the settings.

        Args:
            secrets: The current secret, then the previous one while it is being rotated.
            issuers: The accepted values of `iss`; none means that it is not checked.
            audiences: The accepted values of `aud`; none means that it is not checked.

        """
        self._keys = [secret.encode() for secret in secrets]
        self._issuers = list(issuers) or None
        self._audiences = list(audiences) or None
        self._options = jwt.types.Options(
            # PyJWT demands `iss` and `aud` where it is told what to expect. What names the caller is ours to judge.
            require=["exp"],
            verify_iss=bool(issuers),
            verify_aud=bool(audiences),
            verify_sub=False,
            verify_jti=False,
        )

    def __call__(self, token: str) -> Caller:
        """Verify a token (RFC 7519, section 7.2).

        Raises:
            ExpiredToken: it was good until `exp`, more than the leeway ago.
            AnonymousToken: it is genuine and names nobody.
            InvalidToken: anything else is wrong with it.

        """
        if len(token) > TOKEN_MAX_BYTES:
            raise InvalidToken(reason=f"size: over {TOKEN_MAX_BYTES} bytes")
        verified = self._decode(token)
        return self._caller(verified["header"], verified["payload"])

    def _decode(self, token: str) -> dict[str, Any]:
        for key in self._keys:
            try:
                return jwt.decode_complete(
                    token,
                    key,
                    algorithms=["HS256"],
                    issuer=self._issuers,
                    audience=self._audiences,
                    leeway=LEEWAY_S,
                    options=self._options,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError as error:
                raise ExpiredToken(reason="exp: in the past") from error
            # Beside its own errors PyJWT lets through what hostile numbers and nesting raise inside it.
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
                raise InvalidToken(reason=f"{type(error).__name__}: {error}"[:200]) from error
        raise InvalidToken(reason="signature: made with another secret")

    def _caller(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> Caller:
        if header.get("typ", "JWT") != "JWT":
            raise InvalidToken(reason=f"typ: expected JWT or none, got {header['typ']!r}"[:200])
        if sources := [name for name in KEY_SOURCES if name in header]:
            raise InvalidToken(reason=f"header: names another source of keys ({', '.join(sources)})")
        if purposes := [name for name in NOT_A_LOGIN if name in claims]:
            raise InvalidToken(reason=f"claims: made for another purpose ({', '.join(purposes)})")
        if not isinstance(claims["exp"], int | float):
            raise InvalidToken(reason="exp: not a number")
        named = {name: claims[name] for name in ("sub", "userId") if claims.get(name) not in (None, "")}
        if not named:
            raise AnonymousToken(reason="sub, userId: both absent or empty")
        if any(value != next(iter(named.values())) for value in named.values()):
            raise InvalidToken(reason="sub, userId: name different users")
        if "sub" not in named and "typ" not in header and not (self._issuers or self._audiences):
            raise InvalidToken(reason="userId: stands alone in a token with no typ, and neither iss nor aud is checked")
        user_id = next(iter(named.values()))
        if not isinstance(user_id, str) or not USER_ID.fullmatch(user_id):
            raise InvalidToken(reason=f"{next(iter(named))}: not a text of 1 to 255 printable characters")
        email = claims.get("email")
        return Caller(user_id, email if isinstance(email, str) else None)


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
    return jwt.encode(claims, secret, algorithm="HS256")
