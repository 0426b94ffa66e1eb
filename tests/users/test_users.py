"""Everything of a user: taken along as of one moment, or erased but for one row."""

import json
import threading
import time
from contextlib import closing
from urllib.parse import quote

import psycopg2
import pytest
from support import WAITING, assert_problem, bearer, call_as, config_for, new_user
from wire.server import Line, Server, query, request, wait_until

from todo import create_app
from todo.database.failures import DatabaseUnavailable
from todo.database.timeouts import BATCH_LIMITS
from todo.extensions import db
from todo.users import queries

NUMBERED = """
    WITH list AS (INSERT INTO task_lists (user_id, revision) VALUES (%(user)s, %(number)s + %(marks)s)),
    gone AS (
        INSERT INTO trash (user_id, id, revision)
        SELECT %(user)s, -n, %(number)s + n FROM generate_series(1, %(marks)s) AS n)
    INSERT INTO tasks (user_id, title, revision)
    SELECT %(user)s, 'Task ' || n, n FROM generate_series(1, %(number)s) AS n
"""
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND backend_type = 'client backend'"
    " AND datname = current_database() AND pid <> pg_backend_pid()"
)
KEPT = (
    "SELECT (SELECT count(*) FROM tasks WHERE user_id = %s), (SELECT count(*) FROM trash WHERE user_id = %s),"
    " (SELECT count(*) FROM task_lists WHERE user_id = %s)"
)
LIST = "SELECT revision, forgotten, erased_at IS NOT NULL FROM task_lists WHERE user_id = %s"


def fill(url, number, marks=0):
    """Make a user with many tasks and marks of deleted ones, and give the id."""
    user = new_user()
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(NUMBERED, {"user": user, "number": number, "marks": marks})
    return user


def lines(data):
    """Read lines of JSON."""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def kept(url, user):
    """Return the number of tasks, tombstones and lists of a user."""
    return query(url, KEPT, user, user, user)[0]


def in_transaction(url):
    """Return the number of sessions with an open transaction."""
    return query(url, IN_TRANSACTION)[0][0]


@pytest.fixture
def small(database_url):
    """Return an application with a pool of two connections."""
    app = create_app(config_for(database_url, WEB_THREADS="2"))
    yield app
    with app.app_context():
        assert db.engine.pool.checkedout() == 0
        db.engine.dispose()


def test_export_of_a_user_without_a_list_is_one_line(call, user):
    response = call("GET", "/export")
    assert response.status_code == 200
    assert response.content_type == "application/x-ndjson"
    assert response.headers["Content-Disposition"] == 'attachment; filename="tasks.ndjson"'
    nothing = {"user_id": user, "revision": 0, "erased_at": None, "tasks": 0, "deleted": 0}
    assert lines(response.get_data()) == [{"list": nothing}]


def test_export_gives_tasks_then_deleted_ones_then_marks_as_they_are(call, user):
    made = [
        call(
            "POST", "/tasks", headers={"Idempotency-Key": f"k{n}"}, title=f"Žluťoučký {n} 🥛", due_date=due, tags=["é"]
        )
        for n, due in enumerate([None, "2026-03-01", "2026-03-01T09:30:00Z", None])
    ]
    tasks = [response.json for response in made]
    for task in (tasks[3], tasks[2]):
        call("DELETE", f"/tasks/{task['id']}")
    (trashed, _) = call("GET", "/trash").json
    call("DELETE", f"/trash/{tasks[3]['id']}")
    first, *rest = lines(call("GET", "/export").get_data())
    assert first == {"list": {"user_id": user, "revision": 6, "erased_at": None, "tasks": 2, "deleted": 2}}
    mark = rest[2]["deleted"]
    assert rest == [
        {"task": tasks[0] | {"idempotency_key": "k0"}},
        {"task": tasks[1] | {"idempotency_key": "k1"}},
        {"deleted": {"id": tasks[3]["id"], "revision": 5, "deleted_at": mark["deleted_at"]}},
        {"deleted": trashed | {"idempotency_key": "k2"}},
    ]
    assert mark["deleted_at"].endswith("Z")


def test_export_holds_nothing_of_others(client, call, user):
    stranger = call_as(client, new_user())
    stranger("POST", "/tasks", title="hidden")
    call("DELETE", f"/tasks/{stranger('POST', '/tasks', title='hidden').json['id']}")
    assert len(lines(call("GET", "/export").get_data())) == 1
    assert_problem(client.get(f"/api/{user}/export"), 401, "Missing authentication token")
    assert_problem(client.get(f"/api/{user}/export", headers=bearer(new_user())), 403, "User ID mismatch")


@pytest.mark.parametrize("number", [499, 500, 501, 1500])
def test_export_of_many_tasks_is_complete(client, database_url, number):
    user = fill(database_url, number, number)
    first, *rest = lines(call_as(client, user)("GET", "/export").get_data())
    assert (first["list"]["tasks"], first["list"]["deleted"]) == (number, number)
    assert [line["task"]["title"] for line in rest[:number]] == [f"Task {n}" for n in range(1, number + 1)]
    assert [line["deleted"]["id"] for line in rest[number:]] == [-n for n in range(1, number + 1)]


def test_export_is_as_of_one_moment(client, database_url):
    call = call_as(client, fill(database_url, 600, 2))
    stream = call("GET", "/export").iter_encoded()
    first = next(stream)
    call("POST", "/tasks", title="too late")
    call("DELETE", f"/tasks/{call('GET', '/tasks').json[0]['id']}")
    (counts, *rest) = lines(first + b"".join(stream))
    titles = [line["task"]["title"] for line in rest if "task" in line]
    assert titles == [f"Task {n}" for n in range(1, 601)]
    assert counts["list"]["deleted"] == len(rest) - len(titles) == 2
    assert counts["list"]["revision"] == 602


@pytest.mark.parametrize("path", ["/api/me/export", "/api/me/export/"])
def test_export_can_be_called_as_me(client, user, path):
    call_as(client, user)("POST", "/tasks", title="x")
    assert len(lines(client.get(path, headers=bearer(user)).get_data())) == 2


def test_export_head_gives_the_connection_back(small, database_url):
    call = call_as(small.test_client(), fill(database_url, 1500))
    for _ in range(3):
        response = call("HEAD", "/export")
        assert (response.status_code, response.content_type, response.get_data()) == (200, "application/x-ndjson", b"")
        response.close()
    assert call("GET", "/tasks?limit=1").status_code == 200
    assert in_transaction(database_url) == 0


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_export_that_nobody_reads_to_its_end_gives_the_connection_back(small, database_url, pieces):
    call = call_as(small.test_client(), fill(database_url, 1500))
    for _ in range(3):
        response = call("GET", "/export")
        stream = response.iter_encoded()
        for _ in range(pieces):
            next(stream)
        response.close()
    assert in_transaction(database_url) == 0
    assert call("POST", "/tasks", title="seen by all").status_code == 201
    found = "SELECT count(*) FROM tasks WHERE title = 'seen by all' AND user_id = %s"
    assert query(database_url, found, call("GET", "/tasks?limit=1").json[0]["user_id"]) == [(1,)]


@pytest.mark.process
def test_export_whose_client_goes_away_gives_the_connection_back(database_url, tmp_path):
    user = fill(database_url, 60_000)
    ask = request("GET", "/api/me/export", bearer(user))
    server = Server(tmp_path / "gunicorn.log", DATABASE_URL=database_url, WEB_THREADS="1")
    try:
        server.wait_until_healthy()
        for _ in range(3):
            with Line(server.port) as line:
                line.send(ask)
                assert line._socket.recv(4096).startswith(b"HTTP/1.1 200 ")
                wait_until(lambda: in_transaction(database_url) == 1, "blocked")
            wait_until(lambda: in_transaction(database_url) == 0, "given back")
        with Line(server.port) as line:
            assert line.call("HEAD", "/api/me/export", bearer(user)).status_code == 200
            assert line.call("GET", "/api/me/export", bearer(user)).data.count(b"\n") == 60_001
        assert in_transaction(database_url) == 0
        assert server.stop() == 0
    finally:
        server.kill()


def test_export_without_a_database_is_unavailable_and_comes_back(proxied, proxy, user):
    call = call_as(proxied.test_client(), user)
    proxy.refuse = True
    assert_problem(call("GET", "/export"), 503)
    proxy.refuse = False
    assert call("GET", "/export").status_code == 200


def test_export_whose_database_goes_away_breaks_off(proxied, proxy, embedded_url):
    call = call_as(proxied.test_client(), fill(embedded_url, 1500))
    response = call("GET", "/export")
    stream = response.iter_encoded()
    next(stream)
    proxy.cut()
    with pytest.raises(DatabaseUnavailable):
        b"".join(stream)
    response.close()
    assert len(lines(call("GET", "/export").get_data())) == 1501


@pytest.mark.parametrize(
    ("method", "path", "level"),
    [
        pytest.param("GET", "/export", "REPEATABLE READ", id="export"),
        pytest.param("DELETE", "", "READ COMMITTED", id="erase"),
    ],
)
def test_work_on_everything_has_more_time_from_its_first_statement_on(proxied, proxy, user, method, path, level):
    call = call_as(proxied.test_client(), user)
    call("GET", "/tasks")
    proxy.queries.clear()
    assert call(method, path, headers={"Confirm": user}).status_code in (200, 204)
    assert proxy.queries[0].startswith(f"BEGIN;\n{BATCH_LIMITS.settings}SET TRANSACTION ISOLATION LEVEL {level};\n")


@pytest.fixture
def leaving(call):
    """Call as a user who has two tasks, two deleted ones and the mark of one, and give a cursor from before that."""
    tasks = [call("POST", "/tasks", title=title).json for title in "abcde"]
    cursor = call("GET", "/tasks/changes").json["next"]
    for task in tasks[2:]:
        call("DELETE", f"/tasks/{task['id']}")
    call("DELETE", f"/trash/{tasks[4]['id']}")
    return cursor


def test_erase_leaves_one_row_and_no_old_cursor_is_good(call, leaving, database_url, user):
    cursors = [leaving, call("GET", "/tasks/changes").json["next"]]
    assert kept(database_url, user) == (2, 3, 1)
    response = call("DELETE", headers={"Confirm": user})
    assert (response.status_code, response.get_data()) == (204, b"")
    assert kept(database_url, user) == (0, 0, 1)
    assert query(database_url, LIST, user) == [(9, 9, True)]
    assert [call("GET", f"/tasks/changes?since={cursor}").status_code for cursor in cursors] == [410, 410]
    assert call("GET", "/tasks").json == call("GET", "/trash").json == []
    (only,) = lines(call("GET", "/export").get_data())
    assert only["list"] == only["list"] | {"revision": 9, "tasks": 0, "deleted": 0}
    assert only["list"]["erased_at"].endswith("Z")


def test_erase_lets_the_user_begin_anew(call, leaving, user):
    call("DELETE", headers={"Confirm": user})
    cursor = call("GET", "/tasks/changes").json["next"]
    task = call("POST", "/tasks", title="new").json
    assert task["revision"] == 10
    assert call("GET", f"/tasks/changes?since={cursor}").json["tasks"] == [task]
    assert call("GET", f"/tasks/changes?since={leaving}").status_code == 410
    assert call("DELETE", f"/tasks/{task['id']}").status_code == 204
    assert call("POST", f"/trash/{task['id']}/restore").status_code == 200
    assert call("DELETE", headers={"Confirm": user}).status_code == 204


def test_erase_makes_no_tag_of_before_good(call, user):
    call("POST", "/tasks", title="x")
    tag = call("GET", "/tasks").headers["ETag"]
    call("DELETE", headers={"Confirm": user})
    response = call("GET", "/tasks", headers={"If-None-Match": tag})
    assert (response.status_code, response.json) == (200, [])


def test_erase_twice_and_of_nothing_is_no_fault(call, database_url, user):
    assert call("DELETE", headers={"Confirm": user}).status_code == 204
    assert kept(database_url, user) == (0, 0, 0)
    call("POST", "/tasks", title="x")
    for _ in range(2):
        assert call("DELETE", headers={"Confirm": user}).status_code == 204
    assert query(database_url, LIST, user) == [(3, 3, True)]


def test_erase_forgets_the_keys_of_retries(call, user):
    first = call("POST", "/tasks", headers={"Idempotency-Key": "k"}, title="x").json
    call("DELETE", headers={"Confirm": user})
    again = call("POST", "/tasks", headers={"Idempotency-Key": "k"}, title="x")
    assert "Idempotent-Replayed" not in again.headers
    assert again.json["id"] != first["id"]


@pytest.mark.parametrize(
    "confirm",
    [
        pytest.param(lambda _: {}, id="missing"),
        pytest.param(lambda _: {"Confirm": ""}, id="empty"),
        pytest.param(lambda _: {"Confirm": "me"}, id="me"),
        pytest.param(lambda _: {"Confirm": new_user()}, id="another user"),
        pytest.param(lambda user: {"Confirm": user.upper()}, id="another case"),
        pytest.param(lambda user: {"Confirm": f'"{user}"'}, id="in quotation marks"),
        pytest.param(lambda user: {"Confirm": quote(quote(user[:-1] + "%"))}, id="encoded twice"),
    ],
)
@pytest.mark.parametrize("as_me", [True, False])
def test_erase_that_is_not_confirmed_is_refused_and_loses_nothing(client, leaving, user, database_url, confirm, as_me):
    path = "/api/me" if as_me else f"/api/{user}"
    problem = assert_problem(client.delete(path, headers=bearer(user) | confirm(user)), 422)
    assert [error["header"] for error in problem["errors"]] == ["Confirm"]
    assert problem["errors"][0]["detail"].startswith("Confirm must hold the id of the user")
    assert kept(database_url, user) == (2, 3, 1)


@pytest.mark.parametrize("path", ["/api/me", "/api/me/", "/api/{user}/"])
def test_erase_can_be_called_as_me(client, leaving, user, database_url, path):
    assert client.delete(path.format(user=user), headers=bearer(user) | {"Confirm": user}).status_code == 204
    assert kept(database_url, user) == (0, 0, 1)


@pytest.mark.parametrize(
    ("suffix", "encode"),
    [
        pytest.param("x", quote, id="nothing to encode"),
        pytest.param(" ž|🥛", quote, id="what no header can hold"),
        pytest.param("é", quote, id="not ASCII, encoded"),
        pytest.param("é", lambda user: user.encode().decode("latin-1"), id="not ASCII, as curl sends it"),
        pytest.param("é", str, id="not ASCII, as browsers send it"),
        pytest.param("%41", str, id="a percent sign as it is"),
        pytest.param("%41", quote, id="a percent sign, encoded"),
        pytest.param("a+b@c", str, id="a plus sign"),
    ],
)
def test_erase_takes_the_id_plain_or_percent_encoded(client, database_url, suffix, encode):
    user = new_user() + suffix
    call = call_as(client, user)
    call("POST", "/tasks", title="x")
    assert call("DELETE", headers={"Confirm": encode(user)}).status_code == 204
    assert kept(database_url, user) == (0, 0, 1)


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "", "DELETE"), ("POST", "/export", "GET")])
def test_other_methods_are_refused(call, method, path, allowed):
    response = call(method, path)
    assert_problem(response, 405)
    assert allowed in response.headers["Allow"].split(", ")


def test_erase_leaves_others_alone(client, call, leaving, database_url, user):
    stranger = new_user()
    task = call_as(client, stranger)("POST", "/tasks", title="kept").json
    refused = client.delete(f"/api/{stranger}", headers=bearer(user) | {"Confirm": stranger})
    assert_problem(refused, 403, "User ID mismatch")
    assert_problem(client.delete(f"/api/{user}", headers={"Confirm": user}), 401, "Missing authentication token")
    assert call("DELETE", headers={"Confirm": user}).status_code == 204
    assert call_as(client, stranger)("GET", "/tasks").json == [task]
    assert kept(database_url, stranger) == (1, 0, 1)


def test_erase_takes_what_others_write_while_it_waits(app, call, leaving, database_url, user):
    statuses = []

    def erase():
        statuses.append(call_as(app.test_client(), user)("DELETE", headers={"Confirm": user}).status_code)

    with closing(psycopg2.connect(database_url)) as other:
        cursor = other.cursor()
        cursor.execute("UPDATE task_lists SET revision = revision + 2 WHERE user_id = %s RETURNING revision", (user,))
        (revision,) = cursor.fetchone()
        eraser = threading.Thread(target=erase)
        eraser.start()
        wait_until(lambda: query(database_url, WAITING), "waiting for the list")
        cursor.execute("INSERT INTO tasks (user_id, title, revision) VALUES (%s, 'late', %s)", (user, revision - 1))
        cursor.execute("INSERT INTO trash (user_id, id, revision) VALUES (%s, 0, %s)", (user, revision))
        other.commit()
        eraser.join()
    assert statuses == [204]
    assert kept(database_url, user) == (0, 0, 1)
    assert query(database_url, LIST, user) == [(revision + 1, revision + 1, True)]


def test_erase_beside_creations_leaves_only_what_came_after_it(app, call, database_url, user):
    call("POST", "/tasks", title="x")
    done = threading.Event()
    statuses = []

    def create():
        mine = call_as(app.test_client(), user)
        while not done.is_set():
            statuses.append(mine("POST", "/tasks", title="x").status_code)

    threads = [threading.Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    assert call("DELETE", headers={"Confirm": user}).status_code == 204
    done.set()
    for thread in threads:
        thread.join()
    ((forgotten,),) = query(database_url, "SELECT forgotten FROM task_lists WHERE user_id = %s", user)
    assert set(statuses) == {201}
    assert all(task["revision"] > forgotten for task in call("GET", "/tasks").json)


def test_erase_without_a_database_is_unavailable_and_loses_nothing(proxied, proxy, leaving, database_url, user):
    call = call_as(proxied.test_client(), user)
    proxy.refuse = True
    assert_problem(call("DELETE", headers={"Confirm": user}), 503)
    assert kept(database_url, user) == (2, 3, 1)
    proxy.refuse = False
    assert call("DELETE", headers={"Confirm": user}).status_code == 204


def test_export_of_many_tasks_comes_in_pieces(app, database_url):
    user = fill(database_url, 1500, 1500)
    with app.app_context():
        sizes = [piece.count(b"\n") for piece in queries.export(user)]
    assert (sum(sizes), max(sizes)) == (3001, queries.BATCH)
