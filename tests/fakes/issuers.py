"""Issuers of tokens: the real Better Auth, and a stand-in that issues the same tokens and needs no Node.

Both have the interface `Issuer`, listen on loopback, and lose their users and keys when they are closed.
"""

import base64
import gzip
import http.client
import json
import os
import secrets
import socket
import socketserver
import string
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import unquote, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from support import SECRET

FOLDER = Path(__file__).parents[1] / "issuer"
DEADLINE_S = 30
BIG = 10 * 1024 * 1024

# With HS256, tokens are signed with the secret, and no keys are published.
SHARED = "HS256"
ALGS = ("EdDSA", "ES256", "ES512", "RS256", "PS256", SHARED)

# The kinds of response of the key endpoint. Each that has a key set has the good one, except `empty` and `unusable`.
FAULTS = (
    "ok",
    "503",
    "404",
    "hang",  # There is no response.
    "reset",  # The connection is reset before the end of the body.
    "html",  # 200 with a page.
    "badjson",
    "empty",  # No keys.
    "array",  # Not an object.
    "redirect",  # 302 to the good set.
    "trickle",  # The head at once, the body byte by byte.
    "trickle-headers",  # Everything byte by byte.
    "big",  # 10 MB, blanks first.
    "gzip",  # Compressed, whether or not the client accepts that.
    "unusable",  # The live key for encryption, the live key without kid, a secret, P-384, and RSA with 1024 bits.
)


@dataclass(frozen=True)
class User:
    """A user who has signed up, and the first token issued to them."""

    id: str
    email: str
    token: str


class Issuer(Protocol):
    """The interface of both issuers.

    Attributes:
        url: The origin. It is `iss` and `aud` of every token, whatever path the base URL carries.
        jwks_url: The address of the key endpoint.
        alg: How tokens are signed.
        secret: The secret that signs them where `alg` is HS256.
        hits: The number of requests to the key endpoint.

    """

    url: str
    jwks_url: str
    alg: str
    secret: str

    def sign_up(self, name: str = "alice") -> User:
        """Sign up a new user, with an e-mail address that begins with this name."""

    def token(self, user: User) -> str:
        """Issue a new token to a user."""

    def sign(self, **claims: Any) -> str:
        """Sign exactly these claims with the live key; no library checks them or adds any."""

    @property
    def live_kid(self) -> str:
        """The id of the key that signs now; empty with HS256, which has none."""

    def rotate(self) -> None:
        """Replace the live key. The old one stays published."""

    def retire(self, kid: str) -> None:
        """Remove a key from the published set. If it was the live key, the next signature makes a new one."""

    def fault(self, mode: str) -> None:
        """Choose the kind of response of the key endpoint, one of FAULTS."""

    @property
    def hits(self) -> int: ...

    def reset_hits(self) -> None: ...

    def close(self) -> None:
        """Stop listening and close every connection at once, even while a response is being sent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _address(name: str) -> str:
    return f"{name}.{uuid.uuid4().hex}@example.com"


def _check(mode: str) -> str:
    if mode not in FAULTS:
        raise ValueError(f"No such fault: {mode}.")
    return mode


class BetterAuth(Issuer):
    """Better Auth itself, in a process of its own.

    Args:
        alg: One of ALGS.
        port: The port to listen on; 0 for any free port.
        secret: The secret of Better Auth.
        base_path: A path that the base URL carries.
        trickle_s: The pause between two bytes of a trickle.
        cookie_cache: off, or how the session-data cookie is made: compact, jwe, jwt, or jwt-jwks (a JWT by the keys).

    """

    def __init__(
        self,
        alg: str = "EdDSA",
        *,
        port: int = 0,
        secret: str = SECRET,
        base_path: str = "",
        trickle_s: float = 0.1,
        cookie_cache: str = "off",
    ) -> None:
        self.alg, self.secret = alg, secret
        # The rest of the environment is not passed on, because Better Auth reads settings from it.
        options = {
            "PATH": os.environ["PATH"],
            "ALG": alg,
            "PORT": str(port),
            "SECRET": secret,
            "BASE_PATH": base_path,
            "TRICKLE_MS": str(trickle_s * 1000),
            "COOKIE_CACHE": cookie_cache,
        }
        # The server ends when this pipe is closed, however these tests end.
        self._process = subprocess.Popen(
            ["node", FOLDER / "server.mjs"],
            env=options,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._process.stdout.readline()
        if not ready:
            self.close()
            raise RuntimeError(f"Better Auth did not start. Has `npm ci --ignore-scripts` been run in {FOLDER}?")
        self.url, self.base_url, self.jwks_url = (json.loads(ready)[key] for key in ("origin", "baseUrl", "jwksUrl"))
        self._cookies: dict[str, dict[str, str]] = {}
        self._session_tokens: dict[str, str] = {}

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(DEADLINE_S)
        self._process.stdin.close()
        self._process.stdout.close()

    def sign_up(self, name: str = "alice") -> User:
        account = {"name": name, "email": _address(name), "password": "correct horse battery staple"}
        headers, answer = self._call("POST", f"{self.base_url}/sign-up/email", account)
        cookies = SimpleCookie()
        for cookie in headers.get_all("Set-Cookie"):
            cookies.load(cookie)
        user = User(answer["user"]["id"], answer["user"]["email"], token="")
        self._cookies[user.id] = {cookie.key: cookie.coded_value for cookie in cookies.values()}
        self._session_tokens[user.id] = answer["token"]
        return User(user.id, user.email, self.token(user))

    def token(self, user: User) -> str:
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies[user.id].items())
        return self._call("GET", f"{self.base_url}/token", headers={"Cookie": cookie})[1]["token"]

    def sign(self, **claims: Any) -> str:
        """Sign exactly these claims with the live key.

        Better Auth's own signJWT would add `iss`, `aud` and `exp` where they are missing or null, and refuses claims of
        a wrong type. So the server signs with the key of signJWT, without calling it.
        """
        return self._control("POST", "sign", payload=json.dumps(claims))["token"]

    def sign_jwt(self, **claims: Any) -> str:
        """Sign these claims with Better Auth's own signJWT, which adds others."""
        return self._control("POST", "sign-jwt", claims=claims)["token"]

    @property
    def live_kid(self) -> str:
        return self._control("GET", "live")["kid"]

    def rotate(self) -> None:
        self._control("POST", "rotate")

    def retire(self, kid: str) -> None:
        self._control("POST", "retire", kid=kid)

    def fault(self, mode: str) -> None:
        self._control("POST", "fault", mode=_check(mode))

    @property
    def hits(self) -> int:
        return self._control("GET", "hits")["hits"]

    def reset_hits(self) -> None:
        self._control("POST", "hits")

    def verification_token(self, user: User) -> str:
        """Return the token of the e-mail that asks a user to verify their address."""
        return next(mail["token"] for mail in self._control("GET", "mail") if mail["to"] == user.email)

    def session_cookie(self, user: User) -> str:
        """Return the value of the cookie with a user's session; there is none where `cookie_cache` is off."""
        return unquote(self._cookies[user.id]["better-auth.session_data"])

    def session_token(self, user: User) -> str:
        """Return the opaque token of a user's session."""
        return self._session_tokens[user.id]

    def _control(self, method: str, name: str, **body: Any) -> Any:
        return self._call(method, f"{self.url}/__test/{name}", body)[1]

    def _call(
        self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPMessage, Any]:
        parts = urlsplit(url)
        data = json.dumps(body).encode() if method == "POST" else None
        # Better Auth refuses a POST from another origin.
        sent = {"Origin": self.url, "Content-Type": "application/json", **(headers or {})}
        with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=DEADLINE_S)) as connection:
            connection.request(method, parts.path, data, sent)
            response = connection.getresponse()
            answer = response.read()
        if response.status != HTTPStatus.OK:
            raise RuntimeError(f"{method} {parts.path}: {response.status} {answer.decode()}")
        return response.headers, json.loads(answer)


_GENERATORS: Mapping[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "PS256": lambda: rsa.generate_private_key(65537, 2048),
}


def _new_id() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))


def _public(alg: str, private: Any, kid: str) -> dict[str, str]:
    """Return a public key as Better Auth publishes it."""
    jwk = get_default_algorithms()[alg].to_jwk(private.public_key(), as_dict=True)
    return {"alg": alg} | {name: value for name, value in jwk.items() if name != "key_ops"} | {"kid": kid}


class _Key:
    def __init__(self, alg: str) -> None:
        self.kid = _new_id()
        self.private = _GENERATORS[alg]()
        self.public = _public(alg, self.private, self.kid)


class OwnIssuer(Issuer):
    """An issuer in this process, whose tokens and keys have exactly the shape of Better Auth's.

    Args:
        alg: One of ALGS.
        port: The port to listen on; 0 for any free port.
        secret: The secret that signs where `alg` is HS256.
        base_path: A path that the base URL carries.
        trickle_s: The pause between two bytes of a trickle.

    """

    def __init__(
        self,
        alg: str = "EdDSA",
        *,
        port: int = 0,
        secret: str = SECRET,
        base_path: str = "",
        trickle_s: float = 0.1,
    ) -> None:
        if alg not in ALGS:
            raise ValueError(f"No such algorithm: {alg}.")
        self.alg, self.secret = alg, secret
        self._lock = threading.RLock()
        self._keys: tuple[_Key, ...] = ()
        self._live: _Key | None = None
        self._profiles: dict[str, dict[str, Any]] = {}
        self._hits = 0
        self._mode = "ok"
        self._trickle_s = trickle_s
        # Better Auth ignores a slash at the end of the base URL.
        self._jwks_path = f"{base_path.rstrip('/') or '/api/auth'}/jwks"
        self._server = _Server(port, self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.jwks_url = self.url + self._jwks_path
        self._server.start()

    def close(self) -> None:
        self._server.stop()

    def sign_up(self, name: str = "alice") -> User:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        user = User(_new_id(), _address(name), token="")
        self._profiles[user.id] = {
            "name": name,
            "email": user.email,
            "emailVerified": False,
            "createdAt": now,
            "updatedAt": now,
            "id": user.id,
        }
        return User(user.id, user.email, self.token(user))

    def token(self, user: User) -> str:
        now = int(time.time())
        profile = self._profiles[user.id]
        return self.sign(iat=now, **profile, sub=user.id, exp=now + 15 * 60, iss=self.url, aud=self.url)

    def access_token(self, user: User, resource: str, *, typ: str | None = "at+jwt", **changes: Any) -> str:
        """Issue an access token for a resource, as the OAuth provider of Better Auth does; None leaves a claim out."""
        now = int(time.time())
        issued = {
            "sub": user.id,
            "iss": self.jwks_url.removesuffix("/jwks"),
            "aud": resource,
            "client_id": "assistant",
            "scope": "tasks:read tasks:write",
            "iat": now,
            "exp": now + 3600,
        }
        claims = {name: value for name, value in (issued | changes).items() if value is not None}
        return self._signed(claims, typ)

    def sign(self, **claims: Any) -> str:
        return self._signed(claims, None)

    def _signed(self, claims: Mapping[str, Any], typ: str | None) -> str:
        payload = json.dumps(claims).encode()
        if self.alg == SHARED:
            return jwt.PyJWS().encode(payload, self.secret, SHARED, headers={"typ": typ} if typ else None)
        key = self._live_key()
        return jwt.PyJWS().encode(payload, key.private, self.alg, headers={"typ": typ, "kid": key.kid})

    @property
    def live_kid(self) -> str:
        return "" if self.alg == SHARED else self._live_key().kid

    def rotate(self) -> None:
        if self.alg == SHARED:
            return
        with self._lock:
            self._live = None
            self._live_key()

    def retire(self, kid: str) -> None:
        with self._lock:
            self._keys = tuple(key for key in self._keys if key.kid != kid)
            if self._live is not None and self._live.kid == kid:
                self._live = None

    def fault(self, mode: str) -> None:
        self._mode = _check(mode)

    @property
    def hits(self) -> int:
        return self._hits

    def reset_hits(self) -> None:
        with self._lock:
            self._hits = 0

    def _live_key(self) -> _Key:
        with self._lock:
            if self._live is None:
                self._live = _Key(self.alg)
                self._keys += (self._live,)
            return self._live

    def _good_set(self) -> bytes:
        with self._lock:
            # Better Auth publishes no empty set: it generates a key first.
            if not self._keys and self.alg != SHARED:
                self._live_key()
            return json.dumps({"keys": [key.public for key in self._keys]}).encode()

    def _unusable_set(self) -> bytes:
        """Return keys that no verifier may use, although the first two are the live key."""
        live = {} if self.alg == SHARED else self._live_key().public
        k = base64.urlsafe_b64encode(self.secret.encode()).rstrip(b"=").decode()
        keys = [
            live | {"use": "enc"},
            {name: value for name, value in live.items() if name != "kid"},
            {"alg": "HS256", "kty": "oct", "k": k, "kid": "oct"},
            _public("ES384", _GENERATORS["ES384"](), "p-384"),
            _public("RS256", rsa.generate_private_key(65537, 1024), "rsa-1024"),
        ]
        return json.dumps({"keys": keys}).encode()

    def respond(self, target: str, line: "_Line") -> bool:
        """Respond to a request for this target, and return whether the connection stays open."""
        path = target.partition("?")[0]
        if path == "/good-set":
            return line.send(_response(200, self._good_set()))
        if path != self._jwks_path:
            return line.send(_response(404))
        with self._lock:
            self._hits += 1
        if self._mode != "ok":
            self._respond_with_fault(self._mode, line)
            return False
        if self.alg == SHARED:
            return line.send(_response(404))
        # Better Auth sends neither Content-Length nor cache headers.
        body = self._good_set()
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return line.send(_head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}) + chunks)

    def _respond_with_fault(self, mode: str, line: "_Line") -> None:
        good = self._good_set()
        whole = _response(200, good)
        match mode:
            case "hang":
                line.wait()
            case "reset":
                line.send(whole[:-20])
                line.wait(0.05)
                line.reset()
            case "trickle":
                line.trickle(whole, len(whole) - len(good), self._trickle_s)
            case "trickle-headers":
                line.trickle(whole, 0, self._trickle_s)
            case "redirect":
                line.send(_response(302, headers={"Location": f"{self.url}/good-set"}))
            case "unusable":
                line.send(_response(200, self._unusable_set()))
            case _:
                line.send(_FAULTY_RESPONSES[mode](good))


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _response(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a response."""
    length = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return _head(status, length | dict(headers or {})) + body


# Faulty responses that depend on nothing but the good set.
_FAULTY_RESPONSES: Mapping[str, Callable[[bytes], bytes]] = {
    "503": lambda _: _response(503, b'{"error":"down"}'),
    "404": lambda _: _response(404, b"{}"),
    "html": lambda _: _response(200, b"<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"}),
    "badjson": lambda _: _response(200, b'{"keys":['),
    "empty": lambda _: _response(200, b'{"keys":[]}'),
    "array": lambda _: _response(200, b"[]"),
    "big": lambda good: _response(200, good.rjust(BIG)),
    "gzip": lambda good: _response(200, gzip.compress(good), {"Content-Encoding": "gzip"}),
}


class _Line(socketserver.StreamRequestHandler):
    """One connection of a client."""

    disable_nagle_algorithm = True
    server: "_Server"

    def handle(self) -> None:
        # A client may close the connection at any time.
        with suppress(OSError):
            while (target := self._target()) and self.server.issuer.respond(target, self):
                pass

    def _target(self) -> str | None:
        """Read the head of a request, which never has a body here, and return its target."""
        words = self.rfile.readline().decode("latin-1").split()
        while self.rfile.readline().strip():
            pass
        return words[1] if len(words) > 1 else None

    def send(self, data: bytes) -> bool:
        self.wfile.write(data)
        return True

    def wait(self, seconds: float | None = None) -> bool:
        """Wait, at most until the server stops, and return whether it has stopped."""
        return self.server.ended.wait(seconds)

    def trickle(self, data: bytes, sent: int, pause_s: float) -> None:
        """Send the rest of the data byte by byte."""
        self.send(data[:sent])
        for n in range(sent, len(data)):
            if self.wait(pause_s):
                return
            self.send(data[n : n + 1])

    def reset(self) -> None:
        """Reset the connection, so that the client gets an error instead of the end of the stream.

        For that the socket must be closed without the shutdown that ends every other connection.
        """
        with socket.socket(fileno=self.connection.detach()) as bare:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Server(socketserver.ThreadingTCPServer):
    """Serves each connection in a thread of its own, and closes all of them when it is stopped."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, issuer: OwnIssuer) -> None:
        super().__init__(("127.0.0.1", port), _Line)
        self.issuer = issuer
        self.ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in self._open.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._open.discard(request)
        super().shutdown_request(request)
