"""Gunicorn and flask as processes of their own, and requests to them over a socket."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg2
from prometheus_client.parser import text_string_to_metric_families
from support import SECRET, bearer

from config import ConfigSchema

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "https://app.example.com"
DEADLINE_S = 30

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def environment(**changes: str) -> dict[str, str]:
    """Return an environment with the settings that production requires and these changes, and no others."""
    kept = {"PATH", "HOME", "LANG"}
    inherited = {k: v for k, v in os.environ.items() if k in kept or k.startswith(("COVERAGE_", "COV_"))}
    # An empty variable counts as unset, and hides what the .env of this machine says.
    silenced = {str(field.data_key): "" for field in ConfigSchema().fields.values()}
    production = {"ENVIRONMENT": "production", "BETTER_AUTH_SECRET": SECRET, "CORS_ORIGINS": ORIGIN}
    # gunicorn reads the first of these by itself, and an empty value does not count as unset there.
    size = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "2"}
    return inherited | silenced | production | size | changes


def start(*command: str, **changes: str) -> subprocess.Popen[str]:
    """Start `python -m` with this command in the root folder."""
    return start_program(sys.executable, "-m", *command, **changes)


def start_program(*command: str, **changes: str) -> subprocess.Popen[str]:
    """Start a program in the root folder, with the environment of the tests and these changes to it."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*command: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m` with this command in the root folder, and wait for its end."""
    with start(*command, **changes) as process:
        try:
            stdout, stderr = process.communicate(timeout=2 * DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port: int = placeholder.getsockname()[1]
        return port


def log_from_now(log: Path) -> Callable[[], str]:
    """Return a function that returns what a program that tests share has logged since this call."""
    size = log.stat().st_size

    def logged() -> str:
        return log.read_bytes()[size:].decode()

    return logged


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {deadline_s} s"
        time.sleep(0.01)


def query(url: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement on PostgreSQL directly."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []


def titles(url: str, user: str) -> list[str]:
    """Return the titles of a user's tasks in the table."""
    return [title for (title,) in query(url, "SELECT title FROM tasks WHERE user_id = %s", user)]


@contextmanager
def locked(url: str, task: Mapping[str, Any]) -> Iterator[psycopg2.extensions.connection]:
    """Lock a task: changes wait until the transaction of this connection ends."""
    with closing(psycopg2.connect(url)) as connection:
        lock = "SELECT id FROM tasks WHERE user_id = %(user_id)s AND id = %(id)s FOR UPDATE"
        connection.cursor().execute(lock, task)
        yield connection


def blocked_updates(url: str) -> object:
    """Return the sessions of PostgreSQL whose change of a task waits for a lock."""
    sql = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE tasks%' AND pid <> pg_backend_pid()"
    )
    return query(url, sql)


def start_database(postgres: Any) -> None:
    """Start a PostgreSQL that was stopped."""
    with postgres._lock:
        postgres.ensure_postgres_running()


def stop_database(postgres: Any, mode: str) -> None:
    """Stop a PostgreSQL: `fast`, or `immediate`, which is a crash."""
    subprocess.run(
        [postgres.bin_path / "pg_ctl", "-w", "-D", postgres.pgdata, "-m", mode, "stop"],
        user=postgres.system_user,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def scrape(port: int) -> dict[tuple[str, ...], float]:
    """Return the values of all metrics by their names and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as response:
        text = response.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


class Response:
    """A response over the wire, with the interface of Flask's test client."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status_code = response.status
        self.headers = response.headers
        self.data = response.read()

    @classmethod
    def parse(cls, raw: bytes, method: str) -> Self:
        """Parse the bytes of the response to a request with this method."""

        class Recorded:
            def makefile(self, _mode: str) -> io.BytesIO:
                return io.BytesIO(raw)

        response = http.client.HTTPResponse(Recorded(), method=method)
        response.begin()
        return cls(response)

    @property
    def content_type(self) -> str | None:
        return self.headers["Content-Type"]

    def get_data(self, *, as_text: bool) -> str | bytes:
        return self.data.decode() if as_text else self.data

    def get_json(self) -> Any:
        return json.loads(self.data)


def request(method: str, path: str, headers: Headers = (), body: Any = None) -> bytes:
    """Return the bytes of a request. A body that is not bytes is sent as JSON, with its Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers.items() if isinstance(headers, Mapping) else headers)]
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


CHUNKED = {"Transfer-Encoding": "chunked"}


def chunked(body: bytes, size: int = 10_000) -> bytes:
    """Cut a body into chunks (RFC 9112, section 7.1)."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Line:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hang_up(self) -> None:
        """Close the sending side of the connection, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self, method: str = "GET") -> Response:
        """Return the next response."""
        response = http.client.HTTPResponse(self._socket, method=method)
        try:
            response.begin()
            return Response(response)
        finally:
            response.close()

    def receive_all(self) -> bytes:
        """Return every byte until the server closes the connection."""
        received = b""
        while data := self._socket.recv(65536):
            received += data
        return received

    def call(self, method: str, path: str, headers: Headers = (), body: Any = None) -> Response:
        """Send a request and return its response; the connection stays open."""
        self.send(request(method, path, headers, body))
        return self.receive(method)


class Server:
    """A running server: gunicorn, or another one.

    Args:
        log: The file for its stdout and stderr.
        conf: The configuration of gunicorn.
        command: The command of another server, in which `{port}` is the port to listen on.
        port: The port to listen on, where it has to be known before; otherwise any free port.
        **changes: Environment variables beside those that production requires.

    """

    def __init__(
        self,
        log: Path,
        conf: Path | str = "gunicorn.conf.py",
        command: str | None = None,
        port: int | None = None,
        **changes: str,
    ) -> None:
        self.log = log
        self.port = port or free_port()
        words = (command or f"gunicorn -c {conf} wsgi:app").format(port=self.port).split()
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=environment(PORT=str(self.port), **changes),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_healthy(self, path: str = "/health") -> None:
        def healthy() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return self.call("GET", path).status_code == 200
            except OSError:
                return False

        wait_until(healthy, "healthy")

    def call(self, method: str, path: str, headers: Headers = (), body: Any = None) -> Response:
        """Send one request on a connection of its own, and return the response."""
        with Line(self.port) as line:
            return line.call(method, path, headers, body)

    def workers(self) -> set[int]:
        """Return the ids of the worker processes."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def stop(self) -> int:
        """Terminate the server, and return its exit status."""
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """Kill the server and its workers if they still run."""
        if self.process.poll() is None:
            for worker in self.workers():
                os.kill(worker, signal.SIGKILL)
            self.process.kill()
            self.process.wait()


class Load:
    """Clients that write and read without a pause. Half of them keep their connections.

    Attributes:
        acknowledged: The titles of the tasks with a 201 response.
        statuses: The status of each response, in order.

    """

    def __init__(self, server: Server, user: str, clients: int) -> None:
        self.acknowledged: list[str] = []
        self.statuses: list[int] = []
        self._port = server.port
        self._headers = bearer(user)
        self._done = threading.Event()
        self._clients = [threading.Thread(target=self._run, kwargs={"keep": n % 2 == 0}) for n in range(clients)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for client in self._clients:
            client.join()

    def _run(self, *, keep: bool) -> None:
        while not self._done.is_set():
            try:
                with Line(self._port) as line:
                    self._write_and_read(line)
                    while keep and not self._done.is_set():
                        self._write_and_read(line)
            except (OSError, http.client.HTTPException):
                # Without a response nothing was acknowledged.
                self._done.wait(0.01)

    def _write_and_read(self, line: Line) -> None:
        title = uuid.uuid4().hex
        created = line.call("POST", "/api/me/tasks", self._headers, {"title": title})
        if created.status_code == 201:
            self.acknowledged.append(title)
        self.statuses.append(created.status_code)
        path = created.headers["Location"] or "/api/me/tasks"
        self.statuses.append(line.call("GET", path, self._headers).status_code)


def assert_kept(url: str, user: str, load: Load) -> None:
    """Assert that every task with a 201 response is in the table, and none twice."""
    kept = titles(url, user)
    assert load.acknowledged
    assert set(load.acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))


def assert_survives_the_end_of_sessions(server: Server, url: str, user: str, times: int) -> None:
    """End all sessions of a database repeatedly while clients write: no task is lost, and no response is a 500."""
    end_sessions = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with Load(server, user, clients=8) as load:
        for _ in range(times):
            acknowledged = len(load.acknowledged)
            query(url, end_sessions)
            wait_until(lambda so_far=acknowledged: len(load.acknowledged) > so_far + 10, "in service")

    assert set(load.statuses) <= {200, 201, 503}
    assert_kept(url, user, load)
