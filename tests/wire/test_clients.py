"""Clients that are many, slow, silent or unusual: none of them delays the others."""

import json
import os
import re
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial

import psutil
import pytest
from support import assert_problem, bearer, plant
from wire.server import CHUNKED, ORIGIN, ROOT, Line, chunked, locked, request, run, wait_until

# More clients than the one thread that serves in these tests.
MANY = 40


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """Return the configuration of production with short time-outs."""
    conf = tmp_path_factory.mktemp("impatient") / "gunicorn.conf.py"
    conf.write_text(f"""
import runpy

globals().update(runpy.run_path({str(ROOT / "gunicorn.conf.py")!r}))

from todo.serving import worker

worker.REQUEST_MAX_S = 1
worker.SILENCE_MAX_S = 1
worker.QUEUE_MAX_S = 0.5
keepalive = 1
limit_request_line = 4094
""")
    return conf


@pytest.fixture(scope="module")
def narrow(start_server, database_url):
    """Return a server with one worker and one thread."""
    return start_server(DATABASE_URL=database_url, WEB_CONCURRENCY="1", WEB_THREADS="1")


@pytest.fixture(scope="module")
def hasty(start_server, database_url, impatient):
    """Return a server with one worker, one thread and short time-outs."""
    return start_server(conf=impatient, DATABASE_URL=database_url, WEB_CONCURRENCY="1", WEB_THREADS="1")


@pytest.fixture
def clients(narrow):
    """Return many connections to the narrow server."""
    with ExitStack() as stack:
        yield [stack.enter_context(Line(narrow.port)) for _ in range(MANY)]


@pytest.fixture
def rich(database_url, user):
    """Return a user whose list exceeds the kernel's buffers, which hold some 4 MB."""
    plant(database_url, [user], 1_000, description="🎂" * 1_000)
    return user


def read_all(reader):
    """Read the rest of the stream without a pause."""
    reader.settimeout(30)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    received = bytearray()
    while piece := reader.recv(1 << 20):
        received += piece
    return bytes(received)


def reset(line):
    """Reset a connection, so that sending on it fails."""
    line._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def is_left(server, reader):
    """Check whether no worker of the server has its end of this connection any more."""
    connections = [one for worker in server.workers() for one in psutil.Process(worker).net_connections("tcp")]
    return all(connection.raddr != reader.getsockname() for connection in connections)


def assert_served(server, user):
    """Assert that requests are served meanwhile; a second is a hundred times what one takes."""
    with Line(server.port) as line:
        line._socket.settimeout(2)
        for _ in range(3):
            assert line.call("GET", "/api/me/tasks?limit=1", bearer(user)).status_code == 200


def test_clients_that_say_nothing_hold_up_nobody(narrow, clients, user):
    assert_served(narrow, user)

    for client in clients:
        assert client.call("GET", "/health").status_code == 200
    assert_served(narrow, user)


@pytest.mark.parametrize("begun", ["request-line", "head", "body", "chunk"])
def test_clients_that_send_slowly_hold_up_nobody_and_are_answered(narrow, clients, user, begun):
    body = json.dumps({"title": "slow"}).encode()
    if begun == "chunk":
        whole = request("POST", "/api/me/tasks", bearer(user) | CHUNKED) + chunked(body)
    else:
        whole = request("POST", "/api/me/tasks", bearer(user), body)
    at = {"request-line": 10, "head": 60}.get(begun, len(whole) - 15)
    for client in clients:
        client.send(whole[:at])
    for place in range(at, at + 5):
        for client in clients:
            client.send(whole[place : place + 1])
    assert_served(narrow, user)

    for client in clients:
        client.send(whole[at + 5 :])
    assert {client.receive("POST").status_code for client in clients} == {201}


def test_clients_that_read_slowly_hold_up_nobody_and_get_everything(narrow, rich):
    path = "/api/me/tasks"
    expected = narrow.call("GET", path, bearer(rich)).data
    closing_call = request("GET", "/health", {"Connection": "close"})

    with ExitStack() as stack:
        readers = []
        for _ in range(4):
            reader = stack.enter_context(closing(socket.socket()))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", narrow.port))
            # More than the kernel buffers: each request is read while the previous response is still being sent.
            reader.sendall(request("GET", path, bearer(rich)) * 2 + closing_call)
            readers.append(reader)
        assert_served(narrow, rich)

        for reader in readers:
            received = read_all(reader)
            assert received.count(expected) == 2
            assert received.endswith(b'{"status":"healthy"}')


def test_stream_that_is_read_in_the_end_is_whole(narrow, rich):
    call = request("GET", "/api/me/export", bearer(rich))
    last = request("GET", "/api/me/export", bearer(rich) | {"Connection": "close"})
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", narrow.port))
        reader.sendall(call + last)
        time.sleep(0.5)
        received = read_all(reader)

    assert received.count(b'"title":"x"') == 2 * 1000
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.endswith(b"0\r\n\r\n")


def test_client_that_takes_nothing_of_an_answer_is_left_after_a_while(hasty, rich):
    size = len(hasty.call("GET", "/api/me/tasks", bearer(rich)).data)

    # A list is in memory as a whole; an export is produced while it is sent.
    for path in ("/api/me/tasks", "/api/me/export"):
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", hasty.port))
            # The kernel buffers the beginning.
            reader.sendall(request("GET", path, bearer(rich)) * 2)
            with ThreadPoolExecutor() as pool:
                calls = [pool.submit(hasty.call, "GET", "/health") for _ in range(5)]
                assert {call.result(30).status_code for call in calls} == {200}
            wait_until(partial(is_left, hasty, reader), "left")
            assert 0 < len(read_all(reader)) < 2 * size


def test_requests_sent_at_once_are_answered_in_order(narrow, user):
    paths = ["/health", "/nowhere", "/api/me/tasks", "/"]
    last = request("GET", "/health", {"Connection": "close"})
    with Line(narrow.port) as line:
        line.send(b"".join(request("GET", path, bearer(user)) for path in paths) + last[:-5])
        wait_until(lambda: line._socket.recv(1, socket.MSG_PEEK), "answering")
        line.send(last[-5:])
        received = line.receive_all()

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"404", b"200", b"200", b"200"]


def test_request_that_comes_while_another_is_answered_waits_for_its_turn(narrow, database_url, user):
    created = narrow.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()
    path = f"/api/me/tasks/{created['id']}"
    with locked(database_url, created) as connection, Line(narrow.port) as line:
        line.send(request("PATCH", path, bearer(user), {"title": "y"}))
        time.sleep(0.2)
        line.send(request("GET", path, bearer(user))[:-1])
        connection.rollback()
        assert line.receive("PATCH").get_json()["title"] == "y"
        line.send(b"\n")
        assert line.receive().get_json()["title"] == "y"


def test_client_that_waits_to_be_told_to_go_on_is_told_once(narrow, user):
    head = request("POST", "/api/me/tasks", bearer(user) | {"Expect": "100-continue", "Content-Length": "13"})
    with Line(narrow.port) as line:
        line.send(head)
        assert line._socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.send(b'{"title":"x"}')
        assert line._socket.recv(12) == b"HTTP/1.1 201"


def test_client_that_waits_to_be_told_and_leaves_is_forgotten(narrow, user):
    head = request("POST", "/api/me/tasks", bearer(user) | {"Expect": "100-continue", "Content-Length": "13"})
    for _ in range(5):
        with Line(narrow.port) as line:
            line.send(head[:20])
            reset(line)
    assert_served(narrow, user)


def test_client_that_leaves_without_reading_is_forgotten(narrow, rich):
    for _ in range(5):
        with Line(narrow.port) as line:
            line.send(request("GET", "/api/me/tasks", bearer(rich)))
            line._socket.recv(10)
            reset(line)
    assert_served(narrow, rich)


def test_client_that_leaves_before_its_answer_is_forgotten(narrow, database_url, user):
    created = narrow.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()
    with locked(database_url, created) as connection:
        with Line(narrow.port) as line:
            line.send(request("PATCH", f"/api/me/tasks/{created['id']}", bearer(user), {"title": "y"}))
            time.sleep(0.2)
            reset(line)
        connection.rollback()
    assert_served(narrow, user)


def test_clients_that_do_not_hang_up_after_the_last_answer_hold_up_nobody(narrow, clients, user):
    for client in clients:
        assert client.call("GET", "/health", {"Connection": "close"}).status_code == 200
    assert_served(narrow, user)

    for client in clients:
        assert client.receive_all() == b""
        client.send(b"more")


def test_head_over_64_kib_is_431(narrow):
    with Line(narrow.port) as line:
        line.send(b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 10_000) for n in range(8)))
        assert line.receive().status_code == 431


def test_request_that_stops_in_its_body_is_400_after_a_while(hasty, user):
    head = request("POST", "/api/me/tasks", bearer(user) | {"Content-Length": "100"})
    with Line(hasty.port) as line:
        line.send(head + b'{"title":')
        assert_problem(line.receive("POST"), 400, "The request body ended before it was complete.")
        assert line.receive_all() == b""


@pytest.mark.parametrize("begun", [b"", b"GET /health HT"], ids=["nothing", "head"])
def test_connection_on_which_no_request_comes_is_closed_after_a_while(hasty, begun):
    with Line(hasty.port) as line:
        line.send(begun)
        assert line.receive_all() == b""


def test_requests_that_would_wait_too_long_are_turned_away_at_once(hasty, database_url, user):
    created = hasty.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()
    path = f"/api/me/tasks/{created['id']}"
    statuses: list[int] = []

    def change():
        statuses.append(hasty.call("PATCH", path, bearer(user), {"title": "y"}).status_code)

    with locked(database_url, created) as connection:
        waiting = [threading.Thread(target=change) for _ in range(3)]
        for thread in waiting:
            thread.start()
        time.sleep(1)

        refused = hasty.call("GET", "/api/me/tasks", bearer(user) | {"Origin": ORIGIN})
        assert 200 not in statuses
        assert_problem(refused, 503)
        assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert hasty.call("GET", "/health").status_code == 200

        connection.rollback()
        for thread in waiting:
            thread.join()
    # Those that waited for the thread for too long were refused too.
    assert sorted(statuses) == [200, 503, 503]
    wait_until(lambda: hasty.call("GET", "/api/me/tasks", bearer(user)).status_code == 200, "served again")


def test_thousand_idle_connections_are_kept_beside_the_work(narrow, user):
    with ExitStack() as stack:
        idle = [stack.enter_context(Line(narrow.port)) for _ in range(1000)]
        for line in idle:
            line.send(request("GET", "/health"))
        assert {line.receive().status_code for line in idle} == {200}
        assert_served(narrow, user)
        for line in idle:
            line.send(request("GET", "/health"))
        assert {line.receive().status_code for line in idle} == {200}


def test_sigterm_ends_idle_connections_and_answers_what_is_on_its_way(serve, database_url, user):
    server = serve(DATABASE_URL=database_url, WEB_CONCURRENCY="1", WEB_THREADS="1")
    with Line(server.port) as idle, Line(server.port) as slow:
        assert idle.call("GET", "/health").status_code == 200
        whole = request("POST", "/api/me/tasks", bearer(user), {"title": "x"})
        slow.send(whole[:-1])
        server.process.terminate()
        wait_until(lambda: "Handling signal: term" in server.log.read_text(), "told to stop")
        with pytest.raises(OSError, match="refused"):
            wait_until(lambda: server.call("GET", "/health") is None, "no longer listening")
        slow.send(whole[-1:])
        answer = slow.receive("POST")
        assert (answer.status_code, answer.headers["Connection"]) == (201, "close")
        slow.close()
        assert idle.receive_all() == b""
    assert server.process.wait(30) == 0


def test_sigterm_answers_those_whom_the_kernel_has_welcomed(serve, database_url, user):
    server = serve(DATABASE_URL=database_url, WEB_CONCURRENCY="1", WEB_THREADS="1")
    (worker,) = server.workers()
    with ExitStack() as stack:
        os.kill(worker, signal.SIGSTOP)
        lines = [stack.enter_context(Line(server.port)) for _ in range(10)]
        for line in lines:
            line.send(request("GET", "/api/me/tasks", bearer(user)))
        server.process.terminate()
        wait_until(lambda: "Handling signal: term" in server.log.read_text(), "told to stop")
        os.kill(worker, signal.SIGCONT)
        assert {line.receive().status_code for line in lines} == {200}


def test_tls_is_refused_with_a_sentence(database_url):
    refused = run("gunicorn", "-c", "gunicorn.conf.py", "--certfile", os.devnull, "wsgi:app", DATABASE_URL=database_url)

    assert refused.returncode != 0
    assert "Error: TLS must end in front of this server: unset certfile and keyfile." in refused.stderr
    assert "Traceback" not in refused.stderr
