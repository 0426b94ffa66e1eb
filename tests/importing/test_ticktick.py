"""The CSV of TickTick."""

from datetime import UTC, date, datetime

import pytest

PREAMBLE = '"Date: 2026-03-01+0000"\n"Version: 7.1"\n"Status: \n0 Normal\n1 Completed\n2 Archived"\n'
COLUMNS = (
    "Folder Name", "List Name", "Title", "Kind", "Tags", "Content", "Is Check list", "Start Date", "Due Date",
    "Reminder", "Repeat", "Priority", "Status", "Created Time", "Completed Time", "Order", "Timezone", "Is All Day",
    "Is Floating",
    "Column Name", "Column Order", "View Mode", "taskId", "parentId",
)  # fmt: skip


def table(*rows):
    """Return a file with rows that have these values, and title "x"."""
    lines = [",".join(f'"{row.get(name, "")}"' for name in COLUMNS) for row in ({"Title": "x"} | row for row in rows)]
    return PREAMBLE + ",".join(f'"{name}"' for name in COLUMNS) + "\n" + "\n".join(lines) + "\n"


def test_task_of_every_member(read):
    row = {
        "Folder Name": "Home", "List Name": "Shopping", "Title": "Milk", "Kind": "TEXT", "Tags": "a, b",
        "Content": "Two\nlitres", "Due Date": "2026-03-01T08:30:00+0000", "Priority": "5", "Status": "1",
        "Created Time": "2026-02-01T00:00:00+0000",
        "Completed Time": "2026-02-02T00:00:00+0000", "Order": "-1",
        "Column Name": "Doing", "Timezone": "Europe/Prague", "Is All Day": "false",
        "taskId": "7",
    }  # fmt: skip
    contents = read(table(row))

    assert (contents.format, contents.read, contents.warnings, contents.faults) == ("ticktick", 1, [], [])
    assert contents.tasks[0].sample == {
        "title": "Milk",
        "description": "Two\nlitres",
        "completed": True,
        "created_at": datetime(2026, 2, 1, tzinfo=UTC),
        "priority": "high",
        "due_date": datetime(2026, 3, 1, 8, 30, tzinfo=UTC),
        "tags": ["a", "b", "Home", "Shopping", "Doing"],
        "completed_at": datetime(2026, 2, 2, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("written", "zone", "day"),
    [
        ("2026-02-28T23:00:00+0000", "Europe/Prague", date(2026, 3, 1)),
        ("2026-03-01T08:00:00+0000", "America/Los_Angeles", date(2026, 3, 1)),
        ("2026-06-30T22:00:00+0000", "Europe/Prague", date(2026, 7, 1)),
        ("2026-02-28T23:00:00+0000", "", date(2026, 3, 1)),
    ],
)
def test_whole_day_is_the_local_one(read, written, zone, day):
    row = {"Due Date": written, "Timezone": zone, "Is All Day": "true"}
    contents = read(table(row), zone="Europe/Prague")
    assert contents.tasks[0].sample["due_date"] == day
    assert contents.warnings == []


def test_whole_day_that_begins_at_no_midnight_is_a_warning(read):
    contents = read(table({"Due Date": "2026-02-28T23:00:00+0000", "Is All Day": "true"}))
    assert contents.tasks[0].sample["due_date"] == date(2026, 2, 28)
    assert "no midnight in UTC" in contents.warnings[0]["detail"]


@pytest.mark.parametrize(
    ("status", "completed", "description"),
    [
        ("0", False, None),
        ("1", True, None),
        ("2", True, "Status: archived"),
        ("-1", True, "Status: will not be done"),
        ("", False, None),
        ("7", False, "Status: 7"),
    ],
)
def test_status(only, status, completed, description):
    task = only(table({"Status": status}))
    assert (task["completed"], task["description"]) == (completed, description)


@pytest.mark.parametrize(
    ("priority", "name", "description"),
    [("0", None, None), ("1", "low", None), ("3", "medium", None), ("5", "high", None), ("4.5", None, "Priority: 4.5")],
)
def test_priority(only, priority, name, description):
    task = only(table({"Priority": priority}))
    assert (task["priority"], task["description"]) == (name, description)


@pytest.mark.parametrize("name", ["Due Date", "Start Date", "Created Time", "Completed Time"])
def test_time_that_is_none_is_a_fault_of_its_line(read, name):
    contents = read(table({}, {name: "soon"}))
    assert contents.faults == [
        {"line": 9, "detail": f"{name} must be a date-time such as 2026-03-01T09:30:00Z that exists."}
    ]


def test_record_of_several_lines_is_named_by_its_first(read):
    contents = read(table({"Content": "a\nb\nc"}, {"Due Date": "soon"}))
    assert [fault["line"] for fault in contents.faults] == [11]


def test_column_that_nobody_knows_and_a_row_that_is_too_long(read):
    head, first, *rest = table({"Title": "y"}).splitlines()[-2:]
    content = f'{PREAMBLE}{head},"Colour"\n{first},"red"\n{first},"red","more"\n'
    contents = read(content)
    assert contents.warnings == [{"line": 7, "detail": "The column Colour is left out."}]
    assert contents.faults == [{"line": 9, "detail": "The row has 26 values, and the header 25 columns."}]
    assert len(contents.tasks) == 1
    assert rest == []


def test_older_table_has_no_ids(read):
    contents = read("List Name,Title,Status\nHome,milk,0\nHome,milk,0\n")
    assert len({task.columns["idempotency_key"] for task in contents.tasks}) == 2


def test_start_repeat_reminder_and_parent_are_lines_and_warnings(read):
    parent = {"Title": "above", "taskId": "1"}
    row = {
        "Start Date": "2026-03-01T08:00:00+0000", "Due Date": "2026-03-01T09:00:00+0000", "Repeat": "FREQ=DAILY",
        "Reminder": "-PT30M", "taskId": "2", "parentId": "1", "Timezone": "Nowhere",
    }  # fmt: skip
    contents = read(table(parent, row, {"parentId": "9", "Start Date": "2026-03-01T08:00:00+0000"}))
    described = [task.sample["description"] for task in contents.tasks]
    assert described == [
        None,
        "Start: 2026-03-01T08:00:00+00:00\nReminder: -PT30M\nRepeat: FREQ=DAILY\nSubtask of: above",
        "Subtask of: 9",
    ]
    assert len(contents.warnings) == 6
    assert contents.tasks[2].sample["due_date"] == datetime(2026, 3, 1, 8, tzinfo=UTC)
