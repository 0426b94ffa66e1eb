"""`todo doctor --mcp`: what assistants need, and what to do where it is missing."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from doctor.examination import Report
from fakes.issuers import OwnIssuer
from wire.server import free_port

AUTH = "/api/auth"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
ISSUER_METADATA = f"/.well-known/oauth-authorization-server{AUTH}"


class Site:
    """A server of documents, by their paths; an absent one is a 404.

    Attributes:
        url: Its origin.
        documents: The bodies.

    """

    def __init__(self) -> None:
        documents = self.documents = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = documents.get(self.path)
                data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api() -> Iterator[Site]:
    """Return the service as clients reach it."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def auth(api: Site) -> Iterator[Site]:
    """Return an issuer for that service, with nothing wrong; the service has the right metadata too."""
    site = Site()
    api.documents[f"{RESOURCE_METADATA}/mcp"] = {
        "resource": f"{api.url}/mcp",
        "authorization_servers": [site.url + AUTH],
        "scopes_supported": ["tasks:read", "tasks:write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "todo",
    }
    site.documents[ISSUER_METADATA] = {
        "issuer": site.url + AUTH,
        "jwks_uri": f"{site.url}{AUTH}/jwks",
        "registration_endpoint": f"{site.url}{AUTH}/oauth2/register",
        "scopes_supported": ["openid", "tasks:read", "tasks:write"],
    }
    site.documents[RESOURCE_METADATA] = {"resource": f"{api.url}/mcp"}
    yield site
    site.close()


@pytest.fixture
def examine(make_app, api, auth):
    """Return a function that examines the service with these settings."""

    def examine(**changes):
        urls = {"PUBLIC_URL": api.url, "BETTER_AUTH_URL": auth.url, "BETTER_AUTH_SECRET": ""}
        return Report.of_app(make_app(**urls | changes), "--mcp")

    return examine


def test_doctor_of_an_installation_for_assistants_finds_nothing(examine, api, auth):
    report = examine()
    assert (report.faults, report.warnings, report.last) == ({}, {}, "All is well.")
    assert {line.subject: line.text for line in report.lines} == {
        "tools": f"{api.url}/mcp",
        "metadata": f"{api.url}{RESOURCE_METADATA}/mcp",
        "issuer": f"{auth.url}{ISSUER_METADATA}",
        "iss": f"{auth.url}{AUTH}",
        "keys": f"{auth.url}{AUTH}/jwks",
        "registration": "clients register themselves",
        "scopes": "tasks:read and tasks:write",
        "audience": f"{api.url}/mcp",
    }


def test_service_without_an_address_serves_no_assistants_in_production(make_app):
    urls = {"BETTER_AUTH_URL": "http://127.0.0.1:9", "BETTER_AUTH_SECRET": ""}
    report = Report.of_app(make_app(ENVIRONMENT="production", **urls), "--mcp")
    assert report.faults == {"tools": "are not served, as PUBLIC_URL is not set"}
    report = Report.of_app(make_app(**urls), "--mcp")
    assert report.warnings == {"tools": "are served at /mcp, for pasted tokens alone, as PUBLIC_URL is not set"}


def test_service_with_a_shared_secret_has_pasted_tokens_alone(make_app):
    report = Report.of_app(make_app(PUBLIC_URL="https://api.example.com"), "--mcp")
    assert report.warnings == {"access tokens": "none, as BETTER_AUTH_URL is not set: tokens are pasted"}


def test_service_that_is_not_there_is_a_failure(examine):
    port = free_port()
    report = examine(PUBLIC_URL=f"http://127.0.0.1:{port}")
    assert report.faults["metadata"].endswith(f"{RESOURCE_METADATA}/mcp: connection refused")


def test_metadata_of_another_service_is_a_failure(examine, api):
    api.documents[f"{RESOURCE_METADATA}/mcp"] = {"resource": "https://other.example.com/mcp"}
    assert "is not that of this service" in examine().faults["metadata"]
    api.documents[f"{RESOURCE_METADATA}/mcp"] = b"<!doctype html>"
    assert "the response is no JSON object" in examine().faults["metadata"]
    api.documents[f"{RESOURCE_METADATA}/mcp"] = []
    assert "the response is no JSON object" in examine().faults["metadata"]


def test_service_with_a_path_has_its_metadata_in_two_places(examine, api, auth):
    url = f"{api.url}/todo"
    document = api.documents[f"{RESOURCE_METADATA}/mcp"] | {"resource": f"{url}/mcp"}
    api.documents[f"/todo{RESOURCE_METADATA}/mcp"] = document
    auth.documents[RESOURCE_METADATA] = {"resource": f"{url}/mcp"}
    report = examine(PUBLIC_URL=url)
    assert report.faults == {"metadata": f"{api.url}{RESOURCE_METADATA}/todo/mcp: status 404, expected 200"}
    assert f"pass on {RESOURCE_METADATA}/todo/mcp and /mcp" in report.of_mark("✗")[0].remedy
    api.documents[f"{RESOURCE_METADATA}/todo/mcp"] = document
    assert examine(PUBLIC_URL=url).faults == {}


@pytest.mark.parametrize(
    "place", [f"/.well-known/openid-configuration{AUTH}", f"{AUTH}/.well-known/openid-configuration"]
)
def test_issuer_may_describe_itself_elsewhere(examine, auth, place):
    auth.documents[place] = auth.documents.pop(ISSUER_METADATA)
    report = examine()
    assert report.faults == {}
    assert report.of("issuer").text == auth.url + place


def test_issuer_that_does_not_describe_itself_is_a_failure(examine, auth):
    del auth.documents[ISSUER_METADATA]
    report = examine()
    assert report.faults == {
        "issuer": f"does not describe itself ({auth.url}{ISSUER_METADATA}: status 404, expected 200)"
    }


def test_issuer_without_registration_is_a_failure(examine, auth):
    del auth.documents[ISSUER_METADATA]["registration_endpoint"]
    report = examine()
    assert report.faults == {"registration": "there is none for clients"}
    assert "cimd()" in report.of("registration").remedy
    auth.documents[ISSUER_METADATA]["client_id_metadata_document_supported"] = True
    assert examine().of("registration").text == "clients have documents of their own (CIMD)"


def test_issuer_of_another_name_is_a_failure(examine, auth):
    auth.documents[ISSUER_METADATA]["issuer"] = auth.url
    assert examine().faults == {"iss": f"is {auth.url}, expected {auth.url}{AUTH}"}


def test_issuer_with_keys_elsewhere_is_a_warning(examine, auth):
    auth.documents[ISSUER_METADATA]["jwks_uri"] = f"{auth.url}/keys"
    assert examine().warnings == {"keys": f"are at {auth.url}/keys, expected {auth.url}{AUTH}/jwks"}


@pytest.mark.parametrize(
    ("scopes", "lacking"),
    [
        (["openid", "tasks:read"], "tasks:write"),
        (["openid"], "tasks:read and tasks:write"),
        (None, "tasks:read and tasks:write"),
    ],
)
def test_issuer_without_the_scopes_is_a_failure(examine, auth, scopes, lacking):
    auth.documents[ISSUER_METADATA]["scopes_supported"] = scopes
    assert examine().faults == {"scopes": f"{lacking} cannot be requested"}


def test_issuer_for_another_audience_is_a_failure(examine, api, auth):
    auth.documents[RESOURCE_METADATA] = {"resource": f"{api.url}/mcp/"}
    report = examine()
    assert report.faults == {"audience": f"access tokens are for {api.url}/mcp/, expected {api.url}/mcp"}
    assert report.of("audience").remedy == (
        f"Set resource of the plugin mcp() of Better Auth to {api.url}/mcp, or correct PUBLIC_URL."
    )
    del auth.documents[RESOURCE_METADATA]
    assert "not checked" in examine().warnings["audience"]


# One token


@pytest.fixture
def issuer() -> Iterator[OwnIssuer]:
    """Return an issuer of access tokens."""
    with OwnIssuer() as issuer:
        yield issuer


@pytest.fixture
def explain(make_app, issuer):
    """Return a function that explains an access token with these changes."""
    urls = {"PUBLIC_URL": "https://api.example.com", "BETTER_AUTH_URL": issuer.url, "BETTER_AUTH_SECRET": ""}
    app, alice = make_app(**urls), issuer.sign_up()

    def explain(**changes):
        token = issuer.access_token(alice, "https://api.example.com/mcp", **changes)
        return Report.of_app(app, "--token", "-", pasted=token)

    return explain


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("tasks:read tasks:write", "tasks:read and tasks:write"),
        ("openid tasks:read", "tasks:read"),
        ("openid", "nothing there"),
    ],
)
def test_access_token_is_good_for_the_tools(explain, scope, allowed):
    report = explain(scope=scope)
    assert (report.faults, report.last) == ({}, f"It is good, for /mcp: it allows {allowed}.")


@pytest.mark.parametrize(
    ("changes", "fault", "remedy"),
    [
        ({"aud": "https://api.example.com"}, "audience", "Set resource of the plugin mcp() of Better Auth"),
        ({"iss": "https://app.example.com"}, "issuer", "BETTER_AUTH_URL must be the baseURL"),
        ({"cnf": {}}, "cnf", "DPoP"),
        ({"client_id": None}, "client", "authorization code flow"),
        ({"scope": 7}, "scope", "It allows nothing that can be read."),
        ({"typ": "jwt"}, "issuer", "JWT_ISSUER"),
    ],
)
def test_access_token_that_is_refused_is_explained(explain, changes, fault, remedy):
    report = explain(**changes)
    assert fault in report.faults
    assert remedy in report.of(fault).remedy
    assert report.last == "It is refused: 401 Invalid token. The first ✗ says why."
