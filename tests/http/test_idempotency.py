"""Safe retries: a creation that is repeated with its key is the same creation."""

import threading
from contextlib import closing

import psycopg2
import pytest
from support import assert_problem, bearer, config_for, new_user

from todo import create_app
from todo.database.timeouts import REQUEST_LIMITS
from todo.extensions import db
from todo.http import idempotency
from todo.tasks import queries

THREADS = 20


def creator(client, user):
    """Return a function that creates a task as this user, with a key: create("key", title="x")."""

    def create(key, **members):
        headers = bearer(user) | ({} if key is None else {"Idempotency-Key": key})
        return client.post("/api/me/tasks", headers=headers, json={"title": "x"} | members)

    return create


@pytest.fixture
def create(client, user):
    """Return a function that creates a task as the user."""
    return creator(client, user)


def assert_created(response):
    """Assert that the request created a task, and return the task."""
    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers
    return response.json


def assert_replayed(response, task):
    """Assert that a response repeats that of an earlier creation, with the current task."""
    assert response.status_code == 201
    assert response.headers["Idempotent-Replayed"] == "true"
    assert response.json == task
    assert response.headers["ETag"] == f'"{task["revision"]}"'
    assert response.headers["Location"] == f"/api/me/tasks/{task['id']}"


def test_creation_repeated_with_its_key_is_replayed_and_keeps_the_revision(create, call):
    created = assert_created(create("key", description="y", tags=["a"]))
    before = call("GET", "/tasks").headers["ETag"]
    for _ in range(3):
        assert_replayed(create("key", description="y", tags=["a"]), created)
    listed = call("GET", "/tasks")
    assert (listed.json, listed.headers["ETag"]) == ([created], before)
    assert create(None).json["revision"] == 2


def test_creation_without_a_key_is_never_replayed(create, call):
    assert assert_created(create(None)) != assert_created(create(None))
    assert len(call("GET", "/tasks").json) == 2


def test_creation_with_another_key_is_another(create):
    created = [assert_created(create(key))["id"] for key in ("a", "A", "b", "a b", "é", '%s"')]
    assert len(set(created)) == 6


def test_creation_with_the_key_of_another_user_is_another(client, create):
    created = assert_created(create("key"))
    stranger = creator(client, new_user())
    theirs = assert_created(stranger("key", title="another"))
    assert theirs["id"] != created["id"]
    assert_replayed(stranger("key", title="another"), theirs)
    assert_replayed(create("key"), created)


@pytest.mark.parametrize(
    ("bare", "quoted"),
    [
        pytest.param("key", '"key"', id="a word"),
        pytest.param("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', id="a UUID"),
        pytest.param('a"b', r'"a\"b"', id="a quotation mark"),
        pytest.param(r"a\b", r'"a\\b"', id="a backslash"),
        pytest.param("a, b;c=1", '"a, b;c=1"', id="separators"),
        pytest.param(" key\t", '  "key" ', id="white space around"),
        pytest.param("k", '"k"', id="1 character"),
        pytest.param("k" * 255, f'"{"k" * 255}"', id="255 characters"),
        pytest.param("\\" * 255, '"' + "\\" * 510 + '"', id="255 characters, each escaped"),
    ],
)
def test_key_bare_or_quoted_is_the_same_key(create, bare, quoted):
    created = assert_created(create(bare))
    assert_replayed(create(quoted), created)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("  ", id="white space"),
        pytest.param('""', id="empty in quotation marks"),
        pytest.param('"', id="one quotation mark"),
        pytest.param('"key', id="no closing quotation mark"),
        pytest.param('"a"b"', id="an unescaped quotation mark"),
        pytest.param(r'"a\b"', id="an invalid escape"),
        pytest.param('"a\\"', id="an escaped closing quotation mark"),
        pytest.param('"key";a=1', id="parameters"),
        pytest.param('"a", "b"', id="two keys"),
        pytest.param('"a\tb"', id="a tab in quotation marks"),
        pytest.param("a\0b", id="NUL"),
        pytest.param('"\xe9"', id="not ASCII in quotation marks"),
        pytest.param("k" * 256, id="256 characters"),
        pytest.param(f'"{"k" * 256}"', id="256 characters in quotation marks"),
    ],
)
def test_invalid_key_is_refused_by_the_name_of_its_header(create, call, key):
    (fault,) = assert_problem(create(key), 422)["errors"]
    assert fault["header"] == "Idempotency-Key"
    assert "1 to 255 characters" in fault["detail"]
    assert call("GET", "/tasks").json == []


def test_invalid_key_is_reported_after_faults_of_the_body(create):
    assert assert_problem(create('"', title=""), 422)["errors"][0]["pointer"] == "#/title"


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param({"title": "  x "}, {"title": "x"}, id="white space around the title"),
        pytest.param({}, {"description": None}, id="no description"),
        pytest.param({"priority": "HIGH"}, {"priority": "high"}, id="case of the priority"),
        pytest.param({}, {"completed": False, "priority": None, "due_date": None, "tags": []}, id="absent members"),
        pytest.param({"tags": None}, {}, id="null for no tags"),
        pytest.param({"tags": [" a ", "A", "b"]}, {"tags": ["a", "b"]}, id="tags"),
        pytest.param(
            {"due_date": "2026-03-01T10:30:00+01:00"}, {"due_date": "2026-03-01T09:30Z"}, id="spellings of a date-time"
        ),
        pytest.param({"colour": "red", "id": 7, "revision": 9}, {}, id="ignored members"),
        pytest.param({"tags": ["a"], "completed": True}, {"completed": True, "tags": ["a"]}, id="order of members"),
    ],
)
def test_equivalent_body_is_replayed(create, first, again):
    created = assert_created(create("key", **first))
    assert_replayed(create("key", **again), created)


def test_digest_does_not_depend_on_the_order_of_members():
    body = {"title": "x", "completed": True, "tags": ["a"]}
    assert idempotency.parse("key", body) == idempotency.parse("key", dict(reversed(body.items())))


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param({"title": "x"}, {"title": "X"}, id="title"),
        pytest.param({}, {"description": ""}, id="an empty description"),
        pytest.param({"description": "y"}, {"description": "y "}, id="white space in the description"),
        pytest.param({}, {"completed": True}, id="completed"),
        pytest.param({"priority": "low"}, {"priority": "high"}, id="priority"),
        pytest.param({"due_date": "2026-03-01"}, {}, id="no due date"),
        pytest.param(
            {"due_date": "2026-03-01"}, {"due_date": "2026-03-01T23:59:59.999999Z"}, id="a date or a date-time"
        ),
        pytest.param({"tags": ["a", "b"]}, {"tags": ["b", "a"]}, id="order of tags"),
        pytest.param({"tags": ["a"]}, {"tags": ["A"]}, id="case of a tag"),
        pytest.param({"title": "y", "description": "x"}, {"title": "x", "description": "y"}, id="swapped"),
    ],
)
def test_different_body_is_refused(create, call, first, again):
    created = assert_created(create("key", **first))
    before = call("GET", "/tasks").headers["ETag"]
    (fault,) = assert_problem(create("key", **again), 422)["errors"]
    assert fault["header"] == "Idempotency-Key"
    listed = call("GET", "/tasks")
    assert (listed.json, listed.headers["ETag"]) == ([created], before)
    assert_replayed(create("key", **first), created)


def test_replay_returns_the_current_task(create, call):
    created = assert_created(create("key"))
    changed = call("PATCH", f"/tasks/{created['id']}", title="new", completed=True).json
    assert_replayed(create("key"), changed)
    assert_problem(create("key", title="new", completed=True), 422)


def test_replay_of_a_deleted_task_comes_from_the_trash(create, call):
    created = assert_created(create("key", due_date="2026-03-01", tags=["a"]))
    body = {"due_date": "2026-03-01", "tags": ["a"]}
    changed = call("PATCH", f"/tasks/{created['id']}", priority="low", completed=True).json
    call("DELETE", f"/tasks/{created['id']}")
    (trashed,) = call("GET", "/trash").json
    # The time of the deletion alone tells that the task is not in the list.
    assert_replayed(create("key", **body), changed | {"deleted_at": trashed["deleted_at"]})
    assert_problem(create("key"), 422)
    assert call("GET", "/tasks").json == []
    restored = call("POST", f"/trash/{created['id']}/restore").json
    assert restored["revision"] == 4
    assert_replayed(create("key", **body), restored)


@pytest.mark.parametrize("path", ["/trash", "/trash/{id}"])
def test_key_of_a_discarded_task_creates_a_new_one(create, call, path):
    created = assert_created(create("key"))
    call("DELETE", f"/tasks/{created['id']}")
    call("DELETE", path.format(id=created["id"]))
    again = assert_created(create("key", title="another"))
    assert again["id"] > created["id"]
    assert_replayed(create("key", title="another"), again)


def test_key_of_a_deleted_task_without_a_trash_creates_a_new_one(database_url, user):
    app = create_app(config_for(database_url, TRASH_DAYS="0"))
    client = app.test_client()
    create = creator(client, user)
    created = assert_created(create("key"))
    client.delete(f"/api/me/tasks/{created['id']}", headers=bearer(user))
    assert assert_created(create("key"))["id"] > created["id"]
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize("newcomer", [True, False], ids=["no list yet", "a list"])
def test_concurrent_creations_with_one_key_are_one_task(database_url, user, newcomer):
    app = create_app(config_for(database_url, WEB_THREADS=str(THREADS)))
    first = 1 if newcomer else assert_created(creator(app.test_client(), user)(None))["revision"] + 1
    barrier, responses = threading.Barrier(THREADS), []

    def run():
        create = creator(app.test_client(), user)
        barrier.wait()
        responses.append(create("key"))

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [response.status_code for response in responses] == [201] * THREADS
    assert {(response.json["id"], response.json["revision"]) for response in responses} == {
        (responses[0].json["id"], first)
    }
    assert sum("Idempotent-Replayed" in response.headers for response in responses) == THREADS - 1
    with app.app_context():
        db.engine.dispose()


def test_creation_that_waits_for_the_deletion_of_its_task_is_replayed(
    app, database_url, create, call, user, wait_for_lock
):
    created = assert_created(create("key"))
    responses = []
    creation = threading.Thread(target=lambda: responses.append(creator(app.test_client(), user)("key")))
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM task_lists WHERE user_id = %s FOR UPDATE", (user,))
        creation.start()
        wait_for_lock()
        parameters = {"caller": user, "task_id": created["id"], "among": None, "besides": [], "days": 30}
        cursor.execute(queries.SQL["delete_task"], parameters)
        other.commit()
    creation.join()
    (trashed,) = call("GET", "/trash").json
    assert trashed["id"] == created["id"]
    assert_replayed(responses[0], created | {"deleted_at": trashed["deleted_at"]})
    assert call("GET", "/tasks").json == []


@pytest.mark.unprepared
def test_creation_with_a_key_is_several_statements_in_one_message(proxied, proxy, user):
    client = proxied.test_client()
    create = creator(client, user)
    create(None)
    proxy.queries.clear()
    created = assert_created(create("key"))
    assert_replayed(create("key"), created)
    assert_problem(create("key", title="another"), 422)
    client.delete(f"/api/me/tasks/{created['id']}", headers=bearer(user))
    replayed = create("key")
    assert_replayed(replayed, created | {"deleted_at": replayed.json["deleted_at"]})
    assert_problem(create('"'), 422)
    parts = [query.removeprefix(REQUEST_LIMITS.settings).split(";\n") for query in proxy.queries]
    assert [len(part) for part in parts] == [4, 4, 4, 3, 4]
    assert all(f"'{user}'" in part for query in parts for part in query)
