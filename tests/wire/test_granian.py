"""Granian, as `todo serve --server granian` starts it; see docs/operate/deploy.md for where it differs."""

import json
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import assert_problem, bearer, new_user, sized
from wire.listener import Listener
from wire.server import (
    CHUNKED,
    DEADLINE_S,
    ORIGIN,
    Line,
    Load,
    Response,
    Server,
    assert_kept,
    blocked_updates,
    chunked,
    free_port,
    locked,
    query,
    request,
    run,
    start_program,
    titles,
    wait_until,
)

COMMAND = "todo serve --server granian"
SLOW_BODY = {"Content-Length": "100"}


@pytest.fixture(scope="module")
def metrics_port():
    return free_port()


@pytest.fixture(scope="module")
def granian(start_server, database_url, metrics_port):
    """Return a Granian of two processes, with metrics."""
    settings = {"WEB_CONCURRENCY": "2", "WEB_THREADS": "4", "METRICS_PORT": str(metrics_port)}
    server = start_server(command=COMMAND, DATABASE_URL=database_url, **settings)
    both_at_work(server)
    return server


@pytest.fixture(scope="module")
def impatient(start_server, database_url, tmp_path_factory):
    """Return a Granian of one process and two threads that waits for the header of a request for two seconds."""
    folder = tmp_path_factory.mktemp("impatient")
    lines = ["import boot, runpy", "boot.KEEP_ALIVE_S = 2", "runpy.run_path('granian.conf.py')"]
    (folder / "impatient_granian.py").write_text("\n".join(lines))
    return start_server(command="impatient_granian", PYTHONPATH=str(folder), DATABASE_URL=database_url)


def both_at_work(server):
    wait_until(lambda: server.log.read_text().count("Started worker-") >= 2, "both at work")


def events(server):
    """Return what each line of the log reports; every one of them is JSON."""
    return [json.loads(line)["event"] for line in server.log.read_text().splitlines()]


def test_granian_serves_every_kind_of_call(granian, user):
    created = granian.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})
    path = created.headers["Location"]

    assert created.status_code == 201
    assert granian.call("GET", "/api/me/tasks", bearer(user)).get_json() == [created.get_json()]
    assert granian.call("PATCH", path, bearer(user), {"title": "y"}).get_json()["title"] == "y"
    assert granian.call("HEAD", path, bearer(user)).headers["ETag"]
    assert granian.call("GET", "/api/me/export", bearer(user)).data.count(b"\n") == 2
    assert granian.call("DELETE", path, bearer(user)).status_code == 204
    assert_problem(granian.call("GET", path, bearer(user)), 404, "Task not found")
    assert granian.call("GET", "/health/ready").status_code == 200


def test_granian_refuses_as_gunicorn_does(granian, user):
    headers = bearer(user)

    refused = granian.call("GET", "/api/me/tasks", {"Origin": ORIGIN})
    assert_problem(refused, 401, "Missing authentication token")
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert_problem(granian.call("GET", "/api/other/tasks", headers), 403)
    assert_problem(granian.call("POST", "/api/me/tasks", headers, b"{"), 400)
    assert_problem(granian.call("POST", "/api/me/tasks", headers, sized(64 * 1024 + 1)), 413)
    assert_problem(granian.call("POST", "/api/me/tasks", headers), 422)
    assert_problem(granian.call("GET", f"/api/me/tasks/{2**63}", headers), 404)


def test_granian_reads_a_body_in_chunks(granian, user):
    body = json.dumps({"title": "x"}).encode()
    with Line(granian.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED))
        line.send(chunked(body))
        assert line.receive("POST").status_code == 201


def test_granian_responds_to_a_listener_and_ends(granian, user):
    for revision in (0, 1):
        with Listener(granian.port, user) as listener:
            (event,) = listener.read_to_end()
            assert (event.data, listener.retry_ms) == ({"revision": revision}, 5000)
        with Listener(granian.port, user, {"Last-Event-ID": event.id}) as listener:
            assert listener.read_to_end() == []
        granian.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})


def test_line_of_granian_has_the_form_of_the_log(granian):
    lines = [json.loads(line) for line in granian.log.read_text().splitlines()]

    assert {"Started worker-1", "Started worker-2"} <= {line["event"] for line in lines}
    assert all({"timestamp", "level"} <= line.keys() for line in lines)


def test_granian_that_served_refused_and_failed_has_logged_no_secret(serve, database_url, user):
    server = serve(command=COMMAND, DATABASE_URL=database_url, LOG_LEVEL="debug")
    headers = bearer(user)
    token = headers["Authorization"].removeprefix("Bearer ")

    assert server.call("POST", "/api/me/tasks", headers, {"title": "Secret title"}).status_code == 201
    assert server.call("GET", "/api/someone/tasks", headers).status_code == 403

    events(server)
    for secret in (token, "Secret title", user, "test-secret-that-is-long-enough"):
        assert secret not in server.log.read_text()


def requests_counted(port):
    with Line(port) as line:
        text = line.call("GET", "/metrics").get_data(as_text=True)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.labels.get("route") == "/api/<user_id>/tasks/summary")


def test_metrics_of_all_processes_are_on_one_port_and_survive_a_process(granian, metrics_port):
    def make_calls(number):
        for _ in range(number):
            assert granian.call("GET", "/api/me/tasks/summary", bearer(new_user())).status_code == 200

    make_calls(20)
    counted = requests_counted(metrics_port)
    # A histogram counts each request in several samples.
    assert counted > 0
    assert {requests_counted(metrics_port) for _ in range(5)} == {counted}

    killed = min(granian.workers())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(granian.workers() - {killed}) == 2, "replaced")
    granian.wait_until_healthy()

    assert requests_counted(metrics_port) == counted
    make_calls(1)
    assert requests_counted(metrics_port) > counted


@pytest.fixture
def settings(database_url):
    return {"command": COMMAND, "DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "WEB_THREADS": "4"}


def test_sigterm_under_load_loses_no_acknowledged_write(serve, settings, database_url, user):
    server = serve(**settings)
    both_at_work(server)
    workers = server.workers()

    with Load(server, user, clients=8) as load:
        wait_until(lambda: len(load.acknowledged) > 50, "under load")
        assert server.stop() == 0

    assert_kept(database_url, user, load)
    assert set(load.statuses) == {200, 201}
    assert not any(psutil.pid_exists(worker) for worker in workers)


def test_sigterm_while_a_request_waits_for_the_database_answers_it(serve, settings, database_url, user):
    server = serve(**settings)
    created = server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()

    with locked(database_url, created) as connection, ThreadPoolExecutor() as pool:
        call = pool.submit(server.call, "PATCH", f"/api/me/tasks/{created['id']}", bearer(user), {"title": "y"})
        wait_until(lambda: blocked_updates(database_url), "waiting for the row")
        server.process.terminate()
        wait_until(lambda: "Shutting down granian" in events(server), "told to stop")
        connection.rollback()
        assert call.result(DEADLINE_S).status_code == 200

    assert server.stop() == 0
    assert titles(database_url, user) == ["y"]


def test_sigterm_ends_a_process_that_is_only_starting(settings, tmp_path):
    """The handler of its parent, which it has until then, would lose the signal."""
    lines = [
        "import boot, runpy, time",
        "boot.prepare('granian')",
        "from todo.serving import granian",
        "granian.start_worker = lambda: time.sleep(60)",
        "runpy.run_path('granian.conf.py')",
    ]
    (tmp_path / "slow_to_start.py").write_text("\n".join(lines))
    server = Server(tmp_path / "granian.log", **(settings | {"command": "slow_to_start", "PYTHONPATH": str(tmp_path)}))
    try:
        wait_until(lambda: "Spawning worker-2" in server.log.read_text(), "both are starting")
        assert server.stop() == 0
        assert "refused to gracefully stop" not in server.log.read_text()
    finally:
        server.kill()


def test_server_that_is_killed_leaves_no_process(serve, settings, tmp_path):
    server = Server(tmp_path / "granian.log", **settings)
    try:
        server.wait_until_healthy()
        both_at_work(server)
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(psutil.pid_exists(worker) for worker in workers), "all have ended")
    finally:
        server.kill()


def test_start_with_a_faulty_setting_says_so_in_one_line():
    done = run(*COMMAND.split(), WEB_THREADS="x", DATABASE_URL="x")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("todo cannot start: DATABASE_URL ")
    assert "WEB_THREADS must be" in done.stderr


def test_server_that_may_open_too_few_files_refuses_to_start(database_url):
    serve = f'ulimit -n 256 && exec "$0" -m {COMMAND}'
    process = start_program("sh", "-c", serve, sys.executable, DATABASE_URL=database_url)
    _, stderr = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert stderr.startswith("todo cannot start: a process may open 256 files")


@pytest.mark.parametrize("setting", ["PORT", "METRICS_PORT"])
def test_port_that_is_taken_ends_the_start_and_names_the_setting(granian, metrics_port, database_url, setting):
    """Granian itself would share the port with another one."""
    port = granian.port if setting == "PORT" else metrics_port
    ports = {"PORT": str(free_port()), "METRICS_PORT": str(free_port()), setting: str(port)}
    done = run(*COMMAND.split(), DATABASE_URL=database_url, **ports)

    assert done.returncode == 1
    assert done.stderr == f"todo cannot start: {setting} {port} cannot be bound: Address already in use.\n"


def test_granian_listens_on_a_host_name_and_reports_settings_that_look_misspelt(serve, database_url):
    server = serve(command=COMMAND, DATABASE_URL=database_url, HOST="localhost", CORS_ORIGIN="x")

    assert "CORS_ORIGIN is not a setting of this service: did you mean CORS_ORIGINS?" in events(server)


def assert_closed(connection):
    connection.settimeout(DEADLINE_S)
    assert connection.recv(65536) == b""


def test_connection_without_a_complete_header_is_closed(impatient):
    for beginning in (b"", b"GET /health HTTP/1.1\r\nHost"):
        with closing(socket.create_connection(("127.0.0.1", impatient.port))) as connection:
            connection.sendall(beginning)
            assert_closed(connection)


def test_header_that_arrives_byte_by_byte_is_cut_off(impatient):
    with closing(socket.create_connection(("127.0.0.1", impatient.port))) as connection:
        with pytest.raises(ConnectionError):
            for _ in range(10 * DEADLINE_S):
                connection.sendall(b"x")
                time.sleep(0.1)


def test_idle_connection_that_is_kept_alive_is_closed(impatient):
    with Line(impatient.port) as line:
        assert line.call("GET", "/health").status_code == 200
        assert line.receive_all() == b""


def send_raw(server, user, headers, data):
    """Send these bytes as the body of a last request, and return all received bytes."""
    with Line(server.port) as line:
        fields = [*bearer(user).items(), *headers, ("Connection", "close")]
        line.send(request("POST", "/api/me/tasks", fields) + data)
        return line.receive_all()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param([("Content-Length", "13"), ("Transfer-Encoding", "chunked")], 422, id="both"),
        pytest.param([("Content-Length", "13"), ("Content-Length", "14")], 400, id="two-lengths"),
        pytest.param([("Content-Length", "-13")], 400, id="negative-length"),
        pytest.param([("Content-Length", "13x")], 400, id="no-number"),
        pytest.param([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], 501, id="chunked-twice"),
        pytest.param([("Transfer-Encoding", "gzip")], 400, id="not-chunked"),
    ],
)
def test_body_with_ambiguous_framing_is_refused(granian, database_url, user, headers, status):
    """Such requests smuggle one request inside another (RFC 9112, section 6.3)."""
    received = send_raw(granian, user, headers, b'{"title":"x"}')

    assert received.count(b"HTTP/1.1 ") == 1
    assert Response.parse(received, "POST").status_code == status
    assert titles(database_url, user) == []


def test_body_in_malformed_chunks_ends_the_connection(granian, database_url, user):
    data = b"zz\r\n" + request("POST", "/api/me/tasks", bearer(user), {"title": "smuggled"})

    assert send_raw(granian, user, CHUNKED.items(), data).count(b"HTTP/1.1 ") == 1
    assert titles(database_url, user) == []


@pytest.mark.parametrize("end", [b"", b"0\r\n", b"zz\r\n\r\n"], ids=["none", "without-its-last-line", "malformed"])
def test_body_in_chunks_whose_end_is_missing_counts_as_complete(granian, user, end):
    """Granian tells the application of no fault in a chunked body: a proxy must."""
    with Line(granian.port) as line:
        line.send(request("POST", "/api/me/tasks", bearer(user) | CHUNKED) + b'd\r\n{"title":"x"}\r\n' + end)
        line.hang_up()
        assert line.receive("POST").status_code == 201


def test_client_that_hangs_up_behind_its_request_gets_no_response(granian):
    with Line(granian.port) as line:
        line.send(request("GET", "/health/ready"))
        line.hang_up()
        assert line.receive_all() == b""


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param("X: 1\r\n" * 99, 200, id="99-fields"),
        pytest.param("X: 1\r\n" * 101, 431, id="101-fields"),
        pytest.param("X: 1\r\n X: 2\r\n", 400, id="folded"),
        pytest.param("X : 1\r\n", 400, id="space-before-the-colon"),
    ],
)
def test_header_follows_the_rules_of_http(granian, fields, status):
    with Line(granian.port) as line:
        line.send(f"GET /health HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        assert line.receive().status_code == status


def test_header_over_64_kib_is_refused(granian):
    with Line(granian.port) as line:
        line.send(b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X-Long: " + b"x" * 70_000)
        assert line.receive().status_code == 431


@pytest.mark.parametrize("path", ["tasks", "tasks/batch", "import"])
def test_body_over_the_limit_of_its_route_is_413_once_it_has_arrived(granian, user, path):
    size = {"tasks": 64, "tasks/batch": 512, "import": 2048}[path] * 1024 + 1
    answer = granian.call("POST", f"/api/me/{path}", bearer(user), b" " * size)
    assert_problem(answer, 413)


def test_body_that_does_not_arrive_holds_no_thread_without_a_token(impatient):
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(impatient.port)) for _ in range(8)]
        for line in lines:
            line.send(request("POST", "/api/me/tasks", SLOW_BODY) + b"{")
        assert [line.receive("POST").status_code for line in lines] == [401] * 8


def requests_logged(server):
    """Return the status of each request, in the order in which they ended."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line["status"] for line in lines if line["event"] == "request"]


def test_body_that_does_not_arrive_holds_a_thread_with_a_token(impatient, user):
    """Granian has no time-out for it. The other requests wait until the client has gone: a proxy must read bodies."""
    before = len(requests_logged(impatient))
    with ExitStack() as stack:
        slow, others = ([stack.enter_context(Line(impatient.port)) for _ in range(number)] for number in (2, 4))
        for line in slow:
            line.send(request("POST", "/api/me/tasks", bearer(user) | SLOW_BODY) + b"{")
        for line in others:
            line.send(request("GET", "/health/ready"))
        for line in slow:
            line.hang_up()
            assert_problem(line.receive("POST"), 400)
        assert [line.receive().status_code for line in others] == [200] * 4
    assert requests_logged(impatient)[before] == 400


@pytest.fixture
def rich(database_url, user):
    """Return a user with a list of 1 MB and an export of 20 MB."""
    rows = "SELECT %s, 'x', repeat('🎂', 1000), number FROM generate_series(1, 5000) AS number"
    query(database_url, f"INSERT INTO tasks (user_id, title, description, revision) {rows}", user)
    query(database_url, "INSERT INTO task_lists (user_id, revision) VALUES (%s, 5000)", user)
    return user


def test_lists_that_nobody_reads_hold_no_thread(impatient, rich):
    """They are held in memory, as long as the client keeps its connection: a proxy must read responses."""
    with ExitStack() as stack:
        for _ in range(6):
            reader = stack.enter_context(closing(socket.socket()))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", impatient.port))
            reader.sendall(request("GET", "/api/me/tasks", bearer(rich)))
        assert impatient.call("GET", "/api/me/tasks?limit=1", bearer(rich)).status_code == 200


def test_exports_that_nobody_reads_leave_threads_to_others(impatient, rich):
    """The application lets one export at a time have one of these two threads."""
    with ExitStack() as stack:
        reader = stack.enter_context(closing(socket.socket()))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", impatient.port))
        reader.settimeout(DEADLINE_S)
        reader.sendall(request("GET", "/api/me/export", bearer(rich)))
        # Only once the response has begun is this the export that has the thread, and not the next one.
        assert reader.recv(12) == b"HTTP/1.1 200"
        assert impatient.call("GET", "/api/me/export", bearer(rich)).status_code == 429
        assert_problem(impatient.call("GET", "/api/me/export", bearer(new_user())), 503)
        assert impatient.call("GET", "/api/me/tasks?limit=1", bearer(rich)).status_code == 200
