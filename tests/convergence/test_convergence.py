"""Two devices, a follower and an assistant on one list, while everything between them breaks."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import psycopg2
import pytest
from convergence.actors import DEADLINE_S, Assistant, Caller, Device, Reader
from convergence.faults import Faults
from convergence.ledger import REMEMBER, History, Ledger
from convergence.report import Sample, draw, table
from fakes.http_proxy import HTTPProxy
from support import new_user
from wire.follower import Follower, checksum
from wire.people import Field
from wire.server import ROOT, query, wait_until

REPORTS = ROOT / "docs" / "decisions" / "convergence"
DEVICES = ("phone", "laptop")
SAMPLE_S = 0.5
# How often a request or its response is lost, or doubled.
ODDS = 0.08

# The faults that a lane of the picture has.
LANES = {
    "database down": ["database crashed", "database killed"],
    "database cut off": ["connections to the database cut", "responses of the database lost"],
    "workers killed": ["workers killed"],
    "server restarted": ["server restarted"],
    "streams cut": ["streams cut"],
}

LISTED = "SELECT id, revision FROM tasks WHERE user_id = %s"


class Run:
    """A run: those who take part, and what happened."""

    def __init__(self, field: Field, seed: int, operations: int) -> None:
        self.seed, self.operations = seed, operations
        self.url = field.postgres.get_uri()
        query(self.url, REMEMBER)
        self.user = new_user()
        self.done = 0
        self.samples: list[Sample] = []
        self._finished = threading.Event()
        self._lock = threading.Lock()
        self.proxy = HTTPProxy(field.port, self._random("proxy"))
        self.devices = [Device(name, self.proxy.url, self.user, self._random(name)) for name in DEVICES]
        self.assistant = Assistant("assistant", self._caller("assistant"), self._random("assistant"))
        self.reader = Reader(self._caller("follower"), self._random("follower"))
        self.faults = Faults(field, self.proxy, self._random("faults"))
        self.began = time.monotonic()

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")

    def _caller(self, name: str) -> Caller:
        return Caller(self.proxy.port, self.user, self._random(f"tokens of {name}"))

    def close(self) -> None:
        """End all processes and threads."""
        self._finished.set()
        for device in self.devices:
            device.close()
        self.proxy.close()

    @property
    def edits(self) -> list[Any]:
        return [edit for actor in (*self.devices, self.assistant) for edit in actor.edits]

    def work(self) -> None:
        """Let everybody work, until all operations are done and all faults have happened."""
        shares = [2 * self.operations // 5] * len(DEVICES)
        self.proxy.odds = ODDS
        with ThreadPoolExecutor(8) as pool:
            working = [
                pool.submit(device.work, share, self._one_more)
                for device, share in zip(self.devices, shares, strict=True)
            ]
            working.append(pool.submit(self.assistant.work, self.operations - sum(shares), self._one_more))
            working.append(pool.submit(self.faults.work, 7 + self.operations // 500, self._progress))
            standing_by = [pool.submit(self.reader.work, self._finished), pool.submit(self._watch)]
            try:
                wait_for(working, standing_by)
                self.proxy.odds = 0.0
                self.settle()
            finally:
                self._finished.set()
        wait_for(standing_by, [])

    def _one_more(self) -> None:
        """Count an operation. After a failure this ends whoever calls it."""
        assert not self._finished.is_set()
        with self._lock:
            self.done += 1

    def _progress(self) -> float:
        return 1.0 if self._finished.is_set() else self.done / self.operations

    def settle(self) -> None:
        """Wait until every device says that it is in step, after the last one has sent everything."""
        for _ in range(2):
            for device in self.devices:
                wait_until(partial(self._is_in_step, device), f"{device.name} in step", DEADLINE_S)

    @staticmethod
    def _is_in_step(device: Device) -> bool:
        answer = device.ask("sync")
        return answer["inStep"] and not answer["pending"]

    def _watch(self) -> None:
        """Compare the copies with the list, from time to time."""
        while not self._finished.wait(SAMPLE_S):
            # PostgreSQL may be away.
            with suppress(psycopg2.Error):
                self.compare()

    def compare(self) -> None:
        """Note how many tasks of each copy differ from the list."""
        listed = set(query(self.url, LISTED, self.user))
        differences = {}
        for device in self.devices:
            copy = {(task, 0 if pending else revision) for task, revision, pending in device.ask("copy")["tasks"]}
            differences[device.name] = different(copy, listed)
        followed = {(task["id"], task["revision"]) for task in list(self.reader.follower.tasks.values())}
        differences["follower"] = different(followed, listed)
        self.samples.append(Sample(time.monotonic() - self.began, differences))
        for actor in (*self.devices, self.assistant):
            actor.size = len(listed)

    def rows(self, ledger: Ledger, follower: Follower, history: History) -> Iterator[tuple[str, object]]:
        """Yield the rows of the report."""
        happened = Counter(kind for kind, _, _ in self.faults.happened)
        reported = Counter(report["event"] for device in self.devices for report in device.events)
        outcomes = sum(ledger.outcomes.values(), Counter())
        yield "duration, s", round(time.monotonic() - self.began)
        yield "operations", len(self.edits)
        for actor in (*self.devices, self.assistant):
            yield f"of them by the {actor.name}", len(actor.edits)
        yield "stored", outcomes["stored"]
        yield "folded into a later edit before they were sent", outcomes["folded"]
        yield "reported as a conflict, dropped or refused", outcomes["reported"]
        yield "conflicts reported by devices", reported["conflict"]
        yield "edits of deleted tasks reported by devices", reported["dropped"]
        yield "calls refused to the assistant", self.assistant.seen["refused"]
        for kind in HTTPProxy.KINDS:
            yield kind, self.proxy.happened[kind]
        tokens = reported["token"] + self.assistant.caller.refused + self.reader.caller.refused
        yield "expired tokens refused", tokens
        yield "spells offline", sum(len(device.away) for device in self.devices) + len(self.reader.away)
        yield from sorted(happened.items())
        yield "revision of the list at the end", follower.revision
        yield "tasks at the end", len(follower.tasks)
        yield "tasks created twice", len(history.duplicates())
        yield "edits lost", len(ledger.lost)
        yield "texts replaced unseen", len(ledger.blind)
        yield "copies found wrong (drift)", reported["drift"]
        yield "checksum of all", checksum(follower.tasks.values())[:12]

    def picture(self) -> str:
        """Return the picture of the run."""
        lanes: dict[str, list[tuple[float, float]]] = {
            f"{device.name} offline": self._bars(device.away) for device in self.devices
        }
        lanes["follower asleep"] = self._bars(self.reader.away)
        for name, kinds in LANES.items():
            lanes[name] = self._bars([(since, until) for kind, since, until in self.faults.happened if kind in kinds])
        title = f"{self.operations:,} operations, seed {self.seed}"
        return draw(title, self.samples, lanes)

    def _bars(self, spells: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(since - self.began, until - self.began) for since, until in spells]


def different(copy: set[tuple[Any, int]], listed: set[tuple[Any, int]]) -> int:
    """Return how many tasks two copies do not have alike."""
    return len({task for task, _ in copy ^ listed})


def wait_for(working: list[Future[None]], standing_by: list[Future[None]]) -> None:
    """Wait until all have finished their work; the first that fails ends it, also one of those that stand by."""
    while any(not future.done() for future in working):
        for future in (*working, *standing_by):
            if future.done():
                future.result()
        time.sleep(0.05)
    for future in working:
        future.result()


@pytest.fixture
def run(field: Field, pytestconfig: pytest.Config) -> Iterator[Run]:
    """Return a run with the seed and the operations that the command line asks for."""
    run = Run(field, pytestconfig.getoption("--seed"), pytestconfig.getoption("--operations"))
    yield run
    run.close()


@pytest.mark.timeout(3600)
def test_clients_and_an_assistant_end_with_one_list_whatever_breaks(
    run: Run, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    run.work()
    run.reader.catch_up()
    run.compare()
    server = Follower(Caller(run.proxy.port, run.user, Random(0)))
    while not server.step(1000):
        pass
    history = History(run.url, run.user)
    ledger = Ledger(run.edits, {device.name: device.events for device in run.devices}, history)
    figures = dict(run.rows(ledger, server, history))
    with capsys.disabled():
        sys.stdout.write(f"\n{table(figures, f'seed {run.seed}')}\n")
    if pytestconfig.getoption("--report"):
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / f"seed-{run.seed}.svg").write_text(run.picture())
        (REPORTS / f"seed-{run.seed}.json").write_text(json.dumps(figures, indent=2) + "\n")

    # Its own last page has proved to the follower that this is the server's list.
    listed = sorted(server.tasks.values(), key=lambda task: task["id"])
    assert {task["id"]: task["revision"] for task in listed} == dict(query(run.url, LISTED, run.user))
    assert sorted(run.reader.follower.tasks.values(), key=lambda task: task["id"]) == listed
    for device in run.devices:
        assert sorted(device.ask("list")["tasks"], key=lambda task: task["id"]) == listed
        assert [report for report in device.events if report["event"] == "drift"] == []
    assert history.duplicates() == []
    assert ledger.lost == []
    assert ledger.blind == []
    assert run.reader.follower.restarts == 0
