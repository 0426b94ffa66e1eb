"""Checks of revisions, ETags, idempotency keys, the trash and the feed."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg2
import pytest
from support import TASK_MEMBERS, WAITING, assert_problem, bearer, new_user
from wire.follower import Caller, Follower, Task, revision_of, tag_of
from wire.server import (
    DEADLINE_S,
    Line,
    Response,
    Server,
    query,
    request,
    wait_until,
)

TASKS = "/api/me/tasks"
TRASH = "/api/me/trash"
CHANGES = f"{TASKS}/changes"

Send = Callable[..., Response]


def sender_for(server: Server, user: str) -> Send:
    """Return a function that makes requests as this user, each on a connection of its own."""

    def send(method: str, path: str, body: Any = None, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return server.call(method, path, bearer(user) | named, body)

    return send


def path_of(task: Task) -> str:
    """Return the path of a task of the caller."""
    return f"{TASKS}/{task['id']}"


def at_once(server: Server, user: str, method: str, path: str, requests: list[tuple[dict[str, str], Any]]) -> Any:
    """Send all these requests, each on a connection of its own, before the first response is read."""
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(server.port)) for _ in requests]
        for line, (headers, body) in zip(lines, requests, strict=True):
            line.send(request(method, path, bearer(user) | headers, body))
        return [line.receive(method) for line in lines]


CHANGING = [
    pytest.param("PUT", "", {"title": "y"}, id="replace"),
    pytest.param("PATCH", "", {"title": "y"}, id="change"),
    pytest.param("PATCH", "/complete", None, id="toggle"),
    pytest.param("PATCH", "/complete", {"completed": True}, id="complete"),
    pytest.param("DELETE", "", None, id="delete"),
]


class RevisionChecks:
    """Revisions and everything that rests on them. A subclass chooses the server by the fixture of this name."""

    @pytest.fixture
    def send(self, server: Server, user: str) -> Send:
        """Return a function that makes requests as the user."""
        return sender_for(server, user)

    @pytest.fixture
    def task(self, send: Send) -> Task:
        """Return a new task."""
        created: Task = send("POST", TASKS, {"title": "Buy oat milk", "description": "Two"}).get_json()
        return created

    def test_creates_at_once_with_one_key_make_one_task(self, server, send, user):
        for key in ("first of the user", "second", "third"):
            answers = at_once(server, user, "POST", TASKS, [({"Idempotency-Key": key}, {"title": key})] * 20)

            assert {answer.status_code for answer in answers} == {201}
            assert len({answer.data for answer in answers}) == 1
            assert len({answer.headers["Location"] for answer in answers}) == 1
            replayed = Counter(answer.headers["Idempotent-Replayed"] for answer in answers)
            assert replayed == {None: 1, "true": 19}

        listed = send("GET", TASKS)
        assert [task["title"] for task in listed.get_json()] == ["first of the user", "second", "third"]
        assert revision_of(listed) == 3

    def test_changes_at_once_with_one_tag_have_one_winner(self, server, send, user, task):
        known = {"If-Match": tag_of(task)}

        answers = at_once(server, user, "PATCH", path_of(task), [(known, {"title": str(n)}) for n in range(16)])

        (winner,) = [answer.get_json() for answer in answers if answer.status_code == 200]
        losers = [assert_problem(answer, 412) for answer in answers if answer.status_code != 200]
        assert [loser["current"] for loser in losers] == [winner] * 15
        assert winner["revision"] == task["revision"] + 1
        assert send("GET", TASKS).get_json() == [winner]

    def test_write_of_a_user_waits_for_no_other_user(self, server, send, database_url, user, task):
        other = sender_for(server, new_user())

        with ThreadPoolExecutor() as pool, closing(psycopg2.connect(database_url)) as connection:
            connection.cursor().execute("SELECT FROM task_lists WHERE user_id = %s FOR UPDATE", [user])
            waiting = pool.submit(send, "PATCH", path_of(task), {"title": "y"})
            wait_until(lambda: query(database_url, WAITING), "waiting for the list")

            created = other("POST", TASKS, {"title": "x"}, Idempotency_Key="a")
            path = created.headers["Location"]
            statuses = [other("PATCH", path, {"title": "z"}).status_code, other("DELETE", path).status_code]
            read = send("GET", path_of(task)).get_json()
            assert not waiting.done()
            connection.rollback()

            assert (created.status_code, *statuses) == (201, 200, 204)
            assert read == task
            assert waiting.result(DEADLINE_S).get_json()["title"] == "y"

    @pytest.mark.parametrize(
        "path", [TASKS, f"{TASKS}?status=pending&sort=-title&limit=5", CHANGES, f"{CHANGES}?limit=1"]
    )
    def test_answer_of_all_tasks_that_is_known_is_304_until_a_write(self, send, task, path):
        before = send("GET", path)
        known = before.headers["ETag"]

        same = send("GET", path, If_None_Match=f'W/{known}, "other"')
        assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", known)
        send("PATCH", path_of(task), {"title": task["title"]})
        assert send("GET", path, If_None_Match=known).status_code == 304
        send("PATCH", path_of(task), {"title": "other"})
        after = send("GET", path, If_None_Match=known)

        assert (after.status_code, revision_of(after)) == (200, revision_of(before) + 1)
        assert send("GET", f"{TASKS}?status=all&sort=title", If_None_Match=known).status_code == 200

    def test_task_that_is_known_is_304_until_it_changes(self, send, task):
        send("POST", TASKS, {"title": "another"})

        same = send("GET", path_of(task), If_None_Match=tag_of(task))
        changed = send("PATCH", f"{path_of(task)}/complete")
        other = send("GET", path_of(task), If_None_Match=tag_of(task))

        assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", tag_of(task))
        assert (other.status_code, other.get_json()) == (200, changed.get_json())
        assert other.headers["ETag"] == changed.headers["ETag"] == tag_of(changed.get_json())

    @pytest.mark.parametrize(("method", "suffix", "body"), CHANGING)
    def test_change_of_another_state_is_412_and_of_the_current_one_succeeds(self, send, task, method, suffix, body):
        path = path_of(task)
        current = send("PATCH", path, {"description": "Three"}).get_json()

        refused = send(method, path + suffix, body, If_Match=tag_of(task))
        unmoved = send("GET", path).get_json()
        done = send(method, path + suffix, body, If_Match=f"{tag_of(task)}, W/{tag_of(current)}")

        assert assert_problem(refused, 412)["current"] == current == unmoved
        assert done.status_code == (204 if method == "DELETE" else 200)

    def test_change_of_any_state_needs_a_task(self, send, task):
        assert send("PATCH", path_of(task), {"title": "y"}, If_Match="*").status_code == 200
        assert send("DELETE", path_of(task), If_Match="*").status_code == 204
        assert_problem(send("PATCH", path_of(task), {"title": "z"}, If_Match="*"), 404)
        assert_problem(send("PATCH", path_of(task), {"title": "z"}, If_Match=tag_of(task)), 404)

    def test_key_that_made_a_task_of_another_body_is_422(self, send):
        made = send("POST", TASKS, {"title": "x"}, Idempotency_Key="a")

        assert_problem(send("POST", TASKS, {"title": "y"}, Idempotency_Key="a"), 422)
        same = send("POST", TASKS, {"title": " x ", "tags": [], "unknown": 1}, Idempotency_Key='"a"')

        assert (same.status_code, same.headers["Idempotent-Replayed"]) == (201, "true")
        assert same.data == made.data
        assert len(send("GET", TASKS).get_json()) == 1

    def test_key_is_good_while_the_trash_keeps_its_task(self, send):
        made = send("POST", TASKS, {"title": "x"}, Idempotency_Key="a").get_json()
        send("DELETE", path_of(made))

        in_trash = send("POST", TASKS, {"title": "x"}, Idempotency_Key="a")
        send("DELETE", f"{TRASH}/{made['id']}")
        anew = send("POST", TASKS, {"title": "x"}, Idempotency_Key="a")

        assert (in_trash.headers["Idempotent-Replayed"], in_trash.get_json()["id"]) == ("true", made["id"])
        assert anew.headers["Idempotent-Replayed"] is None
        assert send("GET", TASKS).get_json() == [anew.get_json()]

    def test_trash_gives_a_task_back_until_it_is_discarded(self, send, task):
        restore = f"{TRASH}/{task['id']}/restore"
        assert send("DELETE", path_of(task)).status_code == 204
        (trashed,) = send("GET", TRASH).get_json()

        restored = send("POST", restore)
        listed = send("GET", TASKS).get_json()
        send("DELETE", path_of(task))
        discarded = send("DELETE", f"{TRASH}/{task['id']}")

        assert list(trashed) == [*TASK_MEMBERS, "deleted_at", "expires_at"]
        assert trashed.items() >= task.items()
        moved = {"updated_at": restored.get_json()["updated_at"], "revision": task["revision"] + 2}
        assert (restored.status_code, restored.get_json()) == (200, task | moved)
        assert listed == [restored.get_json()]
        assert (discarded.status_code, send("GET", TRASH).get_json()) == (204, [])
        assert_problem(send("POST", restore), 404)

    def test_changes_after_an_erasure_are_410_and_the_copy_begins_again(self, server, send, user, task):
        with closing(Caller(lambda: server.port, user)) as caller:
            follower = Follower(caller)
            assert follower.step(1)
            assert follower.tasks == {task["id"]: task}
            cursor = send("GET", CHANGES).get_json()["next"]

            assert_problem(send("DELETE", "/api/me"), 422)
            assert_problem(send("DELETE", "/api/me", Confirm=new_user()), 422)
            assert send("GET", TASKS).get_json() == [task]
            assert send("DELETE", "/api/me", Confirm=user).status_code == 204
            assert send("GET", TASKS).get_json() == send("GET", TRASH).get_json() == []
            assert assert_problem(send("GET", f"{CHANGES}?since={cursor}"), 410)["code"] == "cursor_expired"

            created = send("POST", TASKS, {"title": "after"}).get_json()
            assert [follower.step(1), follower.step(1)] == [False, True]
        assert created["revision"] > task["revision"] + 1
        assert (follower.restarts, follower.tasks) == (1, {created["id"]: created})

    def test_changes_since_the_cursor_of_another_user_are_422(self, server, send, task):
        cursor = sender_for(server, new_user())("GET", CHANGES).get_json()["next"]

        assert_problem(send("GET", f"{CHANGES}?since={cursor}"), 422)
        assert_problem(send("GET", f"{CHANGES}?since=nonsense"), 422)

    def test_export_has_a_line_for_the_list_and_for_each_task(self, send, user):
        created = [send("POST", TASKS, {"title": f"task {n}"}, Idempotency_Key=str(n)).get_json() for n in range(7)]
        for gone in created[:3]:
            send("DELETE", path_of(gone))
        send("DELETE", f"{TRASH}/{created[0]['id']}")

        answer = send("GET", "/api/me/export")

        lines = [json.loads(line) for line in answer.data.splitlines()]
        assert (answer.status_code, answer.content_type) == (200, "application/x-ndjson")
        assert [next(iter(line)) for line in lines] == ["list"] + ["task"] * 4 + ["deleted"] * 3
        assert lines[0]["list"] == {"user_id": user, "revision": 10, "erased_at": None, "tasks": 4, "deleted": 3}
        kept = [task | {"idempotency_key": str(n)} for n, task in enumerate(created)]
        assert [line["task"] for line in lines[1:5]] == kept[3:]
        assert list(lines[5]["deleted"]) == ["id", "revision", "deleted_at"]
        assert all(line["deleted"].items() >= task.items() for line, task in zip(lines[6:], kept[1:3], strict=True))

    def test_delete_that_prefers_a_representation_answers_the_task_as_it_was(self, send, task):
        answer = send("DELETE", path_of(task), Prefer="return=representation")

        assert (answer.status_code, answer.get_json()) == (200, task)
        assert answer.headers["Preference-Applied"] == "return=representation"
        assert_problem(send("GET", path_of(task)), 404)

    def test_base_calls_without_any_of_it_answer_as_ever(self, send, user):
        created = send("POST", f"/api/{user}/tasks", {"title": "x"})
        path = created.headers["Location"]
        listed = send("GET", f"/api/{user}/tasks")
        changes = [
            send("PUT", path, {"title": "y"}),
            send("PATCH", path, {"description": "z"}),
            send("PATCH", f"{path}/complete"),
            send("GET", path),
        ]
        deleted = send("DELETE", path)

        assert path == f"/api/{user}/tasks/{created.get_json()['id']}"
        assert (created.status_code, created.headers["Idempotent-Replayed"]) == (201, None)
        assert (listed.status_code, listed.get_json()) == (200, [created.get_json()])
        assert listed.headers["Link"] is None
        assert [answer.status_code for answer in changes] == [200] * 4
        assert {answer.content_type for answer in (created, listed, *changes)} == {"application/json"}
        for answer in (created, *changes):
            assert list(answer.get_json()) == TASK_MEMBERS
        assert [answer.get_json()["revision"] for answer in (created, *changes)] == [1, 2, 3, 4, 4]
        assert (deleted.status_code, deleted.data, deleted.headers["Preference-Applied"]) == (204, b"", None)
        assert_problem(send("GET", path), 404, "Task not found")
        assert send("GET", f"/api/{user}/tasks").data == b"[]"
