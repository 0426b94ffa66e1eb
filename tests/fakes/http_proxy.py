"""A proxy in front of a server of HTTP that loses, breaks off and doubles requests and responses at random."""

import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class HTTPProxy:
    """A proxy in front of a server of HTTP that loses, breaks off and doubles requests and responses at random.

    Each connection carries one request. A stream, which is a response without a length, is forwarded as it comes.

    Args:
        port: Returns the current port of the server.
        random: Chooses what becomes of each request.

    Attributes:
        odds: How likely something becomes of a request, and one of KINDS is as likely as the other.
        happened: How often each of them was the case.

    """

    KINDS = ("requests lost", "requests doubled", "responses lost", "responses broken off")

    def __init__(self, port: Callable[[], int], random: Random) -> None:
        self.odds = 0.0
        self.happened: Counter[str] = Counter()
        self._upstream = port
        self._random = random
        self._lock = threading.Lock()
        self._streams: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening, and end all streams."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End all streams."""
        for stream in list(self._streams):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _fate(self) -> str:
        """Choose what becomes of a request."""
        with self._lock:
            if self._random.random() >= self.odds:
                return ""
            kind = self._random.choice(self.KINDS)
            self.happened[kind] += 1
            return kind

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = self._receive(client)
            if not request:
                return
            if b"/events" in request.partition(b"\r\n")[0]:
                self._stream(client, request)
                return
            fate = self._fate()
            if fate == "requests lost":
                return
            response = self._ask(request)
            if fate == "requests doubled":
                response = self._ask(request)
            if fate == "responses lost":
                return
            client.sendall(response[: len(response) // 2] if fate == "responses broken off" else response)

    @staticmethod
    def _receive(client: socket.socket) -> bytes:
        """Return a request, which asks for the connection to be closed after its response."""
        received = b""
        while HEAD_END not in received:
            data = client.recv(65536)
            if not data:
                return b""
            received += data
        head, _, body = received.partition(HEAD_END)
        length = LENGTH.search(head)
        while length and len(body) < int(length[1]):
            data = client.recv(65536)
            if not data:
                return b""
            body += data
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        return b"\r\n".join([*lines, b"Connection: close"]) + HEAD_END + body

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self._upstream())) as server:
            server.sendall(request)
            response = b""
            while data := server.recv(65536):
                response += data
            return response

    def _stream(self, client: socket.socket, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self._upstream())) as server:
            self._streams.add(server)
            try:
                # The server learns that the client has gone only by this end of the connection.
                threading.Thread(target=self._watch, args=(client, server), daemon=True).start()
                server.sendall(request)
                while data := server.recv(65536):
                    client.sendall(data)
            finally:
                self._streams.discard(server)

    @staticmethod
    def _watch(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            client.recv(1)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
