"""The public keys that an issuer publishes (JWK Set, RFC 7517), and the choice of those that may verify a token."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import orjson

RSA_MIN_BITS = 2048

# The members that make up a public key of each type (RFC 7518, section 6; RFC 8037, section 2). No other member of an
# entry is ever read, above all no private part.
PUBLIC_MEMBERS = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}

# The reasons for dropped keys are logged, and a document full of nonsense must not fill the log.
REASONS_MAX = 10

ALGORITHMS = ("EdDSA", "ES256", "ES512", "RS256", "PS256")

# Other names of these. EdDSA also stands for a second curve, whose keys are not accepted (RFC 9864, section 2.2).
ALIASES = {"Ed25519": "EdDSA"}


class UnusableKeys(ValueError):
    """Raised for a document that is not a key set, or has no key that may verify a token. The message is the reason."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the one algorithm that it is used with. Keys are equal when they were published alike."""

    kid: str
    algorithm: str
    members: tuple[str, ...]
    public: Any = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The content of a document: the usable keys by `kid`, and the reasons why the first unusable ones are dropped."""

    keys: Mapping[str, Key]
    dropped: tuple[str, ...] = ()


def parse(document: bytes) -> KeySet:
    """Parse a JWK Set (RFC 7517, section 5).

    Raises:
        UnusableKeys: the document is not a JWK Set, or no key in it is usable.

    """
    try:
        entries = orjson.loads(document)["keys"]
    except (ValueError, LookupError, TypeError):
        raise UnusableKeys('the response is not JSON with a member "keys"') from None
    keys: dict[str, Key] = {}
    dropped = []
    for position, entry in enumerate(entries if isinstance(entries, list) else ()):
        try:
            key = _key(entry)
        except UnusableKeys as error:
            dropped.append(f"key {position}: {error}")
        else:
            keys.setdefault(key.kid, key)
    reasons = tuple(dropped[:REASONS_MAX])
    if not keys:
        raise UnusableKeys("; ".join(["the response has no usable key", *reasons]))
    return KeySet(keys, reasons)


def canonical(algorithm: Any) -> Any:
    """Return the name in `ALGORITHMS` that an `alg` stands for (RFC 7517, section 4.4); anything else as it is."""
    return ALIASES.get(algorithm, algorithm) if isinstance(algorithm, str) else algorithm


def _key(entry: Any) -> Key:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        raise UnusableKeys("has no kid")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKeys("is not meant for signatures")
    algorithm = _algorithm(entry)
    public_members = {name: entry.get(name) for name in PUBLIC_MEMBERS[entry["kty"]]}
    try:
        public = jwt.PyJWK({"kty": entry["kty"], **public_members}, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise UnusableKeys("cannot be read") from error
    if entry["kty"] == "RSA" and public.key_size < RSA_MIN_BITS:
        raise UnusableKeys(f"is an RSA key of under {RSA_MIN_BITS} bits")
    return Key(entry["kid"], algorithm, tuple(map(str, public_members.values())), public)


def _algorithm(entry: Mapping[str, Any]) -> str:
    """Return the algorithm that a key is used with: chosen by the key, never by the token."""
    match entry:
        case {"kty": "OKP", "crv": "Ed25519"}:
            algorithm = "EdDSA"
        case {"kty": "EC", "crv": "P-256"}:
            algorithm = "ES256"
        case {"kty": "EC", "crv": "P-521"}:
            algorithm = "ES512"
        case {"kty": "RSA", "alg": "RS256" | "PS256" as algorithm}:
            pass
        case _:
            raise UnusableKeys("is of a kind that is not accepted")
    if canonical(entry.get("alg", algorithm)) != algorithm:
        raise UnusableKeys(f"is good for {algorithm}, and says another algorithm")
    return str(algorithm)
