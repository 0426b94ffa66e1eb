"""Key sets: the keys that may verify a token, and the reasons why all others are dropped."""

import json
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from todo.auth import keys
from todo.auth.keys import REASONS_MAX, KeySet, UnusableKeys

PRIVATE = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}
PRIVATE["PS256"] = PRIVATE["RS256"]


def jwk(private: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    """Return the public half of a key as an issuer publishes it, with further members."""
    published = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
    return without(published, "key_ops") | members


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


GOOD = {name: jwk(private, name, kid=f"kid-{name}", alg=name) for name, private in PRIVATE.items()}
ED25519 = GOOD["EdDSA"]

# RSA keys may be published without their algorithm; that they are then dropped is a test of its own.
UNLABELLED = [name for name in GOOD if name not in ("RS256", "PS256")]


def document(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def why_not(entry: Any) -> str:
    """Return why a key that follows a good key is dropped."""
    parsed = keys.parse(document(ED25519, entry))
    assert list(parsed.keys) == [ED25519["kid"]]
    (reason,) = parsed.dropped
    assert reason.startswith("key 1: ")
    return reason.removeprefix("key 1: ")


@pytest.mark.parametrize("algorithm", GOOD)
def test_parse_accepted_kind_returns_the_key_and_its_one_algorithm(algorithm):
    parsed = keys.parse(document(GOOD[algorithm]))

    assert parsed.dropped == ()
    (key,) = parsed.keys.values()
    assert (key.kid, key.algorithm) == (f"kid-{algorithm}", algorithm)
    signed = get_default_algorithms()[algorithm].prepare_key(PRIVATE[algorithm])
    signature = get_default_algorithms()[algorithm].sign(b"message", signed)
    assert get_default_algorithms()[algorithm].verify(b"message", key.public, signature)


def test_parse_newer_name_of_eddsa_is_eddsa():
    assert keys.parse(document(ED25519 | {"alg": "Ed25519"})) == keys.parse(document(ED25519))


@pytest.mark.parametrize("algorithm", UNLABELLED)
def test_parse_key_of_one_algorithm_need_not_name_it(algorithm):
    (key,) = keys.parse(document(without(GOOD[algorithm], "alg"))).keys.values()

    assert key.algorithm == algorithm


@pytest.mark.parametrize(
    "members", [{"use": "sig"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"], "use": "sig", "ext": True}]
)
def test_parse_key_that_is_declared_to_verify_is_used(members):
    assert list(keys.parse(document(ED25519 | members)).keys) == [ED25519["kid"]]


def test_parse_whole_set_returns_every_key_by_its_kid():
    assert set(keys.parse(document(*GOOD.values())).keys) == {entry["kid"] for entry in GOOD.values()}


def test_parse_private_members_are_never_used():
    private = PRIVATE["ES256"]
    published = get_default_algorithms()["ES256"].to_jwk(private, as_dict=True)
    assert "d" in published

    (key,) = keys.parse(document(without(published, "key_ops") | {"kid": "kid-ES256"})).keys.values()

    assert isinstance(key.public, ec.EllipticCurvePublicKey)
    assert key == keys.parse(document(GOOD["ES256"])).keys["kid-ES256"]
    assert published["d"] not in key.members


@pytest.mark.parametrize("algorithm", GOOD)
def test_parse_private_members_that_are_nonsense_do_no_harm(algorithm):
    nonsense = dict.fromkeys(["d", "p", "q", "dp", "dq", "qi", "oth", "k", "x5c", "x5u"], "!")

    assert keys.parse(document(GOOD[algorithm] | nonsense)) == keys.parse(document(GOOD[algorithm]))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param(
            {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "x"}, "is of a kind that is not accepted", id="oct"
        ),
        pytest.param(ED25519 | {"use": "enc"}, "is not meant for signatures", id="use-enc"),
        pytest.param(ED25519 | {"use": None}, "is not meant for signatures", id="use-null"),
        pytest.param(ED25519 | {"key_ops": ["sign"]}, "is not meant for signatures", id="key-ops-without-verify"),
        pytest.param(ED25519 | {"key_ops": []}, "is not meant for signatures", id="key-ops-empty"),
        pytest.param(ED25519 | {"key_ops": None}, "is not meant for signatures", id="key-ops-null"),
        pytest.param(ED25519 | {"key_ops": 1}, "is not meant for signatures", id="key-ops-number"),
        pytest.param(ED25519 | {"key_ops": "verify"}, "is not meant for signatures", id="key-ops-text"),
        pytest.param(without(ED25519, "kid"), "has no kid", id="no-kid"),
        pytest.param(ED25519 | {"kid": None}, "has no kid", id="kid-null"),
        pytest.param(ED25519 | {"kid": 7}, "has no kid", id="kid-number"),
        pytest.param(ED25519 | {"kid": ["kid"]}, "has no kid", id="kid-array"),
        pytest.param("kid", "has no kid", id="text"),
        pytest.param(None, "has no kid", id="null"),
        pytest.param([ED25519], "has no kid", id="array"),
        pytest.param(without(ED25519, "kty"), "is of a kind that is not accepted", id="no-kty"),
        pytest.param(ED25519 | {"kty": {}}, "is of a kind that is not accepted", id="kty-object"),
        pytest.param(without(ED25519, "crv"), "is of a kind that is not accepted", id="no-crv"),
        pytest.param(ED25519 | {"crv": "X25519"}, "is of a kind that is not accepted", id="X25519"),
        pytest.param(
            jwk(ed448.Ed448PrivateKey.generate(), "EdDSA", kid="x", alg="EdDSA"),
            "is of a kind that is not accepted",
            id="Ed448",
        ),
        pytest.param(
            jwk(ec.generate_private_key(ec.SECP384R1()), "ES384", kid="x", alg="ES384"),
            "is of a kind that is not accepted",
            id="P-384",
        ),
        pytest.param(
            jwk(ec.generate_private_key(ec.SECP256K1()), "ES256K", kid="x"),
            "is of a kind that is not accepted",
            id="secp256k1",
        ),
        pytest.param(without(GOOD["RS256"], "alg"), "is of a kind that is not accepted", id="rsa-without-alg"),
        pytest.param(GOOD["RS256"] | {"alg": "RS512"}, "is of a kind that is not accepted", id="RS512"),
        pytest.param(GOOD["RS256"] | {"alg": "RSA-OAEP"}, "is of a kind that is not accepted", id="RSA-OAEP"),
        pytest.param(
            jwk(rsa.generate_private_key(65537, 1024), "RS256", kid="x", alg="RS256"),
            "is an RSA key of under 2048 bits",
            id="rsa-1024",
        ),
        pytest.param(
            ED25519 | {"alg": "ES256"}, "is good for EdDSA, and says another algorithm", id="EdDSA-says-ES256"
        ),
        pytest.param(
            ED25519 | {"alg": "Ed448"}, "is good for EdDSA, and says another algorithm", id="EdDSA-says-Ed448"
        ),
        pytest.param(
            ED25519 | {"alg": ["EdDSA"]}, "is good for EdDSA, and says another algorithm", id="EdDSA-says-list"
        ),
        pytest.param(
            GOOD["ES256"] | {"alg": "Ed25519"}, "is good for ES256, and says another algorithm", id="ES256-says-Ed25519"
        ),
        pytest.param(ED25519 | {"alg": "none"}, "is good for EdDSA, and says another algorithm", id="EdDSA-says-none"),
        pytest.param(ED25519 | {"alg": None}, "is good for EdDSA, and says another algorithm", id="EdDSA-says-null"),
        pytest.param(
            GOOD["ES512"] | {"alg": "ES256"}, "is good for ES512, and says another algorithm", id="ES512-says-ES256"
        ),
        pytest.param(
            GOOD["ES256"] | {"alg": "HS256"}, "is good for ES256, and says another algorithm", id="ES256-says-HS256"
        ),
        pytest.param(GOOD["ES256"] | {"crv": "P-521", "alg": "ES512"}, "cannot be read", id="crv-of-another-size"),
        pytest.param(GOOD["ES256"] | {"x": GOOD["ES256"]["y"]}, "cannot be read", id="point-not-on-the-curve"),
        pytest.param(ED25519 | {"x": "A"}, "cannot be read", id="broken-base64"),
        pytest.param(ED25519 | {"x": "c2hvcnQ"}, "cannot be read", id="too-short"),
        pytest.param(ED25519 | {"x": 7}, "cannot be read", id="x-number"),
        pytest.param(GOOD["RS256"] | {"n": "A"}, "cannot be read", id="rsa-broken-base64"),
        pytest.param(GOOD["RS256"] | {"n": ""}, "cannot be read", id="rsa-empty"),
        pytest.param(GOOD["RS256"] | {"e": "AQ"}, "cannot be read", id="rsa-exponent-1"),
        *(
            pytest.param(without(entry, member), "cannot be read", id=f"{name}-without-{member}")
            for name, entry in GOOD.items()
            for member in ("x", "y", "n", "e")
            if member in entry
        ),
    ],
)
def test_parse_key_that_may_verify_no_token_is_dropped_with_the_reason(entry, reason):
    assert why_not(entry) == reason


def test_parse_reasons_have_the_position_and_nothing_of_a_key():
    entries = [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldA", "kid": "first-name"},
        ED25519 | {"use": "enc", "kid": "second-name"},
        GOOD["ES256"] | {"alg": "alg-of-nobody"},
        GOOD["RS256"] | {"n": GOOD["RS256"]["n"][:-1] + "!"},
    ]

    with pytest.raises(UnusableKeys) as refused:
        keys.parse(document(*entries))

    assert str(refused.value) == (
        "the response has no usable key; key 0: is of a kind that is not accepted; "
        "key 1: is not meant for signatures; key 2: is good for ES256, and says another algorithm; "
        "key 3: cannot be read"
    )


def test_parse_endless_nonsense_has_few_reasons():
    with pytest.raises(UnusableKeys) as refused:
        keys.parse(document(*[None] * 50_000))

    assert str(refused.value).count("has no kid") == REASONS_MAX
    assert len(keys.parse(document(ED25519, *[None] * 5_000)).dropped) == REASONS_MAX


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<!doctype html><title>Sign in</title>", id="html"),
        pytest.param(b'{"keys": [', id="cut-short"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b'\xef\xbb\xbf{"keys": []}', id="byte-order-mark"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="number"),
        pytest.param(b'"keys"', id="text"),
        pytest.param(b'["keys"]', id="array"),
        pytest.param(b"{}", id="no-keys"),
        pytest.param(b'{"Keys": []}', id="upper-case"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep-array"),
        pytest.param(b'{"keys":' * 50_000 + b"0" + b"}" * 50_000, id="deep-object"),
    ],
)
def test_parse_document_that_is_no_key_set_is_unusable(body):
    with pytest.raises(UnusableKeys, match=r'^the response is not JSON with a member "keys"$'):
        keys.parse(body)


@pytest.mark.parametrize("value", [{}, [], None, "keys", 7, {"kid": "x"}], ids=json.dumps)
def test_parse_set_without_any_key_is_unusable(value):
    with pytest.raises(UnusableKeys, match=r"^the response has no usable key$"):
        keys.parse(json.dumps({"keys": value}).encode())


def test_parse_duplicate_kid_keeps_the_first():
    other = jwk(ed25519.Ed25519PrivateKey.generate(), "EdDSA", kid=ED25519["kid"])

    parsed = keys.parse(document(ED25519, other, GOOD["ES256"] | {"kid": ED25519["kid"]}))

    assert parsed.keys == keys.parse(document(ED25519)).keys


def test_parse_duplicate_kid_of_an_unusable_key_does_not_hide_the_usable_one():
    parsed = keys.parse(document(ED25519 | {"use": "enc"}, ED25519))

    assert list(parsed.keys) == [ED25519["kid"]]
    assert parsed.dropped == ("key 0: is not meant for signatures",)


def test_parse_same_set_in_another_order_and_with_more_members_is_equal():
    turned = [dict(reversed(entry.items())) | {"use": "sig", "exp": 1} for entry in reversed(GOOD.values())]
    body = json.dumps({"next": "x", "keys": turned}, indent=2).encode()

    assert keys.parse(body).keys == keys.parse(document(*GOOD.values())).keys


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(ED25519 | {"kid": "other"}, id="kid"),
        pytest.param(jwk(ed25519.Ed25519PrivateKey.generate(), "EdDSA", kid=ED25519["kid"]), id="key"),
    ],
)
def test_parse_another_key_is_not_equal(changed):
    assert keys.parse(document(changed)).keys != keys.parse(document(ED25519)).keys


def test_parse_same_rsa_key_for_another_algorithm_is_not_equal():
    one, other = (keys.parse(document(GOOD[name] | {"kid": "x"})).keys["x"] for name in ("RS256", "PS256"))

    assert one.members == other.members
    assert one != other


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

# The members of keys, with good values and any others, in every combination.
known = {name: sorted({entry[name] for entry in GOOD.values() if name in entry}) for name in ("kty", "crv", "alg")}
material = sorted({entry[name] for entry in GOOD.values() for name in ("x", "y", "n", "e") if name in entry})
encoded = st.sampled_from(material) | st.text("AZaz09-_=+/!", max_size=60)
entries = st.fixed_dictionaries(
    {},
    optional={
        "kid": st.text(max_size=4) | json_values,
        **{name: st.sampled_from(values) | json_values for name, values in known.items()},
        **dict.fromkeys(("x", "y", "n", "e", "d", "k"), encoded | json_values),
        "use": st.sampled_from(["sig", "enc"]) | json_values,
        "key_ops": st.just(["verify"]) | json_values,
    },
)
changed_entries = st.builds(lambda good, changes: good | changes, st.sampled_from([*GOOD.values()]), entries)
key_sets = st.fixed_dictionaries({"keys": st.lists(entries | changed_entries | json_values, max_size=4) | json_values})


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.builds(orjson.dumps, key_sets | json_values) | st.binary(max_size=64))
def test_parse_any_document_returns_keys_or_is_unusable(body):
    try:
        parsed = keys.parse(body)
    except UnusableKeys:
        return
    assert isinstance(parsed, KeySet)
    assert parsed.keys
    for kid, key in parsed.keys.items():
        assert kid == key.kid
        assert key.algorithm in keys.ALGORITHMS
        assert not hasattr(key.public, "private_bytes")
