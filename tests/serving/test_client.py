"""The unsent rest of a response: in memory while small, in a file beyond that, never more than a process may hold."""

import errno
import os
import socket

import pytest
from structlog.testing import capture_logs

from todo.serving import client as module
from todo.serving.client import MEMORY_MAX_BYTES, Client, Unsent


@pytest.fixture
def pair():
    accepted, peer = socket.socketpair()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    unsent = Unsent()
    with peer:
        client = Client(accepted, unsent)
        yield client, peer, unsent
        client.close()
    assert (unsent.memory, unsent.files) == (0, 0)


def pattern(size):
    """Return bytes that show when one of them is missing or out of order."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4))


def receive(client, peer, size):
    received = b""
    while len(received) < size:
        received += peer.recv(1 << 20)
        client.flush()
    return received


@pytest.mark.parametrize(
    ("sizes", "in_memory"),
    [
        pytest.param([40_000], True, id="small"),
        pytest.param([30_000, 30_000, 10_000], True, id="small pieces"),
        pytest.param([5_000_000], False, id="large"),
        pytest.param([40_000, 40_000, 40_000, 100], False, id="pieces that become large"),
    ],
)
def test_rest_of_a_response_is_kept_where_it_fits_and_sent_in_order(pair, sizes, in_memory):
    client, peer, unsent = pair
    expected = pattern(sum(sizes))
    start = 0
    for size in sizes:
        client.sendall(expected[start : start + size])
        start += size
    client.release()
    assert 0 < client.unsent < len(expected)
    assert (unsent.memory, unsent.files) == ((client.unsent, 0) if in_memory else (0, client.unsent))
    assert unsent.memory <= MEMORY_MAX_BYTES

    assert receive(client, peer, len(expected)) == expected
    assert client.unsent == 0


def test_memory_serves_again_after_a_file_was_sent(pair):
    client, peer, unsent = pair
    first, second = pattern(400_000), pattern(40_000)
    client.sendall(first)
    assert receive(client, peer, len(first)) == first
    client.sendall(second)
    assert (unsent.files, unsent.memory) == (0, client.unsent)
    assert receive(client, peer, len(second)) == second


def test_close_drops_the_rest_and_its_file(pair):
    client, _, unsent = pair
    client.sendall(pattern(400_000))
    file = client._file
    client.close()
    assert file.closed
    assert (client.unsent, unsent.files) == (0, 0)


def test_files_beyond_twice_what_a_process_may_hold_are_refused(pair, monkeypatch):
    client, _, unsent = pair
    monkeypatch.setattr(module, "UNSENT_FILES_MAX_BYTES", 150_000)
    client.sendall(pattern(280_000))
    assert unsent.is_too_much
    with capture_logs() as logs, pytest.raises(ConnectionResetError):
        client.sendall(pattern(40_000))
    assert unsent.files <= 300_000
    assert [(entry["event"], entry["reason"]) for entry in logs] == [("response dropped", os.strerror(errno.ENOSPC))]


def test_memory_beyond_what_a_process_may_hold_is_too_much(monkeypatch):
    unsent = Unsent()
    unsent.add(memory=module.UNSENT_MEMORY_MAX_BYTES)
    assert not unsent.is_too_much
    unsent.add(memory=1)
    assert unsent.is_too_much


@pytest.mark.parametrize(
    ("writes", "sent"),
    [
        pytest.param([b"head", b"body"], [b"headbody"], id="header and body"),
        pytest.param([b"head"], [b"head"], id="header alone"),
        pytest.param([b"head", b"x" * 100_000], [b"head" + b"x" * 100_000], id="large body"),
        pytest.param([b"h" * 5000, b"body"], [b"h" * 5000, b"body"], id="large header"),
        pytest.param([b"head", b"1", b"2", b"3"], [b"head1", b"23"], id="small chunks"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_header_and_body_are_sent_with_one_call_and_nothing_waits_after_the_response(pair, monkeypatch, writes, sent):
    client, _, _ = pair
    calls = []
    monkeypatch.setattr(client, "_send_now", lambda data: calls.append(bytes(data)) or len(data))
    for write in writes:
        client.sendall(write)
    client.release()
    client.release()
    assert calls == sent


def test_request_is_read_from_memory_and_flushing_nothing_sends_nothing(pair):
    client, _, _ = pair
    assert (client.recv(10), client.is_exhausted, client.flush(), client.send(b"x")) == (b"", True, 0, 1)
    assert client.receive() is None
