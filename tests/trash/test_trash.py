"""The trash, call by call: deleted tasks are listed, can be restored unchanged, and can be deleted for good."""

import threading
from contextlib import closing
from datetime import datetime, timedelta

import psycopg2
import pytest
from support import assert_problem, bearer, call_as, config_for, new_user

from todo import create_app
from todo.extensions import db
from todo.http.pagination import encode_cursor
from todo.trash.views import CURSOR_VERSION

FULL = {
    "title": "Acheter du LAIT d'avoine à Žižkov",
    "description": "Deux litres, « barista » 🥛",
    "completed": True,
    "priority": "high",
    "due_date": "2026-03-01",
    "tags": ["Épicerie", "à la maison"],
}


def deleted(call, *titles, **members):
    """Create tasks and delete them in this order; return them as they were."""
    made = [call("POST", "/tasks", title=title, **members).json for title in titles]
    for task in made:
        assert call("DELETE", f"/tasks/{task['id']}").status_code == 204
    return made


def titles(response):
    """Return the titles on a page."""
    assert response.status_code == 200
    return [task["title"] for task in response.json]


@pytest.fixture
def keeping(database_url):
    """Return a function that makes requests to an application with this number of trash days."""
    apps = []

    def start(days, user):
        apps.append(create_app(config_for(database_url, TRASH_DAYS=str(days))))
        return call_as(apps[-1].test_client(), user)

    yield start
    for app in apps:
        with app.app_context():
            db.engine.dispose()


def stored(database_url, user):
    """Return the rows of a user in the trash: id, revision, stored task and expiry."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, revision, task, expires_at FROM trash WHERE user_id = %s ORDER BY id", (user,))
        return cursor.fetchall()


def test_trash_without_deleted_tasks_is_an_empty_array(call):
    response = call("GET", "/trash")
    assert (response.status_code, response.content_type, response.get_data()) == (200, "application/json", b"[]")
    assert "Link" not in response.headers


def test_delete_moves_the_whole_task_to_the_trash(call):
    task = call("POST", "/tasks", **FULL).json
    response = call("DELETE", f"/tasks/{task['id']}")
    assert (response.status_code, response.get_data()) == (204, b"")
    (found,) = call("GET", "/trash").json
    assert list(found) == [*task, "deleted_at", "expires_at"]
    moments = {name: found[name] for name in ("deleted_at", "expires_at")}
    assert found == task | moments
    first, last = map(datetime.fromisoformat, moments.values())
    assert last - first == timedelta(days=30)
    assert call("GET", "/tasks").json == []
    assert_problem(call("GET", f"/tasks/{task['id']}"), 404, "Task not found")
    assert_problem(call("DELETE", f"/tasks/{task['id']}"), 404, "Task not found")


@pytest.mark.parametrize("days", [1, 3650])
def test_delete_keeps_a_task_for_as_long_as_is_set(keeping, user, days):
    call = keeping(days, user)
    deleted(call, "x")
    (found,) = call("GET", "/trash").json
    kept = datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["deleted_at"])
    assert kept == timedelta(days=days)


def test_delete_that_keeps_nothing_leaves_the_mark_alone(keeping, database_url, user):
    call = keeping(0, user)
    (task,) = deleted(call, "secret")
    assert call("GET", "/trash").json == []
    assert call("GET", "/trash", query={"count": "true"}).headers["X-Total-Count"] == "0"
    assert_problem(call("POST", f"/trash/{task['id']}/restore"), 404, "Task not found")
    assert_problem(call("DELETE", f"/trash/{task['id']}"), 404, "Task not found")
    assert stored(database_url, user) == [(task["id"], task["revision"] + 1, None, None)]


def test_delete_with_representation_answers_with_the_task_as_it_was(call):
    task = call("POST", "/tasks", **FULL).json
    response = call("DELETE", f"/tasks/{task['id']}", headers={"Prefer": "return=representation"})
    assert response.status_code == 200
    assert response.json == task
    assert response.headers["Preference-Applied"] == "return=representation"
    assert len(call("GET", "/trash").json) == 1


def test_delete_with_another_preference_answers_without_a_body(call):
    task = call("POST", "/tasks", title="x").json
    response = call("DELETE", f"/tasks/{task['id']}", headers={"Prefer": "return=minimal"})
    assert (response.status_code, response.get_data()) == (204, b"")
    assert "Preference-Applied" not in response.headers


def test_trash_gives_the_newest_deletion_first(call):
    made = [call("POST", "/tasks", title=title).json for title in "abc"]
    for place in (1, 2, 0):
        call("DELETE", f"/tasks/{made[place]['id']}")
    assert titles(call("GET", "/trash")) == ["a", "c", "b"]


def test_trash_comes_in_pages_that_neither_repeat_nor_skip(client, call, user):
    deleted(call, *"abcde")
    pages = [call("GET", "/trash", query={"limit": "2", "count": "true"})]
    deleted(call, "new")
    while link := pages[-1].headers.get("Link"):
        path, _, relation = link.partition(">; ")
        assert relation == 'rel="next"'
        pages.append(client.get(path.removeprefix("<"), headers=bearer(user)))
    assert [titles(page) for page in pages] == [["e", "d"], ["c", "b"], ["a"]]
    assert [page.headers["X-Total-Count"] for page in pages] == ["5", "6", "6"]


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        pytest.param({"limit": "3"}, "cba", False, id="as many as there are"),
        pytest.param({"limit": "1"}, "c", True, id="the least"),
        pytest.param({"limit": "1000"}, "cba", False, id="the most"),
        pytest.param({"offset": "1"}, "ba", False, id="skipping one"),
        pytest.param({"offset": "0", "limit": "2"}, "cb", True, id="skipping none"),
        pytest.param({"offset": "10000"}, "", False, id="skipping all"),
        pytest.param({"limit": "", "cursor": ""}, "cba", False, id="no values"),
        pytest.param({"status": "completed", "sort": "title"}, "cba", False, id="parameters of the task list"),
    ],
)
@pytest.mark.parametrize("count", ["true", "false"])
def test_trash_page_has_what_was_asked_for(call, query, expected, more, count):
    deleted(call, *"abc")
    response = call("GET", "/trash", query=query | {"count": count})
    assert titles(response) == list(expected)
    assert ("Link" in response.headers) == more
    assert response.headers.get("X-Total-Count") == ("3" if count == "true" else None)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        pytest.param({"limit": "0"}, "limit", id="no tasks at all"),
        pytest.param({"limit": "1001"}, "limit", id="too many tasks"),
        pytest.param({"limit": "x"}, "limit", id="not a number"),
        pytest.param({"offset": "10001"}, "offset", id="too far"),
        pytest.param({"offset": "-1"}, "offset", id="backwards"),
        pytest.param({"count": "maybe"}, "count", id="neither true nor false"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, 5]), "offset": "1"}, "offset", id="cursor and offset"),
        pytest.param({"cursor": "garbled"}, "cursor", id="garbled"),
        pytest.param({"cursor": "é"}, "cursor", id="not even ASCII"),
        pytest.param({"cursor": encode_cursor(["trash 0", 5])}, "cursor", id="of another version"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION])}, "cursor", id="forged, empty"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, 5, 5])}, "cursor", id="forged, too long"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, "5"])}, "cursor", id="forged, a text"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, True])}, "cursor", id="forged, a boolean"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, None])}, "cursor", id="forged, null"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, -1])}, "cursor", id="forged, negative"),
        pytest.param({"cursor": encode_cursor([CURSOR_VERSION, 2**63])}, "cursor", id="forged, too great"),
    ],
)
def test_trash_bad_parameter_is_refused_by_name(call, query, name):
    problem = assert_problem(call("GET", "/trash", query=query), 422)
    assert [error["parameter"] for error in problem["errors"]] == [name]


@pytest.mark.parametrize("source", ["/tasks?limit=1", "/tasks/changes?limit=1"])
def test_trash_takes_no_cursor_of_another_list(call, source):
    deleted(call, "x")
    for title in "ab":
        call("POST", "/tasks", title=title)
    page = call("GET", source)
    cursor = (
        page.json["next"] if "changes" in source else page.headers["Link"].partition("cursor=")[2].partition(">")[0]
    )
    problem = assert_problem(call("GET", "/trash", query={"cursor": cursor}), 422)
    assert [error["parameter"] for error in problem["errors"]] == ["cursor"]
    assert_problem(call("GET", "/tasks", query={"cursor": encode_cursor([CURSOR_VERSION, 5])}), 422)


def test_trash_with_strict_handling_names_an_unknown_parameter(call):
    problem = assert_problem(call("GET", "/trash?limt=1", headers={"Prefer": "handling=strict"}), 422)
    assert [error["parameter"] for error in problem["errors"]] == ["limt"]
    assert "limit" in problem["detail"]


@pytest.mark.parametrize(
    "due_date",
    [None, "2026-03-01", "0001-01-01", "9999-12-31", "2026-03-01T09:30:00.123456Z", "2026-03-01T23:30:00+14:00"],
)
@pytest.mark.parametrize("completed", [True, False])
def test_restore_gives_back_all_that_the_task_had(call, due_date, completed):
    task = call("POST", "/tasks", **FULL | {"due_date": due_date, "completed": completed}).json
    call("DELETE", f"/tasks/{task['id']}")
    response = call("POST", f"/trash/{task['id']}/restore")
    assert response.status_code == 200
    restored = response.json
    assert restored == task | {"updated_at": restored["updated_at"], "revision": task["revision"] + 2}
    assert datetime.fromisoformat(restored["updated_at"]) > datetime.fromisoformat(task["updated_at"])
    assert response.headers["ETag"] == f'"{restored["revision"]}"'
    assert call("GET", f"/tasks/{task['id']}").json == restored
    assert call("GET", "/trash").json == []


@pytest.mark.parametrize(
    "query", [{"search": "zizkov lait"}, {"search": "barista"}, {"search": "epicerie"}, {"tag": "ÉPICERIE"}]
)
def test_restore_lets_the_task_be_found_again(call, query):
    task = call("POST", "/tasks", **FULL).json
    call("DELETE", f"/tasks/{task['id']}")
    assert call("GET", "/tasks", query=query).json == []
    call("POST", f"/trash/{task['id']}/restore")
    assert titles(call("GET", "/tasks", query=query)) == [FULL["title"]]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_restore_gives_the_same_moments_in_whatever_zone_the_session_is(database_url, user, monkeypatch, zone):
    monkeypatch.setenv("PGTZ", zone)
    app = create_app(config_for(database_url))
    call = call_as(app.test_client(), user)
    for due_date in ("0001-01-01", "9999-12-31", "2026-03-01T00:00:00Z"):
        task = call("POST", "/tasks", **FULL | {"due_date": due_date}).json
        call("DELETE", f"/tasks/{task['id']}")
        (found,) = call("GET", "/trash").json
        restored = call("POST", f"/trash/{task['id']}/restore").json
        for name in ("due_date", "created_at", "completed_at"):
            assert task[name] == found[name] == restored[name]
    with app.app_context():
        db.engine.dispose()


def test_restore_a_second_time_finds_nothing(call):
    (task,) = deleted(call, "x")
    assert call("POST", f"/trash/{task['id']}/restore").status_code == 200
    assert_problem(call("POST", f"/trash/{task['id']}/restore"), 404, "Task not found")
    assert len(call("GET", "/tasks").json) == 1


def test_restore_ten_times_at_once_brings_one_task_back(app, call, user):
    (task,) = deleted(call, "x")
    gate = threading.Barrier(10)
    statuses = []

    def restore():
        gate.wait()
        statuses.append(call_as(app.test_client(), user)("POST", f"/trash/{task['id']}/restore").status_code)

    threads = [threading.Thread(target=restore) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [404] * 9
    assert len(call("GET", "/tasks").json) == 1


def test_restored_task_can_be_deleted_and_restored_again(call):
    (task,) = deleted(call, "x")
    for turn in (1, 2):
        restored = call("POST", f"/trash/{task['id']}/restore").json
        assert restored["revision"] == task["revision"] + 2 * turn
        assert call("DELETE", f"/tasks/{task['id']}").status_code == 204
    assert titles(call("GET", "/trash")) == ["x"]


def test_changes_tell_of_the_deletion_and_of_the_return(call):
    task = call("POST", "/tasks", title="x").json
    since = call("GET", "/tasks/changes").json["next"]
    call("DELETE", f"/tasks/{task['id']}")
    gone = call("GET", "/tasks/changes", query={"since": since}).json
    assert [(mark["id"], mark["revision"]) for mark in gone["deleted"]] == [(task["id"], task["revision"] + 1)]
    restored = call("POST", f"/trash/{task['id']}/restore").json
    back = call("GET", "/tasks/changes", query={"since": gone["next"]}).json
    assert (back["tasks"], back["deleted"], back["count"]) == ([restored], [], 1)


def test_creation_retried_after_a_restore_gives_the_restored_task(call):
    key = {"Idempotency-Key": "k1"}
    task = call("POST", "/tasks", headers=key, title="x").json
    call("DELETE", f"/tasks/{task['id']}")
    restored = call("POST", f"/trash/{task['id']}/restore").json
    again = call("POST", "/tasks", headers=key, title="x")
    assert (again.headers["Idempotent-Replayed"], again.json) == ("true", restored)


def test_discard_deletes_one_task_for_good(call, database_url, user):
    kept, gone = deleted(call, "kept", "gone")
    response = call("DELETE", f"/trash/{gone['id']}")
    assert (response.status_code, response.get_data()) == (204, b"")
    assert_problem(call("DELETE", f"/trash/{gone['id']}"), 404, "Task not found")
    assert_problem(call("POST", f"/trash/{gone['id']}/restore"), 404, "Task not found")
    assert titles(call("GET", "/trash")) == ["kept"]
    assert [(row[0], row[2] is None) for row in stored(database_url, user)] == [(kept["id"], False), (gone["id"], True)]


def test_empty_deletes_all_of_the_trash_for_good_and_nothing_else(call, database_url, user):
    call("POST", "/tasks", title="alive")
    made = deleted(call, *"ab")
    for _ in range(2):
        response = call("DELETE", "/trash")
        assert (response.status_code, response.get_data()) == (204, b"")
        assert "Content-Type" not in response.headers
        assert call("GET", "/trash").json == []
    assert titles(call("GET", "/tasks")) == ["alive"]
    assert [(row[0], row[2]) for row in stored(database_url, user)] == [(task["id"], None) for task in made]


@pytest.mark.parametrize("path", ["/trash", "/trash/{id}"])
def test_followers_still_learn_of_what_was_deleted_for_good(call, path):
    task = call("POST", "/tasks", title="x").json
    since = call("GET", "/tasks/changes").json["next"]
    call("DELETE", f"/tasks/{task['id']}")
    call("DELETE", path.format(id=task["id"]))
    changes = call("GET", "/tasks/changes", query={"since": since}).json
    assert [mark["id"] for mark in changes["deleted"]] == [task["id"]]


def test_trash_of_others_is_out_of_reach(client, call, user):
    stranger = call_as(client, new_user())
    (task,) = deleted(call, "x")
    deleted(stranger, "own")
    assert titles(stranger("GET", "/trash")) == ["own"]
    assert_problem(stranger("POST", f"/trash/{task['id']}/restore"), 404, "Task not found")
    assert_problem(stranger("DELETE", f"/trash/{task['id']}"), 404, "Task not found")
    assert stranger("DELETE", "/trash").status_code == 204
    assert titles(call("GET", "/trash")) == ["x"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/trash"), ("DELETE", "/trash"), ("DELETE", "/trash/1"), ("POST", "/trash/1/restore")],
)
def test_trash_needs_the_token_of_its_user(client, user, method, path):
    assert_problem(client.open(f"/api/{user}{path}", method=method), 401, "Missing authentication token")
    refused = client.open(f"/api/{user}{path}", method=method, headers=bearer(new_user()))
    assert_problem(refused, 403, "User ID mismatch")


@pytest.mark.parametrize("slash", ["", "/"])
def test_me_and_a_trailing_slash_are_the_same_path(client, call, user, slash):
    first, second = deleted(call, "a", "b")

    def mine(method, path):
        return client.open(f"/api/me/trash{path}{slash}", method=method, headers=bearer(user))

    assert titles(mine("GET", "")) == ["b", "a"]
    assert mine("HEAD", "").status_code == 200
    restored = mine("POST", f"/{first['id']}/restore")
    assert (restored.status_code, restored.json["user_id"]) == (200, user)
    assert mine("DELETE", f"/{second['id']}").status_code == 204
    assert mine("DELETE", "").status_code == 204


@pytest.mark.parametrize("number", ["0", "9223372036854775807"])
def test_trash_has_no_task_that_never_was(call, number):
    assert_problem(call("POST", f"/trash/{number}/restore"), 404, "Task not found")
    assert_problem(call("DELETE", f"/trash/{number}"), 404, "Task not found")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/trash", 200, id="list"),
        pytest.param("GET", "/trash?count=true&limit=1", 200, id="list and count"),
        pytest.param("POST", "/trash/{id}/restore", 200, id="restore"),
        pytest.param("DELETE", "/trash/{id}", 204, id="discard"),
        pytest.param("DELETE", "/trash", 204, id="empty"),
        pytest.param("DELETE", "/tasks/{alive}", 204, id="delete a task"),
    ],
)
def test_call_on_the_trash_is_one_round_trip(proxied, proxy, user, method, path, status):
    call = call_as(proxied.test_client(), user)
    alive = call("POST", "/tasks", title="alive").json["id"]
    _, last = deleted(call, "a", "b")
    proxy.queries.clear()
    assert call(method, path.format(id=last["id"], alive=alive)).status_code == status
    assert len(proxy.queries) == 1


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/trash"), ("POST", "/trash/1/restore"), ("DELETE", "/trash/1"), ("DELETE", "/trash")]
)
def test_trash_without_a_database_is_unavailable_and_comes_back(proxied, proxy, user, method, path):
    call = call_as(proxied.test_client(), user)
    proxy.refuse = True
    proxy.cut()
    assert_problem(call(method, path), 503)
    proxy.refuse = False
    assert call("GET", "/trash").status_code == 200
