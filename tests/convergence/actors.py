"""Those who use one list at once: devices with the TypeScript client, a follower of the changes, and an assistant."""

import http.client
import json
import os
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any

from convergence.ledger import Edit, second
from support import SECRET, bearer
from wire.follower import Follower
from wire.server import Line, Response

HERE = Path(__file__).parent
DEADLINE_S = 300

# Around so many tasks the list neither grows nor shrinks.
SIZE = 150
# How long they wait between two operations, on average: so all of them are done at about the same time.
DEVICE_PAUSE_S = 0.02
ASSISTANT_PAUSE_S = 0.005

MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

Spell = tuple[float, float]


class Actor:
    """Somebody who edits the list.

    Attributes:
        edits: What they did.
        away: The times at which they were offline, in seconds of the monotonic clock.
        seen: How often something happened to them, by what it was.

    """

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.random = random
        self.size = 0
        self.edits: list[Edit] = []
        self.away: list[Spell] = []
        self.seen: Counter[str] = Counter()

    def choose(self) -> str:
        """Choose what to do next."""
        adds = 4 if self.size < SIZE else 1
        return self.random.choices(["add", "update", "complete", "remove", "undo"], [adds, 9, 4, 2, 1])[0]

    def task(self) -> dict[str, Any]:
        """Return a new task, whose first tag is its name."""
        name = f"{self.name} {len(self.edits)}"
        return {"title": f"title of {name}", "description": f"description of {name}", "tags": [name]}

    def texts(self) -> dict[str, str]:
        """Return new values of one or two texts, which no other edit has."""
        members = self.random.sample(["title", "description", "tag"], self.random.choice([1, 1, 2]))
        return {member: f"{self.name} {len(self.edits)} {member}" for member in members}


class Device(Actor):
    """A device with the TypeScript client, in a process of its own.

    Args:
        name: The name of the device.
        url: The address of the server.
        user: The id of the user.
        random: Chooses what the user does.

    Attributes:
        events: What the client reported.

    """

    def __init__(self, name: str, url: str, user: str, random: Random) -> None:
        super().__init__(name, random)
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, SimpleQueue[dict[str, Any]]] = {}
        self._numbers = 0
        self._lock = threading.Lock()
        self._offline_for = 0
        variables = {"API_URL": url, "API_SECRET": SECRET, "API_USER": user, "EXPIRED_EVERY": "4"}
        self._process = subprocess.Popen(
            ["node", HERE / "device.mjs"],
            env={"PATH": os.environ["PATH"], **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self.events.append(said)
            else:
                self._answers[said["number"]].put(said)

    def begin(self, command: str, **options: Any) -> SimpleQueue[dict[str, Any]]:
        """Begin a command, and return where its result will be."""
        answer: SimpleQueue[dict[str, Any]] = SimpleQueue()
        with self._lock:
            self._numbers += 1
            self._answers[self._numbers] = answer
            self._process.stdin.write(json.dumps({"number": self._numbers, "command": command, **options}) + "\n")
            self._process.stdin.flush()
        return answer

    def ask(self, command: str, **options: Any) -> dict[str, Any]:
        """Return the result of a command."""
        return self.begin(command, **options).get(timeout=DEADLINE_S)

    def work(self, operations: int, done: Callable[[], object]) -> None:
        """Edit the list, online and offline, and look at it anew now and then."""
        for _ in range(operations):
            self._come_and_go()
            self._edit(self.choose())
            done()
            if self.random.random() < 0.03:
                self.begin("sync")
            time.sleep(2 * DEVICE_PAUSE_S * self.random.random())
        self.come_back()

    def _come_and_go(self) -> None:
        if self._offline_for:
            self._offline_for -= 1
            if not self._offline_for:
                self.come_back()
        elif self.random.random() < 0.006:
            self._offline_for = self.random.randint(20, 200)
            self.seen["offline"] += 1
            self.ask("offline")
            self.away.append((time.monotonic(), 0.0))

    def come_back(self) -> None:
        """Be online, and look at the list."""
        self._offline_for = 0
        if self.away and not self.away[-1][1]:
            self.away[-1] = (self.away[-1][0], time.monotonic())
        self.ask("online")
        self.begin("sync")

    def _edit(self, op: str) -> None:
        fraction = self.random.random()
        if op == "add":
            task = self.task()
            done = self.ask("add", task=task)
            self._note("add", {**done, "name": task["tags"][0]}, {"title": task["title"]})
            return
        if op == "update":
            texts = self.texts()
            done = self.ask("update", fraction=fraction, **texts)
        elif op == "complete":
            done = self.ask("update", fraction=fraction, toggle=True)
            texts = {"completed": not done.get("completed")}
        else:
            done = self.ask(op, fraction=fraction)
            texts = {}
        if "name" in done:
            self._note("update" if texts else op, done, texts)
        else:
            # There was nothing to do it with.
            self._edit("add")

    def _note(self, op: str, done: dict[str, Any], after: dict[str, Any]) -> None:
        before = {member: done[member] for member in after if member in done}
        self.edits.append(
            Edit(self.name, op, done["name"], done.get("revision", 0), done["rounds"], before, after),
        )


class Caller:
    """A client of HTTP whose tokens expire at times, and whose responses are lost.

    Args:
        port: The port of the proxy in front of the server.
        user: The id of the user.
        random: Chooses when a token has expired.

    Attributes:
        refused: How often a token was refused.

    """

    def __init__(self, port: int, user: str, random: Random) -> None:
        self.refused = 0
        self._port = port
        self._user = user
        self._random = random

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> Response | None:
        """Return the response, or None if the outcome of the request is unknown, or was none."""
        is_expired = self._random.random() < 0.02
        token = bearer(self._user, **({"exp": int(time.time()) - 3600} if is_expired else {}))
        try:
            with Line(self._port) as line:
                response = line.call(method, path, token | (headers or {}), body)
        except (OSError, http.client.HTTPException):
            response = None
        if response is not None and response.status_code == 401:
            assert is_expired
            self.refused += 1
        elif response is not None and response.status_code != 503:
            return response
        time.sleep(0.02)
        return None


class Assistant(Actor):
    """An assistant that calls the tools of the Model Context Protocol, each until there is an answer.

    It changes tasks only in the revision that it has read.
    """

    def __init__(self, name: str, caller: Caller, random: Random) -> None:
        super().__init__(name, random)
        self.caller = caller
        self._known: list[dict[str, Any]] = []
        self._removed: list[dict[str, Any]] = []

    def work(self, operations: int, done: Callable[[], object]) -> None:
        """Edit the list, and read it anew now and then."""
        for number in range(operations):
            if number % 8 == 0:
                self._look()
            self._edit(self.choose())
            done()
            time.sleep(2 * ASSISTANT_PAUSE_S * self.random.random())

    def tool(self, name: str, **arguments: Any) -> dict[str, Any] | None:
        """Return what a tool returned, or None if it refused."""
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": name}
        params = {"_meta": META, "name": name, "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        deadline = time.monotonic() + DEADLINE_S
        while (response := self.caller.call("POST", "/mcp", headers, body)) is None:
            self.seen["again"] += 1
            assert time.monotonic() < deadline, "no answer"
        assert response.status_code == 200, response.data
        result = response.get_json()["result"]
        if result["isError"]:
            self.seen["refused"] += 1
            return None
        return result["structuredContent"]

    def _look(self) -> None:
        sort = self.random.choice(["-updated_at", "created_at", "title"])
        page = self.tool("list_tasks", limit=100, sort=sort)
        assert page is not None
        self._known = page["tasks"]

    def _edit(self, op: str) -> None:
        if op == "add" or not self._known:
            task = self.task()
            assert self.tool("add_task", **task, idempotency_key=str(uuid.UUID(int=self.random.getrandbits(128))))
            self.edits.append(Edit(self.name, "add", task["tags"][0], after={"title": task["title"]}))
        elif op == "undo":
            if not self._removed:
                self._edit("add")
                return
            task = self._removed.pop()
            restored = self.tool("restore_task", task_id=task["id"])
            self._note("undo", task, {}, restored)
        else:
            self._change(op, self.random.choice(self._known))

    def _change(self, op: str, task: dict[str, Any]) -> None:
        known = {"task_id": task["id"], "if_revision": task["revision"]}
        if op == "remove":
            self._known.remove(task)
            self._removed.append(task)
            self._note("remove", task, {}, self.tool("delete_task", **known))
            return
        after: dict[str, Any]
        if op == "complete":
            after = {"completed": not task["completed"]}
            result = self.tool("complete_task", **known, **after)
        else:
            after = self.texts()
            members: dict[str, Any] = {member: value for member, value in after.items() if member != "tag"}
            if "tag" in after:
                members["tags"] = [task["tags"][0], after["tag"]]
            result = self.tool("update_task", **known, members=members)
        self._note("update", task, after, result)
        if result is not None:
            self._known[self._known.index(task)] = result["task"]

    def _note(self, op: str, task: dict[str, Any], after: dict[str, Any], result: Any) -> None:
        seen = task | {"tag": second(task["tags"])}
        before = {member: seen[member] for member in after}
        # Nothing of an assistant is folded, so that each edit has a round of its own.
        edit = Edit(self.name, op, task["tags"][0], task["revision"], len(self.edits), before, after, result is None)
        self.edits.append(edit)


class Reader:
    """A client that follows the changes feed alone, and sleeps at times.

    Attributes:
        follower: The copy.
        away: The times at which it slept.

    """

    def __init__(self, caller: Caller, random: Random) -> None:
        self.caller = caller
        self.follower = Follower(caller)
        self.away: list[Spell] = []
        self._random = random

    def work(self, done: threading.Event) -> None:
        """Apply page after page of the feed, in various sizes."""
        while not done.is_set():
            if self.follower.step(self._random.randint(1, 40)):
                done.wait(self._random.random() / 10)
            if self._random.random() < 0.01:
                slept = time.monotonic()
                done.wait(1 + 4 * self._random.random())
                self.away.append((slept, time.monotonic()))

    def catch_up(self) -> None:
        """Read to the end of the feed."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.follower.step(1000):
            assert time.monotonic() < deadline
