"""The flask commands: what they print, what they leave behind, and how they end."""

import json
import re
import time

import jwt
import pytest
from fakes.postgres_proxy import PostgresProxy
from flask import Flask
from support import SECRET, bearer, config_for, new_database, new_user

from todo import cli, create_app
from todo.database import embedded, engine
from todo.database.embedded import EmbeddedUnavailable
from todo.extensions import db
from todo.tasks import seeds


@pytest.fixture
def run(app):
    """Run a flask command."""
    return lambda *words: app.test_cli_runner().invoke(args=words)


@pytest.fixture
def production(database_url) -> Flask:
    """Give an application that runs in production."""
    return create_app(config_for(database_url, ENVIRONMENT="production"))


@pytest.mark.parametrize("command", ["seed", "token", "doctor", "dev", "db", "openapi", "purge", "user"])
def test_every_command_has_help(run, command):
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert re.search(r"Usage: .* \[OPTIONS\]", shown.output)
    assert command in run("--help").output


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
def test_token_expires_when_it_is_told_to(run, duration, seconds):
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
    runner = production.test_cli_runner()
    refused = runner.invoke(args=["token", "--user", "u1"])
    assert refused.exit_code == 1
    assert "this is production" in refused.output
    forced = runner.invoke(args=["token", "--user", "u1", "--force"])
    assert forced.exit_code == 0
    assert jwt.decode(forced.output.strip(), SECRET, algorithms=["HS256"])["sub"] == "u1"


def test_token_carries_the_issuer_and_the_audience_that_are_checked(database_url):
    app = create_app(config_for(database_url, JWT_ISSUER="https://a.example,https://b.example", JWT_AUDIENCE="todo"))
    token = app.test_cli_runner().invoke(args=["token", "--user", "u1"]).output.strip()
    answer = app.test_client().get("/api/u1/tasks/0", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 404


@pytest.fixture
def with_issuer(database_url) -> Flask:
    """Give an application whose tokens come from an issuer with keys of its own."""
    return create_app(config_for(database_url, BETTER_AUTH_URL="http://localhost:3000"))


def test_token_that_only_the_issuer_can_make_is_refused(with_issuer):
    for force in ([], ["--force"]):
        refused = with_issuer.test_cli_runner().invoke(args=["token", "--user", "u1", *force])
        assert refused.exit_code == 1
        assert "tokens come from http://localhost:3000 (BETTER_AUTH_URL)" in refused.output


def test_greeting_with_an_issuer_says_where_tokens_come_from(with_issuer):
    message = cli.greeting(with_issuer.extensions["config"])
    assert "Tokens come from http://localhost:3000" in message
    assert 'curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/api/me/tasks' in message


def test_seed_gives_a_dozen_believable_tasks_once(run, client, user):
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


def test_seed_on_an_empty_database_says_what_to_do(postgres):
    app = create_app(config_for(new_database(postgres, "todo_unmigrated")))
    refused = app.test_cli_runner().invoke(args=["seed"])
    assert refused.exit_code == 1
    assert refused.output == "Error: the database has no tables yet, or older ones: run `flask db upgrade` first.\n"
    with app.app_context():
        db.engine.dispose()


def test_seed_without_a_database_says_so_in_one_line(socket_path):
    proxy = PostgresProxy(socket_path)
    proxy.close()
    refused = create_app(config_for(proxy.url("todo"))).test_cli_runner().invoke(args=["seed"])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: the database cannot be used: ")
    assert len(refused.output.splitlines()) == 1


def test_database_trouble_of_a_missing_embedded_server_is_said_as_it_is():
    assert cli.database_trouble(EmbeddedUnavailable("install it")).message == "install it"


@pytest.mark.parametrize("command", [["seed"], ["purge"], ["user", "export", "u1"], ["user", "erase", "--yes", "u1"]])
def test_commands_without_the_embedded_server_say_what_is_missing(monkeypatch, command):
    def missing(_folder):
        raise EmbeddedUnavailable("install it")

    monkeypatch.setattr(embedded, "start", missing)
    refused = create_app(config_for(None)).test_cli_runner().invoke(args=command)
    assert (refused.exit_code, refused.output) == (1, "Error: install it\n")


@pytest.mark.parametrize("command", [["purge"], ["user", "export", "u1"], ["user", "erase", "--yes", "u1"]])
def test_commands_that_get_no_connection_say_so_in_one_line(database_url, monkeypatch, command):
    monkeypatch.setattr(engine, "POOL_TIMEOUT_S", 0.1)
    app = create_app(config_for(database_url, WEB_THREADS="1"))
    with app.app_context():
        with db.engine.connect(), db.engine.connect():
            refused = app.test_cli_runner().invoke(args=command)
        db.engine.dispose()
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")
    assert len(refused.output.splitlines()) == 1


def test_dev_in_production_is_refused(production):
    refused = production.test_cli_runner().invoke(args=["dev"])
    assert refused.exit_code == 1
    assert "this is production" in refused.output


def test_openapi_can_be_printed(run, client):
    assert json.loads(run("openapi", "print").output) == client.get("/openapi.json").json


def test_greeting_has_a_call_to_paste(app, client):
    message = cli.greeting(app.extensions["config"])
    call = re.search(
        r'^curl -H "Authorization: (Bearer \S+)" http://127\.0\.0\.1:8000(/api/user-123/tasks)$', message, re.MULTILINE
    )
    assert client.get(call[2], headers={"Authorization": call[1]}).status_code == 200
    assert new_user() not in message
