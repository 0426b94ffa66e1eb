"""The CSV of Todoist."""

from datetime import UTC, date, datetime

import pytest

HEADER = "TYPE,CONTENT,DESCRIPTION,PRIORITY,INDENT,AUTHOR,RESPONSIBLE,DATE,DATE_LANG,TIMEZONE"
LATER = f"{HEADER},DURATION,DURATION_UNIT,DEADLINE,DEADLINE_LANG"


def table(*rows, header=HEADER):
    """Return a file as Todoist writes it, with a byte order mark and a blank row after each task."""
    return "\ufeff" + "\r\n".join([header, *rows, ",,,,,,,,,"]) + "\r\n"


def test_task_of_every_member(read):
    row = "task,Buy milk @shopping,Two litres,1,1,Anna (1),,2026-03-01,en,Europe/Prague"
    contents = read(table("meta,view_style=list,,,,,,,,", "section,Weekend,,,,,,,,", row))

    assert (contents.format, contents.read, contents.skipped, contents.faults) == ("todoist", 1, [], [])
    assert contents.warnings == [{"line": 2, "detail": "The row is a setting of a view, and left out."}]
    (task,) = contents.tasks
    assert task.sample | {"created_at": None} == {
        "title": "Buy milk",
        "description": "Two litres",
        "completed": False,
        "created_at": None,
        "priority": "high",
        "due_date": date(2026, 3, 1),
        "tags": ["shopping", "Weekend"],
        "completed_at": None,
    }


@pytest.mark.parametrize(
    ("written", "priority"), [("1", "high"), ("2", "medium"), ("3", "low"), ("4", None), ("", None)]
)
def test_priority_1_is_the_highest_and_4_is_none(only, written, priority):
    assert only(table(f"task,x,,{written},1,,,,,"))["priority"] == priority


def test_priority_that_is_none_of_these_is_a_line_and_a_warning(read):
    contents = read(table("task,x,,urgent,1,,,,,"))
    assert contents.tasks[0].sample["description"] == "Priority: urgent"
    assert contents.warnings == [{"line": 2, "detail": "Priority is kept as a line of the description."}]


@pytest.mark.parametrize(
    ("content", "title", "tags"),
    [
        ("Call @home Anna @phone", "Call Anna", ["home", "phone"]),
        ("@home call", "call", ["home"]),
        ("Mail to bob@example.com", "Mail to bob@example.com", []),
        ("@home", "@home", ["home"]),
        ("Meet @ noon", "Meet @ noon", []),
    ],
)
def test_labels_of_the_content_are_tags(only, content, title, tags):
    task = only(table(f"task,{content},,4,1,,,,,"))
    assert (task["title"], task["tags"]) == (title, tags)


@pytest.mark.parametrize(
    ("written", "zone", "due"),
    [
        ("2026-03-01", "Europe/Prague", date(2026, 3, 1)),
        ("2026-03-01 09:30", "Europe/Prague", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("2026-03-01T09:30:00Z", "Europe/Prague", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01 09:30", "", datetime(2026, 3, 1, 17, 30, tzinfo=UTC)),
    ],
)
def test_date_in_iso_form_is_due_in_the_zone_of_the_row_or_of_the_request(only, written, zone, due):
    row = f"task,x,,4,1,,,{written},en,{zone}"
    assert only(table(row), zone="America/Los_Angeles")["due_date"] == due


@pytest.mark.parametrize("words", ["every monday", "tomorrow", "1 Mar", "2026-02-30", "every day starting 2026-03-01"])
def test_date_in_words_is_a_line_and_a_warning(read, words):
    contents = read(table(f"task,x,,4,1,,,{words},en,"))
    sample = contents.tasks[0].sample
    assert (sample["due_date"], sample["description"]) == (None, f"Date: {words}")
    assert contents.warnings == [{"line": 2, "detail": "Date is kept as a line of the description."}]


def test_unknown_zone_is_replaced_by_that_of_the_request_with_a_warning(read):
    contents = read(table("task,x,,4,1,,,2026-03-01 09:30,en,Nowhere"), zone="Europe/Prague")
    assert contents.tasks[0].sample["due_date"] == datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
    assert contents.warnings == [{"line": 2, "detail": "The time zone is not known, so Europe/Prague is used."}]


def test_subtask_names_its_parent_and_a_section_ends_the_tree(read):
    rows = [
        "task,a,,4,1,,,,,",
        "task,b,,4,2,,,,,",
        "task,c,,4,3,,,,,",
        "task,d,,4,2,,,,,",
        "section,S,,,,,,,,",
        "task,e,,4,2,,,,,",
    ]
    described = {task.sample["title"]: task.sample["description"] for task in read(table(*rows)).tasks}
    assert described == {"a": None, "b": "Subtask of: a", "c": "Subtask of: b", "d": "Subtask of: a", "e": None}


def test_comments_belong_to_the_task_before_and_those_on_the_project_are_skipped(read):
    rows = [
        "note,on the project,,,,,,,,",
        "task,x,own,4,1,,,,,",
        'note,"first, really",,,,,,,,',
        ",,,,,,,,,",
        "note,second,,,,,,,,",
    ]
    contents = read(table(*rows))
    assert contents.tasks[0].sample["description"] == "own\nComment: first, really\nComment: second"
    assert contents.skipped == [{"line": 2, "detail": "It is a comment on the project."}]
    assert contents.read == 2


def test_row_of_another_type_is_skipped(read):
    contents = read(table("reminder,x,,,,,,,,"))
    assert (contents.tasks, contents.skipped) == ([], [{"line": 2, "detail": "It is of the type 'reminder'."}])


def test_later_columns_are_kept(read):
    row = "task,x,,4,1,Anna,Bob,2026-03-01,en,,30,minute,2026-03-09,en"
    described = read(table(row, header=LATER)).tasks[0].sample
    assert described["due_date"] == date(2026, 3, 1)
    assert described["description"] == "Deadline: 2026-03-09\nResponsible: Bob\nDuration: 30 minute"
    assert read(table("task,x,,4,1,,,,,,,,2026-03-09,en", header=LATER)).tasks[0].sample["due_date"] == date(2026, 3, 9)


def test_column_that_nobody_knows_is_left_out_with_one_warning(read):
    contents = read(table("task,x,,4,1,,,,,,blue", "task,y,,4,1,,,,,,red", header=f"{HEADER},Colour"))
    assert contents.warnings == [{"line": 1, "detail": "The column Colour is left out."}]


def test_row_with_too_many_values_is_a_fault(read):
    contents = read(table("task,x,,4,1,,,,,,more", "task,y,,4,1,,,,,"))
    assert contents.faults == [{"line": 2, "detail": "The row has 11 values, and the header 10 columns."}]
    assert len(contents.tasks) == 1


def test_table_of_types_and_contents_may_be_another_one(read):
    other = "Type,Content\ntask,milk\n"
    assert read(other).format == "csv"
    assert read(other, "todoist").tasks[0].sample["title"] == "milk"


def test_short_row_has_empty_values(only):
    assert only(table("task,x"))["title"] == "x"
