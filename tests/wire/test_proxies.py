"""Which headers gunicorn and the application trust about the origin of a request."""

import uuid

import pytest
from support import assert_problem
from wire.server import wait_until

ACCESS_LOG = "--access-logfile - --access-logformat 'id=%({x-request-id}i)s from=%(h)s.'"
HSTS = "Strict-Transport-Security"


@pytest.fixture(scope="module", params=[0, 1, 2], ids=["no-proxy", "one-proxy", "two-proxies"])
def trusting(request, start_server, database_url):
    """Return a number of trusted proxies, and a server that trusts as many and logs the address of each client.

    All calls come from this machine, whose word gunicorn would take, and the more so with that variable.
    """
    server = start_server(
        DATABASE_URL=database_url,
        TRUSTED_PROXIES=str(request.param),
        GUNICORN_CMD_ARGS=ACCESS_LOG,
        FORWARDED_ALLOW_IPS="*",
    )
    return request.param, server


def address_seen(server, *headers):
    """Send a request with these headers, and return the client address that the server logged."""
    mark = f"id={(call := uuid.uuid4().hex)} from="
    assert server.call("GET", "/health", [("X-Request-ID", call), *headers]).status_code == 200
    wait_until(lambda: mark in server.log.read_text(), "logged")
    return server.log.read_text().partition(mark)[2].partition(".\n")[0]


@pytest.mark.parametrize(
    ("headers", "addresses"),
    [
        pytest.param([], ["127.0.0.1", "127.0.0.1", "127.0.0.1"], id="none"),
        pytest.param(["1.1.1.1"], ["127.0.0.1", "1.1.1.1", "127.0.0.1"], id="one"),
        pytest.param(["6.6.6.6, 2.2.2.2, 1.1.1.1"], ["127.0.0.1", "1.1.1.1", "2.2.2.2"], id="one-made-up"),
        pytest.param(["6.6.6.6", "2.2.2.2, 1.1.1.1"], ["127.0.0.1", "1.1.1.1", "2.2.2.2"], id="in-two-headers"),
    ],
)
def test_client_is_who_the_outermost_trusted_proxy_says(trusting, headers, addresses):
    number, server = trusting

    assert address_seen(server, *[("X-Forwarded-For", value) for value in headers]) == addresses[number]


def test_header_spelt_with_underscores_is_nobodys_word(trusting):
    _, server = trusting

    assert address_seen(server, ("X_Forwarded_For", "6.6.6.6, 6.6.6.6")) == "127.0.0.1"


@pytest.mark.parametrize(
    ("header", "value", "believed"),
    [
        pytest.param("X-Forwarded-Proto", "https", True, id="proxies-that-replace"),
        pytest.param("X-Forwarded-Proto", "http, https", True, id="the-nearest-one-counts"),
        pytest.param("X-Forwarded-Proto", "https, http", False, id="what-came-before-does-not"),
        pytest.param("X-Forwarded-Protocol", "ssl", False, id="other-name"),
        pytest.param("X-Forwarded-Ssl", "on", False, id="another-name"),
    ],
)
def test_scheme_is_what_a_trusted_proxy_says(trusting, header, value, believed):
    number, server = trusting

    answer = server.call("GET", "/health", {header: value})

    assert answer.status_code == 200
    assert (HSTS in answer.headers) == (believed and number > 0)


def test_headers_that_contradict_each_other_are_no_reason_to_refuse(trusting):
    _, server = trusting

    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off", "X-Forwarded-Protocol": "ssl"}
    assert server.call("GET", "/health", headers).status_code == 200


@pytest.mark.parametrize("header", ["SCRIPT_NAME", "PATH_INFO", "X-Forwarded-Prefix"])
def test_nobody_moves_the_application_by_a_header(trusting, header):
    _, server = trusting

    assert_problem(server.call("GET", "/moved/health", {header: "/moved"}), 404)
    page = server.call("GET", "/docs", {header: "/moved"})
    assert page.status_code == 200
    assert b"/moved" not in page.data
