"""What tests share: callers, one assertion for every error, and a proxy that sees each round trip to PostgreSQL."""

import base64
import hmac
import json
import socket
import socketserver
import struct
import threading
import time
import uuid
from collections import Counter
from contextlib import closing, suppress
from typing import Any

import jwt
import psycopg2

from config import Config

SECRET = "test-secret-that-is-long-enough-for-HS256-and-guards-nothing"


def new_user() -> str:
    """Give an id that no other test has."""
    return f"user-{uuid.uuid4().hex}"


def claims(user: str, /, **changes: Any) -> dict[str, Any]:
    """Give the claims of a good token, changed; a member set to None is left out."""
    now = int(time.time())
    made = {"sub": user, "iat": now, "exp": now + 3600} | changes
    return {name: value for name, value in made.items() if value is not None}


def sign(payload: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    """Sign claims as an issuer would; a header set to None is left out."""
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers)


def sign_raw(header: Any, payload: Any) -> str:
    """Sign what no library would agree to sign, with HS256 and the right secret."""

    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def segment(part: Any) -> str:
    """Encode bytes, or anything as JSON, as a part of a token (RFC 7515, section 2)."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sized(size: int) -> bytes:
    """Give a good body of exactly so many bytes; what fills it is a member that nobody knows."""
    body = json.dumps({"title": "x", "filler": ""}).encode()
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')


def bearer(user: str, /, **changes: Any) -> dict[str, str]:
    """Give the headers of a call by this user, as front-ends send them: JSON is always announced."""
    return {"Authorization": f"Bearer {sign(claims(user, **changes))}", "Content-Type": "application/json"}


def assert_problem(response: Any, status: int, detail: str | None = None) -> dict[str, Any]:
    """Assert that a response is an error in the one shape that errors have, and give its body."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = response.get_json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    assert problem["instance"].startswith("/")
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert ("errors" in problem) == (status == 422)
    for error in problem.get("errors", ()):
        assert error["detail"]
        assert error.get("pointer", "#").startswith("#")
    if detail is not None:
        assert problem["detail"] == detail
    if status == 401:
        challenge = response.headers["WWW-Authenticate"]
        assert challenge in ("Bearer", 'Bearer error="invalid_token"')
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0
    return problem


def config_for(url: str | None, **changes: Any) -> Config:
    """Give settings as they would come from an environment with these variables."""
    variables = {
        "DATABASE_URL": url or "",
        "BETTER_AUTH_SECRET": SECRET,
        "CORS_ORIGINS": "http://localhost:3000,https://app.example.com",
    }
    return Config.from_environment(variables | changes)


def new_database(server: Any, name: str) -> str:
    """Make an empty database, and give its URL."""
    with closing(psycopg2.connect(server.get_uri())) as connection:
        connection.autocommit = True
        connection.cursor().execute(f'CREATE DATABASE "{name}"')
    return server.get_uri(database=name)


class PostgresProxy:
    """A way to PostgreSQL that notes each query and fails on demand.

    Args:
        upstream: The path of the server's socket.

    Attributes:
        queries: The SQL of each simple query, in order. Each is one round trip.
        refuse: Hang up on new connections.
        lose_answers: Pass the next query on, wait until it took effect, and hang up without the answer.
        awake: While this is not set, new connections are accepted, and nobody is answered.
        delay_s: How much later than they came answers are passed on.
        answer_bytes: Hang up after so many bytes of the next answer.

    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.queries: list[str] = []
        self.refuse = False
        self.lose_answers = False
        self.awake = threading.Event()
        self.awake.set()
        self.delay_s = 0.0
        self.answer_bytes: int | None = None
        self._open: set[socket.socket] = set()
        self._clients: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """Give the URL of a database behind this proxy."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    def cut(self) -> None:
        """Hang up on everybody, as a server that goes away does."""
        for end in list(self._open):
            self._close(end)

    def notice(self) -> None:
        """Say something on every connection while nobody asks, as a server may (NoticeResponse)."""
        fields = b"SNOTICE\0C00000\0Mgood morning\0\0"
        for client in list(self._clients):
            client.sendall(b"N" + struct.pack("!I", 4 + len(fields)) + fields)

    def close(self) -> None:
        """Stop listening and hang up."""
        # To close it is not enough while a thread waits for the next one: that one would still be let in.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            self._open.add(client)
            self._clients.add(client)
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self.awake.wait()
        server = socket.socket(socket.AF_UNIX)
        self._open.add(server)
        try:
            server.connect(self.upstream)
        except OSError:
            # It is away, so whoever comes is sent away too.
            self._close(client, server)
            return
        threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
        self._to_client(server, client)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        """Pass messages on one by one (PostgreSQL, 'Message Formats'); only the first one has no type byte."""
        try:
            stream = client.makefile("rb")
            length = stream.read(4)
            server.sendall(length + stream.read(struct.unpack("!I", length)[0] - 4))
            while head := stream.read(5):
                size = struct.unpack("!I", head[1:])[0] - 4
                body = stream.read(size)
                if head[:1] == b"Q":
                    self.queries.append(body.rstrip(b"\0").decode())
                    if self.lose_answers:
                        self._close(client)
                server.sendall(head + body)
        except (OSError, struct.error):
            pass
        finally:
            if not self.lose_answers:
                self._close(client, server)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                time.sleep(self.delay_s)
                self.awake.wait()
                wanted, self.answer_bytes = self.answer_bytes, None
                client.sendall(data[:wanted])
                if wanted is not None:
                    break
        except OSError:
            pass
        finally:
            self._close(client, server)

    def _close(self, *ends: socket.socket) -> None:
        for end in ends:
            self._open.discard(end)
            self._clients.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class CountingRedis(socketserver.ThreadingTCPServer):
    """A Redis that can count, and agrees to everything else (RESP 2).

    Attributes:
        counts: The keys that were raised by the one script that is asked for, and how often.
        lifetimes: How many seconds each is to be kept.
        refuses: The commands that it answers with an error.

    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Commands)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}"
        self.counts: Counter[str] = Counter()
        self.lifetimes: dict[str, int] = {}
        self.refuses: set[str] = set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class _Commands(socketserver.StreamRequestHandler):
    server: CountingRedis

    def handle(self) -> None:
        for line in self.rfile:
            words = [self._word() for _ in range(int(line[1:]))]
            match words:
                case [command, *_] if command in self.server.refuses:
                    answer = "-ERR not now"
                case ["EVALSHA", _, "1", key, seconds]:
                    self.server.counts[key] += 1
                    self.server.lifetimes[key] = int(seconds)
                    answer = f"*2\r\n:{self.server.counts[key]}\r\n:{seconds}000"
                case ["PING"]:
                    answer = "+PONG"
                case _:
                    answer = "+OK"
            self.wfile.write(f"{answer}\r\n".encode())

    def _word(self) -> str:
        length = int(self.rfile.readline()[1:])
        return self.rfile.read(length + 2).decode().removesuffix("\r\n")
