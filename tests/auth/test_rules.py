"""The valid tokens of a shared secret, and each forgery that a naive verifier accepts."""

import time

import jwt
import orjson
import pytest
from support import SECRET, claims, segment, sign, sign_raw

from todo.auth.rules import JSON_TYPES, describe, shared_secret_rules
from todo.auth.tokens import Caller, issue
from todo.auth.verifier import Verifier
from todo.http.problems import AnonymousToken, ExpiredToken, InvalidToken

PREVIOUS = "the-secret-before-the-rotation-which-is-long-enough"

verify = Verifier(shared_secret_rules([SECRET]))
verify_with_audience = Verifier(
    shared_secret_rules([SECRET], issuers=["https://auth.example.com"], audiences=["todo", "https://app.example.com"])
)


def test_verify_valid_token_returns_the_caller():
    assert verify(sign(claims("u1", email="u1@example.com"))) == Caller("u1")


@pytest.mark.parametrize("user", ["1", "x" * 255, "a b", "Žofie", "6f1c8a8e-7b1c-4a5e-9d8e-000000000000", "a/b", "😀"])
def test_verify_treats_an_id_as_opaque_text(user):
    assert verify(sign(claims(user))).id == user


@pytest.mark.parametrize("typ", ["JWT", "jwt", "Jwt", "application/jwt", "Application/JWT", None])
def test_verify_typ_jwt_or_none_is_good(typ):
    assert verify(sign(claims("u1"), typ=typ)).id == "u1"


@pytest.mark.parametrize(
    "typ",
    [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "better-auth.session-cache+jwt",
        "Better-Auth.Session-Cache+JWT",
        "application/application/jwt",
        "application/",
        "text/jwt",
        "jwt ",
        "",
        "JOSE",
        None,
        5,
        ["JWT"],
    ],
    ids=repr,
)
def test_verify_any_other_typ_is_refused(typ):
    with pytest.raises(InvalidToken, match="typ"):
        verify(sign_raw({"alg": "HS256", "typ": typ}, claims("u1")))


def test_verify_user_id_claim_alone_is_good_in_a_typed_token():
    assert verify(sign(claims("", userId="u1"))).id == "u1"
    assert verify(sign(claims("u1", sub=None, userId="u1"))).id == "u1"


def test_verify_user_id_claim_alone_in_an_untyped_token_is_refused():
    with pytest.raises(InvalidToken, match="userId"):
        verify(sign(claims("u1", sub=None, userId="u1"), typ=None))


def test_verify_user_id_claim_alone_in_an_untyped_token_is_good_when_the_audience_is_checked():
    token = sign(
        claims("u1", sub=None, userId="u1", iss="https://auth.example.com", aud="todo"),
        typ=None,
    )
    assert verify_with_audience(token).id == "u1"


def test_verify_sub_and_user_id_that_agree_are_good():
    assert verify(sign(claims("u1", userId="u1"))).id == "u1"


def test_verify_sub_and_user_id_that_differ_are_refused():
    with pytest.raises(InvalidToken, match="two different ones"):
        verify(sign(claims("u1", userId="u2")))


@pytest.mark.parametrize(
    "changes", [{"sub": None}, {"sub": ""}, {"sub": "", "userId": ""}, {"sub": None, "id": "u1", "email": "a@b.c"}]
)
def test_verify_token_without_a_user_is_anonymous(changes):
    with pytest.raises(AnonymousToken):
        verify(sign(claims("u1", **changes)))


@pytest.mark.parametrize(
    "sub",
    [5, 0, True, ["u1"], {"id": "u1"}, "x" * 256, "a\0b", "a\nb", "a\x7fb", "a\x85b", "\ud800"],
    ids=repr,
)
def test_verify_id_that_is_no_short_printable_text_is_refused(sub):
    with pytest.raises(InvalidToken):
        verify(sign(claims("u1", sub=sub)))


def test_verify_expired_token_within_the_leeway_is_good():
    assert verify(sign(claims("u1", exp=int(time.time()) - 10))).id == "u1"


def test_verify_expired_token_beyond_the_leeway_is_expired():
    with pytest.raises(ExpiredToken):
        verify(sign(claims("u1", exp=int(time.time()) - 20)))


def test_verify_expired_token_with_a_bad_signature_is_invalid():
    with pytest.raises(InvalidToken):
        verify(sign(claims("u1", exp=1), secret="somebody else's secret, which is long enough"))


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_verify_token_from_the_future_is_refused(name):
    now = int(time.time())
    assert verify(sign(claims("u1", **{name: now + 10}))).id == "u1"
    with pytest.raises(InvalidToken):
        verify(sign(claims("u1", **{name: now + 30})))


@pytest.mark.parametrize("exp", [None, "soon", "9999999999", [], {}, 1e400, float("nan"), -1e400], ids=repr)
def test_verify_token_without_a_usable_expiry_is_refused(exp):
    with pytest.raises((InvalidToken, ExpiredToken)):
        verify(sign(claims("u1", exp=exp)))


def test_verify_email_verification_token_is_no_login():
    now = int(time.time())
    mail = {"email": "u1@example.com", "iat": now, "exp": now + 3600}
    with pytest.raises(AnonymousToken):
        verify(sign(mail, typ=None))
    with pytest.raises(InvalidToken):
        verify(sign(mail | {"userId": "u1"}, typ=None))
    for purpose in ({"updateTo": "x@example.com"}, {"requestType": "change-email"}):
        with pytest.raises(InvalidToken, match="purpose"):
            verify(sign(mail | {"userId": "u1"} | purpose))


def test_verify_session_cookie_is_no_login():
    cookie = claims("u1", session={"id": "s1"}, user={"id": "u1"})
    with pytest.raises(InvalidToken, match="purpose"):
        verify(sign(cookie))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", "HS512", "RS256", "EdDSA", None])
def test_verify_other_algorithms_are_refused(alg):
    with pytest.raises(InvalidToken):
        verify(f"{segment({'alg': alg, 'typ': 'JWT'})}.{segment(claims('u1'))}.")


def test_verify_hs384_and_hs512_with_the_right_secret_are_refused():
    for algorithm in ("HS384", "HS512"):
        with pytest.raises(InvalidToken):
            verify(sign(claims("u1"), secret=SECRET * 2, algorithm=algorithm))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_verify_header_that_brings_a_key_is_refused(name):
    with pytest.raises(InvalidToken, match=name):
        verify(sign(claims("u1"), **{name: "https://evil.example/keys"}))


def test_verify_header_with_a_critical_extension_is_refused():
    with pytest.raises(InvalidToken):
        verify(sign(claims("u1"), crit=["x"], x=1))


def test_verify_another_secret_is_refused():
    with pytest.raises(InvalidToken, match="made with another"):
        verify(sign(claims("u1"), secret="somebody else's secret, which is long enough"))


def test_verify_previous_secret_is_good_while_rotating():
    rotating = Verifier(shared_secret_rules([SECRET, PREVIOUS]))
    for secret in (SECRET, PREVIOUS):
        assert rotating(sign(claims("u1"), secret=secret)).id == "u1"
    with pytest.raises(ExpiredToken):
        rotating(sign(claims("u1", exp=1), secret=PREVIOUS))
    with pytest.raises(InvalidToken):
        verify(sign(claims("u1"), secret=PREVIOUS))


@pytest.mark.parametrize("aud", ["todo", "https://app.example.com", ["other", "todo"]])
def test_verify_expected_issuer_and_audience_are_good(aud):
    assert verify_with_audience(sign(claims("u1", iss="https://auth.example.com", aud=aud))).id == "u1"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"aud": "todo"}, id="no issuer"),
        pytest.param({"iss": "https://auth.example.com"}, id="no audience"),
        pytest.param({"iss": "https://auth.example.com/", "aud": "todo"}, id="issuer with a slash"),
        pytest.param({"iss": "https://evil.example", "aud": "todo"}, id="wrong issuer"),
        pytest.param({"iss": "https://auth.example.com", "aud": "tod"}, id="wrong audience"),
        pytest.param({"iss": "https://auth.example.com", "aud": []}, id="empty audience"),
        pytest.param({"iss": "https://auth.example.com", "aud": [["todo"]]}, id="nested audience"),
        pytest.param({"iss": 5, "aud": "todo"}, id="issuer is a number"),
    ],
)
def test_verify_unexpected_issuer_or_audience_is_refused(changes):
    with pytest.raises(InvalidToken):
        verify_with_audience(sign_raw({"alg": "HS256"}, claims("u1", **changes)))


def test_verify_audience_is_ignored_where_none_is_configured():
    assert verify(sign(claims("u1", aud="anything", iss="anybody"))).id == "u1"


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "...",
        f"{segment([])}.{segment({})}.x",
        f"{segment({'alg': 'HS256'})}.{segment([])}.x",
        "é.é.é",
        "\ud800",
        "Bearer",
        f"{segment({'alg': 'HS256'})}.{'[' * 3000}.x",
    ],
)
def test_verify_garbage_is_refused(token):
    with pytest.raises(InvalidToken):
        verify(token)


def test_verify_deeply_nested_claims_are_refused():
    with pytest.raises(InvalidToken):
        verify(sign_raw({"alg": "HS256"}, b"[" * 5900))


def test_verify_token_over_8_kib_is_refused_before_any_decoding():
    token = sign(claims("u1", padding="x" * 9000))
    with pytest.raises(InvalidToken, match="size"):
        verify(token)
    with pytest.raises(InvalidToken, match="size"):
        verify("x" * 1_000_000)


def test_refusal_never_repeats_the_token():
    token = sign(claims("u1", userId="u2"))
    with pytest.raises(InvalidToken) as refused:
        verify(token)
    assert token not in str(refused.value.reason)
    assert refused.value.detail == "Invalid token"


def test_issue_makes_a_token_that_verify_accepts():
    token = issue(SECRET, "u1", lifetime_s=60, email="u1@example.com")
    assert verify(token) == Caller("u1")
    decoded = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert decoded["exp"] - decoded["iat"] == 60
    assert set(decoded) == {"sub", "iat", "exp", "email"}


def test_issue_with_issuer_and_audience_makes_a_token_that_passes_their_rules():
    token = issue(SECRET, "u1", lifetime_s=60, issuer="https://auth.example.com", audience="todo")
    assert verify_with_audience(token) == Caller("u1")


def test_values_of_all_types_of_json_have_a_name():
    values = orjson.loads(b'[null, "a text with spaces", true, 1, 18446744073709551616, 1.5, [], {}]')
    assert {type(value) for value in values} == set(JSON_TYPES)
    assert [describe(value) for value in values] == [JSON_TYPES[type(value)] for value in values]
