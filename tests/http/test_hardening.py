"""Security headers on every response, trusted proxies and trusted hosts."""

import pytest
from flask import Flask, request
from structlog.testing import capture_logs
from support import assert_problem, bearer, config_for
from werkzeug.test import Client

from todo import create_app

NOTHING = "default-src 'none'; frame-ancestors 'none'"
HSTS = "Strict-Transport-Security"
TLS = "https://api.example.com"


@pytest.fixture(scope="module")
def production(database_url: str) -> Flask:
    """Return the application with production settings, a route that raises and a route that streams."""
    app = create_app(config_for(database_url, ENVIRONMENT="production", TRUSTED_HOSTS=""))
    app.add_url_rule("/bug", "bug", lambda: 1 // 0)
    app.add_url_rule("/stream", "stream", lambda: iter(["a", "b"]))
    return app


def assert_hardened(response, policy: str = NOTHING) -> None:
    assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert response.headers.getlist("Referrer-Policy") == ["no-referrer"]
    assert response.headers.getlist("Content-Security-Policy") == [policy]
    assert len(response.headers.getlist("Cache-Control")) == 1
    assert "Cross-Origin-Resource-Policy" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/", 200, id="root"),
        pytest.param("GET", "/health", 200, id="health"),
        pytest.param("GET", "/health/ready", 200, id="ready"),
        pytest.param("GET", "/openapi.json", 200, id="document"),
        pytest.param("GET", "/api/me/tasks/summary", 200, id="time-dependent"),
        pytest.param("GET", "/api/me/export", 200, id="export"),
        pytest.param("GET", "/stream", 200, id="stream"),
        pytest.param("DELETE", "/api/me/trash", 204, id="no-content"),
        pytest.param("OPTIONS", "/api/me/tasks", 200, id="options"),
        pytest.param("POST", "/api/me/tasks", 422, id="broken-rule"),
        pytest.param("GET", "/api/somebody/tasks", 403, id="another-user"),
        pytest.param("GET", "/api/me/tasks/0", 404, id="no-task"),
        pytest.param("GET", "/nowhere", 404, id="no-path"),
        pytest.param("PUT", "/health", 405, id="no-method"),
        pytest.param("GET", "/bug", 500, id="bug"),
    ],
)
def test_response_that_is_not_conditional_is_hardened_and_not_stored(production, user, method, path, status):
    with capture_logs():
        response = production.test_client().open(path, method=method, headers=bearer(user))

    assert response.status_code == status
    assert_hardened(response)
    assert response.headers["Cache-Control"] == "no-store"


def test_response_without_a_token_is_hardened_and_not_stored(client):
    response = client.get("/api/me/tasks")

    assert_problem(response, 401)
    assert_hardened(response)
    assert response.headers["Cache-Control"] == "no-store"


def test_conditional_response_is_stored_privately_and_hardened(client, user):
    created = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    path = created.headers["Location"]
    read = client.get(path, headers=bearer(user))
    not_modified = client.get(path, headers=bearer(user) | {"If-None-Match": read.headers["ETag"]})

    assert [response.status_code for response in (created, read, not_modified)] == [201, 200, 304]
    for response in (created, read, not_modified):
        assert_hardened(response)
        assert response.headers["Cache-Control"] == "private, no-cache"
    assert not_modified.data == b""
    assert "Content-Type" not in not_modified.headers


def test_conflict_with_the_current_task_in_it_is_not_stored(client, user):
    created = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})

    stale = client.delete(created.headers["Location"], headers=bearer(user) | {"If-Match": '"0"'})

    assert_problem(stale, 412)
    assert_hardened(stale)
    assert stale.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/assets/redoc.svg"])
def test_page_and_asset_have_their_own_policies_and_are_revalidated(client, path):
    response = client.get(path)

    policy = response.headers["Content-Security-Policy"]
    assert ("script-src 'self'" in policy) == (not path.endswith(".svg"))
    assert_hardened(response, policy)
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/bug", "/docs", "/api/me/tasks"])
def test_production_sends_hsts_over_tls_only(production, path):
    client = production.test_client()
    with capture_logs():
        secure, plain = client.get(path, base_url=TLS), client.get(path)

    assert secure.headers.getlist(HSTS) == ["max-age=31536000"]
    assert HSTS not in plain.headers


def test_development_sends_no_hsts(client):
    assert HSTS not in client.get("/health", base_url=TLS).headers


@pytest.fixture(scope="module")
def restricted(database_url: str) -> Flask:
    """Return the application with two trusted hosts, one of them with its subdomains."""
    return create_app(config_for(database_url, TRUSTED_HOSTS="api.example.com, .example.org"))


@pytest.mark.parametrize("host", ["api.example.com", "API.Example.com:8443", "example.org", "a.b.example.org:80"])
def test_host_that_is_trusted_is_served(restricted, user, host):
    response = restricted.test_client().get("/api/me/tasks", headers=bearer(user) | {"Host": host})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("example.com", id="above"),
        pytest.param("v1.api.example.com", id="below"),
        pytest.param("api.example.com.evil.test", id="longer"),
        pytest.param("evilexample.org", id="no-dot"),
        pytest.param("api.example.com@evil.test", id="user"),
        pytest.param("127.0.0.1", id="address"),
        pytest.param("[::1]", id="ipv6"),
        pytest.param("api.example.com:0", id="port-zero"),
        pytest.param("", id="empty"),
    ],
)
def test_host_that_is_not_trusted_is_400(restricted, host):
    with capture_logs() as logs:
        response = restricted.test_client().get("/", headers={"Host": host})

    assert_problem(response, 400, "This server does not answer for that host.")
    assert_hardened(response)
    assert [entry["reason"] for entry in logs] == ["the Host header names none of TRUSTED_HOSTS"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/docs", id="page"),
        pytest.param("GET", "/api/me/tasks", id="call-without-a-token"),
        pytest.param("OPTIONS", "/api/me/tasks", id="options"),
        pytest.param("PUT", "/health", id="no-method"),
        pytest.param("GET", "/nowhere", id="no-path"),
    ],
)
def test_any_other_host_is_400_before_any_other_check(restricted, method, path):
    assert_problem(restricted.test_client().open(path, method=method, headers={"Host": "evil.test"}), 400)


def test_forwarded_host_is_ignored(database_url):
    app = create_app(config_for(database_url, TRUSTED_HOSTS="api.example.com", TRUSTED_PROXIES="1"))

    response = app.test_client().get("/", headers={"Host": "evil.test", "X-Forwarded-Host": "api.example.com"})

    assert_problem(response, 400)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probe_by_address_is_served_with_any_trusted_hosts(restricted, method, path):
    assert restricted.test_client().open(path, method=method, headers={"Host": "10.1.2.3:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "target", "status"),
    [
        pytest.param("api.example.com", "http://api.example.com/", 200, id="same"),
        pytest.param("api.example.com", "HTTP://API.example.com:80/", 200, id="case-and-port"),
        pytest.param("api.example.com", "https://a.example.org/", 200, id="another-trusted-one"),
        pytest.param("api.example.com", "//evil.test/", 200, id="path"),
        pytest.param("api.example.com", "*", 200, id="asterisk"),
        pytest.param("api.example.com", "http://evil.test/", 400, id="not-trusted"),
        pytest.param("evil.test", "http://api.example.com/", 400, id="host-not-trusted"),
        pytest.param("api.example.com", "http://api.example.com@evil.test/", 400, id="user"),
        pytest.param("api.example.com", "http:///", 400, id="no-host"),
        pytest.param("api.example.com", "http:evil.test", 400, id="no-slashes"),
    ],
)
def test_host_of_a_url_as_target_must_be_trusted_too(restricted, host, target, status):
    """RFC 9112, section 3.2.2."""
    with capture_logs() as logs:
        response = restricted.test_client().get("/", headers={"Host": host}, environ_overrides={"RAW_URI": target})

    assert response.status_code == status
    if target == "http://evil.test/":
        assert [entry["reason"] for entry in logs] == ["the request target names none of TRUSTED_HOSTS"]


def test_host_of_a_url_as_target_is_not_checked_for_probes(restricted):
    options = {"headers": {"Host": "10.1.2.3"}, "environ_overrides": {"RAW_URI": "http://10.1.2.3/health"}}

    assert restricted.test_client().get("/health", **options).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "a.b:80",
        "a:",
        "",
        "todo_api:8000",
        "[::1]:8000",
        "127.0.0.1",
        "xn--bcher-kva.example",
        "b%C3%BCcher",
        "a,b;c='d'",
    ],
)
def test_host_that_is_well_formed_is_served(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        " ",
        "a/b",
        "a@b",
        "a:b",
        "a:80:80",
        "::1",
        "[::1",
        "[::1]a",
        "a?b",
        "a#b",
        "a%zz",
        'a"',
        "a\\b",
        "bücher",
        "\x7f",
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/nowhere"])
def test_host_that_is_malformed_is_400(client, path, host):
    """RFC 9112, section 3.2."""
    response = client.get(path, headers={"Host": host})

    assert_problem(response, 400, "The request must name its host in one valid Host header.")
    assert_hardened(response)


@pytest.mark.parametrize(("version", "status"), [("HTTP/1.1", 400), ("HTTP/1.0", 200), ("HTTP/2", 200)])
def test_host_is_required_in_http_1_1(app, version, status):
    def without_host(environ, start_response):
        del environ["HTTP_HOST"]
        return app.wsgi_app(environ | {"SERVER_PROTOCOL": version}, start_response)

    assert Client(without_host, app.response_class).get("/").status_code == status


@pytest.mark.parametrize("target", ["http://a b/", "http://user@a/", "http:///", "foo?x=://a", "a:80"])
def test_target_that_is_malformed_is_400(client, target):
    assert_problem(client.get("/", environ_overrides={"RAW_URI": target}), 400)


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip,chunked", "identity, chunked", "chunked, chunked", "br", ""])
def test_transfer_coding_other_than_chunked_is_501(client, user, coding):
    """RFC 9112, section 6.1."""
    response = client.post("/api/me/tasks", headers=bearer(user) | {"Transfer-Encoding": coding}, json={"title": "x"})

    assert_problem(response, 501, "The request body must have no transfer coding but chunked.")
    assert_hardened(response)


def test_host_is_not_checked_by_default(client):
    assert client.get("/", headers={"Host": "evil.test"}).status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        pytest.param("0", "1.1.1.1, 2.2.2.2", "127.0.0.1", id="no-proxy"),
        pytest.param("1", "1.1.1.1, 2.2.2.2", "2.2.2.2", id="last"),
        pytest.param("2", "1.1.1.1, 2.2.2.2, 3.3.3.3", "2.2.2.2", id="last-but-one"),
        pytest.param("2", "1.1.1.1", "127.0.0.1", id="fewer-than-there-should-be"),
        pytest.param("1", "", "127.0.0.1", id="none"),
    ],
)
def test_client_address_is_the_one_that_the_outermost_trusted_proxy_appended(database_url, proxies, forwarded, address):
    app = create_app(config_for(database_url, TRUSTED_PROXIES=proxies))
    app.add_url_rule("/address", "address", lambda: str(request.remote_addr))

    assert app.test_client().get("/address", headers={"X-Forwarded-For": forwarded}).text == address
