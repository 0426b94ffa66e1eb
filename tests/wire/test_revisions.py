"""Revisions with concurrent writers and followers, while everything between them breaks."""

import os
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from random import Random
from typing import Any

import pytest
from fakes.postgres_proxy import PostgresProxy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import assert_problem, bearer, new_user
from wire.follower import Caller, Follower, Task, checksum, revision_of, tag_of
from wire.revisions import CHANGES, CHANGING, TASKS, TRASH, RevisionChecks, path_of, sender_for
from wire.server import (
    DEADLINE_S,
    Line,
    Response,
    Server,
    query,
    start_database,
    stop_database,
    titles,
    wait_until,
)

NEXT = re.compile(r'<(.*)>; rel="next"')

# Other tests cover the same lines, and to measure coverage here too would take twice as long.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


@pytest.fixture(scope="module")
def start_server(start_server: Callable[..., Server]) -> Callable[..., Server]:
    """Return a function that starts servers without coverage."""
    return partial(start_server, **UNMEASURED)


@pytest.fixture(scope="module")
def server(database_url: str, start_server: Callable[..., Server]) -> Server:
    """Return a server as production runs it."""
    return start_server(DATABASE_URL=database_url, WEB_CONCURRENCY="2", WEB_THREADS="4")


class Field:
    """A server that reaches its own PostgreSQL through a proxy, and the faults of all three.

    Attributes:
        proxy: The proxy in front of PostgreSQL.
        server: The running server.

    """

    def __init__(self, postgres: Any, proxy: PostgresProxy, start: Callable[..., Server]) -> None:
        self.postgres = postgres
        self.proxy = proxy
        self._start = partial(start, DATABASE_URL=proxy.url("postgres"), WEB_CONCURRENCY="2", WEB_THREADS="4")
        self.server: Server = self._start()

    def port(self) -> int:
        return self.server.port

    def kill_a_worker(self) -> None:
        """Kill one worker, and wait until there are two again."""
        wait_until(lambda: len(self.server.workers()) == 2, "both at work")
        killed = min(self.server.workers())
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(self.server.workers() - {killed}) == 2, "replaced")

    def stop_and_start(self) -> None:
        """Stop the server, and start it on another port."""
        assert self.server.stop() == 0
        self.server = self._start()

    def crash_the_database(self) -> None:
        """Crash PostgreSQL, and let it recover."""
        stop_database(self.postgres, "immediate")
        start_database(self.postgres)

    def cut(self) -> None:
        """Close all connections to PostgreSQL."""
        self.proxy.cut()

    def lose_answers(self) -> None:
        """Lose a few responses at a time: a new connection that loses its first responses never reaches a write."""
        for _ in range(15):
            self.proxy.queries.clear()
            self.proxy.lose_answers = True
            wait_until(lambda: len(self.proxy.queries) > 1, "lost")
            self.proxy.lose_answers = False
            time.sleep(0.05)

    def let_be(self) -> None:
        """Cause no fault."""


# Each order takes ten seconds: `make check` tries three of them, and `make test` one.
FAULT_ORDERS = 3 if settings.get_current_profile_name() == "thorough" else 1
FAULTS = [Field.kill_a_worker, Field.lose_answers, Field.stop_and_start, Field.crash_the_database, Field.cut]


@pytest.fixture(scope="module")
def field(own_postgres: Any, start_server: Callable[..., Server]) -> Iterator[Field]:
    """Return a server that tests may disturb."""
    proxy = PostgresProxy(str(own_postgres.get_postmaster_info().socket_path))
    yield Field(own_postgres, proxy, start_server)
    proxy.close()


class Person:
    """A user with several writers, and a follower that reads the feed alone.

    Attributes:
        id: The id of the user.
        held: The acknowledged tasks, in the latest state of a response.
        sent: The titles of all creations that were ever sent, all of them different.
        removed: The ids of all tasks for which a deletion was sent.
        answers: The status of each response to a writer.

    """

    def __init__(self, port: Callable[[], int], random: Random, writers: int) -> None:
        self.id = new_user()
        self.held: dict[int, Task] = {}
        self.sent: set[str] = set()
        self.removed: set[int] = set()
        self.answers: list[int] = []
        self._random = random
        self._reader = Caller(port, self.id)
        self._writers = [Caller(port, self.id) for _ in range(writers)]
        self.follower = Follower(self._reader)

    def close(self) -> None:
        for caller in (self._reader, *self._writers):
            caller.close()

    def start(self, pool: ThreadPoolExecutor, done: threading.Event) -> list[Future[None]]:
        """Run the writers and the follower until the event is set."""
        writing = [pool.submit(self._write, writer, Random(self._random.random()), done) for writer in self._writers]
        return [*writing, pool.submit(self._follow, Random(self._random.random()), done)]

    def _follow(self, random: Random, done: threading.Event) -> None:
        """Apply page after page of the feed, in various sizes."""
        while not done.is_set():
            if self.follower.step(random.randint(1, 7)):
                done.wait(random.random() / 50)

    def _write(self, writer: Caller, random: Random, done: threading.Event) -> None:
        """Create and change tasks at random."""
        while not done.is_set():
            if random.random() < 0.3 or not self.held:
                self._create(writer, once=random.random() < 0.7)
            else:
                self._change(writer, random)

    def _create(self, writer: Caller, *, once: bool) -> None:
        """Create a task; with an idempotency key, retry until there is a response."""
        title = uuid.uuid4().hex
        self.sent.add(title)
        headers = {"Idempotency-Key": title} if once else {}
        tries: list[Response | None] = []

        def answered() -> bool:
            tries.append(writer.call("POST", TASKS, headers, {"title": title}))
            return tries[-1] is not None

        if once:
            wait_until(answered, "answered in the end")
        elif not answered():
            return
        answer = tries[-1]
        assert answer is not None
        assert answer.status_code == 201
        assert answer.headers["Idempotent-Replayed"] is None or len(tries) > 1
        created = answer.get_json()
        assert created["title"] == title
        self.held[created["id"]] = created
        self.answers.append(201)

    def _change(self, writer: Caller, random: Random) -> None:
        """Send a random request about a task, or about a deleted one."""
        task = random.choice(list(self.held.values())[-random.choice([2, 10, 1000]) :])
        gone = random.choice(list(self.removed)) if self.removed else task["id"]
        known = {"If-Match": tag_of(task)}
        path = path_of(task)
        method, path, headers, body = random.choice(
            [
                ("PATCH", path, {}, {"description": uuid.uuid4().hex}),
                ("PATCH", path, known, {"description": uuid.uuid4().hex}),
                ("PATCH", path, {}, {"title": task["title"]}),
                ("PATCH", f"{path}/complete", {}, None),
                ("DELETE", path, random.choice([{}, known]), None),
                ("POST", f"{TRASH}/{gone}/restore", {}, None),
                ("DELETE", f"{TRASH}/{gone}", {}, None) if random.random() < 0.3 else ("GET", path, known, None),
            ]
        )
        if (method, path) == ("DELETE", path_of(task)):
            self.removed.add(task["id"])
        answer = writer.call(method, path, headers, body)
        if answer is None:
            return
        assert answer.status_code in {200, 204, 404, 412}, answer.data
        self.answers.append(answer.status_code)
        if answer.status_code == 200:
            self.held[answer.get_json()["id"]] = answer.get_json()

    def assert_kept(self) -> None:
        """Assert, while no writer runs, that the copy is the list, and that no task was created twice or lost."""
        listed: list[Task] = []
        revisions: set[int] = set()

        def settled() -> bool:
            """Wait for statements of broken connections that are still running."""
            wait_until(lambda: self.follower.step(self._random.randint(1, 7)), "at the end of the feed")
            listed[:], read_at = self._list()
            revisions.clear()
            revisions.update(read_at)
            return revisions == {self.follower.revision}

        wait_until(settled, "at one revision")
        assert sorted(self.follower.tasks.values(), key=lambda task: task["id"]) == listed
        assert self.follower.restarts == 0
        assert set(self.held) - self.removed <= {task["id"] for task in listed}
        kept = [task["title"] for task in [*listed, *self._read(TRASH).get_json()]]
        assert len(kept) == len(set(kept))
        assert set(kept) <= self.sent

    def _list(self) -> tuple[list[Task], set[int]]:
        """Read all pages of the list, and return the tasks and the revisions of the pages."""
        page: str | None = f"{TASKS}?limit={self._random.randint(5, 50)}"
        listed: list[Task] = []
        revisions = set()
        while page is not None:
            answer = self._read(page)
            listed += answer.get_json()
            revisions.add(revision_of(answer))
            page = NEXT.fullmatch(answer.headers["Link"])[1] if "Link" in answer.headers else None
        return listed, revisions

    def _read(self, path: str) -> Response:
        """Read until there is a response."""
        answers: list[Response | None] = [None]

        def answered() -> bool:
            answers[0] = self._reader.call("GET", path)
            return answers[0] is not None

        wait_until(answered, "answered in the end")
        assert answers[0] is not None
        assert answers[0].status_code == 200
        return answers[0]


def wait_for_answers(people: list[Person], running: list[Future[None]]) -> None:
    """Wait until each user has written for a while, or one of them has failed."""
    before = [len(person.answers) for person in people]

    def all_have_some() -> bool:
        for future in running:
            if future.done():
                future.result()
        return all(len(person.answers) > n + 60 for person, n in zip(people, before, strict=True))

    wait_until(all_have_some, "written")


WRITERS = 16
WRITES = 10_000


class Counting:
    """A writer that increments counters which other writers increment too, and creates and deletes tasks of its own.

    Attributes:
        counted: How many increments of each counter were acknowledged.
        writes: How many writes were acknowledged.
        effective: How many of them changed something.

    """

    def __init__(self, port: int, user: str, newest: dict[int, Task], seed: int) -> None:
        self.counted: Counter[int] = Counter()
        self.writes = 0
        self.effective = 0
        self._port = port
        self._headers = bearer(user)
        self._newest = newest
        self._counters = list(newest)
        self._random = Random(seed)
        self._own: list[Task] = []

    def run(self) -> None:
        """Send this writer's share of the writes."""
        with Line(self._port) as line:
            while self.writes < WRITES // WRITERS:
                lot = self._random.random()
                if lot < 0.15:
                    self._own.append(self._write(line, "POST", TASKS, {"title": "own"}, 201).get_json())
                elif lot < 0.25 and self._own:
                    self._write(line, "DELETE", path_of(self._own.pop()), None, 204)
                elif lot < 0.35:
                    self._write(line, "PATCH", path_of(self._any()), {"title": "counter"}, 200)
                    self.effective -= 1
                else:
                    self._count(line)

    def _any(self) -> Task:
        """Return one of the shared counters in its newest known state."""
        return self._newest[self._random.choice(self._counters)]

    def _write(self, line: Line, method: str, path: str, body: Any, status: int) -> Response:
        """Send a write that must succeed, and count it."""
        answer = line.call(method, path, self._headers, body)
        assert answer.status_code == status, answer.data
        self.writes += 1
        self.effective += 1
        return answer

    def _count(self, line: Line) -> None:
        """Increment a counter from its known state, and again from the current state after each 412."""
        task = self._any()
        while True:
            one_more = {"description": str(int(task["description"]) + 1)}
            answer = line.call("PATCH", path_of(task), self._headers | {"If-Match": tag_of(task)}, one_more)
            if answer.status_code == 200:
                break
            task = assert_problem(answer, 412)["current"]
        self._newest[task["id"]] = answer.get_json()
        self.counted[task["id"]] += 1
        self.writes += 1
        self.effective += 1


# The two longest tests run beside the others of this module, and beside each other.
@pytest.mark.xdist_group("followers")
@pytest.mark.slow
@settings(
    max_examples=FAULT_ORDERS,
    deadline=None,
    phases=[Phase.generate],
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32), faults=st.permutations(FAULTS))
def test_followers_of_writers_at_once_through_all_faults_keep_exact_copies(field, seed, faults):
    random = Random(seed)
    with ExitStack() as stack:
        people = [stack.enter_context(closing(Person(field.port, random, writers=3))) for _ in range(3)]
        pool = stack.enter_context(ThreadPoolExecutor(4 * len(people)))
        for fault in faults:
            done = threading.Event()
            running = [future for person in people for future in person.start(pool, done)]
            try:
                for happen in (Field.let_be, fault):
                    happen(field)
                    wait_for_answers(people, running)
            finally:
                done.set()
            for future in running:
                future.result(2 * DEADLINE_S)
            for person in people:
                person.assert_kept()


@pytest.mark.xdist_group("followers")
def test_create_whose_answer_was_lost_is_made_once_when_it_is_sent_again(field, start_server, user):
    send = sender_for(start_server(DATABASE_URL=field.proxy.url("postgres"), WEB_THREADS="1"), user)
    assert send("GET", TASKS).status_code == 200
    field.proxy.lose_answers = True
    lost = send("POST", TASKS, {"title": "x"}, Idempotency_Key="a")
    wait_until(lambda: titles(field.postgres.get_uri(), user) == ["x"], "in effect")
    field.proxy.lose_answers = False

    again = [send("POST", TASKS, {"title": "x"}, Idempotency_Key="a") for _ in range(2)]

    assert_problem(lost, 503)
    assert [(answer.status_code, answer.headers["Idempotent-Replayed"]) for answer in again] == [(201, "true")] * 2
    assert send("GET", TASKS).get_json() == [again[0].get_json()]


@pytest.mark.xdist_group("writers")
@pytest.mark.slow
def test_ten_thousand_optimistic_writes_at_once_lose_no_update(server, user):
    send = sender_for(server, user)
    created = [send("POST", TASKS, {"title": "counter", "description": "0"}).get_json() for _ in range(10)]
    newest = {task["id"]: task for task in created}
    writers = [Counting(server.port, user, newest, seed) for seed in range(WRITERS)]

    with ThreadPoolExecutor(WRITERS) as pool:
        for future in [pool.submit(writer.run) for writer in writers]:
            future.result()

    listed = send("GET", TASKS)
    tasks = listed.get_json()
    counted = sum((writer.counted for writer in writers), Counter())
    assert sum(writer.writes for writer in writers) == WRITES
    assert {task["id"]: int(task["description"]) for task in tasks[:10]} == counted
    assert revision_of(listed) == len(created) + sum(writer.effective for writer in writers)
    assert len({task["revision"] for task in tasks}) == len(tasks)
    page = send("GET", CHANGES).get_json()
    assert (page["count"], page["checksum"]) == (len(tasks), checksum(tasks))


def test_changes_without_if_match_where_it_is_required_are_428(start_server, database_url, user):
    server = start_server(DATABASE_URL=database_url, WEB_CONCURRENCY="2", REQUIRE_IF_MATCH="true")
    send = sender_for(server, user)
    task = send("POST", TASKS, {"title": "x"}).get_json()

    for method, suffix, body in (case.values for case in CHANGING):
        assert_problem(send(method, path_of(task) + suffix, body), 428)
    assert send("GET", TASKS).get_json() == [task]

    changed = send("PATCH", path_of(task), {"title": "y"}, If_Match=tag_of(task))
    assert changed.status_code == 200
    assert send("DELETE", path_of(task), If_Match=changed.headers["ETag"]).status_code == 204
    assert send("POST", f"{TRASH}/{task['id']}/restore").status_code == 200


def test_trash_of_no_days_keeps_nothing_and_the_feed_tells_the_deletion(start_server, database_url, user):
    server = start_server(DATABASE_URL=database_url, WEB_CONCURRENCY="2", TRASH_DAYS="0")
    send = sender_for(server, user)
    task = send("POST", TASKS, {"title": "x"}, Idempotency_Key="a").get_json()
    known = send("GET", CHANGES).get_json()

    assert send("DELETE", path_of(task)).status_code == 204

    told = send("GET", f"{CHANGES}?since={known['next']}").get_json()
    assert known["tasks"] == [task]
    assert send("GET", TRASH).data == b"[]"
    assert_problem(send("POST", f"{TRASH}/{task['id']}/restore"), 404)
    assert told["tasks"] == []
    assert [(gone["id"], gone["revision"]) for gone in told["deleted"]] == [(task["id"], task["revision"] + 1)]
    assert (told["count"], told["checksum"]) == (0, checksum([]))
    assert query(database_url, "SELECT task FROM trash WHERE user_id = %s", user) == [(None,)]


class TestRevisions(RevisionChecks):
    """The checks of revisions on a direct connection to PostgreSQL."""
