"""A proxy in front of PostgreSQL that records each query and fails on demand."""

import socket
import struct
import threading
import time
from contextlib import suppress


class PostgresProxy:
    """A proxy in front of PostgreSQL that records each query and fails on demand.

    Args:
        upstream: The path of PostgreSQL's socket.

    Attributes:
        queries: The SQL of each simple query, in order. Each is one round trip.
        refuse: Close new connections at once.
        lose_answers: Forward the next query, and close the connection before its response.
        awake: While this event is not set, new connections are accepted, and no response is forwarded.
        delay_s: How long each response is held back.
        answer_bytes: Close the connection after this many bytes of the next response.

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
        """Return the URL of a database behind this proxy."""
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    def cut(self) -> None:
        """Close all connections, as a server that goes away does."""
        for end in list(self._open):
            self._close(end)

    def notice(self) -> None:
        """Send a NoticeResponse on every idle connection, as a server may at any time."""
        fields = b"SNOTICE\0C00000\0Mgood morning\0\0"
        for client in list(self._clients):
            client.sendall(b"N" + struct.pack("!I", 4 + len(fields)) + fields)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        # Closing alone would still accept the connection that the other thread waits for.
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
            # PostgreSQL is away, so this client is sent away too.
            self._close(client, server)
            return
        threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
        self._to_client(server, client)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        """Forward messages one by one (PostgreSQL, 'Message Formats'); only the first one has no type byte."""
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
