"""The calls of a service, with the client that openapi-python-client makes from openapi.json."""

import os
from datetime import UTC, date, datetime

from generated import AuthenticatedClient
from generated.api.health import get_root
from generated.api.tasks import (
    complete_task,
    create_task,
    delete_task,
    get_task,
    list_changes,
    list_tasks,
    update_task,
)
from generated.api.users import export_user
from generated.models import (
    ChangesOut,
    CreatedTaskOut,
    ListTasksPriorityItemType1,
    ListTasksSortItem,
    ListTasksStatus,
    Priority,
    ProblemOut,
    RootOut,
    TaskIn,
    TaskOut,
    TaskPatch,
)

client = AuthenticatedClient(os.environ["API_URL"], os.environ["API_TOKEN"], raise_on_unexpected_status=True)
root = get_root.sync(client=client)
assert isinstance(root, RootOut)
assert root.name == "todo"

body = TaskIn("Buy oat milk", priority=Priority.HIGH, due_date=date(2026, 3, 1), tags=["shopping", "home"])
created = create_task.sync("me", client=client, body=body)
assert isinstance(created, CreatedTaskOut)
assert (created.priority, created.due_date, created.description) == (Priority.HIGH, date(2026, 3, 1), None)

read = get_task.sync_detailed("me", created.id, client=client)
assert isinstance(read.parsed, TaskOut)
assert read.parsed.to_dict() == created.to_dict()
tag = read.headers["ETag"]
assert get_task.sync_detailed("me", created.id, client=client, if_none_match=tag).status_code == 304

due = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
change = TaskPatch(priority=None, completed=True, due_date=due)
changed = update_task.sync("me", created.id, client=client, body=change, if_match=tag)
assert isinstance(changed, TaskOut)
assert (changed.priority, changed.completed, changed.due_date) == (None, True, due)
stale = update_task.sync("me", created.id, client=client, body=TaskPatch(title="Lost update"), if_match=tag)
assert isinstance(stale, ProblemOut)
assert isinstance(stale.current, TaskOut)
assert stale.current.title == "Buy oat milk"

for _ in range(2):
    completed = complete_task.sync("me", created.id, client=client, completed=True)
    assert isinstance(completed, TaskOut)
    assert completed.completed

listed = list_tasks.sync(
    "me",
    client=client,
    status=ListTasksStatus.COMPLETED,
    priority=[ListTasksPriorityItemType1.NONE, Priority.LOW],
    tag=["shopping", "home"],
    sort=[ListTasksSortItem.DUE_DATE, ListTasksSortItem.TITLE],
)
assert isinstance(listed, list)
assert [task.id for task in listed] == [created.id]
assert list_tasks.sync("me", client=client, completed=False, limit=1) == []

changes = list_changes.sync("me", client=client)
assert isinstance(changes, ChangesOut)
assert (len(changes.tasks), changes.has_more, changes.count) == (1, False, 1)
assert delete_task.sync_detailed("me", created.id, client=client).status_code == 204
since = list_changes.sync("me", client=client, since=changes.next_)
assert isinstance(since, ChangesOut)
assert [task.id for task in since.deleted] == [created.id]

lines = export_user.sync("me", client=client)
assert isinstance(lines, str)
assert len(lines.splitlines()) == 2
