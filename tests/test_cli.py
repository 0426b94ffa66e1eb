"""The commands of `todo`, which are commands of `flask` too: output, effects and exit statuses."""

import errno
import io
import json
import os
import pty
import re
import runpy
import stat
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner
from fakes.postgres_proxy import PostgresProxy
from flask import Flask
from flask.cli import ScriptInfo
from support import SECRET, bearer, config_for, new_database, new_user
from wire.server import environment, query, start

import config
from config import ROOT
from todo import __main__ as command
from todo import cli, commands, create_app
from todo.database import embedded, engine
from todo.database.embedded import EmbeddedUnavailable
from todo.extensions import db
from todo.tasks import seeds

COMMANDS = ["serve", "dev", "migrate", "db", "distribute", "doctor", "token", "seed", "purge", "user"]
SUBCOMMANDS = [
    "serve",
    "dev",
    "migrate",
    "db restored",
    "distribute",
    "doctor",
    "token",
    "seed",
    "purge",
    "user export",
    "user erase",
]
FLASK_COMMANDS = ["db", "dev", "doctor", "openapi", "purge", "seed", "token", "user"]


def invoke(app, *words, **options):
    """Run a command of `todo` in this process, for an application."""
    return app.test_cli_runner().invoke(command.todo, words, prog_name="todo", **options)


@pytest.fixture
def run(app):
    """Run a command of `todo` for the application of all tests."""
    return lambda *words: invoke(app, *words)


@pytest.fixture
def run_with_settings(monkeypatch, tmp_path):
    """Run a command of `todo` as a process with these variables would, in this process."""

    def run_with_settings(*words, **variables):
        monkeypatch.setattr(config, "ROOT", tmp_path)
        monkeypatch.setattr(os, "environ", variables)
        return CliRunner().invoke(command.todo, words, obj=ScriptInfo(create_app=command.application))

    return run_with_settings


@pytest.fixture
def production(database_url) -> Flask:
    """Return an application that runs in production."""
    return create_app(config_for(database_url, ENVIRONMENT="production"))


def test_todo_lists_its_own_commands_and_no_others(run):
    shown = run("--help")
    assert shown.exit_code == 0
    assert re.findall(r"^  (\w+) {2}", shown.output.partition("Commands:")[2], re.MULTILINE) == COMMANDS
    assert run().output == shown.output


def test_todo_prints_its_version(run):
    assert run("--version").output == "todo 1.0.0\n"


@pytest.mark.parametrize("words", ["routes", "shell", "run", "openapi", "limiter", "nonsense"])
def test_todo_refuses_commands_that_are_not_its_own(run, words):
    refused = run(words)
    assert refused.exit_code == 2
    assert f"No such command '{words}'" in refused.output


@pytest.mark.parametrize("words", SUBCOMMANDS)
def test_todo_command_has_help_with_examples_exit_statuses_and_related_commands(run, words):
    shown = run(*words.split(), "--help")
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: todo {words} [OPTIONS]")
    examples, statuses, related = re.search(
        r"\nExamples:\n(.*)\nExit status:\n(.*)\nSee also:\n(.*)", shown.output, re.DOTALL
    ).groups()
    assert f"todo {words}" in examples
    assert re.findall(r"^  (\d) {2}\S", statuses, re.MULTILINE) == ["0", "1", "2"]
    for name in re.findall(r"todo (\w+)", related):
        assert name in COMMANDS


@pytest.mark.parametrize("words", SUBCOMMANDS)
def test_todo_command_with_an_unknown_option_exits_with_2(run, words):
    refused = run(*words.split(), "--nonsense")
    assert refused.exit_code == 2
    assert "No such option" in refused.output


@pytest.mark.parametrize("words", ["dev", "migrate", "token --user u1", "seed", "purge", "user export u1"])
def test_todo_command_with_wrong_settings_prints_one_line_and_exits_with_1(run_with_settings, words):
    refused = run_with_settings(*words.split(), ENVIRONMENT="production", PORT="x")
    assert refused.exit_code == 1
    (line,) = refused.output.splitlines()
    assert line.startswith("todo cannot start: PORT must be a port number from 1 to 65535; DATABASE_URL is not set")


def test_todo_doctor_runs_with_wrong_settings(run_with_settings):
    report = run_with_settings("doctor", PORT="x")
    assert report.exit_code == 1
    assert report.output.startswith("✗ PORT: must be a port number from 1 to 65535\n")


def test_todo_with_good_settings_builds_the_application(run_with_settings):
    printed = run_with_settings("token", "--user", "u1", BETTER_AUTH_SECRET=SECRET)
    assert printed.exit_code == 0
    assert jwt.decode(printed.output.strip(), SECRET, algorithms=["HS256"])["sub"] == "u1"


@pytest.mark.parametrize("name", FLASK_COMMANDS)
def test_every_command_of_flask_has_help(app, name):
    run = app.test_cli_runner().invoke
    shown = run(args=[name, "--help"])
    assert shown.exit_code == 0
    assert re.search(r"Usage: .* \[OPTIONS\]", shown.output)
    assert name in run(args=["--help"]).output


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"serve", "migrate", "db", "distribute"}])
def test_command_of_flask_is_that_of_todo(app, name):
    assert app.cli.commands[name] is command.todo.commands[name]


@pytest.mark.parametrize("words", ["db upgrade", "db current", "db stamp"])
def test_todo_leaves_the_development_of_migrations_to_flask(run, words):
    refused = run(*words.split())
    assert refused.exit_code == 2
    assert f"No such command '{words.split()[1]}'" in refused.output


# Each reaches the check in its own way: without the application, with it, or through a command of a library.
CLOSED_COMMANDS = [
    "todo --help",
    "todo serve",
    "todo doctor",
    "todo db restored",
    "todo user export u1 --output -",
    "flask doctor",
    "flask db current",
    "flask routes",
    "gunicorn -c gunicorn.conf.py wsgi:app",
    "todo serve --server granian",
]
CLOSED = "Error: stdout is closed: redirect it to /dev/null to discard what is printed.\n"


@pytest.mark.process
@pytest.mark.parametrize("words", CLOSED_COMMANDS)
def test_command_with_a_closed_stdout_prints_one_line_and_does_nothing(words):
    done = run_in_shell(f"exec {sys.executable} -m {words} >&-", DATABASE_URL="postgresql://127.0.0.1:1/todo")
    assert (done.returncode, done.stderr) == (1, CLOSED)


@pytest.mark.process
@pytest.mark.parametrize("words", ["todo user --help", "todo token --force --user u1", "flask doctor"])
def test_command_whose_output_cannot_be_written_prints_one_line(words):
    done = run_in_shell(f"exec {sys.executable} -m {words} >/dev/full", DATABASE_URL="postgresql://127.0.0.1:1/todo")
    assert (done.returncode, done.stderr) == (1, "Error: the output cannot be written: No space left on device.\n")


def run_in_shell(script, **variables):
    return subprocess.run(
        ["sh", "-c", script],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), FileNotFoundError(errno.ENOENT, "x", "y")]
)
def test_errors_that_are_not_of_the_output_are_not_reported_as_such(error):
    with pytest.raises(type(error)), commands.reporting_output_errors():
        raise error


def test_command_needs_a_stdout(monkeypatch, run):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(commands.ClosedOutput):
        commands.require_stdout()


@pytest.fixture
def executed(monkeypatch):
    """Return the programs that this process would have become, each with its arguments."""
    executed = []

    def execv(program, words):
        assert program == words[0] == sys.executable
        executed.append(words[1:])

    monkeypatch.setattr(os, "execv", execv)
    return executed


GUNICORN_WORDS = ["-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py"), "--chdir", str(ROOT), "wsgi:app"]
GRANIAN_WORDS = [str(ROOT / "granian.conf.py")]


@pytest.mark.parametrize(
    ("options", "setting", "words"),
    [
        pytest.param([], "", GUNICORN_WORDS, id="default"),
        pytest.param([], "granian", GRANIAN_WORDS, id="setting"),
        pytest.param(["--server", "granian"], "", GRANIAN_WORDS, id="option"),
        pytest.param(["--server", "gunicorn"], "granian", GUNICORN_WORDS, id="option-before-setting"),
    ],
)
def test_serve_becomes_the_server_as_production_runs_it(run, monkeypatch, executed, options, setting, words):
    monkeypatch.setenv("WEB_SERVER", setting)
    assert run("serve", *options).exit_code == 0
    assert executed == [words]


def test_serve_without_granian_installed_prints_how_to_install_it(run, monkeypatch, executed):
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    refused = run("serve", "--server", "granian")
    assert (refused.exit_code, executed) == (1, [])
    assert refused.output == "Error: Granian is not installed: run `pip install -r requirements-granian.txt`.\n"
    assert (ROOT / "requirements-granian.txt").exists()


@pytest.fixture
def empty(postgres) -> str:
    """Return the URL of an empty database."""
    return new_database(postgres, new_user())


def test_migrate_migrates_and_check_reports_whether_that_is_necessary(empty):
    app = create_app(config_for(empty))
    before = invoke(app, "migrate", "--check")
    assert before.exit_code == 1
    assert re.fullmatch(
        r"Error: the schema is at nothing, this version needs \d{4}_\w+: run `todo migrate`, or .*\n", before.output
    )
    migrated = invoke(app, "migrate")
    assert migrated.exit_code == 0
    assert migrated.output.startswith("Applied 0001_create_tasks.\n")
    after = invoke(app, "migrate", "--check")
    assert (after.exit_code, after.output) == (0, "The schema is up to date.\n")
    assert (invoke(app, "migrate").exit_code, query(empty, "SELECT count(*) FROM tasks")) == (0, [(0,)])
    with app.app_context():
        db.engine.dispose()


def test_migrate_sql_prints_a_script_and_changes_nothing(empty):
    app = create_app(config_for(empty))
    printed = invoke(app, "migrate", "--sql")
    assert printed.exit_code == 0
    assert "CREATE TABLE tasks" in printed.stdout
    assert query(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    with app.app_context():
        db.engine.dispose()


def test_migrate_with_options_that_exclude_each_other_exits_with_2(run):
    refused = run("migrate", "--check", "--sql")
    assert refused.exit_code == 2
    assert "--check and --sql exclude each other" in refused.output


@pytest.mark.parametrize("words", [("migrate",), ("migrate", "--check")])
def test_migrate_without_a_database_prints_one_line(socket_path, words):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    refused = invoke(create_app(config_for(proxy.url("todo"))), *words)
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")
    assert len(refused.output.splitlines()) == 1


def test_migrate_as_a_role_without_the_rights_prints_one_line(postgres):
    role = new_user().replace("-", "_")
    url = new_database(postgres, role)
    query(url, f"CREATE ROLE {role} LOGIN")
    app = create_app(config_for(url.replace("//postgres:@", f"//{role}@")))
    refused = invoke(app, "migrate")
    with app.app_context():
        db.engine.dispose()
    query(url, f"DROP ROLE {role}")
    assert refused.exit_code == 1
    assert refused.output == "Error: the database cannot be used: permission denied for schema public\n"


@pytest.fixture
def filled(postgres, migrated_template) -> str:
    """Return the URL of a database with two tasks and a deleted one of one user, and a task of another."""
    url = new_database(postgres, new_user(), migrated_template)
    app = create_app(config_for(url))
    with app.test_client() as client:
        for user, title in (("u1", "a"), ("u1", "b"), ("u1", "gone"), ("u2", "c")):
            created = client.post("/api/me/tasks", headers=bearer(user), json={"title": title})
        client.delete("/api/me/tasks/3", headers=bearer("u1"))
        assert created.status_code == 201
    with app.app_context():
        db.engine.dispose()
    return url


def downgrade(url, *words, answer=None, environment="development"):
    """Run `flask db downgrade`."""
    app = create_app(config_for(url, ENVIRONMENT=environment))
    try:
        return app.test_cli_runner().invoke(args=["db", "downgrade", *words], input=answer)
    finally:
        with app.app_context():
            db.engine.dispose()


def applied(url):
    return query(url, "SELECT version_num FROM alembic_version")


MIGRATIONS = ("0001_create_tasks", "0002_organise_tasks", "0003_fold_texts", "0004_add_revisions")
MIGRATIONS += ("0005_number_tasks", "0006_refold_texts", "0007_add_feeds", "0008_drop_older_writes")
HELD = "There are 3 tasks, 1 deleted task and 2 lists."


@pytest.fixture
def at_a_terminal(monkeypatch):
    """Let the commands find somebody to ask."""
    monkeypatch.setattr(commands, "is_interactive", lambda: True)


@pytest.mark.parametrize(
    ("words", "reverted"),
    [
        ((), "0008_drop_older_writes"),
        (
            ("0003_fold_texts",),
            "0008_drop_older_writes, 0007_add_feeds, 0006_refold_texts, 0005_number_tasks, 0004_add_revisions",
        ),
        (("base",), ", ".join(reversed(MIGRATIONS))),
    ],
)
def test_downgrade_counts_and_asks_before_anything_is_lost(filled, at_a_terminal, words, reverted):
    before = applied(filled)
    for answer in ("n\n", "\n", ""):
        aborted = downgrade(filled, *words, answer=answer)
        assert aborted.exit_code == 1
        assert f"Reverting {reverted} drops the tables and columns that came with them. {HELD}\n" in aborted.output
        assert "This cannot be undone" in aborted.output
        assert "Aborted!" in aborted.output
    assert applied(filled) == before
    assert query(filled, "SELECT count(*) FROM tasks") == [(3,)]
    done = downgrade(filled, *words, answer="y\n")
    assert done.exit_code == 0
    assert re.findall(r"Reverted (\w+)\.", done.output) == reverted.split(", ")
    assert applied(filled) != before


@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.parametrize("words", [(), ("base",), ("0004_add_revisions",)])
def test_downgrade_in_production_wants_yes(filled, at_a_terminal, environment, words):
    before = applied(filled)
    refused = downgrade(filled, *words, answer="y\n", environment=environment)
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: Reverting 0008_drop_older_writes")
    assert refused.output.endswith(f"{HELD} This is production, so nothing was done: --yes does it.\n")
    assert applied(filled) == before
    done = downgrade(filled, *words, "--yes", environment=environment)
    assert done.exit_code == 0
    assert f"{HELD}\nReverted 0008_drop_older_writes.\n" in done.output
    assert applied(filled) != before


def test_downgrade_in_a_script_wants_yes(filled):
    refused = downgrade(filled, "base", answer="y\n")
    assert refused.exit_code == 1
    assert refused.output.endswith(f"{HELD} There is no terminal to ask at, so nothing was done: --yes does it.\n")
    assert query(filled, "SELECT count(*) FROM tasks") == [(3,)]


def test_downgrade_counts_what_an_older_schema_has(filled):
    assert downgrade(filled, "0003_fold_texts", "--yes").exit_code == 0
    refused = downgrade(filled, "base")
    assert "There are 3 tasks, 0 deleted tasks and 0 lists." in refused.output
    assert downgrade(filled, "base", "--yes").exit_code == 0
    assert query(filled, "SELECT to_regclass('tasks')") == [(None,)]
    assert downgrade(filled, "base").exit_code == 0


def test_downgrade_with_nothing_to_revert_asks_nothing(filled, empty):
    assert downgrade(filled, "0008_drop_older_writes").exit_code == 0
    assert downgrade(empty, "base").exit_code == 0


def test_downgrade_that_prints_sql_asks_nothing(filled):
    printed = downgrade(filled, "--sql", "0005_number_tasks:0004_add_revisions", environment="production")
    assert printed.exit_code == 0
    assert "DROP INDEX" in printed.output
    assert applied(filled) == [("0008_drop_older_writes",)]


@pytest.mark.parametrize("words", [("--", "nonsense"), ("--", "-9"), ("-d", "nowhere", "base")])
def test_downgrade_to_nowhere_prints_one_line(filled, words):
    refused = downgrade(filled, "--yes", *words)
    assert refused.exit_code == 1
    assert re.fullmatch(r"Error: .+\.\n", refused.output)
    assert applied(filled) == [("0008_drop_older_writes",)]


def test_downgrade_without_a_database_prints_one_line(socket_path):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    refused = downgrade(proxy.url("todo"), "--yes")
    assert refused.exit_code == 1
    assert re.fullmatch(r"Error: the database cannot be used: .+\n", refused.output)


@pytest.mark.parametrize("command_line", ["db downgrade base", "user erase u1"])
@pytest.mark.process
def test_destructive_command_asks_at_a_real_terminal(filled, command_line):
    for answer, status in ((b"n\n", 1), (b"y\n", 0)):
        leader, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", *command_line.split()],
            cwd=ROOT,
            env=environment(DATABASE_URL=filled, ENVIRONMENT="development"),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.write(leader, answer)
        output, _ = process.communicate(timeout=60)
        os.close(terminal)
        os.close(leader)
        assert (process.returncode, "[y/N]" in output) == (status, True), output
        kept = query(filled, "SELECT to_regclass('tasks') IS NOT NULL")[0][0] and query(filled, "TABLE tasks")
        assert bool(kept and len(kept) == 3) == (status == 1)


@pytest.mark.process
def test_destructive_command_without_any_stdin_is_refused(filled):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m flask db downgrade base <&-', sys.executable],
        cwd=ROOT,
        env=environment(DATABASE_URL=filled, ENVIRONMENT="development"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("There is no terminal to ask at, so nothing was done: --yes does it.\n")


def test_nobody_can_be_asked_without_stdin_or_at_a_pipe(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert not commands.is_interactive()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y"))
    assert not commands.is_interactive()


@pytest.fixture
def installed(tmp_path, root) -> Path:
    """Return the command as it is installed into an environment, which here is an empty folder."""
    subprocess.run([sys.executable, root / "deploy" / "install.py", tmp_path], check=True)
    return tmp_path / "todo"


def print_version(program, folder):
    ran = subprocess.run(
        [program, "--version"], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.process
def test_installed_command_works_in_the_folder_of_the_project(installed, root, tmp_path):
    assert installed.stat().st_mode & stat.S_IXUSR
    ran = [print_version(installed, folder) for folder in (root, tmp_path)]
    assert ran == [
        (0, "todo 1.0.0\n", ""),
        (1, "", "todo: run this command in the folder of the project.\n"),
    ]


@pytest.mark.process
def test_installed_command_finds_an_interpreter_whose_path_the_kernel_does_not_take(installed, root, tmp_path):
    """As pip does for the clone in "My Projects": the kernel would split the path at the space."""
    folder = tmp_path / "My Projects"
    folder.mkdir()
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    installed.write_text(runpy.run_path(str(root / "deploy" / "install.py"))["script"](str(python)))
    assert print_version(installed, root) == (0, "todo 1.0.0\n", "")


@pytest.mark.process
def test_commands_import_what_few_of_them_need_only_when_they_run(root):
    heavy = {"alembic", "gunicorn", "redis", "prometheus_client", "flask_migrate"}
    code = f"import sys; from todo.__main__ import todo; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"


@pytest.mark.process
def test_main_runs_as_a_module_with_the_name_of_the_command():
    process = start("todo", "user")
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith("Usage: todo user [OPTIONS] COMMAND [ARGS]...\n")


def test_token_prints_a_token_that_works_and_nothing_else(run, client, user):
    printed = run("token", "--user", user, "--email", "u@example.com")
    assert printed.exit_code == 0
    token = printed.stdout.strip()
    assert printed.output == f"{token}\n"
    assert client.get(f"/api/{user}/tasks", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["email"], claims["exp"] - claims["iat"]) == (user, "u@example.com", 3600)


@pytest.mark.parametrize(
    ("duration", "seconds"), [("90s", 90), ("30m", 1800), ("2H", 7200), (" 7d ", 604_800), ("366d", 31_622_400)]
)
def test_token_expires_after_the_duration(run, duration, seconds):
    token = run("token", "--user", "u1", "--expires", duration).output.strip()
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["exp"] == pytest.approx(time.time() + seconds, abs=5)


@pytest.mark.parametrize(
    "duration", ["", "1", "h", "1w", "-1h", "1.5h", "0s", "367d", "999999999d", "9999999999s", "\u0661h"]
)
def test_token_of_no_sensible_duration_is_refused(run, duration):
    refused = run("token", "--user", "u1", "--expires", duration)
    assert refused.exit_code == 2
    assert "--expires" in refused.output


@pytest.mark.parametrize("user", ["", "x" * 256, "a\nb", "a\x00b"])
def test_token_for_an_impossible_user_is_refused(run, user):
    refused = run("token", "--user", user)
    assert refused.exit_code == 2
    assert "must have 1 to 255 characters" in refused.output


def test_token_without_a_user_is_refused(run):
    assert "Missing option '--user'" in run("token").output


def test_token_in_production_is_refused_unless_forced(production):
    refused = invoke(production, "token", "--user", "u1")
    assert refused.exit_code == 1
    assert "this is production" in refused.output
    forced = invoke(production, "token", "--user", "u1", "--force")
    assert forced.exit_code == 0
    assert jwt.decode(forced.output.strip(), SECRET, algorithms=["HS256"])["sub"] == "u1"


def test_token_carries_the_issuer_and_the_audience_that_are_checked(database_url):
    app = create_app(config_for(database_url, JWT_ISSUER="https://a.example,https://b.example", JWT_AUDIENCE="todo"))
    token = invoke(app, "token", "--user", "u1").output.strip()
    response = app.test_client().get("/api/u1/tasks/0", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 404


@pytest.fixture
def with_issuer(database_url) -> Flask:
    """Return an application whose tokens come from an issuer with keys of its own."""
    return create_app(config_for(database_url, BETTER_AUTH_URL="http://localhost:3000"))


def test_token_that_only_the_issuer_can_make_is_refused(with_issuer):
    for force in ([], ["--force"]):
        refused = invoke(with_issuer, "token", "--user", "u1", *force)
        assert refused.exit_code == 1
        assert "tokens come from http://localhost:3000 (BETTER_AUTH_URL)" in refused.output


def test_greeting_with_an_issuer_names_where_tokens_come_from(with_issuer):
    message = cli.greeting(with_issuer.extensions["config"])
    assert "Tokens come from http://localhost:3000" in message
    assert 'curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/api/me/tasks' in message
    assert "/demo" not in message


def test_seed_adds_a_dozen_believable_tasks_once(run, client, user):
    first, second = run("seed", "--user", user), run("seed", "--user", user)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.endswith(f"Added 12 tasks for {user}.\n")
    assert second.output == f"{user} has 12 tasks or more already: nothing added.\n"
    tasks = client.get("/api/me/tasks", headers=bearer(user)).json
    assert len({task["title"] for task in tasks}) == 12
    assert {task["completed"] for task in tasks} == {True, False}
    assert {task["priority"] for task in tasks} == {"low", "medium", "high", None}
    assert {len(task["due_date"] or "") for task in tasks} == {0, len("2026-03-01"), len("2026-03-01T09:30:00Z")}
    assert all((task["completed_at"] is not None) == task["completed"] for task in tasks)
    counts = client.get("/api/me/tasks/summary", headers=bearer(user)).json
    assert counts["overdue"] >= 1
    assert counts["due_today"] >= 1
    assert len(counts["by_tag"]) > 5


def test_seed_adds_what_is_missing(run, client, user):
    client.post("/api/me/tasks", headers=bearer(user), json={"title": "own"})
    assert f"Added 29 tasks for {user}." in run("seed", "--user", user, "--count", "30").output
    tasks = client.get("/api/me/tasks", headers=bearer(user)).json
    assert len(tasks) == 30
    assert len({task["title"] for task in tasks}) == 30
    assert run("seed", "--user", user, "--count", "5").exit_code == 0
    assert len(client.get("/api/me/tasks", headers=bearer(user)).json) == 30


def test_seed_numbers_its_tasks_and_a_second_run_raises_nothing(run, client, user, monkeypatch):
    monkeypatch.setattr(seeds, "BATCH", 5)
    tags = []
    for _ in range(2):
        assert run("seed", "--user", user, "--count", "13").exit_code == 0
        changes = client.get("/api/me/tasks/changes", headers=bearer(user))
        assert [task["revision"] for task in changes.json["tasks"]] == list(range(1, 14))
        assert changes.json["tasks"] == client.get("/api/me/tasks", headers=bearer(user)).json
        assert (changes.json["count"], changes.json["has_more"]) == (13, False)
        tags.append(client.get("/api/me/tasks", headers=bearer(user)).headers["ETag"])
    assert tags[0] == tags[1]
    assert tags[0].startswith('"13-')


def test_seed_goes_on_after_the_revision_of_the_user(run, client, user):
    own = client.post("/api/me/tasks", headers=bearer(user), json={"title": "own"}).json
    client.delete(f"/api/me/tasks/{own['id']}", headers=bearer(user))
    since = client.get("/api/me/tasks/changes", headers=bearer(user)).json["next"]
    run("seed", "--user", user, "--count", "3")
    changes = client.get(f"/api/me/tasks/changes?since={since}", headers=bearer(user)).json
    assert [task["revision"] for task in changes["tasks"]] == [3, 4, 5]
    assert client.post("/api/me/tasks", headers=bearer(user), json={"title": "own"}).json["revision"] == 6


def test_seed_is_for_the_demo_user_by_default(run, client):
    assert run("seed").exit_code == 0
    assert len(client.get("/api/me/tasks", headers=bearer("user-123")).json) == 12


@pytest.mark.parametrize("count", ["0", "-1", "x", "10000001"])
def test_seed_of_no_sensible_count_is_refused(run, count):
    refused = run("seed", "--count", count)
    assert refused.exit_code == 2
    assert "--count" in refused.output


def test_seed_that_is_interrupted_leaves_nothing(app, client, user):
    with app.app_context():
        with pytest.raises(KeyboardInterrupt), seeds.planting(user, 3 * seeds.BATCH) as (missing, batches):
            assert missing == 3 * seeds.BATCH
            assert next(batches) == seeds.BATCH
            raise KeyboardInterrupt
    assert client.get("/api/me/tasks", headers=bearer(user)).json == []


def test_seed_on_an_empty_database_prints_what_to_do(postgres):
    app = create_app(config_for(new_database(postgres, "todo_unmigrated")))
    refused = invoke(app, "seed")
    assert refused.exit_code == 1
    assert refused.output == "Error: the database has no tables yet, or older ones: run `todo migrate` first.\n"
    with app.app_context():
        db.engine.dispose()


def test_seed_without_a_database_prints_one_line(socket_path):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    refused = invoke(create_app(config_for(proxy.url("todo"))), "seed")
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: the database cannot be used: ")
    assert len(refused.output.splitlines()) == 1


def test_database_error_of_a_missing_embedded_server_is_its_message():
    assert commands.database_error(EmbeddedUnavailable("install it")).message == "install it"


@pytest.mark.parametrize("words", [["seed"], ["purge"], ["user", "export", "u1"], ["user", "erase", "--yes", "u1"]])
def test_commands_without_the_embedded_server_report_what_is_missing(monkeypatch, words):
    def missing(_folder):
        raise EmbeddedUnavailable("install it")

    monkeypatch.setattr(embedded, "start", missing)
    refused = invoke(create_app(config_for(None)), *words)
    assert (refused.exit_code, refused.output) == (1, "Error: install it\n")


@pytest.mark.parametrize("words", [["purge"], ["user", "export", "u1"], ["user", "erase", "--yes", "u1"]])
def test_commands_that_get_no_connection_print_one_line(database_url, monkeypatch, words):
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.1)
    app = create_app(config_for(database_url, WEB_THREADS="1"))
    with app.app_context():
        with db.engine.connect(), db.engine.connect():
            refused = invoke(app, *words)
        db.engine.dispose()
    assert (refused.exit_code, refused.output) == (1, "Error: every pooled connection is in use\n")


def test_dev_in_production_is_refused(production):
    refused = invoke(production, "dev")
    assert refused.exit_code == 1
    assert "this is production: run `todo migrate && todo serve` instead." in refused.output


def test_openapi_can_be_printed(app, client):
    assert (
        json.loads(app.test_cli_runner().invoke(args=["openapi", "print"]).output) == client.get("/openapi.json").json
    )


def test_greeting_has_a_call_to_paste(app, client):
    message = cli.greeting(app.extensions["config"])
    call = re.search(
        r'^curl -H "Authorization: (Bearer \S+)" http://127\.0\.0\.1:8000(/api/user-123/tasks)$', message, re.MULTILINE
    )
    assert client.get(call[2], headers={"Authorization": call[1]}).status_code == 200
    page = re.search(r"^http://127\.0\.0\.1:8000(/demo)#token=(\S+)$", message, re.MULTILINE)
    assert f"Bearer {page[2]}" == call[1]
    assert client.get(page[1]).status_code == 200
    assert new_user() not in message
