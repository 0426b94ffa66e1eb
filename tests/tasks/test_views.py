"""The base contract, call by call."""

import re
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from support import TASK_MEMBERS, WRITABLE_MEMBERS, assert_problem, bearer, new_user

from todo.database import statements
from todo.database.timeouts import REQUEST_LIMITS, TimeLimits

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


@pytest.fixture
def task(call):
    """Return a task of the user."""
    return call("POST", "/tasks", title="Buy oat milk", description="Two litres").json


def test_list_without_tasks_is_an_empty_array(call):
    response = call("GET", "/tasks")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.get_data() == b"[]"


def test_list_gives_tasks_in_creation_order(call):
    made = [call("POST", "/tasks", title=title).json for title in ("c", "a", "b")]
    call("PATCH", f"/tasks/{made[0]['id']}", title="changed last")
    assert [task["id"] for task in call("GET", "/tasks").json] == [task["id"] for task in made]


def test_create_gives_the_whole_task_and_where_it_is(client, call, user):
    before = datetime.now(UTC)
    response = call("POST", "/tasks", title="Buy oat milk", description="Two litres")
    assert response.status_code == 201
    task = response.json
    assert list(task) == TASK_MEMBERS
    assert isinstance(task["id"], int)
    assert task["user_id"] == user
    assert (task["title"], task["description"], task["completed"]) == ("Buy oat milk", "Two litres", False)
    assert (task["priority"], task["due_date"], task["tags"], task["completed_at"]) == (None, None, [], None)
    assert TIMESTAMP.fullmatch(task["created_at"])
    assert abs((datetime.fromisoformat(task["created_at"]) - before).total_seconds()) < 60
    assert task["updated_at"] == task["created_at"]
    assert response.headers["Location"] == f"/api/{user}/tasks/{task['id']}"
    assert client.get(response.headers["Location"], headers=bearer(user)).json == task


def test_create_with_completed_makes_a_completed_task(call):
    assert call("POST", "/tasks", title="x", completed=True).json["completed"] is True


def test_create_ignores_what_the_server_writes_and_what_nobody_knows(call, user):
    stranger = new_user()
    task = call(
        "POST", "/tasks", title="x", id=1, user_id=stranger, created_at="1999-01-01T00:00:00Z", colour="red"
    ).json
    assert task["user_id"] == user
    assert not task["created_at"].startswith("1999")
    assert "colour" not in task


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("  x \n", "x", id="surrounding white space is removed"),
        pytest.param("\u2003x\u00a0\x85\x1f", "x", id="all that Python calls white space"),
        pytest.param("a  b", "a  b", id="inner white space stays"),
        pytest.param("x" * 200, "x" * 200, id="200 characters"),
        pytest.param(" " * 50 + "😀" * 200 + " " * 50, "😀" * 200, id="code points count, after stripping"),
        pytest.param("\u200bx\u200b", "\u200bx\u200b", id="a zero width space is no white space"),
        pytest.param("\u00b4", "\u00b4", id="an accent of its own"),
        pytest.param("\u0640", "\u0640", id="a tatweel"),
        pytest.param("\u2764\ufe0f", "\u2764\ufe0f", id="an emoji and its variation selector"),
        pytest.param("\u0e34", "\u0e34", id="a vowel"),
        pytest.param("Robert'); DROP TABLE tasks;--", "Robert'); DROP TABLE tasks;--", id="quotes mean themselves"),
        pytest.param("100 % %s %(x)s :y \\", "100 % %s %(x)s :y \\", id="placeholders mean themselves"),
    ],
)
def test_title_good_is_kept(call, sent, kept):
    task = call("POST", "/tasks", title=sent).json
    assert task["title"] == kept
    assert call("GET", f"/tasks/{task['id']}").json["title"] == kept


@pytest.mark.parametrize(
    ("title", "rule"),
    [
        pytest.param("", "title must have 1 to 200 characters", id="empty"),
        pytest.param(" \t\u2003", "title must have 1 to 200 characters", id="white space alone"),
        pytest.param("x" * 201, "title must have 1 to 200 characters", id="201 characters"),
        *(
            pytest.param(title, "title must have at least one visible character.", id=ascii(title))
            for title in (
                "\u200b",
                "\u200c\u200d \u2060\ufeff",
                "\u00ad",
                "\ufe0f",
                "\u3164",
                "\u115f",
                "\u202e",
                "\u034f",
                "\U000e0020\U000e007f",
                "\u0301",
                "\u05b8 \u064e",
                "\u20e3",
            )
        ),
        pytest.param("a\0b", "title must not contain the NUL character", id="NUL"),
        pytest.param(None, "title must not be null", id="null"),
        pytest.param(5, "title must be a string", id="a number"),
        pytest.param(["x"], "title must be a string", id="an array"),
        pytest.param(True, "title must be a string", id="a boolean"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_title_bad_is_refused_by_name_and_rule(call, task, method, title, rule):
    path = "/tasks" if method == "POST" else f"/tasks/{task['id']}"
    problem = assert_problem(call(method, path, title=title), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/title"]
    assert problem["errors"][0]["detail"].startswith(rule)
    assert problem["detail"].startswith(rule)
    assert call("GET", "/tasks").json == [task]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_title_absent_is_refused(call, task, method):
    path = "/tasks" if method == "POST" else f"/tasks/{task['id']}"
    assert_problem(call(method, path, description="x"), 422, "title is required.")


@pytest.mark.parametrize("description", ["", "  kept as sent \n", "x" * 1000, "😀" * 1000, None])
def test_description_good_is_kept_as_sent(call, description):
    task = call("POST", "/tasks", title="x", description=description).json
    assert task["description"] == description
    assert call("GET", f"/tasks/{task['id']}").json["description"] == description


@pytest.mark.parametrize("description", ["x" * 1001, "a\0b", 5, {}, False])
def test_description_bad_is_refused(call, task, description):
    for method, path in (("POST", "/tasks"), ("PUT", f"/tasks/{task['id']}"), ("PATCH", f"/tasks/{task['id']}")):
        problem = assert_problem(call(method, path, title="x", description=description), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["#/description"]
    assert call("GET", "/tasks").json == [task]


@pytest.mark.parametrize("completed", [None, 1, 0, "true", "", [], 1.0])
def test_completed_other_than_true_or_false_is_refused(call, task, completed):
    for method, path in (("POST", "/tasks"), ("PUT", f"/tasks/{task['id']}"), ("PATCH", f"/tasks/{task['id']}")):
        problem = assert_problem(call(method, path, title="x", completed=completed), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["#/completed"]
    assert_problem(call("PATCH", f"/tasks/{task['id']}/complete", completed=completed), 422)
    assert call("GET", "/tasks").json == [task]


def test_all_faults_are_reported_together(call):
    problem = assert_problem(call("POST", "/tasks", title="", description=5, completed="no"), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/title", "#/description", "#/completed"]
    assert problem["detail"] == " ".join(error["detail"] for error in problem["errors"])


def test_get_gives_the_task(call, task):
    response = call("GET", f"/tasks/{task['id']}")
    assert response.status_code == 200
    assert response.json == task


def test_put_replaces_title_and_description(call, task):
    response = call("PUT", f"/tasks/{task['id']}", title="New", description="Other")
    assert response.status_code == 200
    assert response.json == task | {
        "title": "New",
        "description": "Other",
        "updated_at": response.json["updated_at"],
        "revision": task["revision"] + 1,
    }


def test_put_without_description_clears_it_and_leaves_completed_alone(call, task):
    call("PATCH", f"/tasks/{task['id']}/complete")
    changed = call("PUT", f"/tasks/{task['id']}", title="New").json
    assert changed["description"] is None
    assert changed["completed"] is True


def test_put_with_completed_sets_it(call, task):
    assert call("PUT", f"/tasks/{task['id']}", title="New", completed=True).json["completed"] is True


def test_put_what_was_read_changes_nothing(call, task):
    response = call("PUT", f"/tasks/{task['id']}", **task)
    assert response.status_code == 200
    assert response.json == task


@pytest.mark.parametrize(
    "change",
    [
        {"title": "New"},
        {"description": "New"},
        {"description": None},
        {"completed": True},
        {"priority": "high"},
        {"due_date": "2026-03-01"},
        {"due_date": "2026-03-01T09:30:00Z"},
        {"tags": ["home", "Work"]},
    ],
)
@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
def test_patch_changes_what_is_sent_and_nothing_else(call, task, change, media_type):
    changed = call("PATCH", f"/tasks/{task['id']}", headers={"Content-Type": media_type}, **change)
    assert changed.status_code == 200
    completed_at = changed.json["updated_at"] if change.get("completed") else None
    assert changed.json == task | change | {
        "updated_at": changed.json["updated_at"],
        "completed_at": completed_at,
        "revision": task["revision"] + 1,
    }


@pytest.mark.parametrize("body", ["{}", '{"id": 7, "created_at": "x"}', '{"colour": "red"}'])
def test_patch_that_leaves_nothing_to_change_is_refused(call, task, body):
    problem = assert_problem(call("PATCH", f"/tasks/{task['id']}", data=body), 422)
    assert problem["errors"] == [
        {"pointer": "#", "detail": f"Nothing to change: send at least one of {', '.join(WRITABLE_MEMBERS)}."}
    ]
    assert call("GET", "/tasks").json == [task]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"title": "ignored"}', b'{"colour": 1}', None])
def test_complete_with_nothing_to_set_toggles(call, task, data):
    path = f"/tasks/{task['id']}/complete"
    first, second = call("PATCH", path, data=data), call("PATCH", path, data=data)
    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json["completed"], second.json["completed"]) == (True, False)
    assert second.json == task | {"updated_at": second.json["updated_at"], "revision": task["revision"] + 2}


@pytest.mark.parametrize("value", [True, False])
def test_complete_with_a_value_sets_it(call, task, value):
    for _ in range(2):
        assert call("PATCH", f"/tasks/{task['id']}/complete", completed=value).json["completed"] is value


@pytest.mark.parametrize("priority", ["low", "MEDIUM", "High", None])
def test_priority_good_is_kept_in_lower_case(call, task, priority):
    kept = priority and priority.lower()
    assert call("POST", "/tasks", title="x", priority=priority).json["priority"] == kept
    for method, members in (("PUT", {"title": "x"}), ("PATCH", {})):
        call("PATCH", f"/tasks/{task['id']}", priority="low")
        assert call(method, f"/tasks/{task['id']}", priority=priority, **members).json["priority"] == kept
    assert call("GET", f"/tasks/{task['id']}").json["priority"] == kept


@pytest.mark.parametrize("priority", ["urgent", "nothing", " low", 1, True, ["low"], {}], ids=repr)
def test_priority_bad_is_refused(call, task, priority):
    problem = assert_problem(call("PATCH", f"/tasks/{task['id']}", priority=priority), 422)
    assert problem["errors"] == [{"pointer": "#/priority", "detail": "priority must be low, medium, high or null."}]
    assert call("GET", "/tasks").json == [task]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("2026-03-01", "2026-03-01", id="a day is that day"),
        pytest.param("0001-01-01", "0001-01-01", id="the first day"),
        pytest.param("9999-12-31", "9999-12-31", id="the last day"),
        pytest.param("2026-03-01T09:30", "2026-03-01T09:30:00Z", id="as datetime-local inputs send it"),
        pytest.param("2026-03-01T09:30:00.000Z", "2026-03-01T09:30:00Z", id="as JavaScript sends it"),
        pytest.param("2026-03-01T00:30:00+02:00", "2026-02-28T22:30:00Z", id="an offset"),
        pytest.param("2026-03-01T23:59:59.999999Z", "2026-03-01T23:59:59.999999Z", id="the last moment of a day"),
        pytest.param("2026-03-01 09:30:00.123456-05:30", "2026-03-01T15:00:00.123456Z", id="microseconds"),
        pytest.param(None, None, id="none"),
    ],
)
def test_due_date_good_comes_back_as_it_is_meant(call, task, sent, kept):
    assert call("POST", "/tasks", title="x", due_date=sent).json["due_date"] == kept
    for before in ("2020-01-01", "2020-01-01T00:00:00Z", None):
        call("PATCH", f"/tasks/{task['id']}", due_date=before)
        assert call("PATCH", f"/tasks/{task['id']}", due_date=sent).json["due_date"] == kept
    assert call("GET", f"/tasks/{task['id']}").json["due_date"] == kept


@pytest.mark.parametrize(
    "due_date",
    [
        "2026-02-30",
        "2026-13-01",
        "tomorrow",
        "none",
        "2026-03-01T24:00:00Z",
        "01/03/2026",
        1772357400,
        True,
        ["2026-03-01"],
    ],
    ids=repr,
)
def test_due_date_bad_is_refused(call, task, due_date):
    problem = assert_problem(call("PATCH", f"/tasks/{task['id']}", due_date=due_date), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/due_date"]
    assert problem["detail"].startswith("due_date must be null or a date such as 2026-03-01")
    assert call("GET", "/tasks").json == [task]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param(["b", "a"], ["b", "a"], id="the order stays"),
        pytest.param([" Home ", "home", "HOME", "work"], ["Home", "work"], id="the first spelling stays"),
        pytest.param(["Straße", "STRASSE", "Café", "cafe"], ["Straße", "Café", "cafe"], id="accents count"),
        pytest.param(["😀" * 50, "a b", "a,b"], ["😀" * 50, "a b", "a,b"], id="characters"),
        pytest.param([f"t{n}" for n in range(20)], [f"t{n}" for n in range(20)], id="twenty"),
        pytest.param(["t"] * 21, ["t"], id="one, twenty-one times"),
        pytest.param([], [], id="none"),
        pytest.param(None, [], id="null"),
    ],
)
def test_tags_good_are_kept(call, task, sent, kept):
    assert call("POST", "/tasks", title="x", tags=sent).json["tags"] == kept
    call("PATCH", f"/tasks/{task['id']}", tags=["before"])
    assert call("PATCH", f"/tasks/{task['id']}", tags=sent).json["tags"] == kept
    assert call("GET", f"/tasks/{task['id']}").json["tags"] == kept


@pytest.mark.parametrize(
    ("tags", "pointers"),
    [
        pytest.param("ok, " + "x" * 51, ["#/tags"], id="a text with a part that is too long"),
        pytest.param("ok, a\0b", ["#/tags"], id="a text with NUL"),
        pytest.param(",".join(f"t{n}" for n in range(21)), ["#/tags"], id="a text of twenty-one"),
        pytest.param(5, ["#/tags"], id="a number"),
        pytest.param({"0": "home"}, ["#/tags"], id="an object"),
        pytest.param([f"t{n}" for n in range(21)], ["#/tags"], id="twenty-one"),
        pytest.param(["ok", 5, None, ["x"]], ["#/tags/1", "#/tags/2", "#/tags/3"], id="no texts"),
        pytest.param(["", " \u2003", "x" * 51, "a\0b"], ["#/tags/0", "#/tags/1", "#/tags/2", "#/tags/3"], id="lengths"),
    ],
)
def test_tags_bad_are_refused_one_by_one(call, task, tags, pointers):
    problem = assert_problem(call("PATCH", f"/tasks/{task['id']}", tags=tags), 422)
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert call("GET", "/tasks").json == [task]


def test_put_without_them_leaves_priority_due_date_and_tags_alone(call, task):
    organised = {"priority": "high", "due_date": "2026-03-01", "tags": ["home"]}
    call("PATCH", f"/tasks/{task['id']}", **organised)
    replaced = call("PUT", f"/tasks/{task['id']}", title="New").json
    assert {name: replaced[name] for name in organised} == organised


def test_completed_at_is_set_and_cleared_with_completed(call, task):
    path = f"/tasks/{task['id']}"
    done = call("PATCH", path, completed=True).json
    assert done["completed_at"] == done["updated_at"]
    for again in (
        call("PATCH", path, completed=True),
        call("PATCH", path, title="Renamed"),
        call("PUT", path, title="Replaced", completed=True, completed_at=None),
        call("PATCH", f"{path}/complete", completed=True),
    ):
        assert again.json["completed_at"] == done["completed_at"]
    assert call("PATCH", path, completed=False).json["completed_at"] is None
    toggled = call("PATCH", f"{path}/complete").json
    assert toggled["completed_at"] == toggled["updated_at"]
    assert call("PATCH", f"{path}/complete").json["completed_at"] is None
    created = call("POST", "/tasks", title="x", completed=True, completed_at="1999-01-01T00:00:00Z").json
    assert created["completed_at"] == created["created_at"]


def test_delete_removes_the_task_and_answers_nothing(call, task):
    response = call("DELETE", f"/tasks/{task['id']}")
    assert response.status_code == 204
    assert response.get_data() == b""
    assert "Content-Type" not in response.headers
    assert_problem(call("GET", f"/tasks/{task['id']}"), 404, "Task not found")
    assert_problem(call("DELETE", f"/tasks/{task['id']}"), 404, "Task not found")
    assert call("GET", "/tasks").json == []


def test_updated_at_moves_on_every_change_and_created_at_stays(call, task):
    path = f"/tasks/{task['id']}"
    seen = [task]
    for turn in range(5):
        seen.append(call("PATCH", path, completed=True).json)
        seen.append(call("PUT", path, title=f"turn {turn}").json)
        seen.append(call("PATCH", f"{path}/complete").json)
    times = [datetime.fromisoformat(state["updated_at"]) for state in seen]
    assert times == sorted(set(times))
    assert {state["created_at"] for state in seen} == {task["created_at"]}


EVERY_CALL = [
    pytest.param("GET", "", None, id="list"),
    pytest.param("GET", "/summary", None, id="summary"),
    pytest.param("POST", "", {"title": "x"}, id="create"),
    pytest.param("GET", "/{id}", None, id="get"),
    pytest.param("PUT", "/{id}", {"title": "x"}, id="put"),
    pytest.param("PATCH", "/{id}", {"title": "x"}, id="patch"),
    pytest.param("PATCH", "/{id}/complete", None, id="complete"),
    pytest.param("DELETE", "/{id}", None, id="delete"),
]
CALLS_ON_A_TASK = EVERY_CALL[3:]


@pytest.mark.parametrize(("method", "path", "body"), EVERY_CALL)
@pytest.mark.parametrize("form", ["/api/{user}/tasks{path}/", "/api/me/tasks{path}", "/api/me/tasks{path}/"])
def test_path_with_me_or_a_trailing_slash_is_the_same_path(client, user, task, method, path, body, form):
    url = form.format(user=user, path=path.format(id=task["id"]))
    response = client.open(url, method=method, headers=bearer(user), json=body)
    assert response.status_code in (200, 201, 204)
    if method == "POST":
        assert client.get(response.headers["Location"], headers=bearer(user)).json == response.json


@pytest.mark.parametrize(("method", "path", "body"), CALLS_ON_A_TASK)
def test_task_of_another_is_not_found_like_one_that_never_was(client, call, task, method, path, body):
    stranger = bearer(new_user())
    headers = stranger | {"X-Request-ID": "same"}
    theirs = client.open(f"/api/me/tasks{path.format(id=task['id'])}", method=method, headers=headers, json=body)
    absent = client.open(f"/api/me/tasks{path.format(id=2**63 - 1)}", method=method, headers=headers, json=body)
    assert_problem(theirs, 404, "Task not found")
    path_of = {"theirs": f"/tasks/{task['id']}".encode(), "absent": f"/tasks/{2**63 - 1}".encode()}
    assert theirs.get_data().replace(path_of["theirs"], b"#") == absent.get_data().replace(path_of["absent"], b"#")
    assert call("GET", "/tasks").json == [task]


@pytest.mark.parametrize(("method", "path", "body"), CALLS_ON_A_TASK)
@pytest.mark.parametrize(
    "number", ["abc", "1.0", "9223372036854775808", "-9223372036854775809", "9" * 400, "%00", "1e3"]
)
def test_id_that_is_no_64_bit_integer_is_not_found(client, user, method, path, body, number):
    url = f"/api/{user}/tasks{path.format(id=number)}"
    assert_problem(client.open(url, method=method, headers=bearer(user), json=body), 404)


@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775807", "-9223372036854775808"])
def test_id_of_no_task_is_not_found(call, number):
    assert_problem(call("GET", f"/tasks/{number}"), 404, "Task not found")


@pytest.mark.parametrize(("method", "path", "body"), EVERY_CALL)
@pytest.mark.unprepared
def test_every_call_is_one_statement_that_starts_from_the_caller(proxied, proxy, user, method, path, body):
    client = proxied.test_client()
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "warm"}).json
    proxy.queries.clear()
    response = client.open(
        f"/api/{user}/tasks{path.format(id=task['id'])}", method=method, headers=bearer(user), json=body
    )
    assert response.status_code in (200, 201, 204)
    (statement,) = proxy.queries
    assert statement.startswith(REQUEST_LIMITS.settings)
    is_read = not re.search("INSERT|UPDATE|DELETE", statement)
    assert is_read == (method == "GET")
    assert f"user_id = '{user}'" in statement or f"VALUES ('{user}'" in statement


def test_refusal_costs_no_statement(proxied, proxy, user):
    client = proxied.test_client()
    client.get("/api/me/tasks", headers=bearer(user))
    proxy.queries.clear()
    assert_problem(client.get("/api/me/tasks"), 401)
    assert_problem(client.get("/api/somebody/tasks", headers=bearer(user)), 403)
    assert_problem(client.post("/api/me/tasks", headers=bearer(user), json={}), 422)
    assert proxy.queries == []


def test_get_and_delete_ignore_a_body(call, task):
    for data in (b"{", b"x" * 100_000, b'{"title": "x"}'):
        assert call("GET", "/tasks", data=data).status_code == 200
        assert call("GET", f"/tasks/{task['id']}", data=data).json == task
    assert call("DELETE", f"/tasks/{task['id']}", data=b"{").status_code == 204


def test_unknown_query_parameters_are_ignored(call, task):
    assert call("GET", "/tasks?colour=red&pages=2").json == [task]


@pytest.mark.parametrize("path", ["/tasks", "/tasks/{id}"])
def test_head_answers_as_get_without_a_body(call, task, path):
    url = path.format(id=task["id"])
    got, headed = call("GET", url), call("HEAD", url)
    assert headed.status_code == 200
    assert headed.get_data() == b""
    assert headed.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/1", {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
        ("/1/complete", {"OPTIONS", "PATCH"}),
    ],
)
def test_options_says_what_is_allowed_to_anybody(client, path, allowed):
    response = client.options(f"/api/whoever/tasks{path}")
    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == allowed
    refused = client.open(f"/api/whoever/tasks{path}", method="PURGE")
    assert_problem(refused, 405)
    assert set(refused.headers["Allow"].split(", ")) == allowed


def test_order_of_checks_is_path_token_user_body_row(client, user):
    good, other = f"/api/{user}/tasks/1", f"/api/{new_user()}/tasks/1"
    bad_body = {"data": b"{", "content_type": "text/plain"}
    headers = {"Authorization": bearer(user)["Authorization"]}
    assert_problem(client.put("/api/x/tasks/1/nope", **bad_body), 404)
    assert_problem(client.post(good, **bad_body), 405)
    assert_problem(client.put(other, **bad_body), 401)
    assert_problem(client.put(other, headers=headers, **bad_body), 403)
    assert_problem(client.put(good, headers=headers, **bad_body), 415)
    assert_problem(client.put(good, headers=headers, data=b"{"), 400)
    assert_problem(client.put(good, headers=headers, json={}), 422)
    assert_problem(client.put(good, headers=headers, json={"title": "x"}), 404, "Task not found")


def test_write_that_waits_too_long_for_its_turn_gives_up(client, user, database_url, monkeypatch):
    monkeypatch.setattr(statements, "REQUEST_LIMITS", TimeLimits("SET LOCAL lock_timeout = 50;\n", 10))
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json
    with closing(psycopg2.connect(database_url)) as other:
        other.cursor().execute("SELECT FROM task_lists WHERE user_id = %s FOR UPDATE", [user])
        assert_problem(client.post("/api/me/tasks", headers=bearer(user), json={"title": "y"}), 503)
        assert client.get("/api/me/tasks", headers=bearer(user)).json == [task]
    assert client.post("/api/me/tasks", headers=bearer(user), json={"title": "y"}).status_code == 201
