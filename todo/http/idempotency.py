"""Safe retries: the `Idempotency-Key` of a creation (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from todo.http.problems import UnprocessableContent

HEADER = "Idempotency-Key"
IDEMPOTENCY_KEY_MAX = 255

# A string of a structured field (RFC 9651, section 3.3.3).
QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
ESCAPED = re.compile(r'\\(["\\])')

DIGEST_BYTES = 16
DIGEST_PERSON = b"todo creation"


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The identity of a creation.

    Attributes:
        key: The client's name for the creation.
        digest: A digest of the values, by which another creation with the same key is recognised.

    """

    key: str
    digest: bytes


def parse(header: str | None, values: Mapping[str, Any]) -> Idempotency | None:
    """Parse the header of a creation with these validated values; without a header, return None.

    Raises:
        UnprocessableContent: The key is empty, too long, or begins with a quotation mark and is no quoted string.

    """
    if header is None:
        return None
    key = header.strip()
    if key.startswith('"'):
        quoted = QUOTED.fullmatch(key)
        key = ESCAPED.sub(r"\1", quoted[1]) if quoted else ""
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX or "\0" in key:
        rule = f"{HEADER} must have 1 to {IDEMPOTENCY_KEY_MAX} characters, with or without quotation marks around them."
        raise UnprocessableContent([{"header": HEADER, "detail": rule}])
    return identify(key, values)


def identify(key: str, values: Mapping[str, Any]) -> Idempotency:
    """Return the identity of a creation with these validated values.

    In the digest an absent member is the same as one with the value that it gets by default.
    """
    significant = {name: value for name, value in values.items() if value not in (None, False, [])}
    document = orjson.dumps(significant, default=tuple, option=orjson.OPT_SORT_KEYS)
    return Idempotency(key, hashlib.blake2b(document, digest_size=DIGEST_BYTES, person=DIGEST_PERSON).digest())
