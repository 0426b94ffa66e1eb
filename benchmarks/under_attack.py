"""The servers while one client or user takes what it can: `python -m benchmarks.under_attack --help`."""

import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import click
import flask_migrate
import orjson
import psutil
import psycopg2

from benchmarks import dataset, markdown, postgres
from benchmarks.environment import machine
from benchmarks.services import OK, RunningService, Service, process_tree
from config import ROOT
from todo.auth.tokens import issue

DATA = ROOT / "instance" / "attacked-postgres"
RESULTS = ROOT / "instance" / "results" / "under-attack.json"
DATABASE = "attacked"
CONTENT = "200,000 tasks of one user and 8 large lists, version 1"
THREADS = 8
SECONDS = 10
# How long an attack runs before the other user is measured.
AHEAD_S = 2
ATTACK_S = AHEAD_S + SECONDS
SAMPLE_S = 0.1

# The other user: one request after the other, with a pause as a program that polls has it.
OTHER = "other"
OTHER_TASKS = 10
PAUSE_S = 0.05
DEADLINE_S = 5.0

SEARCHING = "searching"
SEARCHED_TASKS = 200_000
LARGE = [f"large-{number}" for number in range(8)]
LARGE_TASKS = 1_000

CHUNKS = 65_000
EXTENSION_BYTES = 4_000
SLOW_BYTES_S = 38_000
SLOW_STEP_S = 0.1
RETRY_S = 0.2
LISTS = 400
ASSETS = 1_500
SEARCHES = 64
EXPORTS = 24
UNREAD_LINES = 2_000
OPEN_FILES = 4_096
RECEIVE_BUFFER_BYTES = 4096
LIFETIME_S = 24 * 3600

_GUNICORN = "{bin}/gunicorn -c gunicorn.conf.py"
_SETTINGS = (
    ("ENVIRONMENT", "production"),
    ("CORS_ORIGINS", "https://app.example.com"),
    ("LOG_LEVEL", "INFO"),
    ("WEB_THREADS", str(THREADS)),
)
SERVERS = (
    Service("own", "todo's own worker", f"{_GUNICORN} wsgi:app", settings=_SETTINGS),
    Service(
        "gthread", "gunicorn's threaded worker", f"{_GUNICORN} --worker-class gthread wsgi:app", settings=_SETTINGS
    ),
    Service("granian", "Granian", "{bin}/python -m todo serve --server granian", settings=_SETTINGS),
)

# The rows of a large list. A control character takes six bytes in JSON, so a page of 1,000 tasks has 13 MB.
LARGE_LIST = """
    INSERT INTO tasks (user_id, title, description, tags, revision)
    SELECT %(user)s, repeat(E'\\x01', 200), repeat(E'\\x01', 1000),
        ARRAY(SELECT repeat(E'\\x01', 48) || chr(96 + tag) FROM generate_series(1, 20) AS tag), n
    FROM generate_series(1, %(tasks)s) AS n
"""
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'todo'"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to attack.

    Attributes:
        port: Its port.
        database: The URL of its database, for what an operator of PostgreSQL does.

    """

    port: int
    database: str

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """Return a new connection, with a small buffer for what it receives if one is given."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(DEADLINE_S)
        try:
            client.connect(("127.0.0.1", self.port))
        except OSError:
            client.close()
            raise
        return client


def request(path: str, user: str | None = None, method: str = "GET", **headers: str) -> bytes:
    """Return the bytes of a request, with a token of the user if there is one."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if user:
        lines.append(f"Authorization: Bearer {issue(postgres.SECRET, user, lifetime_s=LIFETIME_S)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def in_threads(number: int, repeat: Callable[[int], None]) -> None:
    """Run a function again and again in this many threads, for the time of an attack."""
    end = time.monotonic() + ATTACK_S

    def work(index: int) -> None:
        while time.monotonic() < end:
            try:
                repeat(index)
            except (OSError, HTTPException):
                time.sleep(RETRY_S)

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()) + DEADLINE_S)


def send_extensions(target: Target, connections: int) -> None:
    """Send chunks of one byte, each with a long extension, and keep the connection open."""
    chunk = b"1;" + b"x" * EXTENSION_BYTES + b"\r\nx\r\n"
    end = time.monotonic() + ATTACK_S

    def repeat(_: int) -> None:
        with closing(target.connect()) as client:
            client.sendall(request("/api/me/tasks", method="POST", Transfer_Encoding="chunked"))
            for _ in range(CHUNKS):
                if time.monotonic() > end:
                    return
                client.sendall(chunk)
            while time.monotonic() < end and client.recv(65536):
                pass

    in_threads(connections, repeat)


def read_slowly(target: Target, users: Sequence[str], bytes_s: int) -> None:
    """Read exports slowly, one connection for each of the users, and begin again when one ends."""
    end = time.monotonic() + ATTACK_S

    def repeat(index: int) -> None:
        with closing(target.connect(receive_buffer=RECEIVE_BUFFER_BYTES)) as client:
            client.sendall(request("/api/me/export", users[index]))
            while time.monotonic() < end and client.recv(int(bytes_s * SLOW_STEP_S)):
                time.sleep(SLOW_STEP_S)
        time.sleep(RETRY_S)

    in_threads(len(users), repeat)


def end_sessions(target: Target) -> None:
    """Read exports slowly while PostgreSQL ends the sessions of the server three times, before the measurement."""

    def end() -> None:
        for _ in range(3):
            time.sleep(AHEAD_S / 4)
            with closing(psycopg2.connect(target.database)) as connection:
                connection.cursor().execute(END_SESSIONS)

    threading.Thread(target=end, daemon=True).start()
    read_slowly(target, LARGE, SLOW_BYTES_S // 10)


def read_nothing(target: Target, number: int, path: str, user: str | None) -> None:
    """Send this many requests, each on a connection of its own, and read nothing of the responses."""
    data = request(path, user)
    clients = []
    end = time.monotonic() + ATTACK_S
    try:
        for _ in range(number):
            with suppress(OSError):
                clients.append(target.connect(receive_buffer=RECEIVE_BUFFER_BYTES))
                clients[-1].sendall(data)
        time.sleep(max(0.0, end - time.monotonic()))
    finally:
        for client in clients:
            client.close()


def write_log_lines(target: Target) -> None:
    """Send requests without a token one after the other, each of which is a line of the log."""
    end = time.monotonic() + ATTACK_S
    with suppress(OSError), closing(target.connect()) as client:
        for _ in range(UNREAD_LINES):
            client.sendall(request("/api/me/tasks"))
            if time.monotonic() > end or not client.recv(65536):
                return


def search(target: Target) -> None:
    """Search for words that no task has, from many connections of one user."""
    token = issue(postgres.SECRET, SEARCHING, lifetime_s=LIFETIME_S)

    def repeat(index: int) -> None:
        connection = HTTPConnection("127.0.0.1", target.port, timeout=30)
        with closing(connection):
            for number in range(1000):
                path = f"/api/me/tasks?search=no{index}such{number}"
                connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
                if connection.getresponse().read() is None:
                    return

    in_threads(SEARCHES, repeat)


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack.

    Attributes:
        title: Its name in tables and messages.
        run: The function that runs it, in a process of its own; None for no attack.
        stalls_log: Whether nobody reads the log of the server meanwhile.

    """

    title: str
    run: Callable[[Target], None] | None
    stalls_log: bool = False


ATTACKS = (
    Attack("none", None),
    Attack(
        "no token, 1 connection: 65,000 chunks of 1 byte with 4 kB of extension",
        partial(send_extensions, connections=1),
    ),
    Attack("the same, 6 connections", partial(send_extensions, connections=6)),
    Attack("8 slow readers of exports, whose sessions PostgreSQL ends", end_sessions),
    Attack(
        "24 connections of one user that read exports at 38 kB/s",
        partial(read_slowly, users=LARGE[:1] * EXPORTS, bytes_s=SLOW_BYTES_S),
    ),
    Attack(
        "400 lists of 13 MB that nobody reads",
        partial(read_nothing, number=LISTS, path=f"/api/me/tasks?limit={LARGE_TASKS}", user=LARGE[0]),
    ),
    Attack(
        "no token: 1,500 requests for a file of 1 MB that nobody reads",
        partial(read_nothing, number=ASSETS, path="/docs/assets/redoc.standalone.js", user=None),
    ),
    Attack("nobody reads the log", write_log_lines, stalls_log=True),
    Attack("one user, 64 connections: searches of 200,000 tasks", search),
)


class AttackedService(RunningService):
    """A running server whose log is a pipe, as in a container.

    Args:
        service: The server to start.
        database_url: The URL of its database.
        stalls_log: Whether the pipe is not read.

    """

    def __init__(self, service: Service, database_url: str, *, stalls_log: bool) -> None:
        self._stalls_log = stalls_log
        super().__init__(service, database_url, OTHER, issue(postgres.SECRET, OTHER, lifetime_s=LIFETIME_S))

    def start(self) -> None:
        """Start the server on a free port."""
        self._source, sink = os.pipe()
        self.log = Path(f"/proc/self/fd/{sink}")
        try:
            super().start()
        finally:
            os.close(sink)
        if not self._stalls_log:
            threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        with suppress(OSError):
            while os.read(self._source, 65536):
                pass

    def stop(self) -> None:
        """Stop the server, and kill those of its processes that do not stop."""
        super().stop()
        os.close(self._source)


def _tcp_bytes() -> int:
    """Return what the kernel's buffers for TCP take on this machine, in bytes."""
    (line,) = [line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:")]
    return int(line.split()[-1]) * resource.getpagesize()


@dataclass(slots=True)
class Peak:
    """The largest memory of a server's processes, and of the kernel's buffers for TCP, in bytes.

    Attributes:
        processes: The sum of the resident memory.
        kernel: What the buffers took beyond what they took at first.

    """

    processes: int = 0
    kernel: int = 0
    _before: int = field(default_factory=_tcp_bytes)

    def sample(self, process: psutil.Process) -> None:
        """Look at both now."""
        resident = 0
        for member in process_tree(process):
            with suppress(psutil.Error):
                resident += member.memory_info().rss
        self.processes = max(self.processes, resident)
        self.kernel = max(self.kernel, _tcp_bytes() - self._before)


@contextmanager
def watched(process: psutil.Process) -> Iterator[Peak]:
    """Watch the memory of a server, in a thread."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            peak.sample(process)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def poll(port: int, token: str) -> list[float | None]:
    """Read a small list again and again as the other user; return the seconds of each request, None if it failed."""
    times: list[float | None] = []
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/api/me/tasks?limit={OTHER_TASKS}"
    end = time.monotonic() + SECONDS
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    while (start := time.monotonic()) < end:
        taken: float | None = None
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status == OK and len(orjson.loads(body)) == OTHER_TASKS:
                taken = time.monotonic() - start
        except (OSError, HTTPException):
            connection.close()
        times.append(taken if taken is None or taken < DEADLINE_S else None)
        time.sleep(PAUSE_S)
    connection.close()
    return times


def measure(server: Any, service: Service, attack: Attack) -> dict[str, Any]:
    """Start a server, attack it, and return what the other user sees meanwhile and what the server takes."""
    url = server.get_uri(database=DATABASE)
    one = AttackedService(service, url, stalls_log=attack.stalls_log)
    try:
        one.wait()
        workers = one.process.children()
        with watched(one.process) as peak:
            process = None
            if attack.run:
                process = multiprocessing.get_context("fork").Process(target=attack.run, args=(Target(one.port, url),))
                process.start()
                time.sleep(AHEAD_S)
            times = poll(one.port, one.token)
            if process:
                process.kill()
                process.join()
        ended = sum(not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE for worker in workers)
    finally:
        one.stop()
    answered = [taken for taken in times if taken is not None]
    # A request that failed counts as one that took until the deadline.
    ordered = sorted(answered) + [DEADLINE_S] * (len(times) - len(answered))
    return {
        "attack": attack.title,
        "server": service.title,
        "answers": len(answered),
        "failed": len(times) - len(answered),
        "p99_ms": 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "memory_mib": peak.processes / postgres.MIB,
        "kernel_mib": peak.kernel / postgres.MIB,
        "ended": ended,
    }


def prepare(server: Any) -> None:
    """Fill the tables unless an earlier run did."""
    if postgres.is_filled(server, DATABASE, CONTENT):
        return
    postgres.create(server, DATABASE)
    sizes = {SEARCHING: SEARCHED_TASKS, OTHER: OTHER_TASKS}
    users = dataset.Users(list(sizes), [user for user, size in enumerate(sizes.values()) for _ in range(size)])
    with postgres.application(server, DATABASE):
        flask_migrate.upgrade()
    with postgres.administration(server, DATABASE) as cursor:
        lines = dataset.Tasks(users, accented=0.1).current()
        dataset.fill(cursor, dataset.COLUMNS, lines, len(users.owners))
        for user in LARGE:
            cursor.execute(LARGE_LIST, {"user": user, "tasks": LARGE_TASKS})
        dataset.create_lists(cursor)
        cursor.execute("VACUUM (ANALYZE) tasks")
    postgres.mark_filled(server, DATABASE, CONTENT)


@click.command()
@click.option("--attack", "chosen", multiple=True, help="Measure only the attacks whose title contains this.")
def main(chosen: tuple[str, ...]) -> None:
    """Attack the service on three servers, in some seven minutes, and measure what another user sees meanwhile.

    Each server runs with two processes of eight threads, and is started anew for each attack. An attack takes twelve
    seconds, and reaches no other machine. The results are printed, and written to instance/results/under-attack.json;
    the page of results shows those in benchmarks/results.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
    settings = postgres.operator_settings()
    server = postgres.start(DATA, settings, SEARCHED_TASKS)
    prepare(server)
    about = machine() | {
        "load_before": os.getloadavg()[0],
        "postgresql": postgres.version(server),
        "settings": settings,
    }
    rows = []
    for attack in ATTACKS:
        if not chosen or any(part in attack.title for part in chosen):
            for service in SERVERS:
                rows.append(measure(server, service, attack))
                click.echo(orjson.dumps(rows[-1]).decode())
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(orjson.dumps(about | {"rows": rows}, option=orjson.OPT_APPEND_NEWLINE))
    click.echo("\n".join(["", *table(rows), "", f"The results are in {RESULTS}."]))


def page(results: Mapping[str, Any]) -> list[str]:
    """Return what the page of results states, as lines of Markdown."""
    about = (
        f"Measured on {results['date']} with {results['processors']} processors, PostgreSQL {results['postgresql']}, "
        f"after a minute in which {results['load_before']:.1f} processes wanted a processor."
    )
    return [about, "", *table(results["rows"])]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table as lines of Markdown."""
    servers = list(dict.fromkeys(row["server"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["attack"], {})[row["server"]] = _cell(row)
    lines: Iterable[list[str]] = ([attack, *(by[server] for server in servers)] for attack, by in cells.items())
    return markdown.table("l" + "r" * len(servers), ["attack", *servers], lines)


def _cell(row: Mapping[str, Any]) -> str:
    total = row["answers"] + row["failed"]
    p99 = f"{row['p99_ms']:,.0f} ms" if row["answers"] else "none"
    ended = f"; {row['ended']} of 2 processes ended" if row["ended"] else ""
    memory = f"{row['memory_mib']:,.0f} + {max(row['kernel_mib'], 0):,.0f} MiB"
    return f"**{row['answers']}** of {total}; {p99}; {memory}{ended}"


if __name__ == "__main__":
    main()
