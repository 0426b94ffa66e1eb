"""A copy of a user's tasks that the changes feed alone maintains, and users whose broken connections are replaced."""

import hashlib
import http.client
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from support import bearer
from wire.server import Line, Response

Task = dict[str, Any]


def revision_of(answer: Response) -> int:
    """Return the revision in the ETag of a list."""
    return int(answer.headers["ETag"].strip('"').partition("-")[0])


def tag_of(task: Task) -> str:
    """Return the ETag of a task."""
    return f'"{task["revision"]}"'


def checksum(tasks: Iterable[Task]) -> str:
    """Return the checksum that the last page of the feed has for these tasks."""
    lines = [f"{task['id']}:{task['revision']}\n" for task in sorted(tasks, key=lambda task: task["revision"])]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Caller:
    """A user on one connection, which is replaced when it breaks.

    Args:
        port: Returns the current port of the server.
        user: The id of the user.

    """

    def __init__(self, port: Callable[[], int], user: str) -> None:
        self._port = port
        self._headers = bearer(user)
        self._line: Line | None = None

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> Response | None:
        """Return the response, or None if the outcome of the request is unknown."""
        try:
            self._line = self._line or Line(self._port())
            answer = self._line.call(method, path, self._headers | (headers or {}), body)
            if answer.status_code != 503:
                return answer
        except (OSError, http.client.HTTPException):
            self.close()
        time.sleep(0.01)
        return None


class Follower:
    """A copy of a user's tasks that the changes feed alone maintains.

    Attributes:
        tasks: The copy, by id.
        revision: The revision of the copy; single tasks may be newer until the last page is applied.
        restarts: How often the copy started again because its cursor had expired.

    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.restarts = 0
        self._begin()

    def _begin(self) -> None:
        """Start with an empty copy."""
        self.tasks: dict[int, Task] = {}
        self.revision = 0
        self._last_revision = 0
        self._cursor: str | None = None

    def step(self, limit: int) -> bool:
        """Apply one page of the feed, and return whether it was the last one."""
        since = "" if self._cursor is None else f"&since={quote(self._cursor)}"
        answer = self._caller.call("GET", f"/api/me/tasks/changes?limit={limit}{since}")
        if answer is None:
            return False
        if answer.status_code == 410:
            assert answer.get_json()["code"] == "cursor_expired"
            self.restarts += 1
            self._begin()
            return False
        assert answer.status_code == 200, answer.data
        page = answer.get_json()
        self._apply(page, limit)
        self.revision = revision_of(answer)
        if page["has_more"]:
            assert not {"count", "checksum"} & set(page)
            return False
        proof = (len(self.tasks), checksum(self.tasks.values()))
        assert (page["count"], page["checksum"]) == proof, "the copy is not the list"
        return True

    def _apply(self, page: dict[str, Any], limit: int) -> None:
        """Apply the changes of one page in the order of their revisions."""
        changes = sorted(page["tasks"] + page["deleted"], key=lambda change: change["revision"])
        assert len(changes) == limit if page["has_more"] else len(changes) <= limit
        for change in changes:
            assert change["revision"] > self._last_revision, "the feed went back"
            self._last_revision = change["revision"]
            if "deleted_at" in change:
                self.tasks.pop(change["id"], None)
            else:
                self.tasks[change["id"]] = change
        assert [page["tasks"], page["deleted"]] == [
            [change for change in changes if ("deleted_at" in change) is gone] for gone in (False, True)
        ]
        self._cursor = page["next"]
