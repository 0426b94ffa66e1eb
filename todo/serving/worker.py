"""The gunicorn worker: threads run the application, and a poller waits for the clients.

gunicorn's own threaded worker occupies a thread for each new connection until data arrives, and for each slow client as
long as it is slow. A few of those block all others. Here a thread gets a request when it has been received in full, and
leaves the response in memory:

    accepted ── reading ── queued ── a thread ─┬─ sending ── reading (kept alive), or lingering
                   │          └── refused ─────┤
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

# The longest time from the first byte of a request to its last. It occupies no thread meanwhile.
REQUEST_MAX_S = 60

# A client that receives nothing of its response for this long is disconnected.
SILENCE_MAX_S = 30

# A streamed response waits while more of it than this is unsent. One that is in memory as a whole never waits.
SEND_BUFFER_MAX_BYTES = 256 * 1024

# After the last response, what the client is still sending is discarded for this long, so that the client gets to read
# the response (RFC 9112, section 9.6).
LINGER_S = 2

# When the oldest request in the queue has waited for longer, new ones are refused at once.
QUEUE_MAX_S = 5

# How often deadlines are checked, ordinarily and during shutdown.
SWEEP_S = 1.0
SHUTDOWN_SWEEP_S = 0.1

READ_BYTES = 64 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Client(socket.socket):
    """A client's socket on which a thread never waits: the request is read from memory, the response buffered there.

    Attributes:
        request: The bytes of the request that a thread works on.
        is_too_large: Whether these are only the beginning of a header that is over the limit.
        is_exhausted: Whether the parser has read past the end of these bytes.
        send_buffer: The bytes of the response that are still to be sent.

    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        super().setblocking(False)
        self.request = io.BytesIO()
        self.is_too_large = False
        self.is_exhausted = False
        self.send_buffer = bytearray()

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 (as the socket has it)
        """Do nothing: the socket stays non-blocking where gunicorn would make it block."""

    def settimeout(self, value: float | None, /) -> None:
        """Do nothing, likewise."""

    def recv(self, size: int, _flags: int = 0, /) -> bytes:
        """Return the next bytes of the request in memory."""
        if data := self.request.read(size):
            return data
        if self.is_too_large:
            raise LimitRequestHeaders("limit request headers fields size")
        self.is_exhausted = True
        return b""

    def send(self, data: Any, _flags: int = 0, /) -> int:
        """Skip `100 Continue`, the only thing that gunicorn sends with this: the poller has sent it already."""
        return len(data)

    def sendall(self, data: Any, _flags: int = 0, /) -> None:
        """Send what the kernel accepts now, and buffer the rest."""
        if len(self.send_buffer) > SEND_BUFFER_MAX_BYTES:
            self._wait_until_drained()
        if self.send_buffer:
            self.send_buffer += data
        else:
            view = memoryview(data)
            self.send_buffer += view[self._send_now(view) :]

    def receive(self) -> bytes | None:
        """Return the bytes that have arrived: none when the client has closed, None when there is nothing to read."""
        try:
            return super().recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def flush(self) -> None:
        """Send what the kernel accepts now of the buffer."""
        while self.send_buffer and (sent := self._send_now(self.send_buffer)):
            del self.send_buffer[:sent]

    def _send_now(self, data: Any) -> int:
        try:
            return super().send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _wait_until_drained(self) -> None:
        writable = select.poll()
        writable.register(self, select.POLLOUT)
        while len(self.send_buffer) > SEND_BUFFER_MAX_BYTES:
            if not writable.poll(SILENCE_MAX_S * 1000):
                raise ConnectionResetError(errno.ECONNRESET, "the client receives nothing of a stream")
            self.flush()


class Connection(TConn):  # type: ignore[misc]
    """One client's connection. At any time it belongs either to the poller or to one thread.

    Attributes:
        message: The request that is being read or handled.
        deadline: The time at which the poller stops waiting, in seconds of the monotonic clock.
        at_deadline: The next step at that time.

    """

    def __init__(self, cfg: Any, accepted: socket.socket, address: Any, server: Any) -> None:
        super().__init__(cfg, Client(accepted), address, server)
        # For gunicorn this means that no thread needs to wait for data.
        self.data_ready = True
        self.message = Message()
        self.deadline = math.inf
        self.at_deadline: Callable[[Connection], None]

    def load_request(self) -> None:
        """Make the request readable for gunicorn's parser."""
        self.deadline = math.inf
        self.sock.request = io.BytesIO(self.message.request())
        self.sock.is_too_large = self.message.is_too_large
        self.sock.is_exhausted = False

    def has_agreed_end(self) -> bool:
        """Return whether parser and poller agree about the end of the request; else no other one may follow it."""
        is_consumed = not self.sock.request.read(1)
        return self.message.size is not None and is_consumed and self.sock.is_exhausted == self.message.is_shortened


class ThreadPool:
    """Threads that serve connections in the order of their arrival.

    Args:
        number: The number of threads.
        serve: The function that they call with each connection.
        prepare: The function that each thread calls first.

    """

    def __init__(
        self, number: int, serve: Callable[[Connection], None], prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._queue: SimpleQueue[Connection] = SimpleQueue()
        self._enqueued_at: deque[float] = deque()
        self._serve = serve
        self._prepare = prepare
        for index in range(number):
            Thread(target=self._work, name=f"worker-{index}", daemon=True).start()

    def put(self, connection: Connection) -> None:
        """Add a connection to the end of the queue."""
        self._enqueued_at.append(time.monotonic())
        self._queue.put(connection)

    def delay_s(self) -> float:
        """Return the seconds for which the first connection in the queue has waited; 0 when the queue is empty."""
        try:
            return time.monotonic() - self._enqueued_at[0]
        except IndexError:
            return 0.0

    def shutdown(self, *, wait: bool) -> None:
        """Do nothing: the threads end with the process. gunicorn calls it."""

    def _work(self) -> None:
        self._prepare()
        while True:
            connection = self._queue.get()
            self._enqueued_at.popleft()
            self._serve(connection)


class Worker(ThreadWorker):  # type: ignore[misc]
    """A worker process: the main thread polls, the other threads run the application."""

    @classmethod
    def check_config(cls, cfg: Any, _log: Any) -> None:
        """Refuse settings that this worker does not support.

        Raises:
            RuntimeError: TLS is configured.

        """
        if cfg.is_ssl:
            raise RuntimeError("TLS must end in front of this server: unset certfile and keyfile.")

    def init_process(self) -> None:
        """Start in the new process."""
        self.connections: set[Connection] = set()
        self._swept = 0.0
        super().init_process()

    def get_thread_pool(self) -> ThreadPool:
        """Start the threads, and one more, which refuses requests while the others are overloaded."""
        self._refusing_pool = ThreadPool(1, self._serve, overload.refuse_in_this_thread)
        return ThreadPool(self.cfg.threads, self._serve)

    def run(self) -> None:
        """Poll until the worker is to stop; then serve the open connections until the graceful time-out."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        while self.alive and self.is_parent_alive():
            self.set_accept_enabled(len(self.connections) < self.worker_connections)
            self._poll(SWEEP_S)
        self._stop_listening()
        # On a connection that was kept alive the next request may be under way already.
        idle_deadline = time.monotonic() + LINGER_S
        for connection in list(self.connections):
            if connection.deadline < math.inf and not connection.message.data:
                connection.deadline = min(connection.deadline, idle_deadline)
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.connections and time.monotonic() < end:
            self._poll(SHUTDOWN_SWEEP_S)

    def _stop_listening(self) -> None:
        """Refuse new connections at once, but accept those that the kernel has established already."""
        self.set_accept_enabled(enabled=False)
        for listener in self.sockets:
            while self.accept(listener):
                pass
            listener.close()

    def _poll(self, sweep_s: float) -> None:
        for key, _ in self.poller.select(sweep_s):
            key.data(key.fileobj)
        now = time.monotonic()
        if now - self._swept >= sweep_s:
            self._swept = now
            self.notify()
            for connection in list(self.connections):
                if connection.deadline <= now:
                    self._unregister(connection, connection.at_deadline)

    def accept(self, listener: Any) -> bool:
        """Accept a connection, and return whether there was one."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return False
        connection = Connection(self.cfg, accepted, address, listener.getsockname())
        self.connections.add(connection)
        self._wait_for_request(connection)
        return True

    def _register(
        self,
        connection: Connection,
        event: int,
        then: Callable[[Connection], None],
        timeout_s: float,
        at_deadline: Callable[[Connection], None],
    ) -> None:
        """Hand a connection over to the poller; the caller must not touch it any more."""
        connection.at_deadline = at_deadline
        connection.deadline = time.monotonic() + timeout_s
        self.poller.register(connection.sock, event, lambda _: then(connection))

    def _unregister(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        """Take a connection back from the poller, and continue with the next step."""
        self.poller.unregister(connection.sock)
        then(connection)

    def _wait_for_request(self, connection: Connection) -> None:
        if connection.message.data:
            self._register(connection, selectors.EVENT_READ, self._read, REQUEST_MAX_S, self._enqueue_incomplete)
        else:
            self._register(connection, selectors.EVENT_READ, self._read, self.cfg.keepalive, self._close)

    def _read(self, connection: Connection) -> None:
        message = connection.message
        try:
            if (data := connection.sock.receive()) is None:
                return
            if not message.data:
                connection.deadline = time.monotonic() + REQUEST_MAX_S
                connection.at_deadline = self._enqueue_incomplete
            message.feed(data)
            if message.wants_continue and not message.is_ready:
                message.wants_continue = False
                connection.sock.sendall(CONTINUE)
        except OSError:
            self._unregister(connection, self._close)
            return
        if message.is_ready:
            self._unregister(connection, self._enqueue)
        elif not data:
            self._unregister(connection, self._enqueue_incomplete)

    def _enqueue_incomplete(self, connection: Connection) -> None:
        """Let the application refuse a request that was cut off in its body; close without a complete header."""
        if connection.message.has_head:
            self._enqueue(connection)
        else:
            self._close(connection)

    def _enqueue(self, connection: Connection) -> None:
        connection.load_request()
        pool = self._refusing_pool if self.tpool.delay_s() > QUEUE_MAX_S else self.tpool
        pool.put(connection)

    def _serve(self, connection: Connection) -> None:
        """Handle a request, in a thread."""
        is_kept_alive = self.handle(connection) and connection.has_agreed_end()
        then = self._read_next if is_kept_alive else self._linger
        if connection.sock.send_buffer:
            self._wait_until_sent(connection, then)
        else:
            then(connection)

    def _wait_until_sent(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        def flush(connection: Connection) -> None:
            connection.deadline = time.monotonic() + SILENCE_MAX_S
            with suppress(OSError):
                connection.sock.flush()
                if connection.sock.send_buffer:
                    return
            self._unregister(connection, self._close if connection.sock.send_buffer else then)

        self._register(connection, selectors.EVENT_WRITE, flush, SILENCE_MAX_S, self._close)

    def _read_next(self, connection: Connection) -> None:
        """Read the next request, which may have arrived already."""
        connection.message = Message(connection.message.rest())
        if connection.message.is_ready:
            self._enqueue(connection)
        else:
            self._wait_for_request(connection)

    def _linger(self, connection: Connection) -> None:
        def discard(connection: Connection) -> None:
            with suppress(OSError):
                if connection.sock.receive() != b"":
                    return
            self._unregister(connection, self._close)

        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
        else:
            self._register(connection, selectors.EVENT_READ, discard, LINGER_S, self._close)

    def _close(self, connection: Connection) -> None:
        self.connections.discard(connection)
        connection.close()
