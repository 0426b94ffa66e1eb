"""Applications and issuers for the doctor to check."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from flask import Flask
from issuer.issuers import OwnIssuer
from jwt.algorithms import get_default_algorithms
from support import config_for

import config
from todo import create_app
from todo.extensions import db


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the settings of this machine, and return the folder whose .env is read."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    for name in config.variables().values():
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def make_app(database_url: str) -> Iterator[Callable[..., Flask]]:
    """Return a function that builds applications, on the migrated database by default."""
    made: list[Flask] = []

    def make(*, url: str = database_url, **changes: str) -> Flask:
        made.append(create_app(config_for(url, **changes)))
        return made[-1]

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def issuer() -> Iterator[OwnIssuer]:
    """Return an issuer that the test may change."""
    with OwnIssuer() as issuer:
        yield issuer


@pytest.fixture
def issuer_app(make_app: Callable[..., Flask], issuer: OwnIssuer) -> Flask:
    """Return an application that accepts the tokens of that issuer."""
    return make_app(BETTER_AUTH_URL=issuer.url, BETTER_AUTH_SECRET="")


@contextmanager
def odd_issuer(
    *,
    date: str | None = None,
    age: str | None = None,
    kid: str = "the-key",
    others: tuple[Any, ...] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Run an issuer that is correct but for the arguments, and yield its address."""
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    key = get_default_algorithms()["EdDSA"].to_jwk(public, as_dict=True)
    body = json.dumps({"keys": [key | {"kid": kid}, *others]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            for name, value in (("Date", date), ("Age", age)):
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Print nothing about clients that refuse the certificate."""

    with ExitStack() as stack:
        server = stack.enter_context(Server(("127.0.0.1", 0), Handler))
        if tls is not None:
            server.socket = stack.enter_context(tls.wrap_socket(server.socket, server_side=True))
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        stack.callback(serving.join)
        stack.callback(server.shutdown)
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
