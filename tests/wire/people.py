"""Users that write and follow at once, and the server that they use while everything around it breaks."""

import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

from fakes.postgres_proxy import PostgresProxy
from support import new_user
from wire.follower import Caller, Follower, Task, revision_of, tag_of
from wire.revisions import TASKS, TRASH, path_of
from wire.server import DEADLINE_S, Response, Server, start_database, stop_database, wait_until

NEXT = re.compile(r'<(.*)>; rel="next"')


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
            lot = random.random()
            if lot < 0.25 or not self.held:
                self._create(writer, once=random.random() < 0.7)
            elif lot < 0.4:
                self._push(writer, random)
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
            # One fault may follow the other.
            wait_until(answered, "answered in the end", 3 * DEADLINE_S)
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

    def _push(self, writer: Caller, random: Random) -> None:
        """Send a batch, and send it again until there is a response."""
        titles = [uuid.uuid4().hex for _ in range(random.randint(0, 3))]
        self.sent.update(titles)
        operations: list[dict[str, Any]] = [
            {"op": "create", "key": title, "task": {"title": title}} for title in titles
        ]
        tasks = list(self.held.values())[-20:]
        for task in random.sample(tasks, min(len(tasks), 5)):
            operation: dict[str, Any] = {
                "op": random.choice(["update", "update", "delete", "restore"]),
                "id": task["id"],
            }
            if operation["op"] == "update":
                operation["task"] = {"description": uuid.uuid4().hex}
            elif operation["op"] == "delete":
                self.removed.add(task["id"])
            if operation["op"] != "restore" and random.random() < 0.5:
                operation["if_revision"] = task["revision"]
            operations.append(operation)
        random.shuffle(operations)
        answers: list[Response | None] = []

        def answered() -> bool:
            answers.append(writer.call("POST", f"{TASKS}/batch", None, {"operations": operations}))
            return answers[-1] is not None

        wait_until(answered, "answered in the end")
        assert answers[-1] is not None
        assert answers[-1].status_code == 200, answers[-1].data
        batch = answers[-1].get_json()
        assert len(answers) > 1 or not any("replayed" in result for result in batch["results"])
        for operation, result in zip(operations, batch["results"], strict=True):
            assert result["status"] in {200, 201, 204, 404, 412}, result
            assert (result["status"] == 201) == (operation["op"] == "create")
            if "task" in result and "deleted" not in result:
                self.held[result["task"]["id"]] = result["task"]
        assert batch["before"] <= batch["revision"] <= batch["before"] + len(operations)
        self.answers.append(200)

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
