"""`Tasks.json` of Google Takeout."""

import json
from datetime import UTC, date, datetime

import pytest

from todo.importing.records import Unreadable
from todo.tasks.schemas import DueDate

DUE = f"due_date {DueDate.default_error_messages['invalid']}"


def takeout(*items, title="My Tasks", **members):
    lists = [{"kind": "tasks#tasks", "id": "l", "title": title, "items": list(items), **members}]
    return json.dumps({"kind": "tasks#taskLists", "items": lists}, indent=2)


def item(**members):
    return {
        "kind": "tasks#task",
        "id": "t1",
        "title": "Milk",
        "status": "needsAction",
        "updated": "2026-02-01T00:00:00Z",
    } | members


def test_task_of_every_member(read):
    done = item(
        notes="Two litres",
        status="completed",
        due="2026-03-01T00:00:00.000Z",
        completed="2026-02-02T10:00:00.000Z",
        hidden=True,
    )
    contents = read(takeout(done))

    assert (contents.format, contents.read, contents.warnings, contents.faults) == ("google-tasks", 1, [], [])
    assert contents.tasks[0].sample == {
        "title": "Milk",
        "description": "Two litres",
        "completed": True,
        "created_at": datetime(2026, 2, 2, 10, tzinfo=UTC),
        "priority": None,
        "due_date": date(2026, 3, 1),
        "tags": ["My Tasks"],
        "completed_at": datetime(2026, 2, 2, 10, tzinfo=UTC),
    }


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Auckland", "UTC"])
def test_due_is_the_same_day_in_every_zone(only, zone):
    assert only(takeout(item(due="2026-03-01T00:00:00.000Z")), zone=zone)["due_date"] == date(2026, 3, 1)


def test_deleted_and_blank_tasks_are_skipped(read):
    contents = read(
        takeout(item(deleted=True), item(id="t2", title=" "), item(id="t3", title="", notes="first\nsecond"))
    )
    assert contents.skipped == [
        {"pointer": "#/items/0/items/0", "detail": "It was deleted."},
        {"pointer": "#/items/0/items/1", "detail": "It has neither a title nor notes."},
    ]
    assert (contents.tasks[0].sample["title"], contents.tasks[0].sample["description"]) == ("first", "second")
    assert contents.warnings == [
        {"pointer": "#/items/0/items/2", "detail": "The title is the first line of the description."}
    ]


def test_subtask_names_its_parent_and_links_are_kept(read):
    link = {"type": "email", "description": "From Anna", "link": "https://mail.example.com/1"}
    contents = read(takeout(item(), item(id="t2", parent="t1"), item(id="t3", parent="gone", links=[link, "?"])))
    described = [task.sample["description"] for task in contents.tasks]
    assert described == [None, "Subtask of: Milk", "Subtask of: gone\nFrom Anna: https://mail.example.com/1"]


def test_member_that_nobody_knows_is_one_warning(read):
    contents = read(takeout(item(starred=True), item(id="t2", starred=True)))
    assert contents.warnings == [{"pointer": "#/items/0/items/0", "detail": "The member starred is left out."}]


def test_list_without_tasks_has_none(read):
    document = {"kind": "tasks#taskLists", "items": [{"title": "Empty"}]}
    assert read(json.dumps(document)).read == 0


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ("{", "#"),
        ("[]", "#"),
        ('{"items": 1}', "#"),
        ('{"items": [1]}', "#/items/0"),
        ('{"items": [{"items": {}}]}', "#/items/0"),
    ],
)
def test_file_of_another_shape_cannot_be_read(read, content, pointer):
    with pytest.raises(Unreadable) as refusal:
        read(content, "google-tasks")
    assert refusal.value.place == {"pointer": pointer}


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"title": 7}, "title must be a string."),
        (
            {"due": "soon"},
            DUE,
        ),
        (
            {"due": 7},
            DUE,
        ),
        ({"completed": "soon"}, "completed must be a date-time such as 2026-03-01T09:30:00Z that exists."),
        ({"notes": ["x"]}, "description must be a string."),
    ],
)
def test_task_that_breaks_a_rule_is_a_fault_with_its_pointer(read, members, detail):
    contents = read(takeout(item(**members)))
    assert contents.faults == [{"pointer": "#/items/0/items/0", "detail": detail}]


def test_text_that_names_the_kind_is_not_yet_such_a_file(read):
    assert read("title\ntasks#taskLists\n").format == "csv"


def test_item_that_is_no_object_is_a_fault(read):
    assert read(takeout("x")).faults == [{"pointer": "#/items/0/items/0", "detail": "A task must be an object."}]
