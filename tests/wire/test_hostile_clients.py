"""One client or user that takes what it can: the others are served meanwhile, and nothing stays taken afterwards."""

import functools
import socket
import struct
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psutil
import pytest
from support import WAITING, assert_problem, bearer, new_user, plant, sized
from wire.server import ROOT, Line, locked, query, request, wait_until

THREADS = 8
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'todo'"
CONFIGURATION = f"""
import resource
import runpy

globals().update(runpy.run_path({str(ROOT / "gunicorn.conf.py")!r}))

from todo.serving import client, threads as threads_module, worker
"""


@pytest.fixture(scope="module")
def server(start_server, database_url):
    """Return a server with one process and as many threads as in production, which has served a request."""
    server = start_server(DATABASE_URL=database_url, WEB_CONCURRENCY="1", WEB_THREADS=str(THREADS))
    assert_served(server)
    return server


@pytest.fixture
def configured(serve, database_url, tmp_path):
    """Return a function that starts such a server with a changed configuration."""

    def start(changes):
        conf = tmp_path / "gunicorn.conf.py"
        conf.write_text(CONFIGURATION + changes)
        return serve(conf=conf, DATABASE_URL=database_url, WEB_CONCURRENCY="1", WEB_THREADS=str(THREADS))

    return start


@pytest.fixture
def rich(database_url, user):
    """Return a user with a list of 1 MB and an export of 6 MB."""
    plant(database_url, [user], 5_000, description="🎂" * 1_000)
    return user


def process(server):
    (worker,) = server.workers()
    return psutil.Process(worker)


def files_of(server):
    """Return the sizes of the temporary files that the worker holds responses in."""
    sizes = []
    for link in Path(f"/proc/{process(server).pid}/fd").iterdir():
        # It may be closed while this looks.
        with suppress(FileNotFoundError):
            # The files have no name, so that nothing is left of them however the process ends.
            if str(link.readlink()).startswith(f"{tempfile.gettempdir()}/#"):
                sizes.append(link.stat().st_size)
    return sizes


def deaf(stack, server, path, user):
    """Return a connection that sends a request and reads nothing of the response."""
    reader = stack.enter_context(closing(socket.socket()))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", server.port))
    reader.sendall(request("GET", path, bearer(user)))
    return reader


def assert_served(server):
    user = new_user()
    with Line(server.port) as line:
        line._socket.settimeout(10)
        for _ in range(3):
            assert line.call("GET", "/api/me/tasks?limit=1", bearer(user)).status_code == 200


def sessions(url):
    """Return the sessions of the server that are in a transaction."""
    busy = "state LIKE 'idle in transaction%%' OR state = 'active' AND query NOT LIKE '%%pg_stat_activity%%'"
    return query(url, f"SELECT pid FROM pg_stat_activity WHERE application_name = 'todo' AND ({busy})")


def test_exports_that_nobody_reads_hold_no_thread_and_no_session(server, database_url, rich):
    others = [new_user() for _ in range(6)]
    plant(database_url, others, 5_000, description="🎂" * 1_000)
    threads = process(server).num_threads()
    with ExitStack() as stack:
        for user in (rich, *others):
            deaf(stack, server, "/api/me/export", user)
        wait_until(lambda: sum(files_of(server)) > 5_000_000, "exports are in files")
        wait_until(lambda: not sessions(database_url), "all of them are")
        assert_served(server)
        assert process(server).num_threads() == threads
    wait_until(lambda: not files_of(server), "the files are gone")


def test_export_whose_session_is_ended_costs_no_thread(server, database_url, rich):
    threads = process(server).num_threads()
    with ExitStack() as stack:
        for _ in range(THREADS):
            deaf(stack, server, "/api/me/export", rich)
            query(database_url, END_SESSIONS)
        assert_served(server)
    assert process(server).num_threads() == threads
    assert_served(server)


def test_second_export_of_a_user_at_once_is_429(server, database_url, rich):
    one = functools.partial(server.call, "GET", "/api/me/export", bearer(rich))
    wait_until(lambda: one().status_code == 200, "there is room for an export")
    with ThreadPoolExecutor(4) as clients:
        responses = list(clients.map(lambda _: one(), range(4)))
    statuses = [response.status_code for response in responses]
    assert 200 in statuses
    assert set(statuses) <= {200, 429}
    for response in responses:
        if response.status_code == 429:
            assert_problem(response, 429)
            assert int(response.headers["Retry-After"]) > 0
        else:
            assert response.data.count(b"\n") == 5001
    assert one().status_code == 200


@pytest.mark.parametrize("has_new_tokens", [False, True], ids=["one token", "a new token each time"])
def test_user_whose_requests_take_long_leaves_half_of_the_threads_to_others(server, database_url, user, has_new_tokens):
    created = server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()
    path = f"/api/me/tasks/{created['id']}"
    token = bearer(user)
    assert server.call("GET", "/api/me/tasks", token).status_code == 200
    tokens = [bearer(user, jti=new_user()) if has_new_tokens else token for _ in range(3 * THREADS)]
    with locked(database_url, created) as connection, ThreadPoolExecutor(3 * THREADS) as clients:
        calls = [clients.submit(server.call, "PATCH", path, token, {"title": "y"}) for token in tokens]
        wait_until(lambda: len(query(database_url, WAITING)) == THREADS // 2, "half of the threads wait")
        for _ in range(5):
            assert_served(server)
            assert len(query(database_url, WAITING)) == THREADS // 2
        connection.rollback()
        assert {call.result().status_code for call in calls} == {200}


def test_requests_that_wait_for_others_of_their_user_are_bounded_in_memory(configured, database_url, user):
    server = configured("threads_module.PARKED_MAX_BYTES = 1_000_000\n")
    token = bearer(user)
    created = server.call("POST", "/api/me/tasks", token, {"title": "x"}).get_json()
    with locked(database_url, created) as connection, ThreadPoolExecutor(THREADS // 2) as clients, ExitStack() as stack:
        path = f"/api/me/tasks/{created['id']}"
        calls = [clients.submit(server.call, "PATCH", path, token, {"title": "y"}) for _ in range(THREADS // 2)]
        wait_until(lambda: len(query(database_url, WAITING)) == THREADS // 2, "half of the threads wait")
        lines = [stack.enter_context(Line(server.port)) for _ in range(40)]
        for line in lines:
            line.send(request("POST", "/api/me/tasks", token, sized(60_000)))
        refused = '"status":503'
        # These have no room, and do not wait for the time that is allowed in the queue.
        wait_until(lambda: server.log.read_text().count(refused) >= 24, "refused")
        assert_served(server)
        connection.rollback()
        assert {call.result().status_code for call in calls} == {200}
        statuses = [line.receive("POST").status_code for line in lines]
        assert set(statuses) == {201, 503}


def test_lists_that_nobody_reads_are_bounded_in_memory_and_in_files(configured, rich):
    server = configured("client.UNSENT_FILES_MAX_BYTES = 16_000_000\n")
    assert server.call("GET", "/api/me/tasks", bearer(rich)).status_code == 200
    before = process(server).memory_info().rss
    with ExitStack() as stack:
        for _ in range(40):
            deaf(stack, server, "/api/me/tasks", rich)
        wait_until(lambda: len(server.log.read_text().split('"event":"request"')) > 40, "all are produced")
        wait_until(lambda: sum(files_of(server)) <= 16_000_000, "the oldest are closed")
        assert_served(server)
        # The thread pool's own working memory: each thread may hold one response while it is made.
        assert process(server).memory_info().rss - before < 100_000_000
    wait_until(lambda: not files_of(server), "the files are gone")


def test_kernel_buffers_of_clients_that_read_nothing_are_bounded(server):
    with ExitStack() as stack:
        readers = []
        for _ in range(20):
            reader = stack.enter_context(closing(socket.socket()))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(request("GET", "/docs/assets/redoc.standalone.js"))
            readers.append(reader)
        wait_until(lambda: len(files_of(server)) == len(readers), "all wait for their clients")
        ends = {reader.getsockname() for reader in readers}
        queued = Path("/proc/net/tcp").read_text().splitlines()[1:]
        unsent = [
            int(fields[4].split(":")[0], 16)
            for fields in map(str.split, queued)
            if int(fields[1].split(":")[1], 16) == server.port
            and ("127.0.0.1", int(fields[2].split(":")[1], 16)) in ends
        ]
        assert len(unsent) == len(readers)
        assert 0 < max(unsent) <= 256 * 1024


def test_process_without_file_descriptors_accepts_again_when_it_has_some(configured):
    server = configured(
        "resource.setrlimit(resource.RLIMIT_NOFILE, (80, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "worker_connections = 1000\n"
    )
    pid = process(server).pid
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(server.port)) for _ in range(200)]
        wait_until(lambda: "no connection can be accepted" in server.log.read_text(), "out of descriptors")
        assert lines[0].call("GET", "/health").status_code == 200
    assert_served(server)
    assert process(server).pid == pid
    assert server.log.read_text().count("no connection can be accepted") < 5


def test_clients_that_reset_their_connections_while_sessions_end_cost_no_thread_and_no_socket(
    server, database_url, rich
):
    threads = process(server).num_threads()
    stop = threading.Event()
    # A verified token, and no more requests than a process can serve: this is about faults, not about load.
    token = bearer(rich)
    assert server.call("GET", "/api/me/tasks?limit=1", token).status_code == 200

    def reset_often():
        while not stop.wait(0.05):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.sendall(request("GET", "/api/me/tasks?limit=1000", token))

    with ThreadPoolExecutor(4) as clients:
        resets = [clients.submit(reset_often) for _ in range(4)]
        try:
            for _ in range(5):
                query(database_url, END_SESSIONS)
                assert_served(server)
        finally:
            stop.set()
        assert [reset.result() for reset in resets] == [None] * 4
    assert_served(server)
    assert process(server).num_threads() == threads
    wait_until(lambda: not process(server).net_connections("tcp")[1:], "no socket is left but the listener")
