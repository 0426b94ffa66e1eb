"""What the log says, and the id that ties an answer to it."""

import hashlib
import json
import re

import pytest
from support import SECRET, bearer, claims, config_for, sign

from todo import create_app


@pytest.mark.parametrize("sent", ["abc", "a" * 128, "6f1c8a8e-7b1c-4a5e-9d8e-000000000000", "1-5f2/x:y.z~@=+"])
def test_request_id_well_formed_is_taken_over(client, sent):
    response = client.get("/nowhere", headers={"X-Request-ID": sent})
    assert response.headers["X-Request-ID"] == sent
    assert response.json["request_id"] == sent


@pytest.mark.parametrize("sent", [None, "", "a" * 129, "a b", 'a"b', "a,b", "é", "<script>"])
def test_request_id_absent_or_malformed_is_made_anew(client, sent):
    headers = {} if sent is None else {"X-Request-ID": sent}
    ids = {client.get("/health", headers=headers).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", made) for made in ids)


def test_log_line_is_json_with_the_route_and_without_who_or_what(database_url, capsys, user):
    client = create_app(config_for(database_url)).test_client()
    token = bearer(user)
    client.get("/api/somebody-else/tasks/7", headers=token | {"X-Request-ID": "r1"})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", entry.pop("timestamp"))
    assert entry == {
        "event": "request refused",
        "level": "info",
        "method": "GET",
        "reason": "the path names another user",
        "request_id": "r1",
        "route": "/api/<user_id>/tasks/<int64:task_id>",
        "status": 403,
        "user": hashlib.sha256(user.encode()).hexdigest()[:16],
    }
    assert user not in line


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
    database_url, capsys, user, changes, reason, is_known
):
    client = create_app(config_for(database_url, JWT_AUDIENCE="todo")).test_client()
    good = {"aud": "todo", "email": "someone@example.com"}
    token = sign(claims(user, **good | (changes or {})), secret=SECRET if changes else "x" * 40)
    client.get("/api/me/tasks", headers={"Authorization": f"Bearer {token}"})
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["status"], entry["route"], entry["reason"]) == (401, "/api/<user_id>/tasks", reason)
    assert entry["request_id"]
    assert entry.get("user") == (hashlib.sha256(user.encode()).hexdigest()[:16] if is_known else None)
    for part in (user, "@", *token.split(".")):
        assert part not in line


def test_log_level_silences_what_is_below(database_url, capsys):
    create_app(config_for(database_url, LOG_LEVEL="error")).test_client().get("/api/me/tasks")
    assert capsys.readouterr().err == ""


def test_weak_secret_in_development_is_a_warning_that_does_not_repeat_it(database_url, capsys):
    create_app(config_for(database_url, BETTER_AUTH_SECRET="sesame"))
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["fault"]) == ("warning", "is shorter than 32 bytes")
    assert "sesame" not in line
