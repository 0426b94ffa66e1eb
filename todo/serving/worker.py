"""The gunicorn worker: threads run the application, and a poller waits for the clients.

gunicorn's own threaded worker lends a thread to each new connection until something comes, and to each slow client for
as long as it is slow. A few of those hold up everybody. Here a thread gets a request when all of it has come, and
leaves the answer in memory:

    accepted ── reading ── queued ── a thread ─┬─ sending ── reading (kept alive), or lingering
                   │          └── turned away ─┤
                   │                           ├─ reading (kept alive)
                   └── closed                  └─ lingering ── closed
"""

import errno
import io
import math
import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import TConn, ThreadWorker

from todo.serving import overload
from todo.serving.framing import Message

# From its first byte to its last, a request may take this long. It costs nobody anything meanwhile.
REQUEST_MAX_S = 60

# A client that takes nothing of its answer for this long gets no more of it.
SILENCE_MAX_S = 30

# A stream waits when so much of it has not been taken. Answers that are in memory as a whole never wait.
UNSENT_MAX_BYTES = 256 * 1024

# After the last answer, what a client is still sending is thrown away for this long, so that it comes to read
# (RFC 9112, section 9.6).
LINGER_S = 2

# When the oldest request in the queue has waited for longer, new ones are turned away at once.
QUEUE_MAX_S = 5

# How often deadlines are looked at, in ordinary times and at the end.
SWEEP_S = 1.0
SWEEP_AT_THE_END_S = 0.1

PIECE_BYTES = 64 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Client(socket.socket):
    """A client's socket, on which the threads' work never waits: the request is in memory, and the answer goes there.

    Attributes:
        request: The bytes of the request that a thread works on.
        is_too_large: Whether these are only the beginning of more header fields than are read.
        is_starved: Whether more was asked for than there is.
        unsent: What the client has not taken yet.

    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        super().setblocking(False)
        self.request = io.BytesIO()
        self.is_too_large = False
        self.is_starved = False
        self.unsent = bytearray()

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 (as the socket has it)
        """Stay as it is: what gunicorn lets wait elsewhere does not wait here."""

    def settimeout(self, value: float | None, /) -> None:
        """Stay as it is, likewise."""

    def recv(self, size: int, _flags: int = 0, /) -> bytes:
        """Give a piece of the request."""
        if piece := self.request.read(size):
            return piece
        if self.is_too_large:
            raise LimitRequestHeaders("limit request headers fields size")
        self.is_starved = True
        return b""

    def send(self, data: Any, _flags: int = 0, /) -> int:
        """Skip `100 Continue`, the only thing that gunicorn sends like this: who waits for it has been told."""
        return len(data)

    def sendall(self, data: Any, _flags: int = 0, /) -> None:
        """Send what the client takes now, and keep the rest."""
        if len(self.unsent) > UNSENT_MAX_BYTES:
            self._wait_until_it_is_less()
        if self.unsent:
            self.unsent += data
        else:
            view = memoryview(data)
            self.unsent += view[self._send_now(view) :]

    def receive(self) -> bytes | None:
        """Give what has come; nothing when the client has hung up, None when there was nothing after all."""
        try:
            return super().recv(PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def flush(self) -> None:
        """Send what the client takes now of what it has not taken before."""
        while self.unsent and (sent := self._send_now(self.unsent)):
            del self.unsent[:sent]

    def _send_now(self, data: Any) -> int:
        try:
            return super().send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _wait_until_it_is_less(self) -> None:
        writable = select.poll()
        writable.register(self, select.POLLOUT)
        while len(self.unsent) > UNSENT_MAX_BYTES:
            if not writable.poll(SILENCE_MAX_S * 1000):
                raise ConnectionResetError(errno.ECONNRESET, "the client takes nothing of a stream")
            self.flush()


class Connection(TConn):  # type: ignore[misc]
    """One client's connection. It belongs to the poller or to one thread, at each moment.

    Attributes:
        message: The request that is being read or answered.
        deadline: When the poller's patience ends, in seconds of the monotonic clock.
        at_deadline: What happens then.

    """

    def __init__(self, cfg: Any, accepted: socket.socket, address: Any, server: Any) -> None:
        super().__init__(cfg, Client(accepted), address, server)
        # gunicorn's way to say that no thread needs to wait for it.
        self.data_ready = True
        self.message = Message()
        self.deadline = math.inf
        self.at_deadline: Callable[[Connection], None]

    def begin(self) -> None:
        """Hand the request over to the parser."""
        self.deadline = math.inf
        self.sock.request = io.BytesIO(self.message.request())
        self.sock.is_too_large = self.message.is_too_large
        self.sock.is_starved = False

    def ends_as_expected(self) -> bool:
        """Tell whether parser and poller agree about where the request ended; else nothing may follow it."""
        is_used_up = not self.sock.request.read(1)
        return self.message.size is not None and is_used_up and self.sock.is_starved == self.message.is_shortened


class Crew:
    """Threads that serve connections in the order in which they came.

    Args:
        number: How many.
        serve: What they do with each.
        prepare: What each of them does first.

    """

    def __init__(
        self, number: int, serve: Callable[[Connection], None], prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._queue: SimpleQueue[Connection] = SimpleQueue()
        self._since: deque[float] = deque()
        self._serve = serve
        self._prepare = prepare
        for place in range(number):
            Thread(target=self._work, name=f"crew-{place}", daemon=True).start()

    def put(self, connection: Connection) -> None:
        """Let a connection wait for its turn."""
        self._since.append(time.monotonic())
        self._queue.put(connection)

    def delay_s(self) -> float:
        """Give the seconds that the first one in the queue has waited."""
        try:
            return time.monotonic() - self._since[0]
        except IndexError:
            return 0.0

    def shutdown(self, *, wait: bool) -> None:
        """Do nothing: the threads end with the process. gunicorn asks for it."""

    def _work(self) -> None:
        self._prepare()
        while True:
            connection = self._queue.get()
            self._since.popleft()
            self._serve(connection)


class Worker(ThreadWorker):  # type: ignore[misc]
    """A process that serves: the main thread polls, the others work."""

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        """Refuse what this worker does not do."""
        if cfg.is_ssl:
            raise RuntimeError("TLS must end in front of this server: unset certfile and keyfile.")

    def init_process(self) -> None:
        """Begin, in the new process."""
        self.connections: set[Connection] = set()
        self._swept = 0.0
        super().init_process()

    def get_thread_pool(self) -> Crew:
        """Make the threads, and one more, which turns callers away while the others are too busy."""
        self._refusers = Crew(1, self._serve, overload.turn_away_here)
        return Crew(self.cfg.threads, self._serve)

    def run(self) -> None:
        """Poll until the end; then let everybody finish, as far as the grace goes."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        while self.alive and self.is_parent_alive():
            self.set_accept_enabled(len(self.connections) < self.worker_connections)
            self._turn(SWEEP_S)
        self._stop_listening()
        # A request may be on its way already on a connection that was kept alive.
        last_call = time.monotonic() + LINGER_S
        for connection in list(self.connections):
            if connection.deadline < math.inf and not connection.message.data:
                connection.deadline = min(connection.deadline, last_call)
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.connections and time.monotonic() < end:
            self._turn(SWEEP_AT_THE_END_S)

    def _stop_listening(self) -> None:
        """Let new clients go elsewhere at once, but for those whom the kernel has welcomed already."""
        self.set_accept_enabled(enabled=False)
        for listener in self.sockets:
            while self.accept(listener):
                pass
            listener.close()

    def _turn(self, sweep_s: float) -> None:
        for key, _ in self.poller.select(sweep_s):
            key.data(key.fileobj)
        now = time.monotonic()
        if now - self._swept >= sweep_s:
            self._swept = now
            self.notify()
            for connection in list(self.connections):
                if connection.deadline <= now:
                    self._let_go(connection, connection.at_deadline)

    def accept(self, listener: Any) -> bool:
        """Welcome a client, if there is one."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return False
        connection = Connection(self.cfg, accepted, address, listener.getsockname())
        self.connections.add(connection)
        self._await_request(connection)
        return True

    def _wait(
        self,
        connection: Connection,
        event: int,
        then: Callable[[Connection], None],
        patience_s: float,
        at_deadline: Callable[[Connection], None],
    ) -> None:
        """Give a connection to the poller; whoever calls this must not touch it any more."""
        connection.at_deadline = at_deadline
        connection.deadline = time.monotonic() + patience_s
        self.poller.register(connection.sock, event, lambda _: then(connection))

    def _let_go(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        """Take a connection from the poller, and do with it what comes next."""
        self.poller.unregister(connection.sock)
        then(connection)

    def _await_request(self, connection: Connection) -> None:
        if connection.message.data:
            self._wait(connection, selectors.EVENT_READ, self._read, REQUEST_MAX_S, self._enqueue_what_came)
        else:
            self._wait(connection, selectors.EVENT_READ, self._read, self.cfg.keepalive, self._close)

    def _read(self, connection: Connection) -> None:
        message = connection.message
        try:
            if (data := connection.sock.receive()) is None:
                return
            if not message.data:
                connection.deadline = time.monotonic() + REQUEST_MAX_S
                connection.at_deadline = self._enqueue_what_came
            message.feed(data)
            if message.wants_continue and not message.is_ready:
                message.wants_continue = False
                connection.sock.sendall(CONTINUE)
        except OSError:
            self._let_go(connection, self._close)
            return
        if message.is_ready:
            self._let_go(connection, self._enqueue)
        elif not data:
            self._let_go(connection, self._enqueue_what_came)

    def _enqueue_what_came(self, connection: Connection) -> None:
        """Let the application say what it thinks of a request that broke off in its body."""
        if connection.message.has_head:
            self._enqueue(connection)
        else:
            self._close(connection)

    def _enqueue(self, connection: Connection) -> None:
        connection.begin()
        crew = self._refusers if self.tpool.delay_s() > QUEUE_MAX_S else self.tpool
        crew.put(connection)

    def _serve(self, connection: Connection) -> None:
        """Answer a request, in a thread."""
        is_kept = self.handle(connection) and connection.ends_as_expected()
        then = self._next if is_kept else self._linger
        if connection.sock.unsent:
            self._await_taking(connection, then)
        else:
            then(connection)

    def _await_taking(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        def flush(connection: Connection) -> None:
            connection.deadline = time.monotonic() + SILENCE_MAX_S
            with suppress(OSError):
                connection.sock.flush()
                if connection.sock.unsent:
                    return
            self._let_go(connection, self._close if connection.sock.unsent else then)

        self._wait(connection, selectors.EVENT_WRITE, flush, SILENCE_MAX_S, self._close)

    def _next(self, connection: Connection) -> None:
        """Read the next request, which may be here already."""
        connection.message = Message(connection.message.rest())
        if connection.message.is_ready:
            self._enqueue(connection)
        else:
            self._await_request(connection)

    def _linger(self, connection: Connection) -> None:
        def discard(connection: Connection) -> None:
            with suppress(OSError):
                if connection.sock.receive() != b"":
                    return
            self._let_go(connection, self._close)

        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
        else:
            self._wait(connection, selectors.EVENT_READ, discard, LINGER_S, self._close)

    def _close(self, connection: Connection) -> None:
        self.connections.discard(connection)
        connection.close()
