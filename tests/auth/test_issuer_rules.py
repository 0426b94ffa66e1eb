"""The tokens of an issuer with published keys that are valid, and each forgery that a naive verifier accepts."""

import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support import claims, segment, sign

from todo.auth.jwks import KeyCache
from todo.auth.keys import Key, KeySet
from todo.auth.rules import issuer_rules
from todo.auth.tokens import Caller
from todo.auth.verifier import Verifier
from todo.http.problems import AnonymousToken, ExpiredToken, InvalidToken

ORIGIN = "http://localhost:3000"
NOW = 1_800_000_000

PRIVATE = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
    "PS256": rsa.generate_private_key(65537, 2048),
}


def published() -> KeyCache:
    """Return a cache of the issuer's keys that may still fetch them."""
    return KeyCache(lambda: KeySet({alg: Key(alg, alg, (), key.public_key()) for alg, key in PRIVATE.items()}))


KEYS = published()


def verifier(now: float = NOW, audiences: tuple[str, ...] = (ORIGIN,), keys: KeyCache = KEYS) -> Verifier:
    return Verifier(
        issuer_rules(keys, issuers=[ORIGIN], audiences=audiences, clock=lambda: now), keys=keys, clock=lambda: now
    )


verify = verifier()


def issued(user: Any, /, **changes: Any) -> dict[str, Any]:
    """Return the default claims of the issuer, with changes; a member set to None is left out."""
    by_default = {"iat": NOW, "exp": NOW + 900, "iss": ORIGIN, "aud": ORIGIN, "email": "u1@example.com", "id": user}
    return claims(user, **(by_default | changes))


def by_issuer(payload: dict[str, Any], alg: str = "EdDSA", /, **headers: Any) -> str:
    """Sign as the issuer does, without typ; a header set to None is left out."""
    sent = {name: value for name, value in ({"kid": alg} | headers).items() if value is not None}
    return jwt.PyJWS().encode(json.dumps(payload).encode(), PRIVATE[alg], alg, {"typ": None} | sent)


@pytest.mark.parametrize("alg", PRIVATE)
def test_token_of_each_algorithm_names_the_caller(alg):
    assert verify(by_issuer(issued("u1"), alg)) == Caller("u1")


def by_name(alg: str, private: Any, kid: str) -> str:
    """Sign with EdDSA, whatever the header says."""
    signed = f"{segment({'alg': alg, 'kid': kid})}.{segment(issued('u1'))}"
    return f"{signed}.{segment(private.sign(signed.encode()))}"


def test_token_with_the_newer_name_of_eddsa_names_the_caller():
    assert verify(by_name("Ed25519", PRIVATE["EdDSA"], "EdDSA")) == Caller("u1")


@pytest.mark.parametrize(
    ("alg", "kid", "rule"),
    [
        pytest.param("Ed25519", "ES256", "as the key says", id="a key of another algorithm"),
        pytest.param("Ed448", "EdDSA", "algorithm", id="the name of another curve"),
        pytest.param("ed25519", "EdDSA", "algorithm", id="another case"),
        pytest.param("eddsa", "EdDSA", "algorithm", id="the older name in another case"),
        pytest.param("Ed25519", "nobody's", "the kid of one", id="an unknown key"),
    ],
)
def test_token_with_a_name_that_does_not_fit_the_key_is_refused(alg, kid, rule):
    with pytest.raises(InvalidToken, match=rule):
        verifier(keys=published())(by_name(alg, PRIVATE["EdDSA"], kid))


def test_token_with_the_newer_name_of_eddsa_and_another_signature_is_refused():
    with pytest.raises(InvalidToken, match="signature"):
        verify(by_name("Ed25519", ed25519.Ed25519PrivateKey.generate(), "EdDSA"))


@pytest.mark.parametrize("alg", [a for a in PRIVATE if a != "EdDSA"])
def test_token_signed_by_a_key_under_the_name_of_another_is_refused(alg):
    with pytest.raises(InvalidToken, match="as the key says"):
        verify(by_issuer(issued("u1"), alg, kid="EdDSA"))


def test_rsa_key_for_one_padding_does_not_verify_the_other():
    token = jwt.encode(issued("u1"), PRIVATE["RS256"], "PS256", {"kid": "RS256", "typ": None})
    with pytest.raises(InvalidToken, match="as the key says"):
        verify(token)


def test_token_with_a_changed_claim_is_refused():
    header, _, signature = by_issuer(issued("u1")).split(".")
    with pytest.raises(InvalidToken, match="signature"):
        verify(f"{header}.{segment(issued('u2'))}.{signature}")


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", ""])
def test_attack_no_algorithm_and_no_signature(alg):
    with pytest.raises(InvalidToken, match="algorithm"):
        verify(f"{segment({'alg': alg, 'kid': 'EdDSA'})}.{segment(issued('u1'))}.")


@pytest.mark.parametrize("alg", PRIVATE)
def test_attack_hs256_with_the_public_key_as_secret(alg):
    public = PRIVATE[alg].public_key()
    for encoding in (Encoding.PEM, Encoding.DER):
        secret = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        signed = f"{segment({'alg': 'HS256', 'kid': alg})}.{segment(issued('u1'))}"
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), secret)
        with pytest.raises(InvalidToken, match="algorithm"):
            verify(f"{signed}.{segment(signature)}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jwk", {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
        ("jku", "https://evil.example/jwks"),
        ("x5u", "https://evil.example/cert"),
        ("x5c", ["MIIB"]),
    ],
)
def test_attack_header_that_brings_its_own_key(name, value):
    with pytest.raises(InvalidToken, match=name):
        verify(by_issuer(issued("u1"), **{name: value}))


def test_attack_email_verification_token_as_login():
    mail = {"email": "u1@example.com", "userId": "u1", "iat": NOW, "exp": NOW + 3600}
    with pytest.raises(InvalidToken, match="algorithm"):
        verify(sign(mail, typ=None))


def test_attack_session_cookie_signed_with_the_secret():
    with pytest.raises(InvalidToken, match="algorithm"):
        verify(sign(issued("u1", session={"id": "s1"}, user={"id": "u1"}), typ=None))


def test_attack_session_cookie_signed_with_the_issuers_key():
    cookie = issued("u1", aud="better-auth:session-cache", session={"id": "s1"}, user={"id": "u1"}, sid="s1")
    with pytest.raises(InvalidToken, match="typ: expected JWT or none, got better-auth"):
        verify(by_issuer(cookie, typ="better-auth.session-cache+jwt"))
    with pytest.raises(InvalidToken, match="audience"):
        verify(by_issuer(cookie))


@pytest.mark.parametrize("kid", [None, "", "nobody's", "../../dev/null", "' OR 1=1"])
def test_token_without_the_kid_of_a_published_key_is_refused(kid):
    with pytest.raises(InvalidToken, match="key: expected the kid"):
        verifier(keys=published())(by_issuer(issued("u1"), kid=kid))


@pytest.mark.parametrize("kid", [5, ["EdDSA"], {"kid": "EdDSA"}], ids=repr)
def test_token_with_a_kid_that_is_no_text_is_refused(kid):
    signed = f"{segment({'alg': 'EdDSA', 'kid': kid})}.{segment(issued('u1'))}"
    with pytest.raises(InvalidToken):
        verify(f"{signed}.{segment(PRIVATE['EdDSA'].sign(signed.encode()))}")


@pytest.mark.parametrize("name", ["exp", "iat", "sub", "iss", "aud"])
def test_token_without_a_required_claim_is_refused(name):
    with pytest.raises((InvalidToken, AnonymousToken)):
        verify(by_issuer(issued("u1", **{name: None})))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"iss": "http://127.0.0.1:3000"}, "issuer: expected http://localhost:3000, got http", id="host"),
        pytest.param({"iss": f"{ORIGIN}/"}, "issuer: expected http://localhost:3000, got", id="slash"),
        pytest.param({"iss": [ORIGIN]}, "issuer", id="issuer-is-a-list"),
        pytest.param(
            {"aud": "http://127.0.0.1:3000"},
            "^audience: expected http://localhost:3000, got http://127.0.0.1:3000$",
            id="audience",
        ),
        pytest.param({"aud": []}, "audience: .* got an array", id="empty-list"),
        pytest.param({"aud": ["a", "b"]}, "got \\[a, b\\]$", id="list-of-others"),
        pytest.param({"aud": [[ORIGIN]]}, r"audience: .* got \[an array\]$", id="nested-list"),
        pytest.param({"aud": {"0": ORIGIN}}, "audience: .* got an object", id="object"),
        pytest.param({"aud": "u1@example.com"}, "audience: .* got a text$", id="e-mail-is-not-repeated"),
    ],
)
def test_token_of_another_issuer_or_audience_is_refused(changes, reason):
    with pytest.raises(InvalidToken, match=reason):
        verify(by_issuer(issued("u1", **changes)))


def test_audience_list_with_one_that_is_expected_is_good():
    assert verify(by_issuer(issued("u1", aud=["other", ORIGIN]))).id == "u1"
    assert verifier(audiences=("todo", ORIGIN))(by_issuer(issued("u1", aud=["todo"]))).id == "u1"


@pytest.mark.parametrize(("late_s", "good"), [(0, True), (14, True), (15, False), (16, False)])
def test_expiry_at_the_edge_of_the_leeway(late_s, good):
    token = by_issuer(issued("u1", exp=NOW - late_s, iat=NOW - 900))
    if good:
        assert verify(token).id == "u1"
    else:
        with pytest.raises(ExpiredToken, match=f"expiry: expected a moment in the future, got {late_s} s ago"):
            verify(token)


@pytest.mark.parametrize("name", ["iat", "nbf"])
@pytest.mark.parametrize(("ahead_s", "good"), [(0, True), (15, True), (16, False), (10**12, False)])
def test_start_at_the_edge_of_the_leeway(name, ahead_s, good):
    token = by_issuer(issued("u1", **{name: NOW + ahead_s}))
    if good:
        assert verify(token).id == "u1"
    else:
        with pytest.raises(InvalidToken, match="expected a moment in the past, got"):
            verify(token)


@pytest.mark.parametrize("name", ["iat", "nbf", "exp"])
@pytest.mark.parametrize("value", ["soon", "1800000000", True, [], {}], ids=repr)
def test_date_that_is_no_number_is_refused(name, value):
    with pytest.raises(InvalidToken, match="expected a number of seconds, got a"):
        verify(by_issuer(issued("u1", **{name: value})))


def test_token_with_a_very_distant_expiry_is_valid():
    assert verify(by_issuer(issued("u1", exp=10**15))).id == "u1"


@pytest.mark.parametrize("sub", [None, ""])
def test_token_without_sub_is_anonymous_whatever_other_claims_it_has(sub):
    with pytest.raises(AnonymousToken):
        verify(by_issuer(issued("u1", sub=sub, userId="u1")))


@pytest.mark.parametrize("sub", [5, 0, False, ["u1"], {"id": "u1"}, "x" * 256, "a\0b", "a\nb", "a\x7fb"], ids=repr)
def test_sub_that_is_no_short_printable_text_is_refused(sub):
    with pytest.raises(InvalidToken, match="printable"):
        verify(by_issuer(issued("u1", sub=sub)))


def test_sub_alone_counts():
    assert verify(by_issuer(issued("u1", userId="u2", id="u3"))).id == "u1"


def test_user_of_a_refused_token_is_known_only_when_it_is_genuine():
    with pytest.raises(InvalidToken) as refused:
        verify(by_issuer(issued("u1", aud="other")))
    assert refused.value.user_id == "u1"
    with pytest.raises(InvalidToken) as refused:
        verify(by_issuer(issued("u1", aud="other"), "ES256", kid="EdDSA"))
    assert refused.value.user_id is None


def test_explain_checks_all_rules_even_after_a_failed_one():
    results = dict(verify.explain(by_issuer(issued("u1", aud="other", exp=NOW - 60))))
    assert [name for name, result in results.items() if not result.passed] == ["audience", "expiry"]
    assert list(results) == list(verify.rules)
    unknown = dict(verifier(keys=published()).explain(by_issuer(issued("u1"), kid="nobody's")))
    assert [name for name, result in unknown.items() if not result.passed] == ["key", "signature"]


def test_clock_is_the_real_one_by_default():
    real = Verifier(issuer_rules(KEYS, issuers=[ORIGIN], audiences=[ORIGIN]), keys=KEYS)
    now = int(time.time())
    assert real(by_issuer(issued("u1", iat=now, exp=now + 60))).id == "u1"
    with pytest.raises(ExpiredToken):
        real(by_issuer(issued("u1", iat=now - 900, exp=now - 60)))
