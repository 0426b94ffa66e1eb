"""The worker's sockets, in cases that no client can bring about."""

import selectors
import socket
from types import SimpleNamespace

import pytest

from todo.serving.worker import Connection, Worker


@pytest.fixture
def pair():
    accepted, client = socket.socketpair()
    with client:
        connection = Connection(SimpleNamespace(is_ssl=False), accepted, "", "")
        yield connection, client
        connection.close()


def test_connection_reported_readable_without_data_waits_on(pair):
    """The kernel may report data, and then discard it because of a wrong checksum."""
    connection, client = pair

    Worker._read(None, connection)
    assert not connection.message.data

    client.sendall(b"G")
    assert connection.sock.receive() == b"G"


def test_client_whose_buffers_are_full_is_sent_the_rest_later_in_order(pair):
    connection, client = pair
    expected = bytes(range(256)) * 2_000
    for at in range(0, len(expected), 32_000):
        connection.sock.sendall(expected[at : at + 32_000])
    assert connection.sock.send_buffer

    received = b""
    while len(received) < len(expected):
        received += client.recv(1 << 20)
        connection.sock.flush()
    assert received == expected
    assert not connection.sock.send_buffer


def test_client_that_receives_a_response_slowly_is_waited_for_by_the_poller(pair):
    connection, client = pair
    worker = Worker.__new__(Worker)
    worker.poller = selectors.DefaultSelector()
    expected = bytes(range(256)) * 20_000
    connection.sock.send_buffer += expected
    finished = []

    worker._wait_until_sent(connection, finished.append)
    received = b""
    while len(received) < len(expected):
        for key, _ in worker.poller.select(0):
            key.data(key.fileobj)
        assert bool(finished) == (not connection.sock.send_buffer)
        received += client.recv(1 << 20)

    worker.poller.close()
    assert received == expected
    assert finished == [connection]
