"""Both issuers issue the same tokens, and have the same faults."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from fakes.issuers import ALGS, BIG, Issuer

MEMBERS = {
    "EdDSA": {"alg", "crv", "x", "kty", "kid"},
    "ES256": {"alg", "crv", "x", "y", "kty", "kid"},
    "ES512": {"alg", "crv", "x", "y", "kty", "kid"},
    "RS256": {"alg", "n", "e", "kty", "kid"},
    "PS256": {"alg", "n", "e", "kty", "kid"},
}
CLAIMS = {"iat", "name", "email", "emailVerified", "createdAt", "updatedAt", "id", "sub", "exp", "iss", "aud"}


def get(url: str) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response, response.read()


def key_set(issuer: Issuer) -> dict[str, dict[str, Any]]:
    response, body = get(issuer.jwks_url)
    assert response.status == 200
    return {key["kid"]: key for key in json.loads(body)["keys"]}


def verify(by: Issuer, token: str, /, **options: Any) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    key = jwt.PyJWK(key_set(by)[header["kid"]])
    return jwt.decode(token, key, algorithms=[by.alg], **options)


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def connect(issuer: Issuer) -> socket.socket:
    parts = urlsplit(issuer.jwks_url)
    line = socket.create_connection((parts.hostname, parts.port), timeout=10)
    line.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    return line


@pytest.mark.parametrize("alg", [alg for alg in ALGS if alg != "HS256"])
def test_token_of_a_user_is_verified_by_the_published_set(make_issuer: Callable[..., Issuer], alg: str):
    issuer = make_issuer(alg)
    alice = issuer.sign_up("alice")
    for token in (alice.token, issuer.token(alice)):
        assert jwt.get_unverified_header(token) == {"alg": alg, "kid": issuer.live_kid}
        verified = verify(issuer, token, issuer=issuer.url, audience=issuer.url)
        assert set(verified) == CLAIMS
        assert verified["sub"] == verified["id"] == alice.id
        assert verified["email"] == alice.email
        assert verified["name"] == "alice"
        assert verified["exp"] == verified["iat"] + 15 * 60
    assert set(key_set(issuer)[issuer.live_kid]) == MEMBERS[alg]


def test_token_of_a_user_with_a_shared_secret_is_verified_by_it(make_issuer: Callable[..., Issuer]):
    issuer = make_issuer("HS256")
    alice = issuer.sign_up()
    assert jwt.get_unverified_header(alice.token) == {"alg": "HS256", "typ": "JWT"}
    verified = jwt.decode(alice.token, issuer.secret, algorithms=["HS256"], issuer=issuer.url, audience=issuer.url)
    assert set(verified) == CLAIMS
    assert verified["sub"] == alice.id
    assert issuer.live_kid == ""
    issuer.rotate()
    issuer.retire("")
    assert get(issuer.jwks_url)[0].status == 404


@pytest.mark.parametrize(
    ("base_path", "path"),
    [("", "/api/auth/jwks"), ("/", "/api/auth/jwks"), ("/auth", "/auth/jwks"), ("/api/auth/", "/api/auth/jwks")],
)
def test_base_url_with_a_path_moves_the_set_and_leaves_the_claims(
    make_issuer: Callable[..., Issuer], base_path: str, path: str
):
    issuer = make_issuer(base_path=base_path)
    assert issuer.jwks_url == issuer.url + path
    verified = verify(issuer, issuer.sign_up().token, issuer=issuer.url, audience=issuer.url)
    assert (verified["iss"], verified["aud"]) == (issuer.url, issuer.url)


def test_sign_up_twice_makes_two_users(shared_issuer: Issuer):
    alice, bob = shared_issuer.sign_up("alice"), shared_issuer.sign_up("bob")
    assert alice.id != bob.id
    assert alice.email != bob.email
    assert claims(shared_issuer.token(alice))["sub"] == alice.id
    assert claims(shared_issuer.token(bob))["sub"] == bob.id


@pytest.mark.parametrize("alg", ["EdDSA", "HS256"])
@pytest.mark.parametrize(
    "requested",
    [
        {},
        {"sub": "x"},
        {"exp": None, "iss": None, "aud": []},
        {"exp": "2h", "iat": "yesterday", "sub": 5},
        {"exp": 1e300, "nested": {"é": [1.0, 2**70]}},
    ],
)
def test_sign_any_claims_signs_exactly_these(make_issuer: Callable[..., Issuer], alg: str, requested: dict[str, Any]):
    issuer = make_issuer(alg)
    token = issuer.sign(**requested)
    key = issuer.secret if alg == "HS256" else jwt.PyJWK(key_set(issuer)[issuer.live_kid])
    assert json.loads(jwt.PyJWS().decode(token, key, algorithms=[alg])) == requested
    assert set(jwt.get_unverified_header(token)) == ({"alg", "typ"} if alg == "HS256" else {"alg", "kid"})


def test_rotate_makes_a_new_key_and_keeps_the_old_one_published(issuer: Issuer):
    alice = issuer.sign_up()
    old = issuer.live_kid
    issuer.rotate()
    assert issuer.live_kid != old
    assert set(key_set(issuer)) == {old, issuer.live_kid}
    assert jwt.get_unverified_header(issuer.token(alice))["kid"] == issuer.live_kid
    for token in (alice.token, issuer.token(alice)):
        assert verify(issuer, token, audience=issuer.url)["sub"] == alice.id


def test_retire_an_old_key_leaves_the_live_one(issuer: Issuer):
    old = issuer.live_kid
    issuer.rotate()
    issuer.retire(old)
    assert list(key_set(issuer)) == [issuer.live_kid]


def test_retire_the_live_key_lets_a_new_one_follow(issuer: Issuer):
    alice = issuer.sign_up()
    old = issuer.live_kid
    issuer.retire(old)
    assert jwt.get_unverified_header(issuer.token(alice))["kid"] != old
    assert list(key_set(issuer)) == [issuer.live_kid]


def test_hits_counts_requests_for_the_set_alone(issuer: Issuer):
    issuer.sign_up()
    assert issuer.hits == 0
    key_set(issuer)
    issuer.fault("503")
    get(issuer.jwks_url)
    get(f"{issuer.url}/elsewhere")
    assert issuer.hits == 2
    issuer.reset_hits()
    assert issuer.hits == 0


def test_set_is_sent_on_a_connection_that_stays_open(issuer: Issuer):
    parts = urlsplit(issuer.jwks_url)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        for _ in range(2):
            connection.request("GET", parts.path)
            with connection.getresponse() as response:
                assert response.headers["Transfer-Encoding"] == "chunked"
                assert response.headers["Cache-Control"] is None
                assert len(json.load(response)["keys"]) == 1
    assert issuer.hits == 2


@pytest.mark.parametrize(
    ("mode", "status", "content_type"),
    [
        ("503", 503, "application/json"),
        ("404", 404, "application/json"),
        ("html", 200, "text/html"),
        ("badjson", 200, "application/json"),
    ],
)
def test_fault_without_a_set_has_its_response(issuer: Issuer, mode: str, status: int, content_type: str):
    issuer.fault(mode)
    response, body = get(issuer.jwks_url)
    assert (response.status, response.headers["Content-Type"]) == (status, content_type)
    if status == 200:
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
    issuer.fault("ok")
    assert list(key_set(issuer)) == [issuer.live_kid]


@pytest.mark.parametrize(("mode", "expected"), [("empty", {"keys": []}), ("array", [])])
def test_fault_without_keys_has_its_response(issuer: Issuer, mode: str, expected: Any):
    issuer.fault(mode)
    response, body = get(issuer.jwks_url)
    assert (response.status, json.loads(body)) == (200, expected)


def test_fault_redirect_leads_to_the_good_set(issuer: Issuer):
    good = key_set(issuer)
    issuer.fault("redirect")
    response, body = get(issuer.jwks_url)
    assert (response.status, body) == (302, b"")
    assert {key["kid"]: key for key in json.loads(get(response.headers["Location"])[1])["keys"]} == good


def test_fault_big_carries_the_good_set(issuer: Issuer):
    good = key_set(issuer)
    issuer.fault("big")
    _, body = get(issuer.jwks_url)
    assert len(body) == BIG
    assert key_set(issuer) == good


def test_fault_gzip_carries_the_good_set(issuer: Issuer):
    good = key_set(issuer)
    issuer.fault("gzip")
    response, body = get(issuer.jwks_url)
    assert response.headers["Content-Encoding"] == "gzip"
    assert {key["kid"]: key for key in json.loads(gzip.decompress(body))["keys"]} == good


def test_fault_unusable_carries_nothing_to_verify_with(issuer: Issuer):
    live = key_set(issuer)[issuer.live_kid]
    issuer.fault("unusable")
    for_encryption, nameless, secret, p384, weak = json.loads(get(issuer.jwks_url)[1])["keys"]
    assert for_encryption == live | {"use": "enc"}
    assert nameless == {name: value for name, value in live.items() if name != "kid"}
    assert (secret["kty"], p384["crv"], weak["kty"]) == ("oct", "P-384", "RSA")
    assert len(weak["n"]) * 6 // 8 == 128


def test_fault_hang_never_responds(issuer: Issuer):
    issuer.fault("hang")
    with connect(issuer) as line:
        line.settimeout(0.5)
        with pytest.raises(TimeoutError):
            line.recv(1)


def test_fault_reset_cuts_the_connection_in_the_body(issuer: Issuer):
    issuer.fault("reset")
    received = b""
    with connect(issuer) as line:
        with pytest.raises(ConnectionResetError):
            while data := line.recv(65536):
                received += data
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b'{"keys":' in received


@pytest.mark.parametrize(("mode", "first"), [("trickle", b"{"), ("trickle-headers", b"H")])
def test_fault_trickle_sends_byte_after_byte(issuer: Issuer, mode: str, first: bytes):
    issuer.fault(mode)
    with connect(issuer) as line:
        received = b""
        if mode == "trickle":
            while b"\r\n\r\n" not in received:
                received += line.recv(65536)
        received = received.partition(b"\r\n\r\n")[2]
        began = time.monotonic()
        while len(received) < 6:
            data = line.recv(65536)
            assert len(data) < 4
            received += data
        assert received.startswith(first)
        assert 0.3 < time.monotonic() - began < 5


@pytest.mark.parametrize("mode", ["trickle", "trickle-headers"])
def test_fault_trickle_in_the_end_has_sent_the_good_set(make_issuer: Callable[..., Issuer], mode: str):
    issuer = make_issuer(trickle_s=0.001)
    good = key_set(issuer)
    issuer.fault(mode)
    assert key_set(issuer) == good


def test_unknown_fault_is_refused(issuer: Issuer):
    with pytest.raises(ValueError, match="No such fault: slow"):
        issuer.fault("slow")


@pytest.mark.parametrize("mode", ["ok", "hang", "trickle", "trickle-headers"])
def test_close_during_a_response_ends_at_once(issuer: Issuer, mode: str):
    issuer.fault(mode)
    with connect(issuer) as line:
        while not issuer.hits:
            time.sleep(0.01)
        began = time.monotonic()
        issuer.close()
        issuer.close()
        assert time.monotonic() - began < 2
        with suppress(ConnectionResetError):
            while line.recv(65536):
                pass
    with pytest.raises(ConnectionRefusedError):
        connect(issuer)


def test_issuer_on_a_given_port_takes_the_place_of_the_one_before(make_issuer: Callable[..., Issuer]):
    first = make_issuer()
    port = urlsplit(first.url).port
    key_set(first)
    first.close()
    second = make_issuer(port=port)
    assert second.url == first.url
    assert list(key_set(second)) == [second.live_kid]
