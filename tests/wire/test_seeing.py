"""The log and the metrics of a server: no line contains what users wrote, and the counts are correct."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from urllib.parse import quote

import psutil
import psycopg2
import pytest
from fakes.postgres_proxy import PostgresProxy
from support import bearer, claims, new_database, sign
from wire.server import DEADLINE_S, Line, Server, free_port, query, start, wait_until
from wire.test_metrics import scrape

SECRETS = {
    "title": "Zephyrine-title",
    "description": "Zephyrine-description",
    "tag": "Zephyrine-tag",
    "search": "Zephyrine-search",
    "member": "Zephyrine-member",
    "header": "Zephyrine-header",
    "email": "zephyrine@example.com",
    "claim": "Zephyrine claim",
    "user": "zephyrine|user-4711",
    "stranger": "Zephyrine-stranger",
    "key": "Zephyrine-key",
}
TASK = {"title": SECRETS["title"], "description": SECRETS["description"], "tags": [SECRETS["tag"]]}


def entries(server):
    """Return all log entries, each of which must be one line of JSON."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


@pytest.fixture
def watched(postgres, migrated_template, socket_path, tmp_path):
    """Return a server with a verbose log, its proxy and metrics port; one title makes PostgreSQL quote a row."""
    url = new_database(postgres, "todo_watched", migrated_template)
    query(url, "ALTER TABLE tasks ADD CONSTRAINT odd CHECK (title NOT LIKE '%%-odd')")
    proxy = PostgresProxy(socket_path)
    settings = {"LOG_LEVEL": "DEBUG", "METRICS_PORT": str(free_port()), "SLOW_REQUEST_MS": "1"}
    server = Server(tmp_path / "gunicorn.log", DATABASE_URL=proxy.url("todo_watched"), **settings)
    try:
        server.wait_until_healthy()
        yield server, proxy, int(settings["METRICS_PORT"])
        assert server.stop() == 0
    finally:
        server.kill()
        proxy.close()


def good_calls(server, headers):
    """Send valid requests, and return their statuses."""
    path = f"/api/{quote(SECRETS['user'])}/tasks"
    created = server.call("POST", path, headers | {"Idempotency-Key": SECRETS["key"]}, TASK)
    task = created.headers["Location"]
    calls = [
        ("GET", f"{path}?search={SECRETS['search']}&tag={SECRETS['tag']}&limit=1"),
        ("GET", f"{path}/summary"),
        ("GET", f"/api/{quote(SECRETS['user'])}/export"),
        ("GET", task),
        ("HEAD", task),
        ("OPTIONS", path),
        ("DELETE", task),
    ]
    return [created.status_code] + [server.call(method, path, headers).status_code for method, path in calls]


def refused_calls(server, headers):
    """Send requests that are refused for every reason, and return their statuses."""
    path = f"/api/{quote(SECRETS['user'])}/tasks"

    def with_token(token):
        return {"Authorization": f"Bearer {token}", "X-Odd": SECRETS["header"]}

    bad_claims = claims(SECRETS["user"], iss=SECRETS["claim"], email=SECRETS["email"], exp="Zephyrine-claim")
    calls = [
        ("GET", path, with_token(f"{headers['Authorization'][7:]}x"), None),
        ("GET", path, with_token(sign(bad_claims)), None),
        ("GET", path, with_token(sign(claims(SECRETS["user"], exp=1))), None),
        ("GET", path, with_token(SECRETS["header"] * 600), None),
        ("GET", path, {"Authorization": f"Basic {SECRETS['header']}"}, None),
        ("GET", f"/api/{SECRETS['stranger']}/tasks", headers, None),
        ("GET", f"/{SECRETS['stranger']}/{SECRETS['email']}", headers, None),
        ("GET", f"{path}/{2**63}", headers, None),
        ("GET", f"{path}?cursor={SECRETS['search']}&limit={SECRETS['search']}", headers, None),
        ("POST", path, headers, f'{{"title": "{SECRETS["title"]}'.encode()),
        ("POST", path, headers | {"Prefer": "handling=strict"}, {SECRETS["member"]: SECRETS["title"]}),
        ("POST", path, headers, {"title": SECRETS["title"] * 20, "due_date": SECRETS["description"]}),
        ("POST", path, headers, json.dumps({"title": SECRETS["title"] * 5000}).encode()),
        ("ZEPHYRINE", path, headers, None),
    ]
    return [server.call(*call).status_code for call in calls]


def unreadable_requests(server, token):
    """Send malformed and incomplete requests, and return the statuses; 0 where there is no response."""
    heads = [
        f"GET /api/{SECRETS['stranger']}/tasks HTTP/7.7",
        f"GET /api/{SECRETS['stranger']} /tasks HTTP/1.1",
        f"{SECRETS['title'].lower()} / HTTP/1.1",
        f"GET / HTTP/1.1\r\nAuthori zation: Bearer {token}",
        f"GET / HTTP/1.1\r\nX: y\r\n Authorization: Bearer {token}",
        f"POST / HTTP/1.1\r\nContent-Length: {SECRETS['title']}",
        f"POST / HTTP/1.1\r\nTransfer-Encoding: {SECRETS['title']}",
        f"GET /{SECRETS['stranger'] * 600} HTTP/1.1",
        f"GET / HTTP/1.1\r\nX: {SECRETS['header'] * 1200}",
        f"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{SECRETS['title']}",
    ]
    broken_off = f"POST /api/{SECRETS['stranger']}/tasks HTTP/1.1\r\nContent-Length: 99\r\n\r\n{SECRETS['title']}"
    responses = []
    for message in [*(f"{head}\r\n\r\n" for head in heads), broken_off, heads[0]]:
        with Line(server.port) as line:
            # Without a host each would be refused for that alone.
            line.send(message.replace("HTTP/1.1", "HTTP/1.1\r\nHost: todo.example", 1).encode())
            line.hang_up()
            responses.append(line.receive_all())
    return [int(response.split()[1]) if response else 0 for response in responses]


def failing_calls(server, proxy, headers, database):
    """Send requests that fail for every reason, and return their statuses."""
    path = f"/api/{quote(SECRETS['user'])}/tasks"
    bug = server.call("POST", path, headers, TASK | {"title": f"{SECRETS['title']}-odd"}).status_code
    with closing(psycopg2.connect(database)) as other:
        other.cursor().execute("SELECT FROM task_lists WHERE user_id = %s FOR UPDATE", [SECRETS["user"]])
        locked = server.call("POST", path, headers, TASK).status_code
    proxy.lose_answers = True
    lost = server.call("POST", path, headers, TASK).status_code
    proxy.lose_answers = False
    proxy.refuse = True
    proxy.cut()
    away = [server.call("POST", path, headers, TASK).status_code, server.call("GET", "/health/ready").status_code]
    proxy.refuse = False
    return [bug, locked, lost, *away]


def test_full_run_says_nothing_of_what_users_wrote_and_one_line_for_each_request(watched, postgres):
    server, proxy, metrics_port = watched
    headers = bearer(SECRETS["user"], email=SECRETS["email"], name=SECRETS["claim"])
    token = headers["Authorization"].removeprefix("Bearer ")
    database = postgres.get_uri(database="todo_watched")

    answered = good_calls(server, headers)
    answered += refused_calls(server, headers)
    unread = unreadable_requests(server, token)
    answered += failing_calls(server, proxy, headers, database)

    assert answered[:8] == [201, 200, 200, 200, 200, 200, 200, 204]
    assert answered[8:22] == [401] * 5 + [403, 404, 404, 422, 400, 422, 422, 413, 405]
    assert answered[22:] == [500, 503, 503, 503, 503]
    assert set(unread) == {0, 400, 401, 405, 414, 431, 501}
    said = server.log.read_text() + str(scrape(metrics_port))
    for name, secret in SECRETS.items():
        assert secret not in said, name
        assert quote(secret) not in said, name
    assert "ephyrine" not in said.lower()
    for part in token.split(".")[1:]:
        assert part not in said
    assert "test-secret-that-is-long-enough" not in said

    requests = [entry for entry in entries(server) if entry["event"] == "request"]
    seen = [entry["status"] for entry in requests if entry["route"] != "/health"]
    # Gunicorn alone sees requests that cannot be read, except for these two.
    assert sorted(seen) == sorted([*answered, *(status for status in unread if status in {401, 405})])
    (bug,) = [entry for entry in requests if entry["status"] == 500]
    assert "psycopg2.errors.CheckViolation" in bug["exception"]
    assert bug["reason"].startswith("23514: ")
    assert all(entry["slow"] for entry in requests if entry["level"] == "warning")


def is_healthy(port):
    """Return whether a server responds."""
    with suppress(OSError), Line(port) as line:
        return line.call("GET", "/health").status_code == 200
    return False


@pytest.fixture
def unread(database_url):
    """Return a server of two processes whose stdout is a pipe that nobody reads, its port and that of its metrics."""
    port, metrics_port = free_port(), free_port()
    process = start(
        "gunicorn",
        "-c",
        "gunicorn.conf.py",
        "wsgi:app",
        DATABASE_URL=database_url,
        PORT=str(port),
        METRICS_PORT=str(metrics_port),
        WEB_CONCURRENCY="2",
        WEB_THREADS="8",
    )
    try:
        wait_until(lambda: is_healthy(port), "in service")
        yield process, port, metrics_port
    finally:
        process.kill()
        process.communicate()


def test_log_that_nobody_reads_costs_lines_and_no_response(unread):
    """The lines that are read and those that are reported as dropped are as many as the requests."""
    process, port, metrics_port = unread
    # Lines with such an id fill a pipe of 1 MiB after some 2,500 requests.
    headers = {"X-Request-ID": "r" * 128}

    def ask(number):
        with Line(port) as line:
            return [line.call("GET", "/", headers).status_code for _ in range(number)]

    # So many connections that both processes have their share of them.
    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(ask, [10] * 500)) == [[200] * 10] * 500
    for _ in range(10):
        assert is_healthy(port)
    dropped = scrape(metrics_port)["log_lines_dropped_total",]
    assert dropped > 1000

    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    reader.start()
    wait_until(lambda: sum('"event":"request"' in line for line in lines) >= 5000 - dropped, "the reader has caught up")
    assert ask(1) == [200]
    # Each process reports what it has dropped before its next line, and that is at the latest the one of its end.
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    reader.join()

    read = [json.loads(line) for line in lines]
    reported = [entry["number"] for entry in read if entry["event"] == "log lines dropped"]
    assert len(reported) == 2
    assert sum(reported) == dropped
    assert sum(entry["event"] == "request" for entry in read) == 5001 - dropped
    assert all(line.endswith("\n") and len(line.encode()) <= 4096 for line in lines)


def test_log_that_nobody_reads_keeps_no_master_from_its_work(unread):
    process, port, _ = unread
    log = os.open(f"/proc/{process.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while os.write(log, b"x" * 4096):
            pass
    os.close(log)

    process.send_signal(signal.SIGTTIN)

    wait_until(lambda: len(psutil.Process(process.pid).children()) == 3, "another worker")
    assert is_healthy(port)
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
