"""The service for a long time, while users write, follow and read slowly, and everything around them breaks.

In the first half the faults end processes too. In the second half the processes live on, and at its end they hold no
more than in its middle. `SOAK_S` sets how many seconds both take together.
"""

import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from fakes.postgres_proxy import PostgresProxy
from support import bearer, new_user, plant
from wire.people import Field, Person, wait_for_answers
from wire.server import DEADLINE_S, Server, query, request, wait_until

SOAK_S = int(os.environ.get("SOAK_S") or (30 if os.environ.get("CI") else 600))
WORKERS = 2
THREADS = 8
PEOPLE = 3
READERS = 4
MEMORY_MARGIN_BYTES = 10 * 1024 * 1024

# A slow reader takes some 40 kB/s for at most this time.
SLOW_READ_BYTES = 4096
SLOW_READ_PAUSE_S = 0.1
SLOW_READER_MAX_S = 6.0

# How long a part of the surroundings does not respond.
STALL_S = 2.0
# No connection of a client, and no session in a transaction, outlives its client for longer.
SETTLED_MAX_S = 90.0

OF_THE_SERVICE = "FROM pg_stat_activity WHERE application_name = 'todo'"


class Log:
    """The log of a server behind a pipe, as a container has it, whose reader can stall.

    Args:
        file: Where the reader writes all lines.

    Attributes:
        pipe: The path of the pipe, for the server to open.
        awake: While this event is not set, nothing is read.

    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.awake = threading.Event()
        self.awake.set()
        source, self._sink = os.pipe()
        self.pipe = Path(f"/proc/self/fd/{self._sink}")
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def opened(self) -> None:
        """Leave the pipe to the server alone."""
        os.close(self._sink)

    def _read(self, source: int) -> None:
        with os.fdopen(source, "rb", buffering=0) as stream, self.file.open("wb", buffering=0) as file:
            while self.awake.wait() and (data := stream.read(4096)):
                file.write(data)


class Surroundings(Field):
    """The server with its PostgreSQL and its log, and further faults of these."""

    def __init__(self, postgres: Any, proxy: PostgresProxy, folder: Path) -> None:
        self.logs: list[Log] = []
        self._folder = folder
        super().__init__(postgres, proxy, self._start_server)

    def _start_server(self, **changes: str) -> Server:
        self.logs.append(Log(self._folder / f"gunicorn-{len(self.logs)}.log"))
        size = {"WEB_CONCURRENCY": str(WORKERS), "WEB_THREADS": str(THREADS), "COVERAGE_PROCESS_CONFIG": ""}
        server = Server(self.logs[-1].pipe, **changes | size)
        self.logs[-1].opened()
        server.log = self.logs[-1].file
        server.wait_until_healthy()
        return server

    @property
    def url(self) -> str:
        """The URL of the database without the proxy."""
        return str(self.postgres.get_uri())

    def end_sessions(self) -> None:
        """End all sessions of the server."""
        query(self.url, f"SELECT pg_terminate_backend(pid) {OF_THE_SERVICE}")

    def stall_the_database(self) -> None:
        """Hold back every response of PostgreSQL for a while."""
        self.proxy.awake.clear()
        time.sleep(STALL_S)
        self.proxy.awake.set()

    def stall_the_log(self) -> None:
        """Read nothing of the log for a while."""
        self.logs[-1].awake.clear()
        time.sleep(STALL_S)
        self.logs[-1].awake.set()


LASTING = [
    Surroundings.cut,
    Surroundings.lose_answers,
    Surroundings.end_sessions,
    Surroundings.stall_the_database,
    Surroundings.stall_the_log,
    Surroundings.crash_the_database,
]
FATAL = [Surroundings.kill_a_worker, Surroundings.stop_and_start, *LASTING]


class SlowReader:
    """A client that reads large responses slowly, and mostly not to their end.

    Attributes:
        statuses: The status of each response.

    """

    def __init__(self, field: Surroundings, random: Random) -> None:
        self.statuses: list[int] = []
        self._port = field.port
        self._random = random
        self._headers = bearer(user := new_user())
        plant(field.url, [user], 5_000, description="x" * 1_000)

    def run(self, done: threading.Event) -> None:
        """Read until the event is set."""
        while not done.is_set():
            try:
                with closing(socket.socket()) as reader:
                    self._read(reader, done)
            except OSError:
                # The server was killed, or closed the connection because its session of PostgreSQL had ended.
                done.wait(SLOW_READ_PAUSE_S)

    def _read(self, reader: socket.socket, done: threading.Event) -> None:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_READ_BYTES)
        reader.settimeout(DEADLINE_S)
        if self._random.random() < 0.5:
            # The end of the connection is a reset then.
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reader.connect(("127.0.0.1", self._port()))
        path = self._random.choice(["/api/me/export", "/api/me/tasks?limit=1000"])
        reader.sendall(request("GET", path, self._headers))
        head = reader.recv(SLOW_READ_BYTES)
        if not head:
            return
        self.statuses.append(int(head.split()[1]))
        end = time.monotonic() + self._random.random() * SLOW_READER_MAX_S
        while time.monotonic() < end and reader.recv(SLOW_READ_BYTES):
            done.wait(SLOW_READ_PAUSE_S)


def sockets_among_files(pid: int) -> list[bool]:
    """Return for each open file of a process whether it is a socket."""
    return [stat.S_ISSOCK(link.stat().st_mode) for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()]


@dataclass(frozen=True, slots=True)
class Held:
    """What the processes of the server hold.

    Attributes:
        threads: The threads of each worker.
        files: The open files of each worker which are no sockets.
        sockets: The sockets of each worker.
        clients: The connections of clients.
        sessions: The sessions of PostgreSQL.
        transactions: Those that are in a transaction.
        resident: The resident memory of each worker in bytes.

    """

    threads: list[int]
    files: list[int]
    sockets: list[int]
    clients: int
    sessions: int
    transactions: int
    resident: list[int]

    @classmethod
    def by(cls, field: Surroundings) -> "Held":
        """Return what is held now."""
        workers = [psutil.Process(pid) for pid in sorted(field.server.workers())]
        connections = [worker.net_connections("inet") for worker in workers]
        sockets = [sockets_among_files(worker.pid) for worker in workers]
        sessions = query(field.url, f"SELECT state LIKE 'idle in transaction%%' {OF_THE_SERVICE}")
        return cls(
            threads=[worker.num_threads() for worker in workers],
            files=[len(links) - sum(links) for links in sockets],
            sockets=[sum(links) for links in sockets],
            clients=sum(
                one.laddr.port == field.server.port and one.status != psutil.CONN_LISTEN
                for those in connections
                for one in those
            ),
            sessions=len(sessions),
            transactions=sum(busy for (busy,) in sessions),
            resident=[worker.memory_info().rss for worker in workers],
        )

    @property
    def is_settled(self) -> bool:
        """Whether no client and no transaction is left."""
        return not self.clients and not self.transactions


def settled(field: Surroundings) -> Held:
    """Wait until no client is left, and return what the processes hold then."""
    wait_until(lambda: Held.by(field).is_settled, "no client is left", SETTLED_MAX_S)
    return Held.by(field)


def assert_copies_are_the_table(field: Surroundings, people: list[Person]) -> None:
    """Assert that nothing acknowledged is lost, and that each copy is what the table has."""
    for person in people:
        person.assert_kept()
        rows = query(field.url, "SELECT id, revision, title, description FROM tasks WHERE user_id = %s", person.id)
        copy = person.follower.tasks.values()
        assert sorted(rows) == sorted((t["id"], t["revision"], t["title"], t["description"]) for t in copy)


def statuses_in(log: Path) -> set[int]:
    """Return the statuses of all responses in a log."""
    # A worker that was killed may have left the beginning of a line.
    lines = [line for line in log.read_text().splitlines() if '"event":"request"' in line and line.endswith("}")]
    return {json.loads(line)["status"] for line in lines}


class Soak:
    """Users, slow readers and faults for a while, again and again.

    Args:
        field: What they use and break.
        random: Chooses everything that is left to chance.

    """

    def __init__(self, field: Surroundings, random: Random) -> None:
        self.field = field
        self.readers = [SlowReader(field, Random(random.random())) for _ in range(READERS)]
        self._random = random

    def run(self, faults: list[Callable[[Any], None]], duration_s: float) -> None:
        """Let new users write and follow for this long, during one fault after the other; then check everything."""
        end = time.monotonic() + duration_s
        done = threading.Event()
        with ExitStack() as stack:
            people = [
                stack.enter_context(closing(Person(self.field.port, self._random, writers=3))) for _ in range(PEOPLE)
            ]
            pool = stack.enter_context(ThreadPoolExecutor(4 * PEOPLE + READERS))
            stack.callback(done.set)
            running: list[Future[None]] = [future for person in people for future in person.start(pool, done)]
            running += [pool.submit(reader.run, done) for reader in self.readers]
            for fault in cycle([Surroundings.let_be, *self._random.sample(faults, len(faults))]):
                if time.monotonic() > end:
                    break
                self.field.proxy.queries.clear()
                fault(self.field)
                wait_for_answers(people, running)
            done.set()
            for future in running:
                future.result(2 * DEADLINE_S)
            assert_copies_are_the_table(self.field, people)


@pytest.fixture
def field(own_postgres: Any, tmp_path: Path) -> Iterator[Surroundings]:
    """Return a server that the test may disturb."""
    proxy = PostgresProxy(str(own_postgres.get_postmaster_info().socket_path))
    field = Surroundings(own_postgres, proxy, tmp_path)
    yield field
    field.server.kill()
    proxy.close()


# The checks take their time too: a copy that was behind follows in small pages.
@pytest.mark.timeout(2 * SOAK_S + 300)
@pytest.mark.slow
def test_soak_loses_nothing_and_leaves_nothing_held(field):
    soak = Soak(field, Random())

    soak.run(FATAL, SOAK_S / 2)
    # A process that has just replaced another one has still to grow to its usual size.
    soak.run(LASTING, SOAK_S / 4)
    before = settled(field)
    soak.run(LASTING, SOAK_S / 4)
    after = settled(field)

    assert (after.threads, after.files) == (before.threads, before.files)
    # The listening socket, one for each process of the server, to tell them of changes, and the connections of the
    # pool, some of which may have been closed by PostgreSQL.
    assert max(after.sockets) <= 1 + WORKERS + THREADS
    assert after.sessions <= WORKERS * THREADS
    for resident, at_first in zip(after.resident, before.resident, strict=True):
        assert resident - at_first < MEMORY_MARGIN_BYTES
    assert field.server.stop() == 0
    statuses = {status for reader in soak.readers for status in reader.statuses}
    assert 200 in statuses
    for log in field.logs:
        statuses |= statuses_in(log.file)
    assert {status for status in statuses if status >= 500} <= {503}
