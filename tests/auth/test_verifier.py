"""The cache of a verifier: what it holds, for how long, and what it never holds."""

import pytest
from support import SECRET, claims, sign, sign_raw

from todo.auth.jwks import KeysUnavailable
from todo.auth.keys import Key
from todo.auth.rules import RuleResult, shared_secret_rules
from todo.auth.verifier import CACHED_MAX, Verifier
from todo.http.problems import ExpiredToken, InvalidToken

NOW = 1_800_000_000


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Keys:
    """Stand-in for a key cache, with one key or none."""

    def __init__(self, key: Key | None) -> None:
        self.key = key

    def find(self, _kid: str) -> Key | None:
        if self.key is None:
            raise KeysUnavailable
        return self.key

    def find_cached(self, kid: str) -> Key | None:
        return self.key if self.key is not None and self.key.kid == kid else None


def counting(rules):
    """Return these rules, and a list to which they add each token that they check."""
    checked = []

    def count(token):
        checked.append(token.text)
        return RuleResult(True, "", "")

    return {"count": count, **rules}, checked


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def caching(clock):
    rules, checked = counting(shared_secret_rules([SECRET], clock=clock))
    return Verifier(rules, clock=clock), checked


def token_until(exp: float, user: str = "u1") -> str:
    return sign(claims(user, iat=NOW, exp=exp))


def test_verifier_checks_a_valid_token_once(caching):
    verify, checked = caching
    token = token_until(NOW + 60)
    assert [verify(token).id for _ in range(3)] == ["u1"] * 3
    assert checked == [token]


def test_verifier_checks_the_expiry_of_a_cached_token_each_time(caching, clock):
    verify, _ = caching
    token = token_until(NOW + 60)
    assert verify(token).id == "u1"
    clock.now = NOW + 74
    assert verify(token).id == "u1"
    clock.now = NOW + 75
    for _ in range(2):
        with pytest.raises(ExpiredToken):
            verify(token)


def test_verifier_caches_no_failure(caching):
    verify, checked = caching
    token = sign(claims("u1", iat=NOW, exp=NOW + 60), secret="somebody else's secret, which is long enough")
    for _ in range(3):
        with pytest.raises(InvalidToken):
            verify(token)
    assert len(checked) == 3


def test_verifier_does_not_take_another_token_for_a_cached_one(caching):
    verify, _ = caching
    token = token_until(NOW + 60)
    assert verify(token).id == "u1"
    assert verify(token_until(NOW + 60, "u2")).id == "u2"
    for forged in (f"{token}x", token[:-2], token.swapcase()):
        with pytest.raises(InvalidToken):
            verify(forged)


def test_verifier_caches_no_more_than_its_bound(caching):
    verify, _ = caching
    verify._cache.update({n.to_bytes(32): None for n in range(CACHED_MAX)})
    first = token_until(NOW + 60)
    verify(first)
    assert len(verify._cache) == CACHED_MAX
    assert CACHED_MAX <= 10_000


def test_verifier_caches_digests_and_no_tokens(caching):
    verify, _ = caching
    token = token_until(NOW + 60)
    verify(token)
    ((digest, kept),) = verify._cache.items()
    assert len(digest) == 32
    assert token not in repr((digest, kept))


def test_verifier_verifies_a_token_again_when_its_key_changes(clock):
    def by_key(token):
        token.key = keys.find("k1")
        return RuleResult(True, "", "")

    keys = Keys(Key("k1", "EdDSA", ("one",), None))
    rules, checked = counting({"key": by_key, **shared_secret_rules([SECRET], clock=clock)})
    verify = Verifier(rules, keys=keys, clock=clock)
    token = token_until(NOW + 60)
    verify(token)
    keys.key = Key("k1", "EdDSA", ("one",), None)
    verify(token)
    assert len(checked) == 1
    keys.key = Key("k1", "EdDSA", ("another",), None)
    verify(token)
    assert len(checked) == 2
    keys.key = None
    with pytest.raises(KeysUnavailable):
        verify(token)


def test_token_is_verified_at_hand_and_cached(caching):
    verify, checked = caching
    token = token_until(NOW + 60)
    assert verify.verify_at_hand(token).id == verify(token).id == "u1"
    assert checked == [token]


@pytest.mark.parametrize("text", ["", "x", token_until(NOW - 60), f"{token_until(NOW + 60)}x"])
def test_token_that_is_refused_names_nobody_at_hand(caching, text):
    verify, _ = caching
    assert verify.verify_at_hand(text) is None


@pytest.mark.parametrize(("kid", "user"), [("k1", "u1"), ("k2", None), (None, None), (1, None)])
def test_token_is_verified_at_hand_only_with_a_key_that_is_cached(clock, kid, user):
    keys = Keys(Key("k1", "HS256", ("one",), None))
    verify = Verifier(shared_secret_rules([SECRET], clock=clock), keys=keys, clock=clock)
    token = sign_raw({"alg": "HS256", "kid": kid}, claims("u1", iat=NOW, exp=NOW + 60))
    caller = verify.verify_at_hand(token)
    assert (caller and caller.id) == user
