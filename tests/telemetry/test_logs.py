"""The log: its content, its format, and what it never contains."""

import hashlib
import json
import logging
import os
import re
import select
import subprocess
import sys

import pytest
from support import SECRET, bearer, claims, config_for, sign

from todo import create_app
from todo.telemetry import logs


@pytest.fixture
def json_client(database_url):
    """Return a function that makes clients of applications whose log is JSON."""

    def make(**changes):
        return create_app(config_for(database_url, **{"LOG_FORMAT": "json"} | changes)).test_client()

    return make


def lines(capfd):
    """Return the lines of the log, all of which went to stdout."""
    written = capfd.readouterr()
    assert written.err == ""
    return [json.loads(line) for line in written.out.splitlines()]


def failing(depth):
    """Raise an exception deep in the stack, with messages that quote what a user wrote."""
    if depth:
        return failing(depth - 1)
    try:
        return {}["a private matter"]
    except KeyError as error:
        raise ValueError("another private matter") from error


def stack_of(call):
    """Return the logged stack trace of the exception that a call raises."""
    with pytest.raises((ValueError, RuntimeError)) as raised:
        call()
    return logs.stack((raised.type, raised.value, raised.tb))


def digest(user):
    return hashlib.sha256(user.encode()).hexdigest()[:16]


def test_log_line_is_json_with_the_route_and_without_who_or_what(json_client, capfd, user):
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = bearer(user) | {"X-Request-ID": "r1", "traceparent": parent}
    answer = json_client().get("/api/somebody-else/tasks/7", headers=headers)
    (entry,) = lines(capfd)
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", entry.pop("timestamp"))
    assert entry.pop("duration_ms") > 0
    assert entry == {
        "level": "info",
        "event": "request",
        "method": "GET",
        "route": "/api/<user_id>/tasks/<int64:task_id>",
        "status": 403,
        "database_ms": 0,
        "bytes": len(answer.data),
        "request_id": "r1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "user": digest(user),
        "reason": "the path names another user",
    }


@pytest.mark.parametrize(
    ("changes", "reason", "is_known"),
    [
        pytest.param({"exp": 1}, "expiry: expected a moment in the future, got one that is years away", True, id="old"),
        pytest.param({"sub": None}, "user: expected the id of a user in sub, got none", False, id="nobody"),
        pytest.param({"aud": "u@example.com"}, "audience: expected todo, got a text", True, id="e-mail-in-a-claim"),
        pytest.param(
            None, "signature: expected one made with the secret, got one made with another", False, id="forged"
        ),
    ],
)
def test_log_of_a_refused_token_is_one_line_with_the_reason_and_a_hash(
    json_client, capfd, user, changes, reason, is_known
):
    good = {"aud": "todo", "email": "someone@example.com"}
    token = sign(claims(user, **good | (changes or {})), secret=SECRET if changes else "x" * 40)
    json_client(JWT_AUDIENCE="todo").get("/api/me/tasks", headers={"Authorization": f"Bearer {token}"})
    (entry,) = lines(capfd)
    assert (entry["status"], entry["route"], entry["reason"]) == (401, "/api/<user_id>/tasks", reason)
    assert entry["request_id"]
    assert entry.get("user") == (digest(user) if is_known else None)
    for part in (user, "@", *token.split(".")):
        assert part not in json.dumps(entry)


def test_log_of_a_successful_request_has_its_times_and_its_caller(json_client, capfd, user):
    json_client().post("/api/me/tasks", headers=bearer(user), json={"title": "a private matter"})
    (entry,) = lines(capfd)
    assert (entry["level"], entry["method"], entry["status"], entry["user"]) == ("info", "POST", 201, digest(user))
    assert 0 < entry["database_ms"] < entry["duration_ms"]
    assert "reason" not in entry
    assert "private" not in json.dumps(entry)


def test_log_level_silences_what_is_below(json_client, capfd):
    client = json_client(LOG_LEVEL="error")
    client.get("/api/me/tasks")
    logs.log.warning("something else")
    assert lines(capfd) == []


def test_log_of_a_library_has_the_same_format(json_client, capfd):
    json_client()
    logger = logging.getLogger("somebody")
    logger.propagate = False
    logger.addHandler(logs.Forwarder())
    try:
        failing(0)
    except ValueError:
        logger.exception("it failed %s times, by 5 %%", 2)
    (entry,) = lines(capfd)
    assert (entry["level"], entry["event"]) == ("error", "it failed 2 times, by 5 %")
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("builtins.ValueError")


def test_log_names_the_request_in_which_something_else_happened(database_url, capfd):
    app = create_app(config_for(database_url, LOG_FORMAT="json"))

    @app.route("/noisy")
    def noisy():
        logs.log.warning("the store is away")
        return "", 204

    app.test_client().get("/noisy", headers={"X-Request-ID": "r1"})
    noise, entry = lines(capfd)
    assert noise["event"] == "the store is away"
    assert (noise["request_id"], noise["trace_id"]) == (entry["request_id"], entry["trace_id"])


def test_log_for_consoles_is_one_line_without_the_trace(json_client, capfd, user):
    json_client(LOG_FORMAT="console").get("/api/me/tasks", headers=bearer(user))
    (line,) = capfd.readouterr().out.splitlines()
    assert re.match(r"\d\d:\d\d:\d\d \[info +\] request method=GET route=/api/<user_id>/tasks status=200 ", line)
    assert "trace_id" not in line


@pytest.mark.parametrize(
    ("level", "logged_as"),
    [(1, None), (10, None), (19, None), (25, "info"), (35, "warning"), (50, "critical"), (99, "critical")],
)
def test_log_of_a_library_with_levels_of_its_own_has_the_next_lower_one(json_client, capfd, level, logged_as):
    json_client()
    logs.Forwarder().emit(logging.LogRecord("somebody", level, "", 1, "an event", (), None))
    assert [entry["level"] for entry in lines(capfd)] == ([logged_as] if logged_as else [])


@pytest.mark.parametrize(
    ("message", "arguments"), [("%d tasks", ("two",)), ("%s %s", ("one",)), ("%(name)s", ({"other": 1},)), ("%", (1,))]
)
def test_log_of_a_library_whose_arguments_do_not_fit_is_a_line_without_them(json_client, capfd, message, arguments):
    json_client()
    logs.Forwarder().emit(logging.LogRecord("somebody", logging.ERROR, "", 1, message, arguments, None))
    (entry,) = lines(capfd)
    assert (entry["level"], entry["event"]) == ("error", message)


def test_report_of_dropped_lines_has_the_form_of_the_others_and_names_no_request(database_url, capfd):
    app = create_app(config_for(database_url, LOG_FORMAT="json", LOG_LEVEL="critical"))
    reports = []

    @app.route("/noisy")
    def noisy():
        reports.append(json.loads(logs.report(7)))
        return "", 204

    app.test_client().get("/noisy")
    assert list(reports[0]) == ["timestamp", "level", "event", "number"]
    assert list(reports[0].values())[1:] == ["error", "log lines dropped", 7]
    assert lines(capfd) == []

    create_app(config_for(database_url, LOG_FORMAT="console"))
    assert re.fullmatch(rb"\d\d:\d\d:\d\d \[error +\] log lines dropped number=7", logs.report(7))


def test_log_without_a_reader_makes_no_request_fail(json_client):
    read, write = os.pipe()
    os.close(read)
    logs.LineWriter(write).msg(b"lost")
    os.close(write)
    logs.LineWriter(write).msg(b"lost too")


@pytest.mark.process
def test_log_of_a_command_goes_to_stderr(root, database_url):
    """The output of `$(flask token)` must be a token and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "token", "--user", "u"],
        cwd=root,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url, "BETTER_AUTH_SECRET": "sesame"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout)
    assert "weak secret" in done.stderr


def test_weak_secret_in_development_is_a_warning_that_does_not_repeat_it(json_client, capfd):
    json_client(BETTER_AUTH_SECRET="sesame")
    (entry,) = lines(capfd)
    assert (entry["level"], entry["fault"]) == ("warning", "is shorter than 32 bytes")
    assert "sesame" not in json.dumps(entry)


def test_stack_has_the_frames_and_classes_and_never_the_messages():
    trace = stack_of(lambda: failing(0))
    first, second = trace.split("\n\n")
    assert first.endswith("builtins.KeyError")
    assert second.endswith("builtins.ValueError")
    for part in (first, second):
        assert part.startswith("Traceback (most recent call last):\n")
        assert '  File "tests/telemetry/test_logs.py", line ' in part
        assert ", in failing\n" in part


def test_stack_leaves_out_a_suppressed_context():
    def fail():
        try:
            failing(0)
        except ValueError:
            raise RuntimeError from None

    trace = stack_of(fail)
    assert trace.endswith("builtins.RuntimeError")
    assert "ValueError\n\n" not in trace


def test_log_line_of_the_deepest_bug_is_whole_in_a_pipe(database_url, capfd):
    app = create_app(config_for(database_url, LOG_FORMAT="json"))

    @app.route("/bug")
    def bug():
        failing(100)

    headers = {"X-Request-ID": "r" * 128}
    assert app.test_client().get("/bug", headers=headers).status_code == 500
    (line,) = capfd.readouterr().out.splitlines(keepends=True)
    assert len(line) <= select.PIPE_BUF
    assert json.loads(line)["exception"].endswith("builtins.ValueError")


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", '"', "\x00", "\ud800"], ids=ascii)
def test_line_of_any_texts_is_whole_in_a_pipe(database_url, capfd, log_format, character):
    create_app(config_for(database_url, LOG_FORMAT=log_format))
    try:
        failing(100)
    except ValueError:
        logs.log.error(character * 900, reason=character * 600, number=7, others=[character * 9000], exc_info=True)
    logs.Forwarder().emit(logging.LogRecord("a library", logging.ERROR, "", 1, character * 9000, (), None))
    written = capfd.readouterr().out
    if log_format == "json":
        bug, event = map(json.loads, written.splitlines())
        assert (bug["number"], event["level"]) == (7, "error")
        assert "failing" in bug["exception"]
        assert bug["exception"].endswith("builtins.ValueError")
        assert event["event"].endswith("…")
        assert all(len(line) <= select.PIPE_BUF for line in written.encode().splitlines(keepends=True))
    else:
        bug, event = written.encode().split(b"builtins.ValueError\n")
        assert len(bug) + len("builtins.ValueError\n") <= select.PIPE_BUF
        assert len(event) <= select.PIPE_BUF


def test_text_that_is_too_long_for_a_line_is_cut():
    assert logs.truncate("x" * 600) == "x" * 600
    assert logs.truncate("x" * 601) == "x" * 599 + "…"
