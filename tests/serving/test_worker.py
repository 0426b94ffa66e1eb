"""What the worker's sockets do where no client can be made to show it."""

import selectors
import socket
from types import SimpleNamespace

import pytest

from todo.serving.worker import Connection, Worker


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(SimpleNamespace(is_ssl=False), ours, "", "")
        yield connection, theirs
        connection.close()


def test_connection_that_only_seemed_to_have_something_waits_on(pair):
    """A kernel may say so, and throw away what it had because of a wrong checksum."""
    connection, theirs = pair

    Worker._read(None, connection)
    assert not connection.message.data

    theirs.sendall(b"G")
    assert connection.sock.receive() == b"G"


def test_client_whose_buffers_are_full_is_sent_the_rest_later_in_order(pair):
    connection, theirs = pair
    expected = bytes(range(256)) * 2_000
    for at in range(0, len(expected), 32_000):
        connection.sock.sendall(expected[at : at + 32_000])
    assert connection.sock.unsent

    received = b""
    while len(received) < len(expected):
        received += theirs.recv(1 << 20)
        connection.sock.flush()
    assert received == expected
    assert not connection.sock.unsent


def test_client_that_takes_an_answer_bit_by_bit_is_waited_for_by_the_poller(pair):
    connection, theirs = pair
    worker = Worker.__new__(Worker)
    worker.poller = selectors.DefaultSelector()
    expected = bytes(range(256)) * 20_000
    connection.sock.unsent += expected
    over = []

    worker._await_taking(connection, over.append)
    received = b""
    while len(received) < len(expected):
        for key, _ in worker.poller.select(0):
            key.data(key.fileobj)
        assert bool(over) == (not connection.sock.unsent)
        received += theirs.recv(1 << 20)

    worker.poller.close()
    assert received == expected
    assert over == [connection]
