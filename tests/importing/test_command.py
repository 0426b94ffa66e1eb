"""`todo user import`: files of any size, in pieces, again and again."""

import signal
import subprocess
import sys

import pytest
from fakes.postgres_proxy import PostgresProxy
from support import call_as, new_user
from wire.server import ROOT, environment, query, wait_until

from todo import __main__ as command
from todo.importing import imports


@pytest.fixture
def run(app, user, tmp_path):
    """Return a function that imports a file with this content for the user."""

    def run(content, *words, **options):
        file = tmp_path / "file"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return app.test_cli_runner().invoke(command.todo, ["user", "import", user, str(file), *words], **options)

    return run


def test_import_reports_on_stdout_what_it_did(run, call, user):
    done = run("title,colour\nmilk,red\nbread,\n")
    assert done.exit_code == 0
    assert done.stderr == "warning: line 1: The column colour is left out.\n"
    assert done.stdout.splitlines()[-1] == f"Read 2 tasks (csv): 2 imported for {user}, 0 known, 0 skipped, 1 warning."
    assert [task["title"] for task in call("GET", "/tasks").json] == ["milk", "bread"]
    assert "0 imported" in run("title,colour\nmilk,red\nbread,\n").stdout


def test_file_without_tasks_imports_none(run, user):
    assert run("title\n").stdout.endswith(
        f"Read 0 tasks (csv): 0 imported for {user}, 0 known, 0 skipped, 0 warnings.\n"
    )


def test_dry_run_writes_nothing(run, call, user):
    done = run("title\nmilk\n", "--dry-run")
    assert f"1 would be imported for {user}" in done.stdout
    assert call("GET", "/tasks").json == []


def test_fault_stops_the_import_and_skip_leaves_its_task_out(run, call):
    data = '{"task": {"title": "milk"}}\n{"task": {"title": ""}}\n{"deleted": {}}\n'
    refused = run(data)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines() == [
        "skipped: line 3: It was deleted.",
        "error: line 2: title must have 1 to 200 characters, not counting white space around them.",
        "Error: 1 fault: nothing was imported. --on-error skip imports the other tasks.",
    ]
    assert call("GET", "/tasks").json == []
    done = run(data, "--on-error", "skip")
    assert (done.exit_code, done.stdout.splitlines()[-1].split(": ")[1][:10]) == (0, "1 imported")


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("", [], "Error: The file is empty."),
        ("{", ["--format", "google-tasks"], "Error: #: The file is not valid JSON"),
        ("title\nmilk\n", ["--format", "ical"], "Error: line 1: The file must begin with BEGIN:VCALENDAR."),
    ],
)
def test_file_that_cannot_be_read_says_why(run, content, words, message):
    refused = run(content, *words)
    assert refused.exit_code == 1
    assert message in refused.stderr


def test_folder_and_missing_file_say_why(app, user, tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        refused = app.test_cli_runner().invoke(command.todo, ["user", "import", user, str(path)])
        assert refused.exit_code == 2
        assert "Traceback" not in refused.output


def test_file_that_breaks_off_while_it_is_read_says_why(app, user):
    refused = app.test_cli_runner().invoke(command.todo, ["user", "import", user, "/proc/self/mem"])
    assert (refused.exit_code, refused.stderr) == (1, "Error: the file cannot be read: Input/output error.\n")


@pytest.mark.parametrize("zone", ["Mars", "../x"])
def test_zone_that_is_none_is_a_usage_error(run, zone):
    refused = run("title\nmilk\n", "--zone", zone)
    assert refused.exit_code == 2
    assert "must be the name of a time zone such as Europe/Prague." in refused.stderr


def test_zone_and_stdin(app, user, call):
    words = ["user", "import", user, "-", "--zone", "Europe/Prague", "--format", "csv"]
    done = app.test_cli_runner().invoke(command.todo, words, input="title,due\nmilk,2026-03-01T09:30\n")
    assert done.exit_code == 0
    assert call("GET", "/tasks").json[0]["due_date"] == "2026-03-01T08:30:00Z"


def test_large_file_is_written_in_pieces_each_of_which_stays(run, call, monkeypatch, user):
    monkeypatch.setattr(imports, "TASKS_MAX", 4)
    data = "title\n" + "".join(f"{number}\n" for number in range(10))
    write, sizes = imports.write, []

    def interrupted(user, tasks, *, dry_run):
        if len(sizes) == 2:
            raise KeyboardInterrupt
        sizes.append(len(tasks))
        return write(user, tasks, dry_run=dry_run)

    with monkeypatch.context() as patch:
        patch.setattr(imports, "write", interrupted)
        assert run(data).exit_code == 1
    assert sizes == [4, 4]
    done = run(data)
    assert (
        done.stdout.splitlines()[-1] == f"Read 10 tasks (csv): 2 imported for {user}, 8 known, 0 skipped, 0 warnings."
    )
    assert [task["title"] for task in call("GET", "/tasks").json] == [str(number) for number in range(10)]


def test_database_that_is_away_is_one_line(proxied, proxy: PostgresProxy, user, tmp_path):
    file = tmp_path / "file"
    file.write_text("title\nmilk\n")
    proxy.close()
    refused = proxied.test_cli_runner().invoke(command.todo, ["user", "import", user, str(file)])
    assert refused.exit_code == 1
    assert "the database cannot be used" in refused.stderr


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_100000_tasks_survive_an_interruption(client, database_url, tmp_path):
    user = new_user()
    file = tmp_path / "file"
    file.write_text("title,tags\n" + "".join(f"Task {number},tag{number % 9}\n" for number in range(100_000)))
    words = [sys.executable, "-m", "todo", "user", "import", user, str(file)]
    options = {"cwd": ROOT, "env": environment(DATABASE_URL=database_url), "text": True}

    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    count = f"SELECT count(*) FROM tasks WHERE user_id = '{user}'"
    wait_until(lambda: query(database_url, count)[0][0], "written", 120)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 1
    written = query(database_url, count)[0][0]
    assert 0 < written < 100_000
    assert written % 5_000 == 0

    done = subprocess.run(words, capture_output=True, check=True, **options)
    assert f"{100_000 - written} imported for {user}, {written} known" in done.stdout
    assert query(database_url, count) == [(100_000,)]
    assert call_as(client, user)("GET", "/tasks?limit=1").json[0]["title"] == "Task 0"
