"""Batches: the result of each operation, what is written, and what is refused."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from random import Random
from types import SimpleNamespace

import psycopg2
import pytest
from support import assert_problem, bearer, call_as, config_for, new_user
from wire.follower import Follower

from todo import create_app
from todo.batch.schemas import OPERATIONS_MAX
from todo.extensions import db
from todo.http.body import LONGER_BODIES

ABSENT = 2**62
BATCH = "/tasks/batch"
BATCH_MAX_BYTES = LONGER_BODIES["/api/<user_id>/tasks/batch"]


def create(key, **task):
    return {"op": "create", "key": key, "task": {"title": "x"} | task}


def update(task, *if_revision, **members):
    return {"op": "update", "id": id_of(task), "task": members} | dict(zip(["if_revision"], if_revision, strict=False))


def delete(task, *if_revision):
    return {"op": "delete", "id": id_of(task)} | dict(zip(["if_revision"], if_revision, strict=False))


def restore(task):
    return {"op": "restore", "id": id_of(task)}


def id_of(task):
    return task["id"] if isinstance(task, dict) else task


def sender(call):
    """Return a function that sends a batch: send(create("a"), delete(7), atomic=True)."""

    def send(*operations, headers=(), **members):
        return call("POST", BATCH, headers, operations=list(operations), **members)

    return send


@pytest.fixture
def send(call):
    """Return a function that sends a batch as the user."""
    return sender(call)


@pytest.fixture
def run(send):
    """Return a function that sends a batch, and returns its results."""

    def run(*operations, **members):
        response = send(*operations, **members)
        assert response.status_code == 200, response.json
        return response.json["results"]

    return run


@pytest.fixture
def tasks(call):
    """Return three tasks, at revisions 1 to 3."""
    return [call("POST", "/tasks", title=title, description="d", tags=["A"]).json for title in ("a", "b", "c")]


def feed(call, since=None):
    """Return a page of the feed with all changes."""
    return call("GET", "/tasks/changes", query={"since": since} if since else {}).json


def everything(call):
    """Return all that a user can see of the list, the trash and the feed."""
    return [
        call("GET", "/tasks").json,
        call("GET", "/tasks").headers["ETag"],
        call("GET", "/trash").json,
        feed(call),
    ]


def statuses(results):
    return [result["status"] for result in results]


# The results


def test_batch_of_every_kind_returns_each_result_in_order(call, send, tasks):
    one, two, three = tasks
    call("DELETE", f"/tasks/{three['id']}")

    answer = send(create("k", tags=["B"]), update(one, 1, completed=True), delete(two, [7, 2]), restore(three))
    assert answer.status_code == 200
    assert (answer.json["before"], answer.json["revision"]) == (4, 8)
    created, changed, deleted, restored = answer.json["results"]
    assert [list(result) for result in (created, changed, deleted, restored)] == [
        ["status", "task"],
        ["status", "task"],
        ["status", "deleted"],
        ["status", "task"],
    ]
    assert statuses(answer.json["results"]) == [201, 200, 204, 200]
    assert [result["task"] for result in (changed, restored, created)] == sorted(
        call("GET", "/tasks").json, key=lambda task: task["id"]
    )
    assert (created["task"]["title"], created["task"]["tags"], created["task"]["revision"]) == ("x", ["B"], 5)
    assert changed["task"] == one | {name: changed["task"][name] for name in ("completed", "completed_at")} | {
        "updated_at": changed["task"]["updated_at"],
        "revision": 6,
    }
    assert changed["task"]["completed_at"] == changed["task"]["updated_at"] > one["updated_at"]
    (trashed,) = call("GET", "/trash").json
    assert deleted["deleted"] == {"id": two["id"], "revision": 7, "deleted_at": trashed["deleted_at"]}
    assert {name: trashed[name] for name in two} == two
    assert restored["task"] == three | {"updated_at": restored["task"]["updated_at"], "revision": 8}
    assert restored["task"]["updated_at"] > three["updated_at"]


@pytest.mark.parametrize("kind", ["create", "update", "delete", "restore"])
def test_largest_batch_of_a_kind_takes_a_revision_for_each_operation(call, run, kind):
    tasks = [result["task"] for result in run(*(create(f"k{n}") for n in range(OPERATIONS_MAX)))]
    if kind == "restore":
        run(*map(delete, tasks))
    operations = {
        "create": [create(f"n{n}") for n in range(OPERATIONS_MAX)],
        "update": [update(task, completed=True) for task in tasks],
        "delete": [delete(task) for task in tasks],
        "restore": [restore(task) for task in tasks],
    }[kind]
    before = int(call("GET", "/tasks").headers["ETag"][1:].partition("-")[0])
    results = run(*reversed(operations))
    revisions = [(result.get("task") or result["deleted"])["revision"] for result in results]
    assert revisions == list(range(before + 1, before + 1 + OPERATIONS_MAX))
    ids = [(result.get("task") or result["deleted"])["id"] for result in results]
    assert kind == "create" or ids == [task["id"] for task in reversed(tasks)]
    assert kind != "create" or ids == sorted(ids)


def test_revisions_have_no_gaps_where_operations_change_nothing(run, tasks):
    one, two, three = tasks
    results = run(
        update(ABSENT, title="y"), update(one, title="a"), create("k"), update(two, 1, title="y"), delete(three)
    )
    assert statuses(results) == [404, 200, 201, 412, 204]
    assert [results[1]["task"]["revision"], results[2]["task"]["revision"], results[4]["deleted"]["revision"]] == [
        1,
        4,
        5,
    ]


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(update(ABSENT, title="y"), id="update"),
        pytest.param(update(ABSENT, "*", title="y"), id="conditional update"),
        pytest.param(delete(ABSENT, 1), id="delete"),
        pytest.param(restore(ABSENT), id="restore"),
        pytest.param(update(-1, title="y"), id="a negative id"),
    ],
)
def test_operation_on_an_absent_task_is_not_found_and_the_others_are_done(run, operation):
    refused, created = run(operation, create("k"))
    assert refused == {
        "status": 404,
        "problem": {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Task not found"},
    }
    assert (created["status"], created["task"]["revision"]) == (201, 1)


def test_task_of_another_user_is_not_found(client, call, run, tasks):
    before = everything(call)
    theirs = sender(call_as(client, new_user()))
    results = theirs(update(tasks[0], title="y"), delete(tasks[1]), restore(tasks[2])).json["results"]
    assert statuses(results) == [404] * 3
    assert everything(call) == before


@pytest.mark.parametrize("if_revision", [1, 1.0, [1], [9, 1.0], [*range(1, 21)], "*"])
def test_operation_at_a_given_revision_is_done(run, tasks, if_revision):
    assert statuses(run(update(tasks[0], if_revision, title="y"))) == [200]
    assert statuses(run(delete(tasks[0], 4 if if_revision != "*" else "*"))) == [204]


@pytest.mark.parametrize("if_revision", [2, [2, 3], 2**63 - 1])
def test_operation_at_another_revision_is_refused_with_the_current_task(call, run, tasks, if_revision):
    results = run(update(tasks[0], if_revision, title="y"), delete(tasks[1], [1, 3]))
    assert statuses(results) == [412, 412]
    assert [result["problem"]["current"] for result in results] == tasks[:2]
    assert call("GET", "/tasks").json == tasks


def test_stale_update_of_what_is_so_already_succeeds(run, tasks):
    (result,) = run(update(tasks[0], 3, title=" a ", tags=["A", "a"], priority=None))
    assert result == {"status": 200, "task": tasks[0]}


def test_update_writes_only_what_it_names_and_null_clears(run, tasks):
    (result,) = run(update(tasks[0], description=None, due_date="2026-03-01T10:30:00+01:00", priority="HIGH"))
    written = {"description": None, "due_date": "2026-03-01T09:30:00Z", "priority": "high"}
    assert result["task"] == tasks[0] | written | {"updated_at": result["task"]["updated_at"], "revision": 4}


def test_written_texts_are_found(call, run):
    run(create("k", title="Élan", description="Straße", tags=["Ärger"], due_date="2026-03-01"))
    for word in ("elan", "strasse", "arger"):
        assert len(call("GET", f"/tasks?search={word}").json) == 1
    (task,) = call("GET", "/tasks?tag=%C3%A4rger&due_after=2026-03-01").json
    run(update(task, title="Öl", tags=["Üb"]))
    assert [len(call("GET", f"/tasks?search={word}").json) for word in ("elan", "ol", "ub", "strasse")] == [0, 1, 1, 1]


def test_completion_keeps_its_time_until_it_is_reopened(run, tasks):
    (first,), (again,), (reopened,) = (
        run(update(tasks[0], **members))
        for members in ({"completed": True}, {"completed": True, "title": "new"}, {"completed": False})
    )
    assert first["task"]["completed_at"] == again["task"]["completed_at"] < again["task"]["updated_at"]
    assert reopened["task"]["completed_at"] is None


# Sent again


@pytest.fixture
def queue(call, tasks):
    """Return a batch with every kind of operation, done and refused."""
    call("DELETE", f"/tasks/{tasks[2]['id']}")
    return [
        create("k", tags=["a"]),
        update(tasks[0], 1, completed=True, due_date="2026-03-01"),
        delete(tasks[1], 2),
        restore(tasks[2]),
        update(ABSENT, title="y"),
        create("another", title=""),
    ]


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_batch_sent_again_leaves_everything_as_it_is(call, send, queue, parts):
    first = send(*queue).json
    after = everything(call)
    for part in range(parts):
        again = send(*queue[part::parts]).json
        assert (again["before"], again["revision"]) == (first["revision"], first["revision"])
        for result, original in zip(again["results"], first["results"][part::parts], strict=True):
            added = {201: {"replayed": True}, 204: {"already": True}}.get(original["status"], {})
            # The position of an operation differs in a part of the batch.
            assert result | {"problem": None} == original | added | {"problem": None}
    assert everything(call) == after


def test_deletion_of_what_the_trash_holds_is_done_already_whatever_the_revision(call, run, tasks):
    (first,) = run(delete(tasks[0]))
    for operation in (delete(tasks[0]), delete(tasks[0], 77), delete(tasks[0], "*")):
        assert run(operation) == [first | {"already": True}]
    call("DELETE", "/trash")
    # Only the tombstone is left.
    assert run(delete(tasks[0], 77)) == [first | {"already": True}]
    assert statuses(run(restore(tasks[0]), update(tasks[1], title="y"))) == [404, 200]


def test_restored_task_that_is_alive_stays_as_it_is(run, tasks):
    assert run(restore(tasks[0])) == [{"status": 200, "task": tasks[0]}]


def test_update_of_a_task_in_the_trash_is_not_found(run, tasks):
    run(delete(tasks[0]))
    assert statuses(run(update(tasks[0], "*", title="y"))) == [404]


def test_key_names_one_creation_of_single_requests_and_of_batches(call, run):
    (created,) = run(create("k", tags=["a"]))
    again = call("POST", "/tasks", {"Idempotency-Key": '"k"'}, title=" x ", tags=["a"])
    assert (again.status_code, again.headers["Idempotent-Replayed"], again.json) == (201, "true", created["task"])
    single = call("POST", "/tasks", {"Idempotency-Key": "j"}, title="y").json
    assert run(create("j", title="y")) == [{"status": 201, "task": single, "replayed": True}]


def test_key_of_another_creation_is_refused(call, run):
    run(create("k"), create("j"))
    call("DELETE", f"/tasks/{call('GET', '/tasks').json[1]['id']}")
    before = everything(call)
    results = run(create("k", title="another"), create("j", title="another"))
    assert statuses(results) == [422, 422]
    for number, result in enumerate(results):
        rule = "key has been used for another task: take a new key for a new task."
        assert result["problem"]["detail"] == rule
        assert result["problem"]["errors"] == [{"pointer": f"#/operations/{number}/key", "detail": rule}]
    assert everything(call) == before


def test_replayed_creation_of_a_deleted_task_shows_its_deletion(call, run):
    (created,) = run(create("k"))
    (deleted,) = run(delete(created["task"]))
    assert run(create("k")) == [created | {"replayed": True, "deleted": deleted["deleted"]}]
    single = call("POST", "/tasks", {"Idempotency-Key": "k"}, title="x")
    assert single.json == created["task"] | {"deleted_at": deleted["deleted"]["deleted_at"]}


def test_key_and_id_of_one_task_are_processed_in_order(run):
    (created,) = run(create("k"))
    task, key = created["task"], create("k")

    before, changed, after = [*run(key, update(task, title="new")), *run(create("k"))]
    assert before == created | {"replayed": True}
    assert after == changed | {"status": 201, "replayed": True}
    changed, after = run(update(task, title="newer"), key)
    assert after == changed | {"status": 201, "replayed": True}
    before, deleted = run(key, delete(task))
    assert before == changed | {"status": 201, "replayed": True}
    gone, restored = run(key, restore(task))
    assert gone == changed | {"status": 201, "replayed": True, "deleted": deleted["deleted"]}
    deleted, gone = run(delete(task), key)
    assert gone == restored | {"status": 201, "replayed": True} | {"deleted": deleted["deleted"]}
    restored, alive = run(restore(task), key)
    assert alive == restored | {"status": 201, "replayed": True}
    refused, alive = run(update(task, 1, title="x y z"), key)
    assert (refused["status"], alive) == (412, restored | {"status": 201, "replayed": True})


def test_id_that_a_creation_of_the_batch_gets_is_not_found(run):
    (created,) = run(create("k"))
    guessed = created["task"]["id"] + 1
    # Another test may take the id meanwhile; then it is not the user's either.
    assert statuses(run(create("j"), update(guessed, title="y"))) == [201, 404]
    assert statuses(run(delete(guessed + 1), create("l"))) == [404, 201]


# Followers of the changes


def test_client_that_was_at_before_may_adopt_next(call, send, queue):
    known = feed(call)
    answer = send(*queue).json
    assert answer["before"] == 4
    missed = feed(call, known["next"])
    assert missed["next"] == answer["next"]
    assert [task["revision"] for task in missed["tasks"]] == [5, 6, 8]
    assert [gone["revision"] for gone in missed["deleted"]] == [7]
    assert feed(call, answer["next"])["tasks"] == feed(call, answer["next"])["deleted"] == []


def test_batch_that_writes_nothing_for_a_user_without_writes_is_at_revision_0(call, send):
    answer = send(update(ABSENT, title="y"), create("k", title="")).json
    assert (answer["before"], answer["revision"], statuses(answer["results"])) == (0, 0, [404, 422])
    assert answer["next"] == feed(call)["next"]
    assert call("GET", "/tasks").headers["ETag"].startswith('"0-')
    assert send(create("k", title="")).json["revision"] == 0


# All or nothing


def test_atomic_batch_without_refusals_is_done(call, send, tasks):
    answer = send(create("k"), update(tasks[0], 1, title="y"), delete(tasks[1]), atomic=True)
    assert statuses(answer.json["results"]) == [201, 200, 204]
    assert answer.json["revision"] == 6


def test_atomic_batch_with_refusals_changes_nothing_and_lists_them(call, send, tasks):
    call("POST", "/tasks", {"Idempotency-Key": "used"}, title="y")
    before = everything(call)
    answer = send(
        create("k"),
        update(tasks[0], 1, title="y"),
        update(tasks[1], 1, title="y"),
        delete(tasks[2]),
        restore(ABSENT),
        create("used"),
        atomic=True,
    )
    assert answer.status_code == 412
    assert answer.content_type == "application/problem+json"
    assert answer.json["detail"].startswith("Nothing was changed. Operation 2 was refused: This has changed")
    stale, absent, reused = answer.json["errors"]
    assert (stale["pointer"], stale["status"]) == ("#/operations/2", 412)
    assert stale["current"] == tasks[1]
    assert absent == {"pointer": "#/operations/4", "status": 404, "detail": "Task not found"}
    assert (reused["pointer"], reused["status"]) == ("#/operations/5", 422)
    assert everything(call) == before
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("operation", "status", "title"),
    [
        pytest.param(restore(ABSENT), 404, "Not Found", id="404"),
        pytest.param(create("used", title="another"), 422, "Unprocessable Content", id="422"),
    ],
)
def test_first_refused_operation_decides_the_status_of_an_atomic_batch(call, send, operation, status, title):
    call("POST", "/tasks", {"Idempotency-Key": "used"}, title="y")
    answer = send(operation, update(ABSENT - 1, title="x"), create("k"), atomic=True)
    assert (answer.status_code, answer.json["title"], len(answer.json["errors"])) == (status, title, 2)


def test_atomic_batch_with_invalid_values_is_422_as_a_whole(call, send, tasks):
    before = everything(call)
    answer = send(create("k", title=" ", tags=[""]), update(ABSENT, title=7), create("j"), atomic=True)
    problem = assert_problem(answer, 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [
        "#/operations/0/task/title",
        "#/operations/0/task/tags/0",
        "#/operations/1/task/title",
    ]
    assert everything(call) == before


def test_atomic_batch_sent_again_is_done_again(call, send, tasks):
    queue = [create("k"), update(tasks[0], 1, title="y"), delete(tasks[1], 2)]
    first = send(*queue, atomic=True).json
    after = everything(call)
    assert statuses(send(*queue, atomic=True).json["results"]) == statuses(first["results"])
    assert everything(call) == after


# Values and form


def test_invalid_values_are_the_result_of_their_operation_alone(call, run, tasks):
    tags = [""] * 15
    results = run(
        create("k", title="", priority="x"), create("j"), update(tasks[0], tags=tags), update(tasks[1], colour="red")
    )
    assert statuses(results) == [422, 201, 422, 422]
    first, _, second, third = (result.get("problem") for result in results)
    assert [fault["pointer"] for fault in first["errors"]] == [
        "#/operations/0/task/title",
        "#/operations/0/task/priority",
    ]
    assert first["detail"] == " ".join(fault["detail"] for fault in first["errors"])
    assert not {"instance", "request_id"} & first.keys()
    assert (first["type"], first["title"], first["status"]) == ("about:blank", "Unprocessable Content", 422)
    assert [fault["pointer"] for fault in second["errors"]] == [f"#/operations/2/task/tags/{n}" for n in range(10)]
    assert second["more"] == 5
    assert third["errors"][0]["pointer"] == "#/operations/3/task"
    assert third["detail"].startswith("Nothing to change: send at least one of")
    assert [task["title"] for task in call("GET", "/tasks").json] == ["a", "b", "c", "x"]


def test_read_only_and_unknown_members_are_ignored(run, tasks):
    (result,) = run(update(tasks[0], **(tasks[0] | {"title": "y", "colour": "red"})) | {"note": 1}, more=1)
    assert result["task"]["title"] == "y"
    assert run(restore(tasks[0]) | {"if_revision": "x", "task": 7}) == [result]
    assert statuses(run(create("k") | {"id": "x", "if_revision": 0})) == [201]


STRICT = {"Prefer": "handling=strict"}


def test_strict_batch_refuses_unknown_members_of_operations_as_a_whole(call, send, tasks):
    answer = send(
        create("k") | {"if_revison": 1}, restore(tasks[0]) | {"if_revision": 1, "x/y": 1}, headers=STRICT, atomc=True
    )
    assert answer.headers["Preference-Applied"] == "handling=strict"
    (fault,) = assert_problem(answer, 422)["errors"]
    assert fault == {"pointer": "#/atomc", "detail": "atomc is not known here; did you mean atomic?"}
    answer = send(create("k") | {"keey": 1}, restore(tasks[0]) | {"if_revision": 1, "x/y": 1}, headers=STRICT)
    assert answer.headers["Preference-Applied"] == "handling=strict"
    faults = assert_problem(answer, 422)["errors"]
    assert [fault["pointer"] for fault in faults] == [
        "#/operations/0/keey",
        "#/operations/1/if_revision",
        "#/operations/1/x~1y",
    ]
    assert faults[0]["detail"] == "keey is not known here; did you mean key?"
    assert len(call("GET", "/tasks").json) == 3


def test_strict_batch_refuses_unknown_members_of_a_task_by_their_operation(send, tasks):
    answer = send(create("k", titel="x", id=7), update(tasks[0], title="y"), headers=STRICT)
    assert answer.headers["Preference-Applied"] == "handling=strict"
    refused, changed = answer.json["results"]
    assert (refused["status"], changed["status"]) == (422, 200)
    (fault,) = refused["problem"]["errors"]
    assert fault["pointer"] == "#/operations/0/task/titel"
    answer = send(create("k", titel="x"), headers=STRICT, atomic=True)
    assert answer.headers["Preference-Applied"] == "handling=strict"
    assert_problem(answer, 422)


REVISION = 'if_revision must be a positive integer, an array of 1 to 20 of them, or "*".'
INTEGER = "must be an integer of at most 64 bits."
FORMS = [
    pytest.param(7, "", "must be an object.", id="a number"),
    pytest.param({}, "/op", "op is required.", id="no op"),
    pytest.param({"op": "replace"}, "/op", "op must be create, update, delete or restore.", id="unknown op"),
    pytest.param({"op": None}, "/op", "op must be create, update, delete or restore.", id="op of null"),
    pytest.param({"op": ["create"]}, "/op", "op must be create, update, delete or restore.", id="op in an array"),
    pytest.param({"op": "create", "task": {"title": "x"}}, "/key", "key is required.", id="no key"),
    pytest.param(create(""), "/key", "key must have 1 to 255 characters.", id="an empty key"),
    pytest.param(create("k" * 256), "/key", "key must have 1 to 255 characters.", id="a long key"),
    pytest.param(create(7), "/key", "key must be a string.", id="a number as key"),
    pytest.param(create(None), "/key", "key must not be null.", id="null as key"),
    pytest.param(create("a\0"), "/key", "key must not contain the NUL character", id="NUL in a key"),
    pytest.param({"op": "create", "key": "k"}, "/task", "task is required.", id="no task"),
    pytest.param({"op": "create", "key": "k", "task": "x"}, "/task", "task must be an object.", id="a text as task"),
    pytest.param({"op": "update", "id": 1, "task": None}, "/task", "task must not be null.", id="null as task"),
    pytest.param({"op": "update", "id": 1, "task": [1]}, "/task", "task must be an object.", id="an array as task"),
    pytest.param({"op": "delete"}, "/id", "id is required.", id="no id"),
    pytest.param({"op": "restore", "id": None}, "/id", "id must not be null.", id="null as id"),
    *(
        pytest.param({"op": "delete", "id": wrong}, "/id", f"id {INTEGER}", id=f"{wrong!r} as id")
        for wrong in ("12", True, 1.5, 1e19, 2**63, -(2**63) - 1, 1e16, 2**70, [1])
    ),
    *(
        pytest.param(delete(1, wrong), "/if_revision", REVISION, id=f"{wrong!r} as if_revision"[:40])
        for wrong in (0, -1, "17", "", 1.5, True, [], [0], [1, "2"], [[1]], [True], list(range(1, 22)), {}, 2**63)
    ),
    pytest.param(update(1, None, title="x"), "/if_revision", REVISION, id="null as if_revision"),
]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("operation", "pointer", "rule"), FORMS)
def test_operation_of_another_form_is_422_as_a_whole(call, operation, pointer, rule, atomic):
    # The provider of the application writes no integer beyond 64 bits.
    data = json.dumps({"operations": [create("first"), operation], "atomic": atomic})
    problem = assert_problem(call("POST", BATCH, data=data), 422)
    (fault,) = (fault for fault in problem["errors"] if fault["pointer"] == f"#/operations/1{pointer}")
    assert fault["detail"].startswith(f"operations[1]{' ' if pointer == '' else '.'}{rule}")
    assert call("GET", "/tasks").json == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        pytest.param({}, ("#/operations", "operations is required."), id="empty"),
        pytest.param({"operations": None}, ("#/operations", "operations must not be null."), id="null"),
        pytest.param({"operations": {}}, ("#/operations", "operations must be an array."), id="an object"),
        pytest.param({"operations": []}, ("#/operations", "operations must have 1 to 100 entries."), id="none"),
        pytest.param({"operations": [0] * 101}, ("#/operations", "operations must have 1 to 100 entries."), id="many"),
        pytest.param(
            {"operations": [0] * 100_000}, ("#/operations", "operations must have 1 to 100 entries."), id="most"
        ),
        pytest.param(
            {"operations": [create("k")], "atomic": 1}, ("#/atomic", "atomic must be true or false."), id="atomic"
        ),
    ],
)
def test_batch_of_another_form_is_422(call, body, fault):
    (found,) = assert_problem(call("POST", BATCH, **{"filler": ""} | body), 422)["errors"]
    assert (found["pointer"], found["detail"]) == fault


def test_tasks_addressed_twice_and_keys_used_twice_are_422(call, send, tasks):
    one, two, _ = tasks
    answer = send(
        delete(one),
        create("k"),
        restore(two),
        update(one, title="y"),
        create("k", title="y"),
        delete(two),
        restore(one),
    )
    problem = assert_problem(answer, 422)
    assert problem["errors"] == [
        {"pointer": "#/operations/3/id", "detail": "operations[3].id is already addressed by operation 0."},
        {"pointer": "#/operations/4/key", "detail": "operations[4].key is already used by operation 1."},
        {"pointer": "#/operations/5/id", "detail": "operations[5].id is already addressed by operation 2."},
        {"pointer": "#/operations/6/id", "detail": "operations[6].id is already addressed by operation 0."},
    ]
    assert call("GET", "/tasks").json == tasks


@pytest.mark.parametrize("data", [b"[]", b"7", b'"x"', b"null", b""])
def test_body_that_is_no_object_is_422(call, data):
    (fault,) = assert_problem(call("POST", BATCH, data=data), 422)["errors"]
    assert fault["pointer"] == "#"


def test_body_may_have_512_kib(call):
    body = b'{"operations": [{"op": "restore", "id": 1}], "filler": "%s"}'
    for size, status in ((BATCH_MAX_BYTES, 200), (BATCH_MAX_BYTES + 1, 413)):
        for path in (BATCH, f"{BATCH}/"):
            response = call("POST", path, data=body % (b"x" * (size - len(body) + 2)))
            assert response.status_code == status, size


def test_largest_tasks_fit_into_a_batch(run):
    longest = {"title": "\U0001f382" * 200, "description": "\U0001f382" * 1000}
    assert statuses(run(*(create(f"k{n}", **longest) for n in range(100)))) == [201] * 100


def test_longer_bodies_are_of_routes_that_there_are(app):
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    assert routes >= set(LONGER_BODIES)


def test_other_methods_are_405_and_without_a_token_it_is_401(client, call):
    assert_problem(call("GET", BATCH), 405)
    assert_problem(client.post("/api/me/tasks/batch", json={"operations": []}), 401)
    assert_problem(client.post("/api/other/tasks/batch", json={"operations": []}, headers=bearer(new_user())), 403)


# Settings


@pytest.fixture
def configured(database_url, user):
    """Return a function that builds an application with settings, and returns a function that calls it as the user."""
    apps = []

    def build(**settings):
        apps.append(create_app(config_for(database_url, **settings)))
        return call_as(apps[-1].test_client(), user)

    yield build
    for app in apps:
        with app.app_context():
            db.engine.dispose()


def test_operation_without_a_required_revision_is_428(configured, tasks, call):
    send = sender(configured(REQUIRE_IF_MATCH="true"))
    call("DELETE", f"/tasks/{tasks[2]['id']}")
    answer = send(update(tasks[0], title="y"), delete(tasks[1]), restore(tasks[2]), create("k"))
    assert statuses(answer.json["results"]) == [428, 428, 200, 201]
    assert answer.json["results"][0]["problem"]["detail"].startswith("Send if_revision with the revision of the task")
    assert statuses(send(update(tasks[0], "*", title="y"), delete(tasks[1], 2)).json["results"]) == [200, 204]
    # A value that is invalid comes first, as in a request of its own.
    assert statuses(send(update(tasks[0], title="")).json["results"]) == [422]


def test_atomic_batch_without_required_revisions_is_428(configured, tasks, call):
    send = sender(configured(REQUIRE_IF_MATCH="true"))
    answer = send(create("k"), update(tasks[0], title="y"), delete(tasks[1]), atomic=True)
    assert answer.status_code == 428
    assert [(fault["pointer"], fault["status"]) for fault in answer.json["errors"]] == [
        ("#/operations/1", 428),
        ("#/operations/2", 428),
    ]
    assert call("GET", "/tasks").json == tasks


def test_deletion_without_a_trash_leaves_its_tombstone(configured, tasks, call):
    send = sender(configured(TRASH_DAYS="0"))
    (deleted,) = send(delete(tasks[0])).json["results"]
    assert deleted["status"] == 204
    assert call("GET", "/trash").json == []
    assert send(delete(tasks[0], 1)).json["results"] == [deleted | {"already": True}]
    assert statuses(send(restore(tasks[0])).json["results"]) == [404]
    assert feed(call)["count"] == 2


def remaining(response):
    return int(response.headers["RateLimit"].split(";")[1].removeprefix("r="))


def test_rate_limit_counts_operations_and_a_refused_batch_consumes_nothing(configured):
    call = configured(RATE_LIMIT="10/year", WEB_CONCURRENCY="1")
    send = sender(call)
    assert remaining(send(*(create(f"k{n}") for n in range(4)))) == 6
    assert remaining(send(create("single"))) == 5
    refused = send(*(create(f"l{n}") for n in range(6)))
    assert_problem(refused, 429)
    assert int(refused.headers["Retry-After"]) > 0
    assert remaining(refused) == 5
    assert remaining(send(*(create(f"l{n}") for n in range(5)))) == 0
    assert_problem(call("GET", "/tasks"), 429)


def test_batch_that_the_rate_limit_never_allows_is_413(configured):
    call = configured(RATE_LIMIT="10/year;3/minute", WEB_CONCURRENCY="1")
    send = sender(call)
    refused = send(*(create(f"k{n}") for n in range(4)))
    rule = "The rate limit allows 3 operations at once: send no more of them in one request."
    assert_problem(refused, 413, rule)
    minute, year = refused.headers["RateLimit"].split(", ")
    assert (minute.split(";")[1], year.split(";")[1]) == ("r=3", "r=10")
    assert send(*(create(f"k{n}") for n in range(3))).status_code == 200
    assert_problem(send(create("one")), 429)


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_batch_with_a_precondition_depends_on_the_state_of_the_list(call, send, tasks, header):
    current, old = call("GET", "/tasks").headers["ETag"], '"2-0123456789abcdef"'
    good, bad = (current, old) if header == "If-Match" else (old, current)
    before = everything(call)
    assert_problem(send(create("k"), headers={header: bad}), 412)
    assert everything(call) == before
    first = send(create("k"), headers={header: good}).json
    # Sent again it has succeeded already.
    assert send(create("k"), headers={header: current}).json["results"] == [first["results"][0] | {"replayed": True}]
    assert first["revision"] == 4


# At once


def test_batch_is_one_round_trip(proxied, proxy, user):
    call = call_as(proxied.test_client(), user)
    send = sender(call)
    tasks = [call("POST", "/tasks", title="x").json for _ in range(4)]
    call("DELETE", f"/tasks/{tasks[3]['id']}")
    mixed = [
        create("k"),
        update(tasks[0], title="y"),
        delete(tasks[1]),
        restore(tasks[3]),
        update(tasks[2], 99, title="z"),
    ]
    for queue, members in (
        (mixed, {"atomic": True}),
        (mixed, {}),
        (mixed, {}),
        ([update(ABSENT, title="y")], {}),
        ([create("k", title="")], {}),
        ([create(f"k{n}") for n in range(100)], {}),
    ):
        proxy.queries.clear()
        assert send(*queue, **members).status_code in (200, 412)
        assert len(proxy.queries) == 1
    for queue, members in (([delete("x")], {}), ([create("k", title="")], {"atomic": True})):
        proxy.queries.clear()
        assert_problem(send(*queue, **members), 422)
        assert proxy.queries == []


def at_once(*functions):
    """Run functions in threads of their own, and return their results."""
    results = [None] * len(functions)
    barrier = threading.Barrier(len(functions))

    def run(position):
        barrier.wait()
        results[position] = functions[position]()

    threads = [threading.Thread(target=run, args=(position,)) for position in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_batch_sent_at_once_is_done_once(app, call, queue, user):
    sends = [sender(call_as(app.test_client(), user)) for _ in range(6)]
    answers = [answer.json for answer in at_once(*(lambda send=send: send(*queue) for send in sends))]
    assert {answer["revision"] for answer in answers} == {8}
    assert sorted(answer["before"] for answer in answers) == [4, 8, 8, 8, 8, 8]
    assert {tuple(statuses(answer["results"])) for answer in answers} == {(201, 200, 204, 200, 404, 422)}
    assert sum("replayed" not in answer["results"][0] for answer in answers) == 1
    assert len(call("GET", "/tasks").json) == 3


@pytest.mark.parametrize("operation", ["restore", "create"])
def test_batch_waits_for_a_purge_of_what_it_reads(app, database_url, call, run, user, wait_for_lock, operation):
    """A purge does not wait for the list; what it purges must not be restored or replayed by half."""
    (created,) = run(create("k"))
    run(delete(created["task"]))
    answers = []
    wanted = restore(created["task"]) if operation == "restore" else create("k")
    sending = threading.Thread(
        target=lambda: answers.append(sender(call_as(app.test_client(), user))(wanted, create("another")).json)
    )
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute("UPDATE trash SET task = NULL, expires_at = NULL WHERE user_id = %s", (user,))
        sending.start()
        wait_for_lock()
        other.commit()
    sending.join()
    result = answers[0]["results"][0]
    assert statuses(answers[0]["results"]) == [404 if operation == "restore" else 201, 201]
    assert "replayed" not in result
    assert len(call("GET", "/tasks").json) == len([1 for found in answers[0]["results"] if found["status"] == 201])


def write_at_random(call, ids, number):
    """Send batches, each of them twice, and single writes; return how many tasks were created."""
    random, created = Random(number), 0
    for turn in range(12):
        title = f"{number} {turn}"
        one, two, three, four = random.sample(ids, 4)
        queue = [
            update(one, title=title),
            create(title, title=title),
            delete(two),
            restore(three),
            update(four, random.randint(1, 300), completed=random.random() < 0.5),
            create(f"first {random.randrange(8)}", title="first"),
        ]
        random.shuffle(queue)
        for _ in range(2):
            answer = call("POST", BATCH, operations=queue, atomic=random.random() < 0.2)
            assert answer.status_code in (200, 404, 412), answer.json
            results = answer.json.get("results", ())
            created += sum(result["status"] == 201 and "replayed" not in result for result in results)
        assert call("PATCH", f"/tasks/{random.choice(ids)}", title=title).status_code in (200, 404)
    return created


@pytest.mark.slow
def test_batches_and_single_writes_at_once_leave_a_follower_an_exact_copy(app, client, call, user):
    for number in range(8):
        call("POST", "/tasks", {"Idempotency-Key": f"first {number}"}, title="first")
    ids = [task["id"] for task in call("GET", "/tasks").json]
    follower = Follower(
        SimpleNamespace(call=lambda method, path: client.open(path, method=method, headers=bearer(user)))
    )
    done = threading.Event()

    def follow():
        while not done.is_set():
            follower.step(7)

    with ThreadPoolExecutor(5) as pool:
        following = pool.submit(follow)
        writing = [pool.submit(write_at_random, call_as(app.test_client(), user), ids, number) for number in range(4)]
        wait(writing)
        done.set()
        created = sum(future.result() for future in writing)
        following.result()
    while not follower.step(7):
        pass
    listed = call("GET", "/tasks").json
    assert sorted(follower.tasks.values(), key=lambda task: task["id"]) == listed
    assert len(listed) + len(call("GET", "/trash").json) == 8 + created


@pytest.mark.plain
@pytest.mark.parametrize("atomic", [False, True])
def test_batch_whose_response_is_lost_is_done_once(proxied, proxy, call, user, atomic):
    one, two, three = (call("POST", "/tasks", title=title).json for title in "abc")
    call("DELETE", f"/tasks/{three['id']}")
    send = sender(call_as(proxied.test_client(), user))
    queue = [create("k"), update(one, 1, completed=True), delete(two, 2), restore(three)]
    # The connection is warm, so that it is the batch whose response is lost.
    send(restore(one))
    proxy.lose_answers = True
    assert_problem(send(*queue, atomic=atomic), 503)
    proxy.lose_answers = False
    for _ in range(200):
        if call("GET", "/tasks").headers["ETag"].startswith('"8-'):
            break
        time.sleep(0.05)
    before = everything(call)
    answer = send(*queue, atomic=atomic).json
    assert (answer["before"], answer["revision"]) == (8, 8)
    assert statuses(answer["results"]) == [201, 200, 204, 200]
    assert (answer["results"][0]["replayed"], answer["results"][2]["already"]) == (True, True)
    assert everything(call) == before
