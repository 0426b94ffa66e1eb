"""`todo db restored`: after the restore of a backup no revision and no id comes twice."""

import uuid
from contextlib import closing

import flask_migrate
import psycopg2
import pytest
from support import assert_problem, call_as, config_for, new_database, new_user
from wire.server import query

from todo import __main__ as command
from todo import create_app
from todo.extensions import db
from todo.tasks import renumbering

# Numbers that clients in JavaScript can hold (ECMA-262, Number.MAX_SAFE_INTEGER).
SAFE_MAX = 2**53 - 1


@pytest.fixture
def installation(postgres, migrated_template):
    """Return a database whose backups can be restored."""
    made = Installation(postgres, migrated_template)
    yield made
    made.close()


class Installation:
    """An application whose database is copied, and replaced by the copy."""

    def __init__(self, postgres, template):
        self.postgres = postgres
        self.name = f"todo_{uuid.uuid4().hex}"
        self.url = new_database(postgres, self.name, template)
        self.app = create_app(config_for(self.url))

    def close(self):
        with self.app.app_context():
            db.engine.dispose()

    def back_up(self):
        self.close()
        new_database(self.postgres, f"{self.name}_backup", self.name)

    def restore(self):
        self.close()
        with closing(psycopg2.connect(self.postgres.get_uri())) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"DROP DATABASE {self.name}")
        new_database(self.postgres, self.name, f"{self.name}_backup")

    def restored(self, *words):
        ended = self.app.test_cli_runner().invoke(*(words or (command.todo, ["db", "restored"])))
        assert ended.exit_code == 0, ended.output
        return ended.output

    def user(self):
        return call_as(self.app.test_client(), new_user())


def create(call, *titles):
    return [call("POST", "/tasks", title=title).json for title in titles]


def test_numbers_never_come_twice_however_often_one_backup_is_restored(installation):
    call = installation.user()
    create(call, "kept")
    installation.back_up()
    seen, tags, cursors = [], [], []
    for round_ in range(3):
        made = create(call, "lost", "lost too")
        deleted = call("DELETE", f"/tasks/{made[0]['id']}")
        changed = call("PATCH", f"/tasks/{made[1]['id']}", title="changed").json
        assert deleted.status_code == 204
        seen += [*made, changed]
        tags.append(call("GET", "/tasks").headers["ETag"])
        cursors.append(call("GET", "/tasks/changes").json["next"])
        installation.restore()
        assert "Raised 1 list to revision " in installation.restored()
        for cursor in cursors:
            gone = assert_problem(call("GET", "/tasks/changes", query={"since": cursor}), 410)
            assert gone["code"] == "cursor_expired"
        for tag in tags:
            assert call("GET", "/tasks", {"If-None-Match": tag}).status_code == 200
        assert [task["title"] for task in call("GET", "/tasks").json] == ["kept"], round_
    seen += create(call, "new")
    assert len({task["id"] for task in seen}) == 7
    assert len({task["revision"] for task in seen}) == len(seen)
    assert max(task["revision"] for task in seen) < SAFE_MAX / 2
    assert max(task["id"] for task in seen) < SAFE_MAX / 2


def test_task_that_the_backup_has_keeps_its_etag_and_a_later_one_never_matches(installation):
    call = installation.user()
    (task,) = create(call, "first")
    path = f"/tasks/{task['id']}"
    known = call("GET", path).headers["ETag"]
    installation.back_up()
    later = call("PATCH", path, title="later").headers["ETag"]
    installation.restore()
    installation.restored()
    assert call("GET", path, {"If-None-Match": known}).status_code == 304
    assert_problem(call("PATCH", path, {"If-Match": later}, title="mine"), 412)
    other = call("PATCH", path, title="other").headers["ETag"]
    assert other not in (known, later)
    assert_problem(call("PATCH", path, {"If-Match": later}, title="mine"), 412)
    assert call("PATCH", path, {"If-Match": other}, title="mine").status_code == 200


def test_user_whom_the_backup_does_not_know_begins_after_the_number(installation):
    installation.back_up()
    call = installation.user()
    lost = create(call, "a", "b", "c")
    since = call("GET", "/tasks/changes").json["next"]
    tag = call("GET", "/tasks").headers["ETag"]
    installation.restore()
    installation.restored()
    # Nothing is known of this user yet.
    assert_problem(call("GET", "/tasks/changes", query={"since": since}), 422)
    made = create(call, "d", "e", "f")
    assert {task["id"] for task in made}.isdisjoint(task["id"] for task in lost)
    assert call("GET", "/tasks", {"If-None-Match": tag}).status_code == 200
    assert_problem(call("GET", "/tasks/changes", query={"since": since}), 410)
    page = call("GET", "/tasks/changes").json
    assert [task["title"] for task in page["tasks"]] == ["d", "e", "f"]
    create(call, "g")
    page = call("GET", "/tasks/changes", query={"since": page["next"]}).json
    assert [task["title"] for task in page["tasks"]] == ["g"]


def test_nothing_that_was_sent_before_counts_as_unchanged(installation):
    known, unknown = installation.user(), installation.user()
    create(known, "kept")
    installation.back_up()
    tags = {}
    for call in (known, unknown):
        create(call, "lost")
        for path in ("/tasks", "/tasks?sort=title&count=true", "/tasks/changes"):
            tags[call, path] = call("GET", path).headers["ETag"]
    installation.restore()
    installation.restored()
    for (call, path), tag in tags.items():
        for headers in ({}, {"If-None-Match": tag}):
            response = call("GET", path, headers)
            tasks = response.json["tasks"] if path == "/tasks/changes" else response.json
            assert [task["title"] for task in tasks] == (["kept"] if call is known else [])


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "key"}], ids=["plain", "with a key"])
def test_everything_works_with_the_new_numbers(installation, key):
    old, new = installation.user(), installation.user()
    (kept,) = create(old, "kept")
    old("DELETE", f"/tasks/{create(old, 'deleted')[0]['id']}")
    installation.restored()
    for call in (old, new):
        task = call("POST", "/tasks", key, title="x").json
        assert call("POST", "/tasks", key, title="x").status_code == 201
        assert call("PATCH", f"/tasks/{task['id']}/complete").json["completed"] is True
        assert call("DELETE", f"/tasks/{task['id']}").status_code == 204
        assert call("POST", f"/trash/{task['id']}/restore").json["id"] == task["id"]
        revisions = [task["revision"] for task in call("GET", "/tasks/changes").json["tasks"]]
        assert revisions == sorted(set(revisions))
        assert len(call("GET", "/export").get_data().splitlines()) > 1
    assert old("GET", f"/tasks/{kept['id']}").json == kept
    assert [task["title"] for task in old("GET", "/trash").json] == ["deleted"]
    assert installation.app.test_cli_runner().invoke(args=["purge"]).exit_code == 0
    assert old("DELETE", "", {"Confirm": kept["user_id"]}).status_code == 204
    assert old("GET", "/tasks").json == []


def test_page_cursors_of_before_go_on(installation):
    call = installation.user()
    create(call, *"abc")
    following = call("GET", "/tasks?limit=1").headers["Link"].partition(">")[0].rpartition("tasks")[2]
    installation.restored()
    assert [task["title"] for task in call("GET", f"/tasks{following}").json] == ["b"]


def test_lists_are_raised_in_batches_and_an_interrupted_run_is_repeated(installation, monkeypatch):
    monkeypatch.setattr(renumbering, "BATCH", 2)
    for call in [installation.user() for _ in range(5)]:
        create(call, "x")
    with installation.app.app_context():
        number, lists = renumbering.prepare()
        assert lists == 5
        batches = renumbering.raise_lists(number)
        assert next(batches) == 2
    create(installation.user(), "meanwhile")
    with installation.app.app_context():
        assert sum(batches) == 3
        assert list(renumbering.raise_lists(number)) == [0, 0, 0]
    assert "Raised 6 lists to revision " in installation.restored()
    ((lowest, highest),) = query(installation.url, "SELECT min(revision), max(forgotten) FROM task_lists")
    assert number < lowest == highest


def test_lists_are_raised_above_a_clock_that_was_set_back(installation):
    ahead = 2 * 10**15
    query(installation.url, "INSERT INTO task_lists VALUES ('ahead', %s)", ahead)
    query(installation.url, "INSERT INTO task_lists VALUES ('behind', 1)")
    installation.restored()
    assert query(installation.url, "SELECT DISTINCT revision, forgotten FROM task_lists") == [(ahead + 1, ahead + 1)]
    query(installation.url, "INSERT INTO tasks (user_id, title, revision) VALUES ('ahead', 'x', 1)")
    assert query(installation.url, "SELECT id > %s FROM tasks", ahead) == [(True,)]


def test_empty_database_has_no_lists_to_raise(installation):
    assert "Raised 0 lists to revision " in installation.restored()


def test_flask_has_the_command_too(installation):
    assert "Raised 0 lists to revision " in installation.restored(None, ["db", "restored"])


def test_runs_leave_one_trigger_and_downgrades_none(installation):
    functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
    before = query(installation.url, functions)
    for _ in range(3):
        installation.restored()
    begins = "SELECT tgfoid::regproc::text FROM pg_trigger WHERE tgrelid = 'task_lists'::regclass"
    assert query(installation.url, functions) == sorted([*before, *query(installation.url, begins)])
    assert len(query(installation.url, functions)) == len(before) + 1
    with installation.app.app_context():
        flask_migrate.upgrade()
        flask_migrate.check()
        flask_migrate.downgrade(revision="base")
    assert query(installation.url, functions) == []


def test_role_that_only_serves_cannot_run_it_and_changes_nothing(installation):
    create(installation.user(), "x")
    query(installation.url, "DROP ROLE IF EXISTS todo_renumbering")
    query(installation.url, "CREATE ROLE todo_renumbering LOGIN")
    query(installation.url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO todo_renumbering")
    before = query(installation.url, "SELECT * FROM task_lists")
    app = create_app(config_for(installation.url.replace("postgres:@", "todo_renumbering:@")))
    refused = app.test_cli_runner().invoke(args=["db", "restored"])
    with app.app_context():
        db.engine.dispose()
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: the database cannot be used: ")
    assert len(refused.output.splitlines()) == 1
    assert query(installation.url, "SELECT * FROM task_lists") == before
    query(installation.url, "DROP OWNED BY todo_renumbering")


def test_database_without_tables_is_told_to_migrate(postgres):
    app = create_app(config_for(new_database(postgres, "todo_renumbering_unmigrated")))
    refused = app.test_cli_runner().invoke(args=["db", "restored"])
    with app.app_context():
        db.engine.dispose()
    assert (refused.exit_code, refused.output) == (
        1,
        "Error: the database has no tables yet, or older ones: run `todo migrate` first.\n",
    )
