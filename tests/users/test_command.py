"""`todo user`: an operator exports a user's data, or erases it."""

import json
import os
import subprocess
import sys

import pytest
from fakes.postgres_proxy import PostgresProxy
from support import config_for, new_database, open_app
from wire.server import ROOT, environment

from todo import __main__ as command
from todo import commands, create_app
from todo.extensions import db

COMMANDS = [("export",), ("erase", "--yes")]


def invoke(app, *words, **options):
    return app.test_cli_runner().invoke(command.todo, ["user", *words], **options)


@pytest.fixture
def run(app, monkeypatch):
    """Return a function that runs a command of `todo user`, with an answer to its question as at a terminal."""

    def run(*words, answer=None):
        with monkeypatch.context() as patch:
            patch.setattr(commands, "is_interactive", lambda: answer is not None)
            return invoke(app, *words, input=answer)

    return run


@pytest.fixture
def filled(call):
    """Create two tasks of the user, one with an accent, and a deleted one."""
    for title in ("Žluťoučký 🥛", "x"):
        call("POST", "/tasks", title=title)
    call("DELETE", f"/tasks/{call('POST', '/tasks', title='gone').json['id']}")


@pytest.mark.parametrize("words", [[], ["export"], ["erase"]])
def test_user_commands_have_help(run, words):
    shown = run(*words, "--help")
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage: ")


def test_export_prints_what_the_call_returns_and_nothing_else(run, call, filled, user):
    printed = run("export", user)
    assert printed.exit_code == 0
    assert printed.stdout_bytes == call("GET", "/export").get_data()
    assert len(printed.stdout_bytes.splitlines()) == 4


def test_export_writes_utf_8_whatever_the_encoding_of_the_output(app, call, filled, user):
    ended = app.test_cli_runner(charset="ascii").invoke(command.todo, ["user", "export", user])
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout_bytes == call("GET", "/export").get_data()


def test_export_writes_to_a_file(run, call, filled, user, tmp_path):
    file = tmp_path / "export.ndjson"
    file.write_text("old")
    written = run("export", user, "--output", str(file))
    assert (written.exit_code, written.output) == (0, "")
    assert file.read_bytes() == call("GET", "/export").get_data()
    assert list(tmp_path.iterdir()) == [file]


def test_export_to_a_dash_is_printed(run, call, filled, user, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run("export", user, "--output", "-")
    assert (printed.exit_code, printed.stdout_bytes) == (0, call("GET", "/export").get_data())
    assert list(tmp_path.iterdir()) == []


def test_export_to_a_named_pipe_is_read_from_it(run, call, filled, user, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        assert run("export", user, "--output", str(tmp_path / "pipe")).exit_code == 0
        assert reader.stdout.read() == call("GET", "/export").get_data()
    assert (tmp_path / "pipe").is_fifo()


def test_export_to_a_folder_is_a_wrong_call(run, user, tmp_path):
    refused = run("export", user, "--output", str(tmp_path))
    assert refused.exit_code == 2
    assert "is a directory" in refused.output


def test_export_to_where_nothing_can_be_written_prints_the_reason(run, user, tmp_path):
    refused = run("export", user, "--output", str(tmp_path / "none" / "x"))
    assert refused.exit_code == 1
    assert "No such file or directory" in refused.output
    assert "Traceback" not in refused.output


def test_export_of_a_user_without_tasks_reports_that_there_are_none(run, user):
    (line,) = run("export", user).stdout.splitlines()
    assert json.loads(line)["list"] == {"user_id": user, "revision": 0, "erased_at": None, "tasks": 0, "deleted": 0}


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_erase_that_is_not_confirmed_keeps_all(run, call, filled, user, answer):
    before = call("GET", "/export").get_data()
    aborted = run("erase", user, answer=answer)
    assert aborted.exit_code == 1
    assert f"This erases 2 tasks and 1 deleted task of {user}.\n" in aborted.output
    assert f"Erase all tasks of {user}?" in aborted.output
    assert "Aborted!" in aborted.output
    assert call("GET", "/export").get_data() == before


@pytest.mark.parametrize(("words", "answer"), [(["--yes"], None), ([], "y\n")])
def test_erase_that_is_confirmed_erases_all_and_prints_how_much(run, call, filled, user, words, answer):
    erased = run("erase", user, *words, answer=answer)
    assert erased.exit_code == 0
    assert erased.output.splitlines()[-1] == f"Erased 2 tasks and 1 deleted ones of {user}."
    assert ("Erase all tasks" in erased.output) == (answer is not None)
    assert call("GET", "/tasks").json == call("GET", "/trash").json == []


def test_erase_in_a_script_wants_yes(run, call, filled, user):
    refused = run("erase", user)
    assert refused.exit_code == 1
    assert refused.output == (
        f"Error: This erases 2 tasks and 1 deleted task of {user}. "
        "There is no terminal to ask at, so nothing was done: --yes does it.\n"
    )
    assert len(call("GET", "/tasks").json) == 2


def test_erase_in_production_wants_yes(database_url, call, filled, user, monkeypatch):
    monkeypatch.setattr(commands, "is_interactive", lambda: True)
    production = create_app(config_for(database_url, ENVIRONMENT="production"))
    refused = invoke(production, "erase", user, input="y\n")
    assert refused.exit_code == 1
    assert refused.output.endswith("of " + user + ". This is production, so nothing was done: --yes does it.\n")
    assert len(call("GET", "/tasks").json) == 2
    assert invoke(production, "erase", user, "--yes").exit_code == 0
    assert call("GET", "/tasks").json == []
    with production.app_context():
        db.engine.dispose()


def test_erase_of_a_user_without_tasks_erases_none(run, user):
    assert run("erase", user, "--yes").output == f"Erased 0 tasks and 0 deleted ones of {user}.\n"


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize("user", ["", "x" * 256, "a\nb", "a\x00b"])
def test_user_id_that_is_not_valid_is_refused(run, words, user):
    refused = run(*words, user)
    assert refused.exit_code == 2
    assert "must have 1 to 255 characters" in refused.output


@pytest.mark.parametrize("words", COMMANDS)
def test_user_must_be_named(run, words):
    refused = run(*words)
    assert refused.exit_code == 2
    assert "Missing argument 'ID'" in refused.output


@pytest.fixture(scope="module")
def unmigrated(postgres):
    """Return the application on an empty database."""
    with open_app(new_database(postgres, "todo_users_unmigrated")) as app:
        yield app


@pytest.mark.parametrize("words", COMMANDS)
def test_user_commands_on_an_empty_database_print_what_to_do(unmigrated, words):
    refused = invoke(unmigrated, *words, "u1")
    assert refused.exit_code == 1
    assert refused.output == "Error: the database has no tables yet, or older ones: run `todo migrate` first.\n"


@pytest.mark.parametrize("words", COMMANDS)
def test_user_commands_without_a_database_print_one_line(socket_path, words):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    refused = invoke(create_app(config_for(proxy.url("todo"))), *words, "u1")
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: the database cannot be used: ")
    assert len(refused.output.splitlines()) == 1


def test_export_that_fails_leaves_the_file_as_it_was(unmigrated, tmp_path):
    file = tmp_path / "export.ndjson"
    file.write_text("old")
    assert invoke(unmigrated, "export", "u1", "--output", str(file)).exit_code == 1
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_export_to_a_file_that_cannot_be_written_prints_one_line(run, filled, user, tmp_path):
    done = run("export", user, "--output", str(tmp_path / "nowhere" / "export.ndjson"))
    assert (done.exit_code, done.stderr) == (1, "Error: the export cannot be written: No such file or directory.\n")


@pytest.mark.process
def test_export_whose_reader_closes_the_pipe_ends_without_a_message(database_url, filled, user):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "todo", "user", "export", user],
        cwd=ROOT,
        env=environment(DATABASE_URL=database_url),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
