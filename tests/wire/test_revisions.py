"""Revisions with concurrent writers and followers, while everything between them breaks."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from random import Random
from typing import Any

import pytest
from fakes.postgres_proxy import PostgresProxy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import assert_problem, bearer
from wire.follower import Task, checksum, revision_of, tag_of
from wire.people import Field, Person, wait_for_answers
from wire.revisions import CHANGES, CHANGING, TASKS, TRASH, RevisionChecks, path_of, sender_for
from wire.server import (
    DEADLINE_S,
    Line,
    Response,
    Server,
    query,
    titles,
    wait_until,
)

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


# Each order takes ten seconds: `make check` tries three of them, and `make test` one.
FAULT_ORDERS = 3 if settings.get_current_profile_name() == "thorough" else 1
FAULTS = [Field.kill_a_worker, Field.lose_answers, Field.stop_and_start, Field.crash_the_database, Field.cut]


@pytest.fixture(scope="module")
def field(own_postgres: Any, start_server: Callable[..., Server]) -> Iterator[Field]:
    """Return a server that tests may disturb."""
    proxy = PostgresProxy(str(own_postgres.get_postmaster_info().socket_path))
    yield Field(own_postgres, proxy, start_server)
    proxy.close()


WRITERS = 16
WRITES = 10_000


def count_of(task: Task) -> int:
    """Return the number in the description of a counter."""
    return int(task["description"].partition(" ")[0])


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
        self._seed = seed
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
        """Increment a counter from its known state, and again from the current state after each 412.

        Each increment has a name beside the number, or it would count as made already when another one, from the same
        state, has led to the same number.
        """
        task = self._any()
        while True:
            one_more = {"description": f"{count_of(task) + 1} by {self.writes} of {self._seed}"}
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
    assert {task["id"]: count_of(task) for task in tasks[:10]} == counted
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
