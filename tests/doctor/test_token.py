"""`flask doctor --token`: why a token is valid, or which rules it breaks."""

import json
import time
from urllib.parse import quote

import pytest
from doctor.examination import PREVIOUS_SECRET, Report
from support import bearer, claims, segment, sign, sign_raw

from todo.doctor.token import REMEDIES
from todo.telemetry.refusals import TokenRule

OURS = "https://todo.example.com"
THEIRS = "https://other.example.com"
SESSION_TOKEN = "Zx8nQ2vLw5Rk1Tb7Yd3Hm9Pc4Js6Gf0A"

INVALID = "It is refused: 401 Invalid token. The first ✗ says why."
EXPIRED = "It is refused: 401 Token has expired. The first ✗ says why."
ME_ALONE = "It is good, for /api/me/tasks."
GOOD = "It is good, for /api/me/tasks and for /api/u1/tasks."


def explain(app, pasted):
    return Report.of_app(app, "--token", "-", pasted=pasted)


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def token():
    return sign(claims("u1", email="alice@example.com"))


def test_token_that_is_good_passes_every_rule(app, token):
    report = explain(app, token)
    assert report.status == 0
    assert {line.mark for line in report.lines} == {"✓"}
    assert [line.subject for line in report.lines] == list(app.extensions["token_verifier"].rules)
    assert report.last == GOOD


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("{}", id="bare"),
        pytest.param("\n  {}\r\n\n", id="white-space"),
        pytest.param('"{}"', id="quotes"),
        pytest.param("Bearer {}", id="bearer"),
        pytest.param("bearer  {}", id="bearer-in-lower-case"),
        pytest.param("Authorization: Bearer {}", id="header"),
        pytest.param("authorization:Bearer {}\n", id="header-in-lower-case"),
    ],
)
def test_token_is_extracted_from_pasted_text(app, token, form):
    assert explain(app, form.format(token)).last == GOOD


@pytest.mark.parametrize("answer", [{}, {"user": {"email": "alice@example.com"}}], ids=["alone", "with-more"])
def test_token_is_extracted_from_a_response_of_better_auth(app, token, answer):
    assert explain(app, json.dumps(answer | {"token": token}, indent=1)).last == GOOD
    assert explain(app, json.dumps({"data": {"token": token}, "error": None})).last == GOOD


def test_token_is_read_from_a_file(app, token, tmp_path):
    (tmp_path / "token").write_text(f"{token}\n")
    report = Report.of_app(app, "--token", str(tmp_path / "token"))
    assert (report.status, report.last) == (0, GOOD)
    assert token not in report.output


def test_token_signed_with_the_previous_secret_is_valid_and_reported_as_such(make_app):
    report = explain(make_app(BETTER_AUTH_SECRET_PREVIOUS=PREVIOUS_SECRET), sign(claims("u1"), secret=PREVIOUS_SECRET))
    assert report.of("signature").text == "made with the previous secret"
    assert report.last == GOOD


def test_token_of_a_user_with_an_address_for_an_id_does_not_repeat_it(app):
    report = explain(app, sign(claims("alice@example.com")))
    assert report.status == 0
    assert report.last == "It is good, for /api/me/tasks."


@pytest.mark.parametrize("user", ["a/b", "/", "a/", "//", ".", ".."])
def test_token_of_a_user_whose_id_no_path_can_hold_says_that_only_me_reaches_it(app, user):
    report = explain(app, sign(claims(user)))
    assert report.status == 0
    assert report.last.startswith("It is good, for /api/me/tasks. Only me reaches this user: ")
    path = f"/api/{quote(user, safe='')}/tasks/summary"
    if "/" in user:
        assert app.test_client().get(path, headers=bearer(user)).status_code == 404
    assert app.test_client().get("/api/me/tasks/summary", headers=bearer(user)).status_code == 200


@pytest.mark.parametrize("user", ["a b", "a%2Fb", "a\\b", "a?b#c", "a;b", "...", "a.", "žluť 🎂"])
def test_token_of_a_user_with_any_other_id_shows_the_path_to_call(app, user):
    path = f"/api/{quote(user, safe='')}/tasks"
    assert explain(app, sign(claims(user))).last in (f"It is good, for /api/me/tasks and for {path}.", ME_ALONE)
    assert app.test_client().get(f"{path}/summary", headers=bearer(user)).status_code == 200


@pytest.mark.parametrize("mark", [True, False], ids=["with a mark", "without a mark"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("form", ["{}", "Authorization: Bearer {}\r\n", '{{"token": "{}"}}'])
def test_token_is_read_in_every_encoding_that_a_shell_writes(app, token, tmp_path, form, encoding, mark):
    data = (("\ufeff" if mark else "") + form.format(token)).encode(encoding)
    assert explain(app, data).last == GOOD
    (tmp_path / "token").write_bytes(data)
    assert Report.of_app(app, "--token", str(tmp_path / "token")).last == GOOD


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff\xfe\x00\x00", b"e\x00y", b"\x00\xd8" * 9]
)
def test_token_that_is_a_mark_or_half_a_character_alone_is_none(app, data):
    assert explain(app, data).faults.keys() == {"form"}


def test_token_that_has_expired_is_reported_with_the_time(app):
    now = int(time.time())
    report = explain(app, sign(claims("u1", iat=now - 4000, exp=now - 400)))
    assert report.status == 1
    assert report.faults.keys() == {"expiry"}
    assert report.faults["expiry"].startswith("expected a moment in the future, got 40")
    assert "/api/auth/token" in report.of("expiry").remedy
    assert report.last == EXPIRED


def test_token_signed_with_another_secret_is_reported_as_such(app):
    report = explain(app, sign(claims("u1"), secret=PREVIOUS_SECRET))
    assert report.faults == {"signature": "expected one made with the secret, got one made with another"}
    assert "BETTER_AUTH_SECRET" in report.of("signature").remedy
    assert report.last == INVALID


@pytest.mark.parametrize(("claim", "name"), [("iss", "issuer"), ("aud", "audience")])
def test_token_for_another_service_shows_what_was_expected_and_what_came(make_app, claim, name):
    app = make_app(JWT_ISSUER=OURS, JWT_AUDIENCE=OURS)
    report = explain(app, sign(claims("u1", **({"iss": OURS, "aud": OURS} | {claim: THEIRS}))))
    assert report.faults == {name: f"expected {OURS}, got {THEIRS}"}
    assert f"JWT_{name.upper()}" in report.of(name).remedy
    assert report.last == INVALID


@pytest.mark.parametrize(
    ("token", "name"),
    [
        pytest.param(sign(claims("u1"), typ="at+jwt"), "typ", id="typ"),
        pytest.param(sign(claims("u1"), jku="https://evil.example"), "key source", id="key-source"),
        pytest.param(sign_raw({"alg": "HS512"}, claims("u1")), "algorithm", id="algorithm"),
        pytest.param(sign(claims("u1", requestType="x")), "purpose", id="purpose"),
        pytest.param(sign(claims("u1", iat=int(time.time()) + 3600)), "issued at", id="issued-at"),
        pytest.param(sign(claims("u1", nbf=int(time.time()) + 3600)), "not before", id="not-before"),
        pytest.param(sign(claims("u1", userId="u2")), "user", id="two-users"),
        pytest.param(sign(claims("u1", sub=None)), "user", id="no-user"),
        pytest.param(sign(claims("u1", exp=None)), "expiry", id="no-expiry"),
    ],
)
def test_token_that_breaks_a_rule_is_reported_with_the_rule_and_a_remedy(app, token, name):
    report = explain(app, token)
    assert name in report.faults
    assert report.last.startswith("It is refused: 401 ")


def test_token_of_another_algorithm_has_the_other_mode_as_remedy(app):
    report = explain(app, sign_raw({"alg": "HS512"}, claims("u1")))
    assert "BETTER_AUTH_URL" in report.of("algorithm").remedy


@pytest.mark.parametrize(
    "pasted",
    [
        pytest.param(SESSION_TOKEN, id="session-token"),
        pytest.param(f"{SESSION_TOKEN}.{'c2lnbmF0dXJl' * 3}%3D", id="signed-cookie"),
        pytest.param(json.dumps({"session": {"token": SESSION_TOKEN}}), id="json-without-a-token"),
        pytest.param(json.dumps({"token": 7}), id="json-with-a-number-for-a-token"),
        pytest.param("7", id="number"),
        pytest.param("[" * 90_000, id="deep-json"),
        pytest.param("", id="nothing"),
        pytest.param("  \n", id="white-space"),
        pytest.param("Authorization: Bearer ", id="header-without-a-token"),
        pytest.param("what is a token?", id="words"),
        pytest.param("ключ.от.дома", id="other-letters"),
        pytest.param(f"{sign(claims('u1'))} {sign(claims('u1'))}", id="two"),
        pytest.param(sign(claims("u1")).rpartition(".")[0], id="two-parts"),
        pytest.param(sign_raw({"alg": "HS256"}, ["u1"]), id="claims-that-are-none"),
        pytest.param(bytes(range(256)) * 8, id="binary"),
    ],
)
def test_text_that_is_no_token_is_reported_with_the_form_of_one(app, pasted):
    report = explain(app, pasted)
    assert report.status == 1
    assert report.faults.keys() <= {"form", "size"}
    assert report.last == INVALID


def test_token_from_a_binary_file_is_none(app, tmp_path):
    (tmp_path / "token").write_bytes(b"\x00\xff\xfe\x80" * 100)
    assert Report.of_app(app, "--token", str(tmp_path / "token")).faults.keys() == {"form"}


def test_token_from_an_empty_file_is_none(app, tmp_path):
    (tmp_path / "token").touch()
    assert Report.of_app(app, "--token", str(tmp_path / "token")).faults.keys() == {"form"}


def test_token_that_is_too_long_is_reported_with_how_to_shorten_it(app):
    report = explain(app, sign(claims("u1", picture="x" * 10_000)))
    assert report.faults.keys() == {"size"}
    assert "definePayload" in report.of("size").remedy


@pytest.mark.parametrize("make", [lambda folder: folder / "nowhere", lambda folder: folder], ids=["missing", "folder"])
def test_token_from_what_is_no_file_is_a_wrong_call(app, tmp_path, make):
    report = Report.of_app(app, "--token", str(make(tmp_path)))
    assert report.status == 2
    assert "'--token': there is no such file to read" in report.output


def test_token_in_the_place_of_a_file_is_not_repeated(app, token):
    report = Report.of_app(app, "--token", token)
    assert report.status == 2
    assert not any(part in report.output for part in token.split("."))


def test_token_of_the_issuer_is_good(issuer_app, issuer):
    user = issuer.sign_up()
    report = explain(issuer_app, user.token)
    assert report.status == 0
    assert [line.subject for line in report.lines] == list(issuer_app.extensions["token_verifier"].rules)
    assert report.last == f"It is good, for /api/me/tasks and for /api/{user.id}/tasks."


def test_token_by_an_unpublished_key_is_reported_as_such(issuer_app, issuer):
    token, kid = issuer.sign_up().token, issuer.live_kid
    issuer.retire(kid)
    report = explain(issuer_app, token)
    assert report.faults["key"] == f"expected the kid of one of the issuer's keys, got {kid}"
    assert list(report.faults) == ["key", "signature"]
    assert report.last == INVALID


def test_token_with_a_wrong_signature_is_reported_as_changed(issuer_app, issuer):
    header, payload, _ = issuer.sign_up().token.split(".")
    report = explain(issuer_app, f"{header}.{payload}.{segment(bytes(64))}")
    assert report.faults.keys() == {"signature"}
    assert "changed on its way" in report.of("signature").remedy


def test_token_by_a_secret_where_keys_are_expected_has_the_other_mode_as_remedy(issuer_app, token):
    report = explain(issuer_app, token)
    assert report.faults["algorithm"].endswith(", got HS256")
    assert "BETTER_AUTH_SECRET" in report.of("algorithm").remedy
    assert report.last == INVALID


def test_token_of_the_issuer_that_has_expired_is_reported(issuer_app, issuer):
    user, now = issuer.sign_up(), int(time.time())
    report = explain(
        issuer_app, issuer.sign(sub=user.id, iss=issuer.url, aud=issuer.url, iat=now - 2000, exp=now - 1000)
    )
    assert report.faults.keys() == {"expiry"}
    assert report.last == EXPIRED


def test_token_of_an_issuer_that_is_away_can_be_neither_good_nor_bad(issuer_app, issuer):
    token = issuer.sign_up().token
    issuer.close()
    report = explain(issuer_app, token)
    assert report.status == 1
    assert report.faults == {"key": "the last fetch of the issuer's keys failed: connection refused"}
    assert report.last.startswith("It is refused: 503 ")


def test_every_rule_that_a_token_can_break_has_a_remedy():
    # The remedy of the first two depends on the mode. The last one is a rule for headers, not for tokens.
    by_mode = {TokenRule.SIGNATURE, TokenRule.ALGORITHM}
    assert set(REMEDIES) | by_mode == set(TokenRule) - {TokenRule.AUTHORIZATION}
