"""The gunicorn worker: threads run the application, and a poller waits for the clients.

gunicorn's own threaded worker occupies a thread for each new connection until data arrives, and for each slow client as
long as it is slow. A few of those block all others. Here a thread gets a request when it has been received in full, and
leaves the response to the poller:

    accepted ── reading ── queued ── a thread ─┬─ sending ── reading (kept alive), or lingering
                   │          └── refused ─────┤
                   │                           ├─ reading (kept alive)
                   └── closed                  ├─ lingering ── closed
                                               └─ parked ── closed, or like any other when its stream ends

A parked connection has a stream of events: the poller writes them, and no thread works for it.

Whatever happens to one connection, the poller and the threads live on: an exception of a step is logged, and closes the
connection that the step was for.
"""

import errno
import io
import math
import random
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from todo import events
from todo.auth.verifier import Verifier
from todo.events import messages
from todo.serving import overload
from todo.serving.client import Client, Unsent
from todo.serving.framing import LAST_CHUNK, Message
from todo.serving.threads import ThreadPool
from todo.telemetry.logs import log

# The longest time from the first byte of a request to its last. It occupies no thread meanwhile.
REQUEST_MAX_S = 60

# What the incomplete requests of a process may take. Beyond it the oldest are closed. It is checked whenever so much
# has arrived since the last time, and at each sweep.
REQUESTS_MAX_BYTES = 64 * 1024 * 1024
UNCHECKED_MAX_BYTES = 8 * 1024 * 1024

# A client must receive at least this many bytes a second of its response, on average over each such period, and all of
# it within the last of these times.
SEND_MIN_BYTES_S = 4 * 1024
SILENCE_MAX_S = 30
SEND_MAX_S = 3600

# The kernel's buffer for what a client has not received, for each connection; Linux doubles it. By itself it would grow
# to some megabytes for each client that reads nothing.
KERNEL_SEND_BUFFER_BYTES = 64 * 1024

# Each connection beyond so many gets a smaller one, in inverse proportion to their number, so that those of all 8192
# connections take a quarter of what they would.
FULL_SEND_BUFFERS = 512

# After the last response, what the client is still sending is discarded for this long, so that the client gets to read
# the response (RFC 9112, section 9.6).
LINGER_S = 2

# From each client at most so much is discarded at once, and after that nothing for this long: a client that sends as
# fast as it can must not occupy the poller.
DISCARD_BYTES = 256 * 1024
DISCARD_PAUSE_S = 0.02

# When the oldest request in the queue has waited for longer, new ones are refused at once. So is every request that has
# waited for longer, for whatever reason.
QUEUE_MAX_S = 5

# How often deadlines are checked, ordinarily and during shutdown.
SWEEP_S = 1.0
SHUTDOWN_SWEEP_S = 0.1

# A process without file descriptors or memory for sockets accepts nothing for this long.
ACCEPT_PAUSE_S = 1.0
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

HTTP_1_1 = (1, 1)

# A parked client that was sent nothing else for so long is sent a comment. Proxies end a silence of 55 s and more.
COMMENT_S = 25

# A parked client whose kernel acknowledges nothing for so long is gone, where the system can tell.
ACKNOWLEDGED_MS = 60_000

# When a process stops, the clients that it parked come back within these milliseconds, not all at once.
COME_BACK_MS = (1000, 8000)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BEARER = re.compile(rb"\r\nauthorization:[ \t]*bearer[ \t]+([^\r\n]+)", re.IGNORECASE)

# Who sends a request whose token has not been verified yet.
UNVERIFIED = object()


def _bearer_token(message: Message) -> str:
    """Return the bearer token of a request (RFC 6750, section 2.1); without one, an empty text."""
    bearer = BEARER.search(message.data, 0, message.head_size)
    return bearer[1].decode("latin-1").strip() if bearer else ""


class Connection(TConn):  # type: ignore[misc]
    """One client's connection. At any time it belongs either to the poller or to one thread.

    Attributes:
        message: The request that is being read or handled.
        user: Whose request that is, as far as the threads are shared by users: the id of a verified user, `UNVERIFIED`,
            or None without a token.
        deadline: The time at which the poller stops waiting, in seconds of the monotonic clock.
        at_deadline: The next step at that time.
        is_watched: Whether the poller is told when a request arrives, although a thread may work on the one before.
        received: How many bytes of its response the client received since the rate was last checked.
        sending_since: When the poller began to send the response.
        is_chunked: Whether its response consists of chunks, if its length is not known.
        after_stream: The next step when the stream of events that it has ends.

    """

    def __init__(self, cfg: Any, accepted: socket.socket, address: Any, server: Any, all_unsent: Unsent) -> None:
        super().__init__(cfg, Client(accepted, all_unsent), address, server)
        # For gunicorn this means that no thread needs to wait for data.
        self.data_ready = True
        self.message = Message()
        self.user: Any | None = None
        self.deadline = math.inf
        self.at_deadline: Callable[[Connection], None]
        self.is_watched = False
        self.received = 0
        self.sending_since = math.inf
        self.is_chunked = True
        self.after_stream: Callable[[Connection], None]

    @property
    def is_polled(self) -> bool:
        """Whether it belongs to the poller."""
        return self.deadline < math.inf

    def load_request(self) -> None:
        """Make the request readable for gunicorn's parser."""
        self.deadline = math.inf
        self.sock.request = io.BytesIO(self.message.request())
        self.sock.is_too_large = self.message.is_too_large
        self.sock.is_exhausted = False

    def has_agreed_end(self) -> bool:
        """Return whether parser and poller agree about the end of the request; else no other one may follow it."""
        is_consumed = not self.sock.request.read(1) and not self.parser.unreader.take_buffered()
        return not self.message.is_last and is_consumed and self.sock.is_exhausted == self.message.is_shortened


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
        # gunicorn finds a setting by two calls of functions, and looks for 24 of them with each request. As attributes
        # they are found without any.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        # In the order of their acceptance.
        self.connections: dict[Connection, None] = {}
        # In the order in which their responses began.
        self.sending: dict[Connection, None] = {}
        # What continues when the poller may discard more of their clients' bytes.
        self.paused: dict[Connection, Callable[[Connection], None]] = {}
        self._paused_since = 0.0
        self.all_unsent = Unsent()
        self._unchecked_bytes = 0
        self._swept = 0.0
        self._accept_paused_until = -math.inf
        self._handing_back = threading.Lock()
        super().init_process()

    def get_thread_pool(self) -> ThreadPool:
        """Start the threads, and one more, which refuses requests while the others are overloaded."""
        self._refusing_pool = ThreadPool(1, self._serve, overload.refuse_in_this_thread)
        return ThreadPool(self.cfg.threads, self._serve)

    def run(self) -> None:
        """Poll until the worker is to stop; then serve the open connections until the graceful time-out."""
        self.poller.register(self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks)
        self.hub = events.attend(self.wsgi, self.worker_connections, lambda: self.method_queue.defer(lambda: None))
        if self.hub.siblings.ear is not None:
            self.poller.register(self.hub.siblings.ear, selectors.EVENT_READ, lambda _: self.hub.hear())
        for listener in self.sockets:
            # Accepted sockets inherit it.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_SEND_BUFFER_BYTES)
        while self.alive and self.is_parent_alive():
            has_room = len(self.connections) < self.worker_connections
            self.set_accept_enabled(has_room and self._accept_paused_until < time.monotonic())
            self._poll(SWEEP_S)
        self._stop_listening()
        # On a connection that was kept alive the next request may be under way already.
        idle_deadline = time.monotonic() + LINGER_S
        for connection in list(self.connections):
            if connection.is_polled and not connection.message.data:
                connection.deadline = min(connection.deadline, idle_deadline)
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.connections and time.monotonic() < end:
            # A thread may park a connection at any time.
            self._end_streams()
            self._poll(SHUTDOWN_SWEEP_S)

    def _stop_listening(self) -> None:
        """Refuse new connections at once, but accept those that the kernel has established already."""
        self.set_accept_enabled(enabled=False)
        for listener in self.sockets:
            while self.accept(listener):
                pass
            listener.close()

    def _poll(self, sweep_s: float) -> None:
        pause_s = DISCARD_PAUSE_S if self.paused else sweep_s
        for key, _ in self.poller.select(min(pause_s, self.hub.delay_s())):
            key.data(key.fileobj)
            if self._unchecked_bytes > UNCHECKED_MAX_BYTES:
                # The other sockets are still readable at the next poll, unless they are closed here.
                self._drop_oldest_incomplete()
                break
        self._poke()
        if self.paused:
            self._resume()
        if self.all_unsent.is_too_much:
            self._drop_slowest()
        now = time.monotonic()
        if now - self._swept >= sweep_s:
            self._swept = now
            self.notify()
            self._sweep(now)

    def _drop_slowest(self) -> None:
        """Close the connections that have been sending for longest, until the rest takes no more than it may."""
        for connection in list(self.sending):
            if not self.all_unsent.is_too_much:
                return
            if connection.is_polled:
                self._drop(connection)

    def _sweep(self, now: float) -> None:
        for connection in list(self.connections):
            if connection.deadline <= now:
                self._unregister(connection, connection.at_deadline)
        for connection in self.tpool.overdue(QUEUE_MAX_S):
            self._refusing_pool.put(connection)
        self._drop_oldest_incomplete()

    def _drop_oldest_incomplete(self) -> None:
        """Close the connections that were accepted first, until the incomplete requests take no more than they may."""
        self._unchecked_bytes = 0
        reading = [
            connection
            for connection in list(self.connections)
            if connection.is_polled and connection.at_deadline == self._enqueue_incomplete
        ]
        incomplete = sum(connection.message.held for connection in reading)
        for connection in reading:
            if incomplete <= REQUESTS_MAX_BYTES:
                break
            incomplete -= connection.message.held
            self._drop(connection)

    def accept(self, listener: Any) -> bool:
        """Accept a connection, and return whether there was one."""
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return False
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            if self._accept_paused_until + 2 * ACCEPT_PAUSE_S < time.monotonic():
                log.error("no connection can be accepted", reason=error.strerror, connections=len(self.connections))
            self._accept_paused_until = time.monotonic() + ACCEPT_PAUSE_S
            return False
        if len(self.connections) >= FULL_SEND_BUFFERS:
            size = KERNEL_SEND_BUFFER_BYTES * FULL_SEND_BUFFERS // (len(self.connections) + 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        connection = Connection(self.cfg, accepted, address, listener.getsockname(), self.all_unsent)
        self.connections[connection] = None
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
        with self._handing_back:
            connection.at_deadline = at_deadline
            connection.deadline = time.monotonic() + timeout_s
            if connection.is_watched:
                connection.is_watched = False
                # Registered anew, an event of the old registration would find the new step before that is complete.
                self.poller.modify(connection.sock, event, lambda _: self._step(connection, then))
            else:
                self._watch(connection, event, then)

    def _unwatch(self, connection: Connection) -> None:
        with self._handing_back:
            if connection.is_watched:
                connection.is_watched = False
                self.poller.unregister(connection.sock)

    def _watch(self, connection: Connection, event: int, then: Callable[[Connection], None]) -> None:
        self.poller.register(connection.sock, event, lambda _: self._step(connection, then))

    def _unregister(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        """Take a connection back from the poller, and continue with the next step."""

        def step(connection: Connection) -> None:
            if self.paused.pop(connection, None) is None:
                connection.is_watched = False
                self.poller.unregister(connection.sock)
            then(connection)

        self._step(connection, step)

    def _step(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        """Run a step of a connection; an exception closes that connection, and no other."""
        try:
            step(connection)
        except Exception as error:  # noqa: BLE001 (whatever happens to one connection, the poller lives on)
            log.error("connection failed", exc_info=error)
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Close a connection, whether or not the poller waits for it."""
        self._unwatch(connection)
        with suppress(KeyError, ValueError):
            self.poller.unregister(connection.sock)
        self._close(connection)

    def _wait_for_request(self, connection: Connection) -> None:
        """Hand a connection over to the poller until its next request has arrived.

        Most clients send nothing until they have the response, so a connection stays registered while a thread works on
        its request: that spares two system calls for each request, during each of which another thread takes the
        interpreter. When something does arrive meanwhile, the poller unregisters it.
        """
        timeout_s, at_deadline = (
            (REQUEST_MAX_S, self._enqueue_incomplete) if connection.message.data else (self.cfg.keepalive, self._close)
        )
        with self._handing_back:
            connection.at_deadline = at_deadline
            connection.deadline = time.monotonic() + timeout_s
            if not connection.is_watched:
                connection.is_watched = True
                self._watch(connection, selectors.EVENT_READ, self._read)

    def _read(self, connection: Connection) -> None:
        with self._handing_back:
            if not connection.is_watched:
                # The poller learned of it before a thread took the registration back.
                return
            if not connection.is_polled:
                connection.is_watched = False
                self.poller.unregister(connection.sock)
                return
        message = connection.message
        try:
            if (data := connection.sock.receive()) is None:
                return
            if not message.data:
                connection.deadline = time.monotonic() + REQUEST_MAX_S
                connection.at_deadline = self._enqueue_incomplete
            message.feed(data)
            self._unchecked_bytes += len(data)
            if message.wants_continue and not message.is_ready:
                message.wants_continue = False
                connection.sock.sendall(CONTINUE)
                connection.sock.release()
        except OSError:
            self._unregister(connection, self._close)
            return
        if message.is_ready:
            self._enqueue(connection)
        elif not data:
            self._unregister(connection, self._enqueue_incomplete)

    def _enqueue_incomplete(self, connection: Connection) -> None:
        """Let the application refuse a request that was cut off in its body; close without a complete header."""
        if connection.message.has_head:
            self._enqueue(connection)
        else:
            self._close(connection)

    def _enqueue(self, connection: Connection) -> None:
        """Queue a request for its user.

        A token that was verified before names the user. All others share one place, because a client could send a new
        one with each request, and leave it as soon as a thread has verified them. The application refuses the rest in
        that place, or waits for the issuer's keys in it. Requests without a token are served at once, as they take no
        time.
        """
        connection.load_request()
        connection.user = None
        if token := _bearer_token(connection.message):
            caller = self._verifier.find_cached(token)
            connection.user = UNVERIFIED if caller is None else caller.id
        self._wait_for_thread(connection)

    def _wait_for_thread(self, connection: Connection) -> None:
        is_overdue = self.tpool.delay_s() > QUEUE_MAX_S
        if is_overdue or not self.tpool.put(connection, connection.user, connection.message.held):
            self._refusing_pool.put(connection)

    @property
    def _verifier(self) -> Verifier:
        verifier: Verifier = self.wsgi.extensions["token_verifier"]
        return verifier

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Run the application; announce in its response that the connection will be closed, if no request may follow.

        gunicorn then reads no more of the body, so that a fault in it brings about no second response. It repeats the
        version of the request, but a response states no later one than the server's (RFC 9110, section 2.5).
        """
        req.version = min(req.version, HTTP_1_1)
        if conn.message.is_last:
            req.force_close()
        conn.is_chunked = req.version == HTTP_1_1
        is_kept_alive: bool = super().handle_request(req, conn)
        return is_kept_alive

    def _serve(self, connection: Connection) -> None:
        """Handle a request, in a thread."""
        if connection.user is UNVERIFIED:
            caller = self._verifier.verify_at_hand(_bearer_token(connection.message))
            if caller is not None:
                connection.user = caller.id
                self._wait_for_thread(connection)
                return
        try:
            is_kept_alive = self.handle(connection) and connection.has_agreed_end()
            if not self._is_released(connection):
                self._drop(connection)
                return
            then = self._read_next if is_kept_alive else self._linger
            if connection.sock.stream is not None:
                connection.after_stream, then = then, self._park
            if connection.sock.unsent:
                connection.sending_since = time.monotonic()
                self.sending[connection] = None
                self._wait_until_sent(connection, then)
            else:
                then(connection)
        except Exception:
            self._drop(connection)
            raise

    @staticmethod
    def _is_released(connection: Connection) -> bool:
        """Send the end of a response, and return whether the client is still there."""
        try:
            connection.sock.release()
        except OSError:
            return False
        return True

    def _wait_until_sent(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        def flush(connection: Connection) -> None:
            with suppress(OSError):
                connection.received += connection.sock.flush()
                if connection.sock.unsent:
                    return
            self.sending.pop(connection, None)
            self._unregister(connection, self._close if connection.sock.unsent else then)

        def check_rate(connection: Connection) -> None:
            is_late = time.monotonic() > connection.sending_since + SEND_MAX_S
            if is_late or connection.received < SEND_MIN_BYTES_S * SILENCE_MAX_S:
                self._close(connection)
            else:
                self._wait_until_sent(connection, then)

        connection.received = 0
        self._register(connection, selectors.EVENT_WRITE, flush, SILENCE_MAX_S, check_rate)

    def _park(self, connection: Connection) -> None:
        """Let a client wait for the events of its stream."""
        stream = connection.sock.stream
        if not stream.is_begun:
            # The application has responded with something else.
            self._forget_stream(connection, "left")
            connection.after_stream(connection)
            return
        if connection.message.missing or connection.message.rest():
            # The client goes on already.
            self._end_stream(connection, "left")
            return
        # What the request needed is memory that many connections would hold for long.
        connection.message = Message()
        connection.sock.request = io.BytesIO()
        connection.parser = None
        connection.initialized = False
        with suppress(AttributeError, OSError):
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, ACKNOWLEDGED_MS)
        self._wait_for_events(connection, random.uniform(COMMENT_S / 2, COMMENT_S))  # noqa: S311 (no secret)  # nosec B311
        self.hub.park(stream, connection)

    def _wait_for_events(self, connection: Connection, comment_s: float) -> None:
        """Leave a client alone until it must be sent a comment, or its stream ends.

        Whatever it sends, it has hung up or goes on with the next request, which no server can read before the end of
        the response.
        """
        ends_s = connection.sock.stream.ends_at - time.monotonic()
        self._register(connection, selectors.EVENT_READ, self._drop, min(comment_s, ends_s), self._comment)

    def _comment(self, connection: Connection) -> None:
        stream = connection.sock.stream
        if time.monotonic() >= stream.ends_at:
            self._end_stream(connection, stream.ends_because)
        elif self._push(connection, messages.COMMENT):
            self._wait_for_events(connection, COMMENT_S)
        else:
            self._close(connection)

    def _poke(self) -> None:
        """Tell the clients whose lists have changed."""
        for event, streams in self.hub.take_due():
            for stream in streams:
                self._step(stream.connection, partial(self._send_event, event))

    def _send_event(self, event: bytes, connection: Connection) -> None:
        if self._push(connection, event):
            connection.deadline = min(time.monotonic() + COMMENT_S, connection.sock.stream.ends_at)
        else:
            self._drop(connection)

    def _push(self, connection: Connection, text: bytes, *, is_last: bool = False) -> bool:
        """Write to a stream, and return whether all was sent. A client that reads too slowly loses its stream."""
        if connection.is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(text), text) if text else b""
            text = chunk + LAST_CHUNK if is_last else chunk
        try:
            is_sent: bool = connection.sock.push(text)
        except OSError:
            return False
        if not is_sent:
            self._forget_stream(connection, "slow")
        return is_sent

    def _end_streams(self) -> None:
        """Send the parked clients away, each for a time of its own."""
        for stream in self.hub.parked():
            self._unregister(stream.connection, self._send_away)

    def _send_away(self, connection: Connection) -> None:
        # It has sent nothing that is unread, so the kernel delivers the last words after the end of this process too.
        connection.after_stream = self._close
        self._end_stream(connection, "shutdown")

    def _end_stream(self, connection: Connection, reason: str) -> None:
        """End a response whose stream is over; a client takes a mere end of the connection for a fault."""
        match reason:
            case "expired":
                text = messages.EXPIRED
            case "shutdown":
                text = messages.come_back(random.randint(*COME_BACK_MS))  # noqa: S311 (no secret)  # nosec B311
            case _:
                text = b""
        if self._push(connection, text, is_last=True):
            self._forget_stream(connection, reason)
            connection.after_stream(connection)
        else:
            self._close(connection)

    def _forget_stream(self, connection: Connection, reason: str) -> None:
        stream, connection.sock.stream = connection.sock.stream, None
        if stream is not None:
            self.hub.close(stream, reason)

    def _read_next(self, connection: Connection) -> None:
        """Read the next request, which may have arrived already."""
        if connection.message.missing:
            self._register(connection, selectors.EVENT_READ, self._discard, REQUEST_MAX_S, self._close)
            return
        if connection.message.is_shortened:
            # The parser still waits for the body that was left out, and would take the next request for it.
            connection.parser = None
            connection.initialized = False
        connection.message = Message(connection.message.rest())
        if connection.message.is_ready:
            self._enqueue(connection)
        else:
            self._wait_for_request(connection)

    def _discard(self, connection: Connection) -> None:
        """Discard the body of a request that was refused without it, and then read the next one."""
        data: bytes | None = b""
        with suppress(OSError):
            data = connection.sock.receive(min(DISCARD_BYTES, connection.message.missing))
        if data is None:
            return
        connection.message.feed(data)
        if not data:
            self._unregister(connection, self._close)
        elif not connection.message.missing:
            self._unregister(connection, self._read_next)
        else:
            self._pause(connection, self._discard)

    def _linger(self, connection: Connection) -> None:
        def discard(connection: Connection) -> None:
            data: bytes | None = b""
            with suppress(OSError):
                data = connection.sock.receive(DISCARD_BYTES)
            if data:
                self._pause(connection, discard)
            elif data is not None:
                self._unregister(connection, self._close)

        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
        else:
            self._register(connection, selectors.EVENT_READ, discard, LINGER_S, self._close)

    def _pause(self, connection: Connection, then: Callable[[Connection], None]) -> None:
        """Let the poller ignore a connection for a moment; its deadline stays."""
        self.poller.unregister(connection.sock)
        if not self.paused:
            self._paused_since = time.monotonic()
        self.paused[connection] = then

    def _resume(self) -> None:
        if time.monotonic() < self._paused_since + DISCARD_PAUSE_S:
            return
        paused, self.paused = self.paused, {}
        for connection, then in paused.items():
            self._watch(connection, selectors.EVENT_READ, then)

    def _close(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self.sending.pop(connection, None)
        self.paused.pop(connection, None)
        self._unwatch(connection)
        self._forget_stream(connection, "left")
        connection.close()
