"""From the text of a token to its caller, by rules; what was verified once is remembered."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachetools import LRUCache

from todo.auth.jwks import KeyCache
from todo.auth.keys import Key
from todo.auth.rules import LEEWAY_S, Finding, Rules
from todo.auth.tokens import Caller, Token

# How many verified tokens a process remembers: some hundred bytes each. An expired one stays until it is pushed out.
REMEMBERED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Verified:
    """What is remembered of a good token: never the token itself."""

    caller: Caller
    expires_at: float
    key: Key | None


class Verifier:
    """Verifies tokens (RFC 7519, section 7.2) by rules, and remembers those that were good.

    Args:
        rules: What must be true of a token, by the name of each rule, in order.
        keys: Where the issuer's keys come from, if it publishes any: a token is forgotten with its key.
        clock: Gives the time as seconds since 1970.

    """

    def __init__(self, rules: Rules, *, keys: KeyCache | None = None, clock: Callable[[], float] = time.time) -> None:
        self.rules = rules
        self._keys = keys
        self._clock = clock
        self._remembered: LRUCache[bytes, Verified] = LRUCache(REMEMBERED_MAX)
        self._lock = threading.Lock()

    def __call__(self, text: str) -> Caller:
        """Say whose token this is.

        Raises:
            ExpiredToken: it was good until its expiry, more than the leeway ago.
            AnonymousToken: it is genuine and names nobody.
            InvalidToken: anything else is wrong with it.
            KeysUnavailable: nobody can say now.

        """
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        with self._lock:
            verified = self._remembered.get(digest)
        if verified is None or not self._is_still_good(verified):
            verified = self._verify(Token(text))
            with self._lock:
                self._remembered[digest] = verified
        return verified.caller

    def explain(self, text: str) -> Iterator[tuple[str, Finding]]:
        """Give what each rule says of a token, good or not, by the name of the rule.

        Raises:
            InvalidToken: it is no token at all.
            KeysUnavailable: a rule needs a key that cannot be fetched now.

        """
        token = Token(text)
        for name, rule in self.rules.items():
            yield name, rule(token)

    def _is_still_good(self, verified: Verified) -> bool:
        if self._clock() >= verified.expires_at + LEEWAY_S:
            return False
        return self._keys is None or verified.key is None or self._keys.find(verified.key.kid) == verified.key

    def _verify(self, token: Token) -> Verified:
        for name, rule in self.rules.items():
            finding = rule(token)
            if not finding.good:
                user_id = token.user_id if token.genuine else None
                raise finding.problem(reason=f"{name}: {finding}", user_id=user_id)
        return Verified(Caller(str(token.user_id)), token.claims["exp"], token.key)
