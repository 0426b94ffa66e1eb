"""Tokens that only the real Better Auth issues, and how they are verified: `make test-issuer` runs this."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from fakes.issuers import ALGS, BetterAuth
from flask.testing import FlaskClient
from issuer.test_verification import authorization, known_and_unknown
from support import assert_problem, config_for
from wire.server import Server, free_port, wait_until

from todo import create_app
from todo.auth.jwks import ATTEMPT_INTERVAL_S, ATTEMPTS


def verified(by: BetterAuth, token: str, **options: Any) -> dict[str, Any]:
    """Return the claims of a token after PyJWT itself has verified it."""
    key = jwt.PyJWKClient(by.jwks_url).get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=[by.alg], **options)


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def clients(issuer: BetterAuth, database_url: str) -> list[FlaskClient]:
    """Return clients of the application in both modes of verification: the keys of this issuer, and its secret."""
    by_keys = config_for(database_url, BETTER_AUTH_URL=issuer.url)
    by_secret = config_for(database_url, BETTER_AUTH_SECRET=issuer.secret)
    return [create_app(config).test_client() for config in (by_keys, by_secret)]


@pytest.mark.parametrize("cookie_cache", ["off", "compact", "jwt", "jwt-jwks", "jwe"])
def test_attack_what_better_auth_signs_for_other_purposes_as_login(
    make_better_auth: Callable[..., BetterAuth], database_url: str, cookie_cache: str
):
    issuer = make_better_auth(cookie_cache=cookie_cache)
    alice = issuer.sign_up()
    stolen = [issuer.verification_token(alice), issuer.session_token(alice)]
    if cookie_cache != "off":
        stolen.append(issuer.session_cookie(alice))
    for client in clients(issuer, database_url):
        for token in stolen:
            assert_problem(client.get("/api/me/tasks", headers=authorization(token)), 401)


def test_flood_of_unknown_kids_on_a_real_server_costs_one_fetch_in_ten_seconds(
    make_better_auth: Callable[..., BetterAuth], serve: Callable[..., Server], database_url: str
):
    issuer = make_better_auth()
    alice = issuer.sign_up()
    server = serve(DATABASE_URL=database_url, BETTER_AUTH_SECRET="", BETTER_AUTH_URL=issuer.url, WEB_THREADS="4")
    assert server.call("GET", "/api/me/tasks", authorization(alice.token)).status_code == 200
    _, unknown = known_and_unknown(issuer, alice)
    done = threading.Event()
    statuses = set()

    def flood() -> None:
        while not done.is_set():
            statuses.add(server.call("GET", "/api/me/tasks", authorization(unknown())).status_code)

    issuer.reset_hits()
    threads = [threading.Thread(target=flood) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(11)
    issuer.fault("503")
    time.sleep(11)
    done.set()
    for thread in threads:
        thread.join()
    assert issuer.hits <= ATTEMPTS + (time.monotonic() - began) // ATTEMPT_INTERVAL_S
    assert issuer.hits >= 2
    # Whether one of them is known to be refused depends on who is waiting when a fetch ends.
    assert 503 in statuses
    assert statuses <= {401, 503}


def test_server_that_starts_before_its_issuer_waits_for_it_and_outlives_it(
    make_better_auth: Callable[..., BetterAuth], serve: Callable[..., Server], database_url: str
):
    first = make_better_auth()
    port, url = int(first.url.rpartition(":")[2]), first.url
    first.close()
    server = serve(DATABASE_URL=database_url, BETTER_AUTH_SECRET="", BETTER_AUTH_URL=url)
    checks = assert_problem(server.call("GET", "/health/ready"), 503)["checks"]
    assert checks == {"database": "ok", "schema": "ok", "issuer": "failed"}

    issuer = make_better_auth(port=port)
    alice = issuer.sign_up()
    known, unknown = known_and_unknown(issuer, alice)
    # The attempts that are left after those of the start make it good at once.
    wait_until(lambda: server.call("GET", "/api/me/tasks", authorization(known)).status_code == 200, "known key")
    assert server.call("GET", "/health/ready").status_code == 200

    issuer.close()
    time.sleep(ATTEMPT_INTERVAL_S)
    answer = server.call("GET", "/api/me/tasks", authorization(unknown()))
    problem = assert_problem(answer, 503)
    assert "reason" not in problem
    assert 1 <= int(answer.headers["Retry-After"]) <= ATTEMPT_INTERVAL_S
    assert server.call("GET", "/api/me/tasks", authorization(known)).status_code == 200


@pytest.mark.parametrize("start", range(5))
@pytest.mark.parametrize("alg", [alg for alg in ALGS if alg != "HS256"])
def test_good_token_is_never_refused_while_better_auth_and_two_processes_start(
    make_better_auth: Callable[..., BetterAuth], serve: Callable[..., Server], database_url: str, alg: str, start: int
):
    # Better Auth makes its first key with its first token, or with the first request for its keys; where both are under
    # way at once it makes two.
    port = free_port()
    settings = {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": f"http://127.0.0.1:{port}", "WEB_CONCURRENCY": "2"}
    with ThreadPoolExecutor(8) as pool:
        serving = pool.submit(serve, DATABASE_URL=database_url, WEB_THREADS="8", **settings)
        # Each of the two is the first in some of the starts.
        time.sleep(start / 4)
        issuer = make_better_auth(alg, port=port)
        server = serving.result()

        def use(name: str) -> Counter[int]:
            user = issuer.sign_up(name)
            statuses: Counter[int] = Counter()
            # On as many connections as it takes to reach both processes.
            while statuses[200] < 10:
                response = server.call("GET", f"/api/{user.id}/tasks", authorization(user.token))
                statuses[response.status_code] += 1
                if response.status_code == 503:
                    assert 1 <= int(response.headers["Retry-After"]) <= ATTEMPT_INTERVAL_S
                    time.sleep(1)
            return statuses

        seen = sum(pool.map(use, [f"user{n}" for n in range(6)]), Counter())
    assert set(seen) <= {200, 503}


def test_sign_jwt_of_better_auth_adds_what_is_missing(make_better_auth: Callable[..., BetterAuth]):
    issuer = make_better_auth()
    made = claims(issuer.sign_jwt(sub="x", iat=1000))
    assert made == {"sub": "x", "iat": 1000, "exp": 1900, "iss": issuer.url, "aud": issuer.url}
    assert set(claims(issuer.sign_jwt())) == {"exp", "iss", "aud"}


def test_verification_token_of_better_auth_is_signed_with_the_secret(make_better_auth: Callable[..., BetterAuth]):
    issuer = make_better_auth()
    alice = issuer.sign_up()
    token = issuer.verification_token(alice)
    assert jwt.get_unverified_header(token) == {"alg": "HS256"}
    read = jwt.decode(token, issuer.secret, algorithms=["HS256"])
    assert set(read) == {"email", "userId", "iat", "exp"}
    assert (read["email"], read["userId"]) == (alice.email, alice.id)


def test_session_cookie_of_better_auth_is_signed_with_the_secret(make_better_auth: Callable[..., BetterAuth]):
    issuer = make_better_auth(cookie_cache="jwt")
    alice = issuer.sign_up()
    cookie = issuer.session_cookie(alice)
    assert jwt.get_unverified_header(cookie) == {"alg": "HS256"}
    read = jwt.decode(cookie, issuer.secret, algorithms=["HS256"])
    assert set(read) == {"session", "user", "updatedAt", "version", "iat", "exp"}
    assert read["session"]["token"] == issuer.session_token(alice)


def test_session_cookie_of_better_auth_is_signed_with_the_live_key(make_better_auth: Callable[..., BetterAuth]):
    issuer = make_better_auth(cookie_cache="jwt-jwks")
    alice = issuer.sign_up()
    cookie = issuer.session_cookie(alice)
    header = {"alg": "EdDSA", "kid": issuer.live_kid, "typ": "better-auth.session-cache+jwt"}
    assert jwt.get_unverified_header(cookie) == header
    read = verified(issuer, cookie, issuer=issuer.url, audience="better-auth:session-cache")
    assert read["sub"] == alice.id
