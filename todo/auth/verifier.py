"""Verification of tokens by rules, and a cache of those that were verified."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachetools import LRUCache

from todo.auth.jwks import KeyCache, KeysUnavailable
from todo.auth.keys import Key
from todo.auth.rules import ACCESS_TOKEN, LEEWAY_S, RuleResult, Rules
from todo.auth.tokens import Caller, Token
from todo.http.problems import Unauthorized
from todo.telemetry.refusals import TokenRule

# How many verified tokens a process caches, some hundred bytes each. An expired one stays until it is evicted.
CACHED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Verified:
    """What is cached of a valid token: never the token itself."""

    caller: Caller
    key: Key | None


class Verifier:
    """Verifies tokens (RFC 7519, section 7.2) by rules, and caches the results of valid ones.

    Args:
        rules: What must be true of a token, in order.
        access_token_rules: What must be true of an access token instead, where there are any.
        keys: The issuer's keys, if it publishes any. A cached token is verified again when its key changes.
        clock: Returns the time as seconds since 1970.

    """

    def __init__(
        self,
        rules: Rules,
        *,
        access_token_rules: Rules | None = None,
        keys: KeyCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules = rules
        self.access_token_rules = access_token_rules
        self._keys = keys
        self._clock = clock
        self._cache: LRUCache[bytes, Verified] = LRUCache(CACHED_MAX)
        self._lock = threading.Lock()

    def __call__(self, text: str) -> Caller:
        """Return the caller that a token names.

        Raises:
            ExpiredToken: the token was valid until it expired, more than the leeway ago.
            AnonymousToken: the token is genuine and names no user.
            InvalidToken: the token breaks another rule.
            KeysUnavailable: the token cannot be verified now.

        """
        verified = self._find(text)
        if verified is None or not self._is_still_valid(verified):
            verified = self._verify(Token(text))
        return verified.caller

    def find_cached(self, text: str) -> Caller | None:
        """Return the caller of a token that was verified before; it may have expired since."""
        verified = self._find(text)
        return None if verified is None else verified.caller

    def verify_at_hand(self, text: str) -> Caller | None:
        """Return the caller that a token names; None if the token is refused, or its key would have to be fetched."""
        try:
            token = Token(text)
            kid = token.header.get("kid")
            if self._keys is not None and not (isinstance(kid, str) and self._keys.find_cached(kid)):
                return None
            return self._verify(token).caller
        except (Unauthorized, KeysUnavailable):
            return None

    def explain(self, text: str) -> Iterator[tuple[TokenRule, RuleResult]]:
        """Yield the result of every rule for a token, valid or not.

        Raises:
            InvalidToken: the text is not a token.
            KeysUnavailable: a rule needs a key that cannot be fetched now.

        """
        token = Token(text)
        for rule, check in self._rules_of(token).items():
            yield rule, check(token)

    def _rules_of(self, token: Token) -> Rules:
        """Return the rules for tokens of its type. Each list requires a type, so that none is good by both."""
        if self.access_token_rules is not None and token.type == ACCESS_TOKEN:
            return self.access_token_rules
        return self.rules

    def _find(self, text: str) -> Verified | None:
        with self._lock:
            return self._cache.get(_digest(text))

    def _is_still_valid(self, verified: Verified) -> bool:
        if self._clock() >= verified.caller.expires_at + LEEWAY_S:
            return False
        return self._keys is None or verified.key is None or self._keys.find_cached(verified.key.kid) == verified.key

    def _verify(self, token: Token) -> Verified:
        """Apply all rules to a token, and cache it if it passes."""
        for rule, check in self._rules_of(token).items():
            result = check(token)
            if not result.passed:
                raise result.problem(result.refusal(rule), user_id=token.user_id if token.is_genuine else None)
        verified = Verified(Caller(str(token.user_id), token.claims["exp"], token.scopes), token.key)
        with self._lock:
            self._cache[_digest(token.text)] = verified
        return verified


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
