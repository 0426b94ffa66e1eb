"""What every answer says to browsers and caches, which proxies are believed, and which hosts this is the server of."""

from collections.abc import Collection

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.sansio.utils import host_is_trusted

from config import Config
from todo.http.problems import BadRequest
from todo.telemetry.requests import PROBES

# Nothing is what its bytes look like, and no address of ours, which may have a user's id in it, is told to others.
ALWAYS = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))

# An answer that a browser is led to shows nothing, runs nothing and is framed by nobody (CSP Level 3). Front-ends that
# fetch it notice nothing of that.
POLICY = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

# No browser and no proxy keeps it (RFC 9111, section 5.2.2.5).
NOT_KEPT = ("Cache-Control", "no-store")

# For a year, and for this host alone: what else its domain serves is not ours to say (RFC 6797, section 6.1).
TLS_ALONE = ("Strict-Transport-Security", "max-age=31536000")


class UntrustedHost(BadRequest):
    """400: the request is for a host that this is not the server of."""

    detail = "This server does not answer for that host."


def harden(response: Response) -> Response:
    """Add what an answer does not say itself: pages have policies of their own, conditional answers may be kept."""
    headers = response.headers
    headers.extend(ALWAYS)
    for name, value in (POLICY, NOT_KEPT):
        if name not in headers:
            headers.add(name, value)
    return response


def promise_tls(response: Response) -> Response:
    """Tell a browser that came by TLS to come by nothing else; over plain HTTP it would not believe that."""
    if request.is_secure:
        response.headers.add(*TLS_ALONE)
    return response


def trust_proxies(app: Flask, number: int) -> None:
    """Take the client's address and scheme from the proxies in front.

    Each proxy appends the address that it was called from, so the last ones are theirs, and what a client made up is
    further left. The scheme is one word, which each of them replaces or leaves. The host stays what the `Host` header
    says: few proxies write `X-Forwarded-Host`, and from the others it is what the client likes.
    """
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=number, x_proto=1)  # type: ignore[method-assign]


def trust_hosts(app: Flask, hosts: Collection[str]) -> None:
    """Refuse what is meant for another host, before anything else is done for it.

    Probes are answered: orchestrators and load balancers ask by address, and what they learn is no secret.
    """

    def check() -> None:
        if request.endpoint not in PROBES and not host_is_trusted(request.headers.get("Host", "").lower(), hosts):
            raise UntrustedHost(reason="the Host header names none of TRUSTED_HOSTS")

    app.before_request(check)


def init_app(app: Flask, config: Config) -> None:
    """Harden every answer, errors too, and believe what the settings say."""
    app.after_request(harden)
    if config.production:
        app.after_request(promise_tls)
    if config.trusted_proxies:
        trust_proxies(app, config.trusted_proxies)
    if config.trusted_hosts:
        trust_hosts(app, config.trusted_hosts)
