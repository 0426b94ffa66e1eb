"""An issuer whose key set is valid except for one oddity."""

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import get_default_algorithms


@contextmanager
def odd_issuer(
    *,
    date: str | None = None,
    age: str | None = None,
    kid: str = "the-key",
    others: tuple[Any, ...] = (),
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Run an issuer that is valid except for these oddities, and return its address."""
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
            """Ignore clients that refuse the certificate."""

    with ExitStack() as stack:
        server = stack.enter_context(Server(("127.0.0.1", 0), Handler))
        if tls is not None:
            server.socket = stack.enter_context(tls.wrap_socket(server.socket, server_side=True))
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        stack.callback(serving.join)
        stack.callback(server.shutdown)
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
