"""Security headers on every response, refusal of ambiguous requests, trusted proxies and trusted hosts."""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.sansio.utils import host_is_trusted

from config import Config
from todo.context import current_request
from todo.http.etags import no_content
from todo.http.problems import BadRequest, UnsupportedCoding
from todo.telemetry.requests import PROBES

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Browsers guess no media type from a body, and pass on no URL of this server, which may hold a user's id.
ALWAYS = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))

# A response that a browser navigates to loads nothing, runs nothing and cannot be framed (CSP Level 3). Front-ends that
# fetch it are not affected.
POLICY = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

# No browser and no proxy stores the response (RFC 9111, section 5.2.2.5).
NO_STORE = ("Cache-Control", "no-store")

UNLESS_GIVEN = (POLICY, NO_STORE)

# For a year, and for this host alone, as its subdomains may belong to other servers (RFC 6797, section 6.1).
HSTS = ("Strict-Transport-Security", "max-age=31536000")

# A host with an optional port, or nothing (RFC 9110, section 7.2, and RFC 3986, section 3.2.2).
HOST = re.compile(r"(?:\[[0-9A-Za-z:.]+\]|(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")


class InvalidHost(BadRequest):
    """400: the request names no host, or its host is malformed."""

    detail = "The request must name its host in one valid Host header."


class InvalidTarget(BadRequest):
    """400: the target of the request is neither a path nor a URL."""

    detail = "The target of the request must be a path or a URL."


class UntrustedHost(BadRequest):
    """400: the request is for a host that is not trusted."""

    detail = "This server does not answer for that host."


def harden(response: Response) -> Response:
    """Add the headers that a response does not set itself.

    Pages have policies of their own, and conditional responses may be stored.
    """
    headers = response.headers
    given = {name.lower() for name, _ in headers}
    for name, value in ALWAYS:
        headers.add(name, value)
    for name, value in UNLESS_GIVEN:
        if name.lower() not in given:
            headers.add(name, value)
    return response


def require_tls(response: Response) -> Response:
    """Add HSTS to a response over TLS; browsers ignore it over plain HTTP (RFC 6797, section 8.1)."""
    if request.is_secure:
        response.headers.add(*HSTS)
    return response


def check_syntax() -> Response | None:
    """Check what servers leave to the application: the rules for the host and the transfer coding (RFC 9112).

    Returns:
        The response to `OPTIONS *`, whose target is no path but an asterisk (section 3.2.4).

    Raises:
        InvalidHost: `Host` is malformed, or absent although HTTP/1.1 requires it.
        InvalidTarget: The target of the request is malformed.
        UnsupportedCoding: The body has a transfer coding other than chunks.

    """
    request = current_request()
    environ = request.environ
    host = environ.get("HTTP_HOST")
    if host is None and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        raise InvalidHost(reason="there is no Host header")
    authority = _authority(environ)
    if authority == "":
        raise InvalidTarget
    if not (HOST.fullmatch(host or "") and HOST.fullmatch(authority or "")):
        raise InvalidHost(reason="the host is malformed")
    if environ.get("HTTP_TRANSFER_ENCODING", "chunked").lower() != "chunked":
        raise UnsupportedCoding
    if environ.get("PATH_INFO") != "*":
        return None
    if request.method != "OPTIONS":
        raise InvalidTarget
    return _options()


def _options() -> Response:
    """Return what the server as a whole can do (RFC 9110, section 9.3.7)."""
    response = no_content()
    methods = set().union(*(rule.methods or () for rule in current_app.url_map.iter_rules()))
    response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def _authority(environ: "WSGIEnvironment") -> str | None:
    """Return the host of a request target that is a URL, which counts instead of `Host` (RFC 9112, section 3.2.2)."""
    # Flask's own server has put it in the place of `Host`. Granian leaves it out, so that nothing depends on it.
    target = environ.get("RAW_URI", "/")
    return None if target.startswith(("/", "*")) else urlsplit(target).netloc


def trust_proxies(app: Flask, number: int) -> None:
    """Take the client's address and scheme from the headers of the proxies in front.

    Each proxy appends the address that it was called from to `X-Forwarded-For`, so the last addresses are theirs, and
    anything that a client made up is further left. `X-Forwarded-Proto` is one word, which each proxy replaces or
    leaves. The host is always that of the `Host` header: few proxies write `X-Forwarded-Host`, and through all other
    proxies a client can set it to any value.

    Args:
        app: The application.
        number: How many proxies are in front.

    """
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=number, x_proto=1)  # type: ignore[method-assign]


def trust_hosts(app: Flask, hosts: Collection[str]) -> None:
    """Refuse requests for other hosts with 400, before any other check.

    A request whose target is a URL must name a trusted host there too: it counts instead of `Host`, which a proxy in
    front may still have looked at. Probes are exempt: orchestrators and load balancers send them to an address, and the
    responses hold no secret.

    Args:
        app: The application.
        hosts: The names of hosts; one with a leading dot also stands for its subdomains.

    """

    def check() -> None:
        if request.endpoint in PROBES:
            return
        if not host_is_trusted(request.headers.get("Host", "").lower(), hosts):
            raise UntrustedHost(reason="the Host header names none of TRUSTED_HOSTS")
        if (authority := _authority(request.environ)) is not None and not host_is_trusted(authority.lower(), hosts):
            raise UntrustedHost(reason="the request target names none of TRUSTED_HOSTS")

    app.before_request(check)


def init_app(app: Flask, config: Config) -> None:
    """Register the security headers of every response, errors included, and the trust that the settings declare."""
    app.after_request(harden)
    if config.production:
        app.after_request(require_tls)
    if config.trusted_proxies:
        trust_proxies(app, config.trusted_proxies)
    if config.trusted_hosts:
        trust_hosts(app, config.trusted_hosts)
    app.before_request(check_syntax)
