"""The address of a calendar: its owner, and a secret of which the database has the digest alone.

Whoever knows the address reads the calendar, so it is a password: no log line, metric or error has it. The owner stands
in it so that one shard answers where users are spread over several.
"""

import base64
import binascii
import hashlib
import re
import secrets
from typing import NamedTuple

from todo.auth.tokens import USER_ID

# 43 characters of URL-safe Base64 without padding (RFC 4648, section 5).
SECRET_BYTES = 32

ADDRESS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")


class Address(NamedTuple):
    """The owner of a calendar, and the digest of the secret."""

    owner: str
    digest: bytes


def create(owner: str) -> tuple[str, bytes]:
    """Return a new address of a user's calendar, and the digest of its secret."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    return f"{base64.urlsafe_b64encode(owner.encode()).rstrip(b'=').decode()}.{secret}", digest(secret)


def parse(text: str) -> Address | None:
    """Return what an address says, or None if it is none."""
    if not (matched := ADDRESS.fullmatch(text)):
        return None
    try:
        owner = base64.urlsafe_b64decode(matched[1] + "=" * (-len(matched[1]) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Address(owner, digest(matched[2])) if USER_ID.fullmatch(owner) else None


def digest(secret: str) -> bytes:
    """Return the digest of a secret. It is random and long, so a plain SHA-256 gives nothing away."""
    return hashlib.sha256(secret.encode()).digest()
