"""Every write that raises the revision of a list announces it, when it has taken effect."""

import re
from pathlib import Path

import pytest
from support import bearer, call_as

from todo.database import statements
from todo.database.statements import ListChange, list_changed
from todo.database.timeouts import BATCH_LIMITS
from todo.users import queries as users


@pytest.fixture
def announced():
    """Return the announcements, in order."""
    changes = []
    receiver = changes.append
    list_changed.connect(receiver)
    yield changes
    list_changed.disconnect(receiver)


def revision_of(app, user):
    with app.app_context():
        rows = statements.read("SELECT revision FROM task_lists WHERE user_id = %(caller)s", {"caller": user})
    return rows[0].revision if rows else 0


def seed(app, user, count):
    return app.test_cli_runner().invoke(args=["seed", "--user", user, "--count", str(count)])


KEY = {"Idempotency-Key": "key"}


def queue(ids, title="batched"):
    """Return the operations of a batch."""
    created = {"op": "create", "key": "batched", "task": {"title": "x"}}
    return [created, {"op": "update", "id": ids[0], "task": {"title": title}}]


# In this order, with whether each raises the revision. The tasks are numbered by their creation.
WRITES = [
    ("create", lambda call, _: call("POST", "/tasks", title="x"), True),
    ("create with a key", lambda call, _: call("POST", "/tasks", KEY, title="y"), True),
    ("replay", lambda call, _: call("POST", "/tasks", KEY, title="y"), False),
    ("reused key", lambda call, _: call("POST", "/tasks", KEY, title="z"), False),
    ("replace", lambda call, ids: call("PUT", f"/tasks/{ids[0]}", title="new"), True),
    ("replace by the same", lambda call, ids: call("PUT", f"/tasks/{ids[0]}", title="new"), False),
    ("change", lambda call, ids: call("PATCH", f"/tasks/{ids[0]}", tags=["a"]), True),
    ("change of nobody's", lambda call, _: call("PATCH", "/tasks/1234567890123", title="z"), False),
    ("stale change", lambda call, ids: call("PATCH", f"/tasks/{ids[0]}", {"If-Match": '"1"'}, title="z"), False),
    ("invalid change", lambda call, ids: call("PATCH", f"/tasks/{ids[0]}", title=""), False),
    ("toggle", lambda call, ids: call("PATCH", f"/tasks/{ids[0]}/complete"), True),
    ("complete", lambda call, ids: call("PATCH", f"/tasks/{ids[0]}/complete", completed=True), False),
    ("delete", lambda call, ids: call("DELETE", f"/tasks/{ids[0]}"), True),
    ("delete again", lambda call, ids: call("DELETE", f"/tasks/{ids[0]}"), False),
    ("restore", lambda call, ids: call("POST", f"/trash/{ids[0]}/restore"), True),
    ("delete another", lambda call, ids: call("DELETE", f"/tasks/{ids[1]}"), True),
    ("replay of what is deleted", lambda call, _: call("POST", "/tasks", KEY, title="y"), False),
    ("import", lambda call, _: call("POST", "/import", data="title\nimported\n", query="format=csv"), True),
    ("import again", lambda call, _: call("POST", "/import", data="title\nimported\n", query="format=csv"), False),
    ("discard", lambda call, ids: call("DELETE", f"/trash/{ids[1]}"), False),
    ("empty", lambda call, _: call("DELETE", "/trash"), False),
    ("create with a precondition", lambda call, _: call("POST", "/tasks", {"If-Match": "*"}, title="x"), True),
    ("batch", lambda call, ids: call("POST", "/tasks/batch", operations=queue(ids)), True),
    ("batch again", lambda call, ids: call("POST", "/tasks/batch", operations=queue(ids)), False),
    (
        "batch with a precondition",
        lambda call, ids: call("POST", "/tasks/batch", {"If-Match": "*"}, operations=queue(ids, "z")),
        True,
    ),
    ("refused batch", lambda call, ids: call("POST", "/tasks/batch", operations=queue(ids, ""), atomic=True), False),
    ("read", lambda call, _: call("GET", "/tasks/changes"), False),
]


def test_writes_announce_the_revision_of_the_list_if_they_raise_it(app, client, user, announced):
    call = call_as(client, user)
    ids = []
    erasure = ("erase", lambda call, _: call("DELETE", "", {"Confirm": user}), True)
    for name, write, raises in (*WRITES, erasure):
        before = revision_of(app, user)
        del announced[:]
        response = write(call, ids)
        if response.status_code == 201 and "Idempotent-Replayed" not in response.headers:
            ids.append(response.json["id"])
        after = revision_of(app, user)
        assert (after > before) == raises, name
        # A write that raised nothing may announce what is known already.
        newest = max((change.revision for change in announced), default=0)
        assert (newest == after) if raises else (newest <= before), name
        assert {change.user for change in announced} <= {user}


# The tools that write, each with the revision that it raises the list to, or leaves it at.
TOOLS = [
    ("add_task", {"title": "x", "idempotency_key": "k"}, 1),
    ("add_task", {"title": "x", "idempotency_key": "k"}, 1),
    ("update_task", {"members": {"title": "y"}}, 2),
    ("complete_task", {}, 3),
    ("complete_task", {}, 3),
    ("delete_task", {}, 4),
    ("restore_task", {}, 5),
]


def test_tools_of_assistants_announce_what_they_write(client, user, announced):
    task_id = {}
    for name, arguments, revision in TOOLS:
        del announced[:]
        params = {"name": name, "arguments": arguments | ({} if "title" in arguments else task_id)}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        result = client.post("/mcp", headers=bearer(user), json=message).json["result"]
        task_id = task_id or {"task_id": result["structuredContent"]["task"]["id"]}
        assert announced == [ListChange(user, revision)], name


def test_commands_announce_what_they_write(app, user, announced):
    assert seed(app, user, 12).exit_code == 0
    assert announced == [ListChange(user, 12)]
    assert seed(app, user, 12).exit_code == 0
    assert announced[1:] in ([], [ListChange(user, 12)])
    assert app.test_cli_runner().invoke(args=["user", "erase", "--yes", user]).exit_code == 0
    assert announced[-1] == ListChange(user, 13)
    del announced[:]
    assert app.test_cli_runner().invoke(args=["user", "erase", "--yes", f"{user}x"]).exit_code == 0
    assert app.test_cli_runner().invoke(args=["purge"]).exit_code == 0
    assert announced == []


def test_transaction_that_is_rolled_back_announces_nothing(app, user, announced):
    call_as(app.test_client(), user)("POST", "/tasks", title="x")
    del announced[:]
    with app.app_context(), pytest.raises(ZeroDivisionError):
        with statements.transaction(BATCH_LIMITS) as transaction:
            transaction.write(users.SQL["erase_list"], {"caller": user})
            assert announced == []
            raise ZeroDivisionError
    assert announced == []
    with app.app_context():
        with statements.transaction(BATCH_LIMITS) as transaction:
            transaction.write(users.SQL["erase_list"], {"caller": user})
            assert announced == []
    assert announced == [ListChange(user, 2)]


def test_every_statement_that_raises_a_revision_is_among_the_writes_above():
    """A new one fails here, until a write of it stands above."""
    raising = set()
    for file in sorted((Path(statements.__file__).parents[1]).rglob("*.sql")):
        for name, sql in statements.load(str(file.with_suffix(".py"))).items():
            if re.search(
                r"(UPDATE task_lists SET|DO UPDATE SET) revision = (?!task_lists\.revision$)", sql, re.MULTILINE
            ):
                raising.add(f"{file.parent.name} {name}")
    assert raising == {
        "batch finish",
        "importing create_tasks",
        "tasks create_task",
        "tasks create_task_once",
        "tasks delete_task",
        # Of all users, by a command: the servers find it when they look.
        "tasks expire_cursors",
        "tasks raise_lists",
        "tasks raise_revision",
        "tasks update_task",
        "trash restore_task",
        "users erase_list",
    }
