"""Other members that say whether a task is completed."""

import pytest

WORD = "mirrors"
MIRRORS = ("is_completed", "is_complete", "status")
STATES = {False: "pending", True: "completed"}
STRICT = {"Prefer": "handling=strict"}

by_mirror = pytest.mark.parametrize("mirror", MIRRORS)


def word(mirror, completed):
    return STATES[completed] if mirror == "status" else completed


def assert_state(task, *, completed):
    assert (task["completed"], task["is_completed"], task["is_complete"], task["status"]) == (
        completed,
        completed,
        completed,
        STATES[completed],
    )


@by_mirror
def test_calls_of_a_front_end(front_end, mirror):
    """It knows the mirror alone, and puts back all that it read."""
    assert_state(front_end.create("a"), completed=False)
    task = front_end.create("b", **{mirror: word(mirror, True)})
    assert_state(task, completed=True)
    path = f"/api/me/tasks/{task['id']}"
    assert [t["status"] for t in front_end.tasks()] == ["pending", "completed"]
    assert_state(front_end("GET", path).json, completed=True)
    for method in ("PUT", "PATCH"):
        for completed in (False, True):
            task = front_end("GET", path).json
            changed = front_end(method, path, body=task | {mirror: word(mirror, completed)})
            assert changed.status_code == 200, changed.text
            assert_state(changed.json, completed=completed)
    assert_state(front_end("PUT", path, title="c").json, completed=True)
    assert_state(front_end("PATCH", path, **{mirror: word(mirror, False)}).json, completed=False)
    assert_state(front_end("PUT", path, title="d", **{mirror: word(mirror, True)}).json, completed=True)
    assert_state(front_end("PATCH", f"{path}/complete", **{mirror: word(mirror, True)}).json, completed=True)
    assert_state(front_end("PATCH", f"{path}/complete", **{mirror: word(mirror, False)}).json, completed=False)
    assert_state(front_end("PATCH", f"{path}/complete").json, completed=True)
    refused = front_end("PATCH", path, **{mirror: 1})
    assert (refused.status_code, refused.content_type) == (422, front_end.error_type)
    assert [fault["pointer"] for fault in refused.json["errors"]] == [f"#/{mirror}"]
    assert front_end("DELETE", path).status_code == front_end.deleted


def test_client_of_the_contract_puts_back_what_it_read(front_end):
    """It knows nothing of the mirrors, which come back as they were."""
    path = f"/api/me/tasks/{front_end.create()['id']}"
    for method in ("PUT", "PATCH"):
        for completed in (True, False):
            task = front_end("GET", path).json
            assert_state(front_end(method, path, body=task | {"completed": completed}).json, completed=completed)
            assert_state(front_end(method, path, body=front_end("GET", path).json).json, completed=completed)


@pytest.mark.parametrize(
    ("body", "completed"),
    [
        ({"completed": False, "is_completed": True}, True),
        ({"completed": True, "status": "pending"}, False),
        ({"completed": False, "is_complete": True, "status": "completed"}, True),
        ({"completed": False, "is_completed": True, "status": "pending"}, True),
        ({"is_completed": True, "is_complete": True, "status": "COMPLETED"}, True),
        ({"status": "Done"}, True),
        ({"status": " active "}, False),
        ({"status": "todo"}, False),
        ({"status": "incomplete"}, False),
        ({}, False),
    ],
)
def test_mirror_that_differs_from_completed_counts(front_end, body, completed):
    assert_state(front_end.create(**body), completed=completed)


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        (
            {"is_completed": True, "status": "pending"},
            {"#/status": "status means the same as is_completed, and must not have another value."},
        ),
        (
            {"is_complete": True, "is_completed": False, "status": "done"},
            {
                "#/is_complete": "is_complete means the same as is_completed, and must not have another value.",
                "#/status": "status means the same as is_completed, and must not have another value.",
            },
        ),
        ({"is_completed": "yes"}, {"#/is_completed": "is_completed must be true or false."}),
        ({"is_complete": None}, {"#/is_complete": "is_complete must be true or false, not null."}),
        ({"status": "all"}, {"#/status": "status must be pending or completed."}),
        ({"status": None}, {"#/status": "status must be pending or completed."}),
        ({"status": ["completed"]}, {"#/status": "status must be pending or completed."}),
        (
            {"status": "overdue", "is_completed": True, "priority": "urgent"},
            {
                "#/status": "status must be pending or completed.",
                "#/priority": "priority must be low, medium, high or null.",
            },
        ),
        ({"completed": "no", "is_completed": True}, {"#/completed": "completed must be true or false."}),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_faulty_mirrors_are_422_with_all_other_faults(front_end, method, body, faults):
    path = "/api/me/tasks" if method == "POST" else f"/api/me/tasks/{front_end.create()['id']}"
    refused = front_end(method, path, title="x", **body)
    assert refused.status_code == 422
    assert {fault["pointer"]: fault["detail"] for fault in refused.json["errors"]} == faults
    refused = front_end("POST", "/api/me/tasks", **body)
    assert "#/title" in {fault["pointer"] for fault in refused.json["errors"]}


@by_mirror
def test_operations_of_a_batch_take_and_return_the_mirrors(front_end, mirror):
    task = front_end.create()
    done = front_end(
        "POST",
        "/api/me/tasks/batch",
        headers=STRICT,
        operations=[
            {"op": "create", "key": "a", "task": {"title": "a", mirror: word(mirror, True)}},
            {"op": "update", "id": task["id"], "task": task | {mirror: word(mirror, True)}},
            {"op": "create", "key": "b", "task": {"title": "b", mirror: "begun"}},
            {"op": "update", "id": front_end.create()["id"], "if_revision": 1000, "task": {"title": "c"}},
        ],
    ).json["results"]
    assert [result["status"] for result in done] == [201, 200, 422, 412]
    assert_state(done[0]["task"], completed=True)
    assert_state(done[1]["task"], completed=True)
    assert [fault["pointer"] for fault in done[2]["problem"]["errors"]] == [f"#/operations/2/task/{mirror}"]
    assert_state(done[3]["problem"]["current"], completed=False)


@pytest.mark.parametrize("body", [[{"is_completed": True}], "status", 1])
def test_body_that_is_no_object_is_422(front_end, body):
    refused = front_end("POST", "/api/me/tasks", body=body)
    assert (refused.status_code, refused.json["detail"]) == (422, "The body must be a JSON object.")


def test_faulty_mirror_does_not_toggle(front_end):
    path = f"/api/me/tasks/{front_end.create()['id']}"
    refused = front_end("PATCH", f"{path}/complete", status="started")
    assert (refused.status_code, refused.json["detail"]) == (422, "status must be pending or completed.")
    assert_state(front_end("GET", path).json, completed=False)


def test_strict_mode_knows_the_mirrors_and_nothing_more(front_end):
    made = front_end("POST", "/api/me/tasks", headers=STRICT, title="x", is_completed=True, status="completed")
    assert (made.status_code, made.headers["Preference-Applied"]) == (201, "handling=strict")
    back = front_end("PUT", f"/api/me/tasks/{made.json['id']}", headers=STRICT, body=made.json)
    assert (back.status_code, back.json) == (200, made.json)
    refused = front_end("POST", "/api/me/tasks", headers=STRICT, title="x", state="done")
    assert (refused.status_code, refused.headers["Preference-Applied"]) == (422, "handling=strict")
    assert [fault["pointer"] for fault in refused.json["errors"]] == ["#/state"]
    refused = front_end("POST", "/api/me/tasks", headers=STRICT, title="x", status="begun")
    assert (refused.status_code, refused.headers["Preference-Applied"]) == (422, "handling=strict")


@by_mirror
def test_same_creation_by_either_name_is_one(front_end, mirror):
    key = {"Idempotency-Key": "one"}
    made = front_end("POST", "/api/me/tasks", headers=key, title="x", completed=True)
    again = front_end("POST", "/api/me/tasks", headers=key, title="x", **{mirror: word(mirror, True)})
    assert (again.status_code, again.json) == (201, made.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = front_end("POST", "/api/me/tasks", headers=key, title="x", **{mirror: word(mirror, False)})
    assert other.status_code == 422


def test_every_response_with_a_task_has_the_mirrors(front_end):
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    conflict = front_end("PATCH", path, headers={"If-Match": '"1000"'}, title="y")
    assert_state(conflict.json["current"], completed=False)
    changes = front_end("GET", "/api/me/tasks/changes").json
    assert_state(changes["tasks"][0], completed=False)
    assert_state(
        front_end("DELETE", path, headers={"Prefer": "return=representation"}).json,
        completed=False,
    )
    assert "is_completed" not in front_end("GET", f"/api/me/tasks/changes?since={changes['next']}").json["deleted"][0]
    assert_state(front_end.tasks("/api/me/trash")[0], completed=False)
    assert_state(front_end("POST", f"/api/me/trash/{task['id']}/restore").json, completed=False)
    assert "status" not in front_end("GET", "/api/me/tasks/summary").json


def test_etag_of_a_task_is_its_revision(front_end):
    task = front_end.create()
    path = f"/api/me/tasks/{task['id']}"
    etag = front_end("GET", path).headers["ETag"]
    assert etag == f'"{task["revision"]}"'
    assert front_end("GET", path, headers={"If-None-Match": etag}).status_code == 304
    assert front_end("PATCH", path, headers={"If-Match": etag}, status="completed").status_code == 200


def test_list_from_before_the_dialect_is_not_current(front_end, speak):
    """A browser revalidates what it keeps, and would otherwise never see the mirrors."""
    before = speak("")
    before.create()
    for path in ("/api/me/tasks", "/api/me/tasks/changes"):
        stale = {"If-None-Match": before("GET", path).headers["ETag"]}
        assert before("GET", path, headers=stale).status_code == 304
        fresh = front_end("GET", path, headers=stale)
        assert fresh.status_code == 200
        kept = {"If-None-Match": fresh.headers["ETag"]}
        assert front_end("GET", path, headers=kept).status_code == 304


def test_without_the_dialect_mirrors_are_unknown(speak):
    front_end = speak("")
    task = front_end.create(is_completed=True, status="completed")
    assert task["completed"] is False
    assert not {*MIRRORS} & set(task)
    refused = front_end("PATCH", f"/api/me/tasks/{task['id']}", status="completed")
    assert refused.json["detail"].startswith("Nothing to change")
