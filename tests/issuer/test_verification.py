"""Tokens of an issuer that publishes its keys: valid with BETTER_AUTH_URL alone, and during outages."""

import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from fakes.issuers import ALGS, FAULTS, Issuer, User
from flask import Flask
from flask.testing import FlaskClient
from support import assert_problem, config_for
from wire.server import DEADLINE_S, Server, wait_until

from todo import create_app
from todo.auth import fetch, jwks
from todo.auth.jwks import ATTEMPT_INTERVAL_S, ATTEMPTS, FRESH_S, STALE_S, KeyCache

# The faults of the key endpoint. A compressed response is a fault too, because no request accepts one.
BROKEN = [fault for fault in FAULTS if fault != "ok"]


def authorization(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


class Service:
    """The application with nothing set but BETTER_AUTH_URL and the database, and a clock for its keys."""

    def __init__(self, issuer: Issuer, database_url: str, **changes: str) -> None:
        config = config_for(database_url, BETTER_AUTH_SECRET="", BETTER_AUTH_URL=issuer.url, **changes)
        self.app: Flask = create_app(config)
        self.client: FlaskClient = self.app.test_client()
        self.keys: KeyCache = self.app.extensions["issuer_keys"]
        self.later_s = 0.0
        # The clock only advances by what a test adds to it, however long its calls take.
        self.keys._clock = lambda: self.later_s

    def call(self, token: str) -> Any:
        return self.client.get("/api/me/tasks", headers=authorization(token))

    def settle(self) -> None:
        """Wait until no fetch is running."""
        assert self.keys._attempt.finished.wait(DEADLINE_S)


def known_and_unknown(issuer: Issuer, user: User) -> tuple[str, Callable[[], str]]:
    """Return a valid token, and a function that makes tokens that differ only in their unpublished key."""
    good = issuer.token(user)
    claims = jwt.decode(good, options={"verify_signature": False})
    key = ed25519.Ed25519PrivateKey.generate()
    return good, lambda: jwt.encode(claims, key, "EdDSA", {"typ": None, "kid": uuid.uuid4().hex})


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait one second for the keys instead of three."""
    monkeypatch.setattr(fetch, "DEADLINE_S", 1)
    monkeypatch.setattr(jwks, "DEADLINE_S", 1)


@pytest.fixture
def service(issuer: Issuer, database_url: str) -> Service:
    return Service(issuer, database_url)


@pytest.mark.parametrize("alg", [alg for alg in ALGS if alg != "HS256"])
def test_token_of_each_algorithm_is_good_with_the_issuers_address_alone(make_issuer, database_url, alg):
    issuer = make_issuer(alg)
    alice = issuer.sign_up()
    service = Service(issuer, database_url)

    created = service.client.post(
        f"/api/{alice.id}/tasks", headers=authorization(alice.token), json={"title": "Buy milk"}
    )

    assert (created.status_code, created.json["user_id"]) == (201, alice.id)
    assert service.call(alice.token).json == [created.json]


def test_token_signed_with_the_secret_is_good_with_the_secret_alone(make_issuer, database_url):
    issuer = make_issuer("HS256")
    alice = issuer.sign_up()
    by_secret = create_app(config_for(database_url, BETTER_AUTH_SECRET=issuer.secret)).test_client()
    expecting = create_app(
        config_for(database_url, BETTER_AUTH_SECRET=issuer.secret, JWT_ISSUER=issuer.url, JWT_AUDIENCE=issuer.url)
    ).test_client()
    for client in (by_secret, expecting):
        assert client.get(f"/api/{alice.id}/tasks", headers=authorization(alice.token)).json == []
    problem = assert_problem(Service(issuer, database_url).call(alice.token), 401)
    assert problem["reason"] == "algorithm: expected EdDSA or ES256 or ES512 or RS256 or PS256, got HS256"


@pytest.mark.parametrize("path", ["/api/auth", "/auth", "/auth/"])
def test_address_with_a_path_is_good_too(make_issuer, database_url, path):
    issuer = make_issuer(base_path=path)
    alice = issuer.sign_up()
    config = config_for(database_url, BETTER_AUTH_SECRET="", BETTER_AUTH_URL=issuer.url + path)
    client = create_app(config).test_client()
    assert client.get("/api/me/tasks", headers=authorization(alice.token)).json == []


def test_tokens_of_two_users_open_their_own_lists_only(issuer, service):
    alice, bob = issuer.sign_up("alice"), issuer.sign_up("bob")
    assert service.client.get(f"/api/{alice.id}/tasks", headers=authorization(alice.token)).status_code == 200
    response = service.client.get(f"/api/{bob.id}/tasks", headers=authorization(alice.token))
    assert_problem(response, 403, "User ID mismatch")


def test_token_of_another_issuer_is_refused(make_issuer, service):
    other = make_issuer()
    assert_problem(service.call(other.sign_up().token), 401, "Invalid token")


def test_rotation_keeps_the_old_token_good_and_takes_the_new_key_at_once(issuer, service):
    alice = issuer.sign_up()
    assert service.call(alice.token).status_code == 200
    issuer.rotate()
    renewed = issuer.token(alice)
    assert service.call(alice.token).status_code == 200
    assert service.call(renewed).status_code == 200
    assert service.call(alice.token).status_code == 200
    assert issuer.hits == 2


def test_rotation_during_a_flood_of_unknown_kids_is_503_until_the_new_key_is_fetched(issuer, service):
    alice = issuer.sign_up()
    known, unknown = known_and_unknown(issuer, alice)
    for _ in range(ATTEMPTS + 1):
        service.call(unknown())
    issuer.rotate()
    renewed = issuer.token(alice)
    refused = service.call(renewed)
    assert_problem(refused, 503)
    assert refused.headers["Retry-After"] == str(ATTEMPT_INTERVAL_S)
    assert service.call(known).status_code == 200
    service.later_s = ATTEMPT_INTERVAL_S
    assert service.call(renewed).status_code == 200


def test_retired_key_is_refused_after_the_fresh_time(issuer, service):
    alice = issuer.sign_up()
    assert service.call(alice.token).status_code == 200
    issuer.rotate()
    issuer.retire(jwt.get_unverified_header(alice.token)["kid"])
    assert service.call(alice.token).status_code == 200
    service.later_s = FRESH_S + 1
    service.call(alice.token)
    service.settle()
    assert_problem(service.call(alice.token), 401, "Invalid token")
    assert service.call(issuer.token(alice)).status_code == 200


@pytest.mark.usefixtures("short_deadline")
@pytest.mark.parametrize("fault", BROKEN)
def test_fault_of_the_key_endpoint_is_503_for_unknown_keys_and_nothing_for_known_ones(issuer, service, fault):
    alice = issuer.sign_up()
    known, unknown = known_and_unknown(issuer, alice)
    assert service.call(known).status_code == 200
    assert_problem(service.call(unknown()), 401, "Invalid token")

    issuer.fault(fault)
    service.later_s = FRESH_S + 1
    assert service.call(known).status_code == 200
    problem = assert_problem(service.call(unknown()), 503)
    assert "keys of the token issuer" in problem["detail"]
    service.settle()
    assert service.call(known).status_code == 200
    ready = service.client.get("/health/ready")
    assert (ready.status_code, ready.json["checks"]["issuer"]) == (200, "stale")

    issuer.fault("ok")
    service.settle()
    service.later_s += ATTEMPT_INTERVAL_S
    assert_problem(service.call(unknown()), 401, "Invalid token")
    assert service.client.get("/health/ready").json["checks"]["issuer"] == "ok"


@pytest.mark.usefixtures("short_deadline")
@pytest.mark.parametrize("fault", BROKEN)
def test_fault_of_the_key_endpoint_from_the_beginning_is_503_until_it_is_over(issuer, service, fault):
    alice = issuer.sign_up()
    issuer.fault(fault)
    problem = assert_problem(service.call(alice.token), 503)
    assert problem["reason"].startswith("the last fetch of the issuer's keys failed: ")
    assert_problem(service.client.get("/health/ready"), 503)
    assert service.client.get("/health").status_code == 200
    assert 1 <= issuer.hits <= ATTEMPTS
    issuer.fault("ok")
    service.settle()
    service.later_s = ATTEMPT_INTERVAL_S
    assert service.call(alice.token).status_code == 200


def test_keys_are_kept_for_an_hour_of_outage(issuer, service):
    alice = issuer.sign_up()
    assert service.call(alice.token).status_code == 200
    issuer.close()
    service.later_s = FRESH_S + STALE_S - 10
    assert service.call(alice.token).status_code == 200
    service.later_s = FRESH_S + STALE_S + 10
    assert_problem(service.call(alice.token), 503)


def test_users_with_a_known_key_are_answered_at_once_while_the_endpoint_hangs(issuer, service):
    users = [issuer.sign_up() for _ in range(20)]
    assert service.call(users[0].token).status_code == 200
    issuer.fault("hang")
    service.later_s = FRESH_S + 1
    elapsed_ms = []
    for user in users:
        began = time.perf_counter()
        assert service.call(user.token).status_code == 200
        elapsed_ms.append(1000 * (time.perf_counter() - began))
    assert not service.keys._attempt.finished.is_set()
    assert statistics.median(elapsed_ms) < 50


@pytest.mark.parametrize("fault", ["ok", "503"])
def test_flood_of_unknown_kids_costs_one_fetch_in_ten_seconds(issuer, service, fault):
    alice = issuer.sign_up()
    known, unknown = known_and_unknown(issuer, alice)
    assert service.call(known).status_code == 200
    issuer.fault(fault)
    issuer.reset_hits()
    statuses = []
    for tenth in range(400):
        service.later_s = tenth / 10
        statuses.append(service.call(unknown()).status_code)
        assert service.call(known).status_code == 200
    # Of 40 s: the attempts that the first call left, and one more after each interval.
    assert issuer.hits == ATTEMPTS - 1 + 3
    refused = 0 if fault == "503" else issuer.hits
    assert (statuses.count(401), statuses.count(503)) == (refused, len(statuses) - refused)


def test_server_with_the_issuers_address_alone_works_and_outlives_the_issuer(make_issuer, serve, database_url):
    issuer = make_issuer()
    alice = issuer.sign_up()
    server: Server = serve(
        DATABASE_URL=database_url, BETTER_AUTH_SECRET="", BETTER_AUTH_URL=issuer.url, WEB_CONCURRENCY="2"
    )
    wait_until(lambda: server.call("GET", "/health/ready").status_code == 200, "ready")
    assert server.call("GET", f"/api/{alice.id}/tasks", authorization(alice.token)).status_code == 200
    # Both processes have fetched the keys before a request needed them.
    wait_until(lambda: issuer.hits == 2, "keys in both processes")
    wait_until(lambda: server.log.read_text().count("issuer keys fetched") == 2, "keys read in both processes")

    issuer.close()

    statuses = [server.call("GET", "/api/me/tasks", authorization(alice.token)).status_code for _ in range(20)]
    assert statuses == [200] * 20
    for secret in (alice.token, *alice.token.split("."), alice.email):
        assert secret not in server.log.read_text()
