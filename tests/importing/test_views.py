"""Imports over HTTP: once however often, all or nothing, in one round trip, and within bounds."""

import threading
import time

import pytest
from support import TASK_MEMBERS, assert_problem, bearer, call_as, config_for, new_user

from todo import create_app
from todo.database.timeouts import BATCH_LIMITS
from todo.importing.imports import TASKS_MAX

CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
ROWS = "title,tags\nmilk,a\nbread,b\nmilk,a\n"
COMMAND = "An operator can import it with `todo user import`."


@pytest.fixture
def send(call):
    """Return a function that imports a file as the user."""

    def send(data, headers=CSV, **query):
        return call("POST", "/import", headers, query=query, data=data)

    return send


@pytest.fixture
def other(client):
    """Return a function that makes requests as another user."""
    return call_as(client, new_user())


def titles(call):
    return [task["title"] for task in call("GET", "/tasks").json]


def counts(response):
    assert response.status_code == 200, response.text
    return [response.json[name] for name in ("read", "created", "known", "skipped_count", "warnings_count")]


def test_import_reports_what_it_created(send, call):
    response = send(ROWS + ",\nbread,b,\n")

    assert response.json | {"sample": None} == {
        "format": "csv",
        "read": 4,
        "created": 4,
        "known": 0,
        "skipped": [],
        "skipped_count": 0,
        "warnings": [],
        "warnings_count": 0,
        "sample": None,
    }
    assert [task["title"] for task in response.json["sample"]] == titles(call) == ["milk", "bread", "milk", "bread"]
    assert list(response.json["sample"][0]) == [
        name for name in TASK_MEMBERS if name not in ("id", "user_id", "updated_at", "revision")
    ]
    tasks = call("GET", "/tasks").json
    assert [task["revision"] for task in tasks] == [1, 2, 3, 4]
    assert sorted(task["id"] for task in tasks) == [task["id"] for task in tasks]


def test_import_again_creates_nothing_also_after_deletions(send, call):
    assert counts(send(ROWS)) == [3, 3, 0, 0, 0]
    first, second, _ = call("GET", "/tasks").json
    call("PATCH", f"/tasks/{second['id']}", title="changed")
    call("DELETE", f"/tasks/{first['id']}")
    before = call("GET", "/tasks/changes").json["next"]
    again = send(ROWS)
    assert counts(again) == [3, 0, 3, 0, 0]
    assert again.json["sample"] == []
    assert call("GET", "/tasks/changes").json["next"] == before
    assert counts(send(f"{ROWS}milk,a\n")) == [4, 1, 3, 0, 0]


def test_import_without_memory_of_deletions_creates_again(database_url, user):
    call = call_as(create_app(config_for(database_url, TRASH_DAYS="0")).test_client(), user)
    call("POST", "/import", CSV, data=ROWS)
    call("DELETE", f"/tasks/{call('GET', '/tasks').json[0]['id']}")
    assert counts(call("POST", "/import", CSV, data=ROWS)) == [3, 1, 2, 0, 0]


@pytest.mark.parametrize("known", [0, 2])
def test_dry_run_reports_the_same_and_writes_nothing(send, call, known):
    for title in ("milk", "bread")[:known]:
        send(f"title,tags\n{title},{title[0].replace('m', 'a')}\n")
    before = titles(call)
    tried = send(ROWS, dry_run="true")
    assert titles(call) == before
    done = send(ROWS)
    reports = [response.json for response in (tried, done)]
    for task in (task for report in reports for task in report["sample"]):
        assert task.pop("created_at")
    assert reports[0] == reports[1]
    assert reports[0]["known"] == known


def test_dry_run_of_a_user_who_never_wrote_leaves_no_list(send, call):
    assert counts(send(ROWS, dry_run="true")) == [3, 3, 0, 0, 0]
    assert b'"revision":0' in call("GET", "/export").get_data()


def test_export_of_another_user_is_the_same_list_but_ids_and_revisions(call, other):
    for number in range(3):
        task = {"title": f"Žluť {number}", "description": "" if number else None, "tags": ["a", "B"][:number]}
        made = call(
            "POST", "/tasks", {"Idempotency-Key": str(number)}, **task, due_date="2026-03-01", priority="low"
        ).json
        call(
            "PATCH",
            f"/tasks/{made['id']}/complete" if number else f"/tasks/{made['id']}",
            due_date="2026-03-01T09:30:00Z",
        )
    call("DELETE", f"/tasks/{call('POST', '/tasks', title='gone').json['id']}")

    response = other("POST", "/import", NDJSON, data=call("GET", "/export").get_data())

    assert counts(response) == [4, 3, 0, 1, 0]
    same = [name for name in TASK_MEMBERS if name not in ("id", "user_id", "revision")]
    there, here = ([{name: task[name] for name in same} for task in one("GET", "/tasks").json] for one in (call, other))
    assert here == there
    assert all(task["updated_at"] > task["created_at"] for task in here)


def test_own_export_is_known_also_what_was_deleted_since(send, call):
    for title in ("a", "b"):
        call("POST", "/tasks", title=title)
    exported = call("GET", "/export").get_data()
    call("DELETE", f"/tasks/{call('GET', '/tasks').json[0]['id']}")
    assert counts(send(exported, NDJSON)) == [2, 0, 2, 0, 0]


def test_ids_of_another_server_are_not_taken_for_own_ones(send, call):
    own = call("POST", "/tasks", title="own").json
    line = f'{{"task": {{"id": {own["id"]}, "title": "theirs", "created_at": "2026-02-01T00:00:00Z"}}}}'
    assert counts(send(line, NDJSON)) == [1, 1, 0, 0, 0]


def test_fault_stops_the_import_and_skip_leaves_its_task_out(send, call):
    data = "title,due\nmilk,\nbread,03/04/2026\n"
    problem = assert_problem(send(data), 422)
    assert problem["errors"] == [{"line": 3, "detail": problem["detail"]}]
    assert "due_date must be" in problem["detail"]
    assert titles(call) == []
    response = send(data, on_error="skip")
    assert counts(response) == [2, 1, 0, 1, 0]
    assert response.json["skipped"] == problem["errors"]


def test_faults_and_warnings_are_listed_up_to_100(send):
    problem = assert_problem(send("title,due\n" + "milk,soon\n" * 150), 422)
    assert (len(problem["errors"]), problem["more"]) == (100, 50)
    skipped = send("title,due\n" + "milk,soon\n" * 150, on_error="skip").json
    assert (len(skipped["skipped"]), skipped["skipped_count"]) == (100, 150)
    warned = send("title\n" + ("x" * 201 + "\n") * 150).json
    assert (len(warned["warnings"]), warned["warnings_count"]) == (100, 150)


@pytest.mark.parametrize("data", [b"", b" \n", b"PK\x03\x04", b"colour\nred\n", b"title\n\xff\n"])
def test_file_that_cannot_be_read_is_422(send, call, data):
    problem = assert_problem(send(data), 422)
    assert problem["errors"][0]["pointer"] == "#"
    assert titles(call) == []


def test_fault_of_a_whole_file_has_its_place(send):
    assert assert_problem(send("title\n", format="ical"), 422)["errors"][0]["line"] == 1


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"format": "xml"}, "format must be todo, google-tasks, ical, todoist, ticktick or csv."),
        ({"dry_run": "maybe"}, "dry_run must be true or false."),
        ({"zone": "Mars"}, "zone must be the name of a time zone such as Europe/Prague."),
        ({"on_error": "guess"}, "on_error must be fail or skip."),
    ],
)
def test_query_that_breaks_a_rule_is_422(send, query, detail):
    assert_problem(send(ROWS, **query), 422, detail)


def test_zone_and_format_of_the_query_count(send):
    sample = send("title,due\nmilk,2026-03-01T09:30\n", zone="Europe/Prague", format="CSV").json["sample"]
    assert sample[0]["due_date"] == "2026-03-01T08:30:00Z"


@pytest.mark.parametrize(
    "media_type",
    [
        "text/csv; charset=utf-8",
        "application/json",
        "application/x-ndjson",
        "text/calendar",
        "application/octet-stream",
        None,
    ],
)
def test_media_types_of_files_pass(client, user, media_type):
    headers = {"Authorization": bearer(user)["Authorization"]} | ({"Content-Type": media_type} if media_type else {})
    assert client.post("/api/me/import", headers=headers, data="title\nmilk\n").status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"])
def test_other_media_types_are_415(send, media_type):
    response = send(ROWS, {"Content-Type": media_type})
    assert_problem(response, 415)
    assert "text/calendar" in response.headers["Accept"]


def test_compressed_file_is_415(send):
    assert_problem(send(ROWS, {**CSV, "Content-Encoding": "gzip"}), 415)


def test_file_over_2_mib_is_413_that_names_the_command(send):
    fits = b"title\n" + b"x" * (2 * 1024 * 1024 - 6)
    assert counts(send(fits)) == [1, 1, 0, 0, 2]
    assert_problem(send(fits + b"x"), 413, f"The file is larger than 2 MiB. {COMMAND}")


def test_more_than_5000_tasks_are_413_that_names_the_command(send, call):
    problem = send("title\n" + "milk\n" * (TASKS_MAX + 1))
    assert_problem(problem, 413, f"The file has more than 5,000 tasks. {COMMAND}")
    assert titles(call) == []


@pytest.mark.slow
def test_5000_tasks_take_less_than_3_s_the_first_and_the_second_time(send, call):
    row = "{},some words about it,tag{};home,2026-03-01T09:30:00Z,2026-02-01\n"
    data = "title,description,tags,due,created\n" + "".join(
        row.format(f"Žluť {number}", number % 7) for number in range(TASKS_MAX)
    )
    for expected in ([5000, 5000, 0, 0, 0], [5000, 0, 5000, 0, 0]):
        # The time of this process, whatever else the machine does; PostgreSQL takes a third of it.
        begun = time.process_time()
        assert counts(send(data)) == expected
        assert time.process_time() - begun < 2
    tasks = [call("GET", f"/tasks?limit=1000&offset={offset}").json for offset in (0, 4000)]
    assert (tasks[0][0]["title"], tasks[1][-1]["title"]) == ("Žluť 0", "Žluť 4999")
    assert tasks[1][-1]["revision"] == 5000


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_import_is_one_round_trip_with_the_limits_of_long_work(proxied, proxy, user, dry_run):
    call = call_as(proxied.test_client(), user)
    call("GET", "/tasks")
    proxy.queries.clear()
    assert counts(call("POST", "/import", CSV, query={"dry_run": dry_run}, data=ROWS)) == [3, 3, 0, 0, 0]
    assert len(proxy.queries) == 1
    assert proxy.queries[0].startswith(BATCH_LIMITS.settings)


def test_imports_at_once_create_each_task_once(app, user):
    done = []

    def run():
        done.append(counts(call_as(app.test_client(), user)("POST", "/import", CSV, data=ROWS)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [[3, 0, 3, 0, 0]] * 3 + [[3, 3, 0, 0, 0]]


def test_key_of_an_import_is_no_key_of_another_creation(send, call, app):
    send("title\nmilk\n")
    key = next(
        part
        for line in call("GET", "/export").text.splitlines()
        for part in line.split('"')
        if part.startswith("import:")
    )
    assert_problem(call("POST", "/tasks", {"Idempotency-Key": key}, title="milk"), 422)


def test_import_is_of_the_caller_alone(client, user, other):
    response = client.post(f"/api/{new_user()}/import", headers=bearer(user), data=ROWS)
    assert_problem(response, 403)
    assert titles(other) == []


def test_unknown_parameter_is_422_in_strict_mode(call):
    response = call("POST", "/import", {**CSV, "Prefer": "handling=strict"}, query={"colour": "red"}, data=ROWS)
    assert assert_problem(response, 422)["errors"][0]["parameter"] == "colour"
    response = call("POST", "/import", {**CSV, "Prefer": "handling=strict"}, data=ROWS)
    assert response.headers["Preference-Applied"] == "handling=strict"


def test_precondition_on_a_state_that_an_import_has_not_is_412(send, call):
    assert_problem(send(ROWS, {**CSV, "If-Match": '"1"'}), 412)
    assert titles(call) == []
    assert counts(send(ROWS, {**CSV, "If-Match": "*"})) == [3, 3, 0, 0, 0]


def test_zone_may_be_called_tz_as_in_the_summary(send):
    sample = send("title,due\nmilk,2026-03-01T09:30\n", tz="Europe/Prague").json["sample"]
    assert sample[0]["due_date"] == "2026-03-01T08:30:00Z"
