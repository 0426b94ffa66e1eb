"""Conditional requests: what is known is not sent again, and what was changed meanwhile is not overwritten."""

import threading
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from sqlalchemy import text
from support import assert_problem, bearer, call_as, config_for, new_user, wait_for_a_lock

from todo import create_app
from todo.database import statements
from todo.extensions import db
from todo.tasks import listing, queries
from todo.tasks.listing import Filters, Listing, SortKey

ABSENT = 2**62


@pytest.fixture
def task(call):
    """Give a task that is in the third revision of its list, and so has a tag that others do not have."""
    call("POST", "/tasks", title="first")
    made = call("POST", "/tasks", title="x", description="y", priority="high", due_date="2026-03-01", tags=["a"]).json
    return call("PATCH", f"/tasks/{made['id']}", title="z").json


WRITES = [
    pytest.param("PUT", "/tasks/{id}", {"title": "new"}, id="put"),
    pytest.param("PATCH", "/tasks/{id}", {"title": "new"}, id="patch"),
    pytest.param("PATCH", "/tasks/{id}/complete", {}, id="toggle"),
    pytest.param("PATCH", "/tasks/{id}/complete", {"completed": True}, id="complete"),
    pytest.param("DELETE", "/tasks/{id}", {}, id="delete"),
]


def assert_unchanged(response, tag):
    """Assert that an answer is a 304 with this tag, and nothing else."""
    assert response.status_code == 304
    assert response.get_data() == b""
    assert response.headers["ETag"] == tag
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert not {"Content-Type", "Content-Length", "Link"} & set(response.headers.keys())


def asked_again(call, path, tag):
    """Ask for something with a tag that is known."""
    return call("GET", path, {"If-None-Match": tag})


# One task.


def test_get_with_the_tag_of_every_write_is_not_modified(client, call, user):
    made = call("POST", "/tasks", title="x")
    path = f"/tasks/{made.json['id']}"
    writes = [
        lambda: made,
        lambda: call("PUT", path, title="y"),
        lambda: call("PATCH", path, title="z"),
        lambda: call("PATCH", f"{path}/complete"),
        lambda: call("PATCH", f"{path}/complete", completed=False),
    ]
    for revision, write in enumerate(writes, 1):
        written = write()
        assert written.headers["ETag"] == f'"{revision}"' == f'"{written.json["revision"]}"'
        got = call("GET", path)
        assert (got.status_code, got.headers["ETag"]) == (200, written.headers["ETag"])
        assert_unchanged(asked_again(call, path, written.headers["ETag"]), f'"{revision}"')
    deleted = call("DELETE", path, {"Prefer": "return=representation"})
    assert deleted.headers["ETag"] == '"5"'
    restored = client.post(f"/api/{user}/trash/{made.json['id']}/restore", headers=bearer(user))
    assert restored.headers["ETag"] == '"7"'
    assert_unchanged(asked_again(call, path, '"7"'), '"7"')


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "tags",
    [
        pytest.param('"3"', id="the tag"),
        pytest.param('W/"3"', id="a weak one"),
        pytest.param('"1", W/"2" ,"3"', id="a list"),
        pytest.param('"x,y", "3"', id="a list with a comma in a tag"),
        pytest.param("*", id="any"),
    ],
)
def test_get_with_a_known_tag_is_not_modified(call, task, method, tags):
    assert_unchanged(call(method, f"/tasks/{task['id']}", {"If-None-Match": tags}), '"3"')


@pytest.mark.parametrize("tags", ['"2"', 'W/"4"', '"1", "2"', '"33"', '"-3"', "x", "", '"3', ",", '"\xe93"'])
def test_get_with_no_known_tag_is_whole(call, task, tags):
    response = asked_again(call, f"/tasks/{task['id']}", tags)
    assert (response.status_code, response.headers["ETag"], response.json) == (200, '"3"', task)


def test_get_absent_with_any_tag_is_not_found(call, task):
    assert_problem(asked_again(call, f"/tasks/{ABSENT}", "*"), 404, "Task not found")


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "tags",
    [
        pytest.param('"3"', id="the tag"),
        pytest.param('W/"3"', id="a weak one"),
        pytest.param('"1", W/"3", "x"', id="a list"),
        pytest.param('"", "3"', id="a list with the empty tag"),
        pytest.param("*", id="any"),
    ],
)
def test_write_with_a_matching_tag_is_done(call, task, method, path, body, tags):
    response = call(method, path.format(id=task["id"]), {"If-Match": tags}, **body)
    assert response.status_code in (200, 204)
    if method != "DELETE":
        assert response.headers["ETag"] == '"4"'


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize(
    "tags",
    [
        pytest.param('"2"', id="an old tag"),
        pytest.param('"4"', id="one to come"),
        pytest.param('W/"1", "2"', id="a list of old ones"),
        pytest.param("", id="nothing"),
        pytest.param('""', id="the empty tag"),
        pytest.param('W/"", "2"', id="the weak empty tag"),
        pytest.param('"003"', id="the number written otherwise"),
        pytest.param('"*"', id="a quoted star"),
        pytest.param("x", id="a word"),
        pytest.param('"3', id="one without an end"),
        pytest.param('"+3", "3.0", "3 ", "0x3", "-3", "\xb3"', id="no numbers"),
        pytest.param(f'"{3 + 2**64}", "{"9" * 18}", "{"9" * 400}"', id="great numbers"),
        pytest.param('"3-0123456789abcdef"', id="the tag of a list"),
        pytest.param('"3\'--"', id="no SQL"),
    ],
)
def test_write_with_no_matching_tag_fails_and_shows_the_current_task(call, task, method, path, body, tags):
    problem = assert_problem(call(method, path.format(id=task["id"]), {"If-Match": tags}, **body), 412)
    assert problem["current"] == task
    assert call("GET", f"/tasks/{task['id']}").json == task


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("tags", ['"1"', "*", "x", None])
def test_write_of_an_absent_task_is_not_found_whatever_is_matched(call, task, method, path, body, tags):
    headers = {} if tags is None else {"If-Match": tags}
    assert_problem(call(method, path.format(id=ABSENT), headers, **body), 404, "Task not found")


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_of_the_task_of_another_is_not_found_and_shows_nothing(client, task, method, path, body):
    response = call_as(client, new_user())(method, path.format(id=task["id"]), {"If-Match": '"2"'}, **body)
    assert "current" not in assert_problem(response, 404, "Task not found")


@pytest.fixture
def careful(database_url):
    """Give the application that wants every change to say what it is meant for."""
    app = create_app(config_for(database_url, REQUIRE_IF_MATCH="true"))
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_where_a_tag_is_required_is_refused_without_one(careful, user, method, path, body):
    call = call_as(careful.test_client(), user)
    task = call("POST", "/tasks", title="x").json
    for there in (task["id"], ABSENT):
        problem = assert_problem(call(method, path.format(id=there), **body), 428)
        assert "If-Match" in problem["detail"]
    assert call("GET", "/tasks").json == [task]
    assert call(method, path.format(id=task["id"]), {"If-Match": '"1"'}, **body).status_code in (200, 204)


def at_once(number, do):
    """Run a function in so many threads at once, each with its number; give what they return."""
    barrier, answers = threading.Barrier(number), []

    def run(turn):
        barrier.wait()
        answers.append(do(turn))

    threads = [threading.Thread(target=run, args=(turn,)) for turn in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_writes_at_once_with_one_tag_are_one_write(app, call, user):
    path = f"/tasks/{call('POST', '/tasks', title='x').json['id']}"

    def write(turn):
        return call_as(app.test_client(), user)("PATCH", path, {"If-Match": '"1"'}, title=f"by {turn}")

    answers = at_once(8, write)
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    (winner,) = (answer.json for answer in answers if answer.status_code == 200)
    assert [answer.json["current"] for answer in answers if answer.status_code == 412] == [winner] * 7
    assert call("GET", "/tasks").json == [winner]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_write_that_waits_for_another_one_is_decided_after_it(app, database_url, call, task, user, method, path, body):
    def write():
        headers = {"If-Match": '"3"'}
        answers.append(call_as(app.test_client(), user)(method, path.format(id=task["id"]), headers, **body))

    answers, writer = [], threading.Thread(target=write)
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        sent = {"caller": user, "task_id": task["id"], "revisions": None}
        cursor.execute(queries.TOGGLE, sent)
        writer.start()
        wait_for_a_lock(app, user)
        other.commit()
    writer.join()
    problem = assert_problem(answers[0], 412)
    assert problem["current"] == call("GET", f"/tasks/{task['id']}").json
    assert (problem["current"]["revision"], problem["current"]["completed"]) == (4, True)


# What changes nothing.


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("PATCH", "", {"title": " z "}, id="title"),
        pytest.param("PATCH", "", {"description": "y"}, id="description"),
        pytest.param("PATCH", "", {"priority": "HIGH"}, id="priority"),
        pytest.param("PATCH", "", {"due_date": "2026-03-01"}, id="due date"),
        pytest.param("PATCH", "", {"tags": ["a", "A"]}, id="tags"),
        pytest.param("PATCH", "", {"completed": False}, id="completed"),
        pytest.param("PATCH", "/complete", {"completed": False}, id="complete"),
        pytest.param("PUT", "", {"title": "z", "description": "y"}, id="put"),
    ],
)
@pytest.mark.parametrize("tags", [None, '"3"'])
def test_write_that_changes_nothing_raises_nothing(call, task, method, path, body, tags):
    before = call("GET", "/tasks").headers["ETag"]
    response = call(method, f"/tasks/{task['id']}{path}", {"If-Match": tags} if tags else {}, **body)
    assert (response.status_code, response.json, response.headers["ETag"]) == (200, task, '"3"')
    assert_unchanged(asked_again(call, "/tasks", before), before)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"title": "Z"}, id="title"),
        pytest.param({"description": None}, id="description"),
        pytest.param({"priority": None}, id="priority"),
        pytest.param({"due_date": "2026-03-01T23:59:59.999999Z"}, id="the moment that stood for a day"),
        pytest.param({"tags": ["A"]}, id="tags"),
        pytest.param({"completed": True}, id="completed"),
        pytest.param({"title": "z", "tags": []}, id="one of two"),
    ],
)
def test_write_that_changes_anything_raises_revision_and_time(call, task, body):
    changed = call("PATCH", f"/tasks/{task['id']}", **body).json
    assert changed["revision"] == 4
    assert changed["updated_at"] > task["updated_at"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        pytest.param("PATCH", "/tasks/{id}", {"If-Match": '"2"'}, {"title": "new"}, id="another state"),
        pytest.param("DELETE", "/tasks/{id}", {"If-Match": '"2"'}, {}, id="deletion of another state"),
        pytest.param("PATCH", f"/tasks/{ABSENT}", {}, {"title": "new"}, id="no such task"),
        pytest.param("DELETE", f"/tasks/{ABSENT}", {"If-Match": "*"}, {}, id="deletion of no such task"),
        pytest.param("PATCH", "/tasks/{id}", {}, {"title": ""}, id="a fault"),
    ],
)
def test_write_that_fails_raises_nothing(call, task, method, path, headers, body):
    before = call("GET", "/tasks").headers["ETag"]
    assert call(method, path.format(id=task["id"]), headers, **body).status_code in (404, 412, 422)
    assert_unchanged(asked_again(call, "/tasks", before), before)
    assert call("POST", "/tasks", title="next").json["revision"] == 4


# Lists.

QUESTIONS = ["/tasks", "/tasks?limit=1", "/tasks?limit=2&offset=1", "/tasks?sort=-title,due_date"]
QUESTIONS += ["/tasks?count=true", "/tasks?sort=title&count=true", "/tasks?status=pending&priority=high,none&tag=a"]
QUESTIONS += ["/tasks?q=z", "/tasks?q=nothing&count=true", "/tasks/changes"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_list_with_its_tag_is_not_modified_until_anything_changes(call, task, question):
    for change in (
        lambda: call("PATCH", f"/tasks/{task['id']}", completed=True),
        lambda: call("POST", "/tasks", title="new"),
        lambda: call("DELETE", f"/tasks/{task['id']}"),
    ):
        first = call("GET", question)
        tag = first.headers["ETag"]
        for tags in (tag, f"W/{tag}", f'"x", {tag}, "y"'):
            assert_unchanged(asked_again(call, question, tags), tag)
        assert_unchanged(call("HEAD", question, {"If-None-Match": tag}), tag)
        change()
        second = asked_again(call, question, tag)
        assert second.status_code == 200
        assert second.headers["ETag"] != tag
        assert second.headers["Cache-Control"] == "private, no-cache"
        assert asked_again(call, question, f"{tag}, {second.headers['ETag']}").status_code == 304


def test_list_on_a_later_page_has_a_tag_of_its_own(call, task):
    first = call("GET", "/tasks?limit=1")
    following = "/tasks" + first.headers["Link"].partition("/tasks")[2].partition(">")[0]
    second = call("GET", following)
    assert asked_again(call, following, first.headers["ETag"]).status_code == 200
    assert_unchanged(asked_again(call, following, second.headers["ETag"]), second.headers["ETag"])


@pytest.mark.parametrize("question", QUESTIONS)
def test_list_of_somebody_who_never_wrote_has_a_tag(call, question):
    first = call("GET", question)
    tag = first.headers["ETag"]
    assert tag.startswith('"0-')
    assert_unchanged(asked_again(call, question, tag), tag)
    call("POST", "/tasks", title="x")
    assert asked_again(call, question, tag).headers["ETag"].startswith('"1-')


@pytest.mark.parametrize("overdue", ["true", "false"])
def test_list_with_overdue_has_no_tag_and_knows_none(call, task, overdue):
    tag = call("GET", "/tasks").headers["ETag"]
    response = asked_again(call, f"/tasks?overdue={overdue}", f"{tag}, *")
    assert response.status_code == 200
    assert "ETag" not in response.headers


def test_list_with_the_tag_of_another_question_is_whole(call, task):
    tags = {question: call("GET", question).headers["ETag"] for question in QUESTIONS}
    assert len(set(tags.values())) == len(QUESTIONS)
    for question in QUESTIONS:
        others = ", ".join(tag for other, tag in tags.items() if other != question)
        assert asked_again(call, question, others).status_code == 200


@pytest.mark.parametrize("question", QUESTIONS)
def test_list_with_the_tag_of_another_user_is_whole(client, question):
    one, other = (call_as(client, new_user()) for _ in range(2))
    for call in (one, other):
        call("POST", "/tasks", title="x")
    tag = one("GET", question).headers["ETag"]
    assert tag.split("-")[0] == other("GET", question).headers["ETag"].split("-")[0]
    assert asked_again(other, question, tag).status_code == 200


@pytest.mark.parametrize("revision", ["", "x", "-1", "+3", " 3", "3.0", "9" * 19, "2", "4", "9" * 18])
def test_list_with_the_tag_of_no_known_revision_is_whole(call, task, revision):
    for question in QUESTIONS:
        suffix = call("GET", question).headers["ETag"].strip('"').partition("-")[2]
        response = asked_again(call, question, f'"{revision}-{suffix}"')
        assert (response.status_code, response.headers["ETag"]) == (200, f'"3-{suffix}"')


# What it costs.


@pytest.fixture
def remote(proxied, proxy, user):
    """Call as the user, through the proxy, on a warm connection."""
    call = call_as(proxied.test_client(), user)
    call("POST", "/tasks", title="x", tags=["a"])
    return call


@pytest.mark.parametrize("question", [*QUESTIONS, "/tasks/{id}"])
def test_unchanged_answer_is_one_statement(remote, proxy, question):
    path = question.format(id=remote("GET", "/tasks").json[0]["id"])
    tag = remote("GET", path).headers["ETag"]
    proxy.queries.clear()
    assert_unchanged(asked_again(remote, path, tag), tag)
    assert len(proxy.queries) == 1


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_conditional_write_is_one_statement_and_a_refused_one_at_most_two(remote, proxy, method, path, body):
    there = path.format(id=remote("GET", "/tasks").json[0]["id"])
    proxy.queries.clear()
    assert_problem(remote(method, there, {"If-Match": '"2"'}, **body), 412)
    assert len(proxy.queries) <= 2
    proxy.queries.clear()
    assert_problem(remote(method, path.format(id=ABSENT), {"If-Match": '"1"'}, **body), 404)
    assert len(proxy.queries) <= 2
    proxy.queries.clear()
    assert remote(method, there, {"If-Match": '"1"'}, **body).status_code in (200, 204)
    assert len(proxy.queries) == 1


def test_write_that_changes_nothing_is_one_statement(remote, proxy):
    task = remote("GET", "/tasks").json[0]
    proxy.queries.clear()
    assert remote("PATCH", f"/tasks/{task['id']}", title="x", tags=["a"]).json == task
    assert len(proxy.queries) == 1


def nodes(plan):
    """Give all nodes of a plan."""
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


def loops(app, statement, parameters):
    """Run a statement, and give how often each of its scans of tasks was executed."""
    with app.app_context():
        (((answer,),),) = statements.read(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
    return [node["Actual Loops"] for node in nodes(answer["Plan"]) if node.get("Relation Name") == "tasks"]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="default"),
        pytest.param({"limit": 10}, id="page"),
        pytest.param({"sort": (SortKey("title", descending=True),)}, id="sorted"),
        pytest.param({"count": True}, id="counted"),
        pytest.param({"count": True, "sort": (SortKey("due_date"), SortKey("title"))}, id="sorted and counted"),
        pytest.param({"filters": Filters(completed=(False,), words=("task",))}, id="searched"),
    ],
)
def test_unchanged_list_reads_no_task(app, user, asked):
    insertion = "INSERT INTO tasks (user_id, title) SELECT :user, 'task ' || n FROM generate_series(1, 300) n"
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(text(insertion), {"user": user})
    wanted = Listing(as_of=datetime.now(UTC), **asked)
    for known, read in ((300, False), (299, True)):
        executed = loops(app, *listing.statement(user, wanted, known))
        assert executed
        assert any(executed) == read


@pytest.mark.parametrize("path", ["/tasks", "/tasks?sort=title", "/tasks/changes"])
@pytest.mark.parametrize("tag", ['""', 'W/""', '"-"'])
def test_poll_with_a_tag_that_is_none_of_ours_is_answered(call, task, path, tag):
    assert call("GET", path, {"If-None-Match": tag}).status_code == 200
