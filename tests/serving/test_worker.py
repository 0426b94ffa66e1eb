"""The worker's sockets, in cases that no client can bring about."""

import errno
import math
import os
import re
import selectors
import socket
import threading
import time
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from todo.auth.tokens import Caller
from todo.database.statements import ListChange
from todo.events import hub as hub_module
from todo.events.hub import Hub, changed
from todo.serving import client as client_module
from todo.serving import worker as worker_module
from todo.serving.client import Client, Unsent
from todo.serving.framing import Message
from todo.serving.worker import UNVERIFIED, Connection, Worker


@pytest.fixture
def pair():
    accepted, client = socket.socketpair()
    with client:
        connection = Connection(SimpleNamespace(is_ssl=False), accepted, "", "", Unsent())
        yield connection, client
        connection.close()


def test_client_whose_buffers_are_full_is_sent_the_rest_later_in_order(pair):
    connection, client = pair
    expected = bytes(range(256)) * 2_000
    for at in range(0, len(expected), 32_000):
        connection.sock.sendall(expected[at : at + 32_000])
    assert connection.sock.unsent

    received = b""
    while len(received) < len(expected):
        received += client.recv(1 << 20)
        connection.sock.flush()
    assert received == expected
    assert not connection.sock.unsent


def test_client_that_receives_a_response_slowly_is_waited_for_by_the_poller(worker, connected):
    connection, client = connected()
    expected = bytes(range(256)) * 20_000
    connection.sock._keep(memoryview(expected))
    finished = []

    worker._wait_until_sent(connection, finished.append)
    received = b""
    while len(received) < len(expected):
        for key, _ in worker.poller.select(0):
            key.data(key.fileobj)
        assert bool(finished) == (not connection.sock.unsent)
        received += client.recv(1 << 20)

    assert received == expected
    assert finished == [connection]


@pytest.fixture
def worker(monkeypatch):
    """Return a worker without listeners, whose steps a test runs."""
    worker = Worker.__new__(Worker)
    worker.poller = selectors.DefaultSelector()
    worker.connections, worker.sending, worker.paused, worker.all_unsent = {}, {}, {}, Unsent()
    worker._accept_paused_until, worker._swept, worker._unchecked_bytes = -math.inf, math.inf, 0
    worker._handing_back = threading.Lock()
    worker.cfg = SimpleNamespace(keepalive=30, is_ssl=False)
    worker.hub = Hub(per_user=20, most=None, age_s=3600)
    worker.hub.attend(80, lambda: None)
    yield worker
    worker.poller.close()


@pytest.fixture
def connected(worker):
    """Return a function that makes connections of the worker, each with the client's end."""
    with ExitStack() as stack:

        def connect():
            accepted, client = socket.socketpair()
            stack.enter_context(client)
            connection = Connection(SimpleNamespace(is_ssl=False), accepted, "", "", worker.all_unsent)
            stack.callback(connection.close)
            worker.connections[connection] = None
            return connection, client

        yield connect


def fail(_connection):
    raise ValueError("a bug")


def test_connection_reported_readable_without_data_waits_on(worker, connected):
    """The kernel may report data, and then discard it because of a wrong checksum."""
    connection, client = connected()
    worker._wait_for_request(connection)

    worker._read(connection)
    assert not connection.message.data

    client.sendall(b"G")
    assert connection.sock.receive() == b"G"


def run_poller(worker):
    """Run the steps of everything that is readable now, and return how many there were."""
    ready = worker.poller.select(0)
    for key, _ in ready:
        key.data(key.fileobj)
    return len(ready)


@pytest.fixture
def at_work(worker, connected):
    """Return a connection whose request a thread works on, and its client's end."""
    connection, client = connected()
    worker._enqueue = lambda connection: connection.load_request()
    worker._wait_for_request(connection)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert run_poller(worker) == 1
    assert not connection.is_polled
    return connection, client


def test_connection_stays_registered_while_a_thread_works_on_its_request(worker, at_work):
    connection, client = at_work
    (key,) = worker.poller.get_map().values()
    assert run_poller(worker) == 0

    worker._read_next(connection)
    assert worker.poller.get_map()[connection.sock] is key
    client.sendall(b"G")
    assert run_poller(worker) == 1
    assert connection.message.data == b"G"


def test_request_that_arrives_while_a_thread_works_on_another_is_read_after_it(worker, at_work):
    connection, client = at_work
    client.sendall(b"G")
    assert run_poller(worker) == 1
    assert run_poller(worker) == 0

    worker._read_next(connection)
    assert connection.message.data == b""
    assert run_poller(worker) == 1
    assert connection.message.data == b"G"


def test_client_that_leaves_while_a_thread_works_on_its_request_is_closed_after_it(worker, at_work):
    connection, client = at_work
    client.close()
    assert run_poller(worker) == 1
    assert list(worker.connections) == [connection]

    worker._read_next(connection)
    assert run_poller(worker) == 1
    assert worker.connections == {}


def test_event_that_a_thread_has_overtaken_reads_nothing(worker, at_work):
    connection, client = at_work
    client.sendall(b"G")
    ((key, _),) = worker.poller.select(0)
    connection.sock._keep(memoryview(b"the rest of a response"))
    worker._wait_until_sent(connection, fail)

    key.data(key.fileobj)
    assert connection.sock.receive() == b"G"
    assert worker.poller.get_map()[connection.sock].events == selectors.EVENT_WRITE


def test_connection_closed_by_a_thread_leaves_its_number_to_the_next(worker, at_work):
    connection, _ = at_work
    worker._close(connection)
    assert not worker.poller.get_map()


def test_step_that_raises_closes_its_connection_and_no_other(worker, connected):
    (broken, client), (other, _) = connected(), connected()
    worker._register(other, selectors.EVENT_READ, fail, 60, fail)
    worker._register(broken, selectors.EVENT_WRITE, fail, 60, fail)

    with capture_logs() as logs:
        for key, _ in worker.poller.select(0):
            key.data(key.fileobj)
    assert [entry["event"] for entry in logs] == ["connection failed"]
    assert list(worker.connections) == [other]
    assert client.recv(1) == b""


def test_deadline_of_a_socket_that_is_closed_already_closes_its_connection_alone(worker, connected):
    connection, _ = connected()
    worker._register(connection, selectors.EVENT_READ, fail, 60, fail)
    connection.sock.close()
    with capture_logs():
        worker._unregister(connection, fail)
    assert worker.connections == {}


def test_response_on_a_socket_that_is_closed_already_closes_its_connection_alone(worker, connected):
    connection, _ = connected()
    worker.handle = lambda connection: connection.sock._keep(memoryview(b"x")) or Client.close(connection.sock)
    connection.sock.shutdown = lambda _: fail(None)
    with pytest.raises(ValueError, match="a bug"):
        worker._serve(connection)
    assert worker.connections == {}


def test_responses_that_take_too_much_are_dropped_the_longest_first(worker, connected, monkeypatch):
    monkeypatch.setattr(client_module, "UNSENT_FILES_MAX_BYTES", 5_000_000)
    connections = [connected()[0] for _ in range(4)]
    for connection in connections:
        connection.sock._keep(memoryview(bytes(2_000_000)))
        worker.sending[connection] = None
        if connection is not connections[1]:
            worker._wait_until_sent(connection, fail)

    worker._poll(0)
    # The second one still belongs to a thread.
    assert list(worker.connections) == connections[1:2] + connections[3:]
    assert 2_000_000 < worker.all_unsent.files <= 4_000_000

    monkeypatch.setattr(client_module, "UNSENT_FILES_MAX_BYTES", 0)
    worker._poll(0)
    assert list(worker.connections) == connections[1:2]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"G" * 100, id="in a header"),
        # What is decoded of a chunked body counts as well as what has just arrived.
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n" + b"x" * 40 + b"\r\n",
            id="in a chunked body",
        ),
    ],
)
def test_incomplete_requests_that_take_too_much_are_dropped_the_oldest_first(worker, connected, monkeypatch, sent):
    monkeypatch.setattr(worker_module, "REQUESTS_MAX_BYTES", 2 * len(sent) - 60)
    worker.tpool = SimpleNamespace(overdue=lambda _: ())
    connections = []
    for _ in range(3):
        connection, client = connected()
        worker._wait_for_request(connection)
        client.sendall(sent)
        worker._read(connection)
        connections.append(connection)

    worker._sweep(time.monotonic())
    assert list(worker.connections) == connections[2:]


def test_incomplete_requests_are_checked_as_soon_as_much_has_arrived(worker, connected, monkeypatch):
    monkeypatch.setattr(worker_module, "REQUESTS_MAX_BYTES", 350)
    monkeypatch.setattr(worker_module, "UNCHECKED_MAX_BYTES", 450)
    connections = []
    for _ in range(6):
        connection, client = connected()
        worker._wait_for_request(connection)
        client.sendall(b"G" * 100)
        connections.append(connection)

    worker._poll(0)
    # The check came between two of them, whose bytes are read at the next poll.
    assert [connection.message.held for connection in worker.connections] == [100, 100, 100, 0]
    worker._poll(0)
    assert [connection.message.held for connection in worker.connections] == [100] * 4


@pytest.mark.parametrize(
    ("received", "since_s", "is_kept"),
    [
        pytest.param(5000, 1, True, id="fast enough"),
        pytest.param(4000, 1, False, id="too slow"),
        pytest.param(1_000_000, 4000, False, id="for too long"),
    ],
)
def test_client_keeps_its_connection_while_it_receives_fast_enough(
    worker, connected, monkeypatch, received, since_s, is_kept
):
    monkeypatch.setattr(worker_module, "SILENCE_MAX_S", 1)
    connection, _ = connected()
    connection.sock._keep(memoryview(bytes(2_000_000)))
    connection.sending_since = time.monotonic() - since_s
    worker._wait_until_sent(connection, fail)
    connection.received = received

    worker._unregister(connection, connection.at_deadline)
    assert (connection in worker.connections) == is_kept


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_accept_without_resources_pauses_and_is_logged_once(worker, number):
    def accept():
        raise OSError(number, os.strerror(number))

    with capture_logs() as logs:
        assert not any(worker.accept(SimpleNamespace(accept=accept)) for _ in range(3))
    assert worker._accept_paused_until > time.monotonic()
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("no connection can be accepted", os.strerror(number))
    ]


def test_many_connections_have_smaller_buffers_in_the_kernel(worker, monkeypatch):
    monkeypatch.setattr(worker_module, "FULL_SEND_BUFFERS", 2)
    worker.cfg = SimpleNamespace(keepalive=30, is_ssl=False)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, worker_module.KERNEL_SEND_BUFFER_BYTES)
        for _ in range(8):
            stack.enter_context(socket.create_connection(listener.getsockname()))
            assert worker.accept(listener)
        buffers = [
            connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // buffers_factor(listener)
            for connection in worker.connections
        ]
        for connection in list(worker.connections):
            worker._drop(connection)
    assert buffers == [65536, 65536, 43690, 32768, 26214, 21845, 18724, 16384]


def buffers_factor(listener):
    """Return how many times as much as it was told the kernel takes for a buffer."""
    return listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // worker_module.KERNEL_SEND_BUFFER_BYTES


def test_accept_that_fails_otherwise_is_not_hidden(worker):
    def accept():
        raise OSError(errno.EINVAL, "closed")

    with pytest.raises(OSError, match="closed"):
        worker.accept(SimpleNamespace(accept=accept))


def test_connection_reported_readable_without_data_still_discards_a_body(worker, connected):
    connection, client = connected()
    connection.message = Message(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n")
    worker._register(connection, selectors.EVENT_READ, worker._discard, 60, fail)

    worker._discard(connection)
    assert connection.message.missing == 70_000

    client.sendall(b"x")
    worker._discard(connection)
    assert connection.message.missing == 69_999


def test_client_that_has_gone_before_the_end_of_its_response_is_closed(worker, connected):
    connection, client = connected()
    connection.has_agreed_end = lambda: True
    worker.handle = lambda connection: connection.sock.sendall(b"head") or client.close() or True
    worker._serve(connection)
    assert worker.connections == {}


def test_connection_reported_readable_without_data_still_lingers(worker, connected):
    connection, client = connected()
    worker._linger(connection)
    (key,) = worker.poller.get_map().values()
    key.data(key.fileobj)
    assert list(worker.connections) == [connection]
    client.close()
    key.data(key.fileobj)
    assert worker.connections == {}


@pytest.fixture
def flooded(worker, connected, monkeypatch):
    """Return a function that makes a connection whose client sends more than is discarded at once."""
    monkeypatch.setattr(worker_module, "DISCARD_BYTES", 1000)

    def flood(discard):
        connection, client = connected()
        connection.message = Message(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n")
        client.sendall(bytes(2500))
        discard(connection)
        return connection, client

    return flood


def unread(connection):
    try:
        return len(socket.socket.recv(connection.sock, 4000, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


def read_missing(worker):
    return lambda connection: worker._register(connection, selectors.EVENT_READ, worker._discard, 60, worker._close)


@pytest.mark.parametrize("discard", [lambda worker: worker._linger, read_missing], ids=["last response", "413"])
def test_bytes_of_a_client_are_discarded_with_pauses(worker, flooded, discard):
    connection, _ = flooded(discard(worker))
    left = []
    for _ in range(3):
        worker._poll(0)
        left.append(unread(connection))
        # Nothing is read in the pause.
        assert list(worker.paused) == [connection]
        assert worker.poller.select(0) == []
        worker._paused_since = -math.inf
        worker._resume()
    assert left == [1500, 500, 0]


def test_client_that_sends_for_too_long_is_closed_in_a_pause_too(worker, flooded):
    connection, client = flooded(worker._linger)
    worker._poll(0)
    assert worker.paused

    connection.deadline = 0
    worker.tpool = SimpleNamespace(overdue=lambda _: ())
    worker._sweep(time.monotonic())
    assert (worker.connections, worker.paused) == ({}, {})
    with pytest.raises(ConnectionResetError):
        client.recv(1) or client.recv(1)


def queue_of(worker, tokens):
    """Let a worker queue for threads that never come, and return whose requests wait, in order."""
    callers = {token: Caller(user) for token, user in tokens.items()}
    worker.wsgi = SimpleNamespace(
        extensions={"token_verifier": SimpleNamespace(find_cached=callers.get, verify_at_hand=callers.get)}
    )
    users = []
    worker.tpool = SimpleNamespace(delay_s=lambda: 0, put=lambda _connection, user, _size: users.append(user) or True)
    return users


@pytest.mark.parametrize(
    ("head", "user"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x", None, id="no token"),
        pytest.param(b"GET / HTTP/1.1\r\nAuthorization: Basic eA==", None, id="another scheme"),
        pytest.param(b"GET / HTTP/1.1\r\nauthorization:\tBEARER  known ", "user", id="verified before"),
        pytest.param(b"GET / HTTP/1.1\r\nAuthorization: Bearer new", UNVERIFIED, id="not verified yet"),
    ],
)
def test_threads_are_shared_by_the_user_of_a_verified_token(worker, connected, head, user):
    users = queue_of(worker, {"known": "user"})
    body = b"\r\nAuthorization: Bearer known\r\n"
    connection, _ = connected()
    connection.message = Message(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    worker._enqueue(connection)
    # A header that is incomplete names nobody.
    connection.message = Message(head + b"\r\n")
    worker._enqueue(connection)
    assert users == [user, None]


@pytest.mark.parametrize(
    ("token", "users", "is_handled"),
    [
        pytest.param(b"good", ["user"], False, id="good"),
        pytest.param(b"bad", [], True, id="refused"),
    ],
)
def test_request_waits_for_its_user_as_soon_as_its_token_is_verified(worker, connected, token, users, is_handled):
    queue = queue_of(worker, {"good": "user"})
    connection, _ = connected()
    connection.message = Message(b"GET / HTTP/1.1\r\nAuthorization: Bearer %b\r\n\r\n" % token)
    connection.user = UNVERIFIED
    handled = []
    worker.handle = handled.append
    worker._serve(connection)
    assert (queue, bool(handled)) == (users, is_handled)


FIRST_WORDS = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture
def park(worker, connected, monkeypatch):
    """Return a function that lets a client wait for events of user `u`, as a request of theirs does."""
    monkeypatch.setattr(hub_module, "GATHER_MS", 0)

    def park(
        lifetime_s=3600, *, is_chunked=True, is_begun=True, request=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", then=None
    ):
        connection, client = connected()
        client.settimeout(5)
        connection.message = Message(request)
        connection.is_chunked = is_chunked

        def handle(connection):
            connection.sock.request.read()
            stream = worker.hub.open("u", "request", lifetime_s)
            connection.sock.hold(stream)
            connection.sock.sendall(FIRST_WORDS)
            if is_begun:
                b"".join(stream.begin(7, None))
                # What gunicorn sends at the end of a body.
                connection.sock.sendall(b"0\r\n\r\n")
            return True

        worker.handle = handle
        connection.has_agreed_end = lambda: True
        monkeypatch.setattr(worker, "_read_next", then or fail)
        worker._serve(connection)
        assert client.recv(len(FIRST_WORDS)) == FIRST_WORDS
        return connection, client

    return park


def poll(worker):
    for key, _ in worker.poller.select(0):
        key.data(key.fileobj)
    worker._poke()


def tend(worker, connection):
    """Let the time pass until a parked connection is due."""
    worker._unregister(connection, connection.at_deadline)


def ends(logs):
    return [(entry["event"], entry["reason"]) for entry in logs]


@pytest.mark.parametrize("is_chunked", [True, False])
def test_parked_client_is_told_of_changes_and_sent_comments_by_the_poller(worker, park, is_chunked):
    connection, client = park(is_chunked=is_chunked)
    assert connection.is_polled
    event = changed("u", 8)
    worker.hub.announce(ListChange("u", 8))
    poll(worker)
    assert client.recv(1000) == (b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event)
    # The next comment is due after a whole silence.
    assert connection.deadline == pytest.approx(time.monotonic() + worker_module.COMMENT_S, abs=1)
    tend(worker, connection)
    assert client.recv(1000) == (b"3\r\n:\n\n\r\n" if is_chunked else b":\n\n")
    assert connection.deadline == pytest.approx(time.monotonic() + worker_module.COMMENT_S, abs=1)


def test_parked_connection_keeps_nothing_of_its_request(worker, park):
    connection, _ = park(request=b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 10_000))
    assert connection.message.held == 0
    assert connection.sock.request.getvalue() == b""
    assert connection.parser is None


def test_first_comments_are_spread(worker, park):
    now = time.monotonic()
    waits = [park()[0].deadline - now for _ in range(20)]
    assert all(worker_module.COMMENT_S / 2 - 1 < wait < worker_module.COMMENT_S + 1 for wait in waits)
    assert len({round(wait, 1) for wait in waits}) > 5


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"], ids=["hangs up", "sends the next request"])
def test_parked_client_that_hangs_up_or_sends_something_is_closed(worker, park, sent):
    _, client = park()
    if sent:
        client.sendall(sent)
    else:
        client.close()
    with capture_logs() as logs:
        poll(worker)
    assert (worker.connections, worker.hub.number) == ({}, 0)
    assert ends(logs) == [("stream ended", "left")]


def test_client_that_sent_the_next_request_already_gets_both_responses(worker, park):
    read = []
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with capture_logs() as logs:
        connection, client = park(request=2 * request, then=read.append)
    assert client.recv(1000) == b"0\r\n\r\n"
    assert read == [connection]
    assert connection.message.rest() == request
    assert ends(logs) == [("stream ended", "left")]


def test_client_whose_response_is_another_one_is_not_parked(worker, park):
    read = []
    with capture_logs() as logs:
        connection, _ = park(is_begun=False, then=read.append)
    assert (read, worker.hub.number, connection.sock.stream) == ([connection], 0, None)
    assert ends(logs) == [("stream ended", "left")]


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize(
    ("lifetime_s", "because", "text"), [(60, "expired", b"event: expired\ndata: {}\n\n"), (36_000, "age", b"")]
)
def test_stream_that_is_over_ends_its_response(worker, park, is_chunked, lifetime_s, because, text):
    read = []
    connection, client = park(lifetime_s, is_chunked=is_chunked, then=read.append)
    assert connection.deadline <= connection.sock.stream.ends_at
    connection.sock.stream.ends_at = time.monotonic()
    with capture_logs() as logs:
        tend(worker, connection)
    chunk = b"%x\r\n%b\r\n" % (len(text), text) if text else b""
    client.setblocking(False)
    if is_chunked or text:
        assert client.recv(1000) == (chunk + b"0\r\n\r\n" if is_chunked else text)
    # The connection is kept alive, as it was announced.
    assert read == [connection]
    assert ends(logs) == [("stream ended", because)]


def test_stream_never_outlasts_its_end_for_a_comment(worker, park):
    connection, _ = park(5)
    assert connection.deadline <= time.monotonic() + 5
    worker.hub.announce(ListChange("u", 8))
    poll(worker)
    assert connection.deadline <= time.monotonic() + 5


@pytest.mark.parametrize("what", ["event", "comment", "end"])
@pytest.mark.parametrize(("is_gone", "reason"), [(False, "slow"), (True, "left")])
def test_client_that_cannot_be_sent_something_loses_its_stream(worker, park, what, is_gone, reason):
    connection, _ = park(60)
    if is_gone:
        connection.sock.shutdown(socket.SHUT_WR)
    else:
        with suppress(BlockingIOError):
            while True:
                socket.socket.send(connection.sock, bytes(65536))
    with capture_logs() as logs:
        if what == "event":
            worker.hub.announce(ListChange("u", 8))
            worker._poke()
        else:
            connection.sock.stream.ends_at -= 60 * (what == "end")
            tend(worker, connection)
    assert (worker.connections, worker.hub.number) == ({}, 0)
    assert ends(logs) == [("stream ended", reason)]
    assert connection.sock.unsent == 0


def test_stream_begins_only_when_its_first_words_are_sent(worker, connected, monkeypatch):
    connection, client = connected()
    stream = worker.hub.open("u", "request", 3600)
    connection.sock.hold(stream)
    connection.message = Message(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.sock._keep(memoryview(bytes(1000)))
    worker.handle = lambda _: b"".join(stream.begin(7, None)) != b""
    connection.has_agreed_end = lambda: True
    worker._serve(connection)
    worker.hub.announce(ListChange("u", 8))
    assert worker.hub.parked() == []
    poll(worker)
    assert [one.connection for one in worker.hub.parked()] == [connection]
    assert client.recv(2000) == bytes(1000)


def test_all_streams_end_when_the_process_stops_and_their_clients_come_back_one_after_the_other(worker, park):
    parked = [park() for _ in range(10)]
    with capture_logs() as logs:
        worker._end_streams()
    assert ends(logs) == [("stream ended", "shutdown")] * 10
    last = [client.recv(1000) for _, client in parked]
    retries = [re.fullmatch(rb"d\r\nretry: ([1-8]\d{3})\n\n\r\n0\r\n\r\n", words) for words in last]
    assert all(retries)
    assert len({retry[1] for retry in retries}) > 5
    # Each response is complete, and the connection is closed after it.
    assert all(client.recv(1) == b"" for _, client in parked)
    assert worker.hub.parked() == []
