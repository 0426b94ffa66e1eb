"""The tasks of an iCalendar file."""

import time
from datetime import UTC, date, datetime

import pytest

from todo.importing.records import Unreadable


def calendar(*lines, head=()):
    """Return a calendar with one task of these lines, which begins on line 3 and after those of the head."""
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *head, *todo(*lines), "END:VCALENDAR", ""])


def todo(*lines):
    return ["BEGIN:VTODO", *lines, "END:VTODO"]


def test_task_of_every_member(read):
    lines = [
        "UID:1@example.com",
        "DTSTAMP:20260201T000000Z",
        "SUMMARY:Milk\\, fresh",
        "DESCRIPTION:Two\\nlitres\\; or \\\\ three",
        "DUE;VALUE=DATE:20260301",
        "STATUS:COMPLETED",
        "COMPLETED:20260202T100000Z",
        "CREATED:20260201T100000Z",
        "PRIORITY:1",
        "CATEGORIES:a,b\\,c",
        "CATEGORIES:d",
        "X-APPLE-SORT-ORDER:1",
    ]
    contents = read(calendar(*lines, head=["X-WR-CALNAME:Home"]))

    assert (contents.format, contents.read, contents.warnings, contents.faults) == ("ical", 1, [], [])
    assert contents.tasks[0].sample == {
        "title": "Milk, fresh",
        "description": "Two\nlitres; or \\ three",
        "completed": True,
        "created_at": datetime(2026, 2, 1, 10, tzinfo=UTC),
        "priority": "high",
        "due_date": date(2026, 3, 1),
        "tags": ["a", "b,c", "d", "Home"],
        "completed_at": datetime(2026, 2, 2, 10, tzinfo=UTC),
    }


VTIMEZONE = ["BEGIN:VTIMEZONE", "TZID:Home", "X-LIC-LOCATION:Europe/Prague", "END:VTIMEZONE"]


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        ("DUE:20260301", date(2026, 3, 1)),
        ("DUE:20260301T093000Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("DUE:20260301T093000", datetime(2026, 3, 1, 17, 30, tzinfo=UTC)),
        ("DUE;TZID=Europe/Prague:20260301T093000", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ('due;tzid="Europe/Prague";x=1:20260301T093000', datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("DUE;TZID=/mozilla.org/20070129_1/Europe/Prague:20260301T093000", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("DUE;TZID=Home:20260301T093000", datetime(2026, 3, 1, 8, 30, tzinfo=UTC)),
        ("DTSTART:20260301T093000Z\r\nDURATION:PT1H30M", datetime(2026, 3, 1, 11, tzinfo=UTC)),
        ("DTSTART;VALUE=DATE:20260301\r\nDURATION:P1W", date(2026, 3, 8)),
        ("DTSTART:20260301T093000Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("DTSTART:20260301T093000Z\r\nDUE:20260301T093000Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
    ],
)
def test_due(read, due, expected):
    contents = read(calendar("SUMMARY:x", due, head=VTIMEZONE), zone="America/Los_Angeles")
    assert contents.tasks[0].sample["due_date"] == expected
    assert contents.warnings == []


def test_unknown_zone_is_replaced_by_that_of_the_request_with_a_warning(read):
    contents = read(calendar("SUMMARY:x", "DUE;TZID=W. Mars Time:20260301T093000"), zone="Europe/Prague")
    assert contents.tasks[0].sample["due_date"] == datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
    assert contents.warnings == [{"line": 3, "detail": "The time zone is not known, so Europe/Prague is used."}]


@pytest.mark.parametrize(
    "line",
    ["DUE:tomorrow", "DUE:20260230", "DTSTART:20260301T250000Z", "CREATED:2026", "COMPLETED:", "CREATED:00010101"],
)
def test_time_that_is_none_is_a_fault(read, line):
    contents = read(calendar("SUMMARY:x", line), zone="Asia/Tokyo")
    name = line.partition(":")[0]
    assert contents.faults == [
        {"line": 3, "detail": f"{name} must be a date such as 20260301 or a date-time such as 20260301T093000Z."}
    ]


@pytest.mark.parametrize(
    ("number", "priority"), [(0, None), (1, "high"), (4, "high"), (5, "medium"), (6, "low"), (9, "low")]
)
def test_priority(only, number, priority):
    assert only(calendar("SUMMARY:x", f"PRIORITY:{number}"))["priority"] == priority


@pytest.mark.parametrize(
    ("lines", "completed", "description"),
    [
        (["STATUS:NEEDS-ACTION"], False, None),
        (["STATUS:IN-PROCESS", "PERCENT-COMPLETE:50"], False, "Status: in-process"),
        (["STATUS:CANCELLED"], True, "Status: cancelled"),
        (["PERCENT-COMPLETE:100"], True, None),
        (["COMPLETED:20260301T093000Z"], True, None),
        (["PRIORITY:urgent"], False, "Priority: urgent"),
    ],
)
def test_state(only, lines, completed, description):
    task = only(calendar("SUMMARY:x", *lines))
    assert (task["completed"], task["description"]) == (completed, description)


def test_what_no_member_holds_is_a_line_and_a_warning(read):
    lines = [
        *(
            "UID:2",
            "SUMMARY:x",
            "RRULE:FREQ=DAILY;COUNT=2",
            "EXDATE:20260302",
            "LOCATION:Prague\\, Lazarská",
            "URL:https://example.com/a;b",
        ),
        *(
            "DTSTART:20260301T080000Z",
            "DUE:20260301T093000Z",
            "RELATED-TO:1",
            "RELATED-TO;RELTYPE=SIBLING:9",
            "GEO:1;2",
        ),
        *("BEGIN:VALARM", "TRIGGER:-PT30M", "ACTION:DISPLAY", "SUMMARY:not this one", "END:VALARM"),
    ]
    contents = read(calendar(*lines, head=todo("UID:1", "SUMMARY:above")))
    described = {task.sample["title"]: task.sample["description"] for task in contents.tasks}
    assert described == {
        "above": None,
        "x": "Start: 2026-03-01T08:00:00+00:00\nRepeats: FREQ=DAILY;COUNT=2\nDoes not repeat: 20260302\n"
        "Location: Prague, Lazarská\nLink: https://example.com/a;b\nSubtask of: above\nRelated to: 9",
    }
    assert [warning["detail"] for warning in contents.warnings] == [
        "The property GEO is left out.",
        *(
            f"{name} is kept as a line of the description."
            for name in ("Start", "Repeats", "Does not repeat", "Location", "Link")
        ),
        *(f"{name} is kept as a line of the description." for name in ("Subtask of", "Related to")),
        "The alarm is left out.",
    ]


@pytest.mark.parametrize("duration", ["soon", "P99999W"])
def test_duration_that_leads_nowhere_is_a_line(only, duration):
    task = only(calendar("SUMMARY:x", "DTSTART;VALUE=DATE:99990101", f"DURATION:{duration}"))
    assert (task["due_date"], task["description"]) == (date(9999, 1, 1), f"Duration: {duration}")


def test_changed_occurrence_is_a_task_of_its_own_and_a_repeated_one_is_not(read):
    changed = todo("UID:1", "RECURRENCE-ID:20260301", "SUMMARY:x")
    contents = read(calendar("UID:1", "SUMMARY:x", head=[*changed, *todo("UID:1", "SUMMARY:x")]))
    assert len(contents.tasks) == 2
    assert contents.skipped == [{"line": 12, "detail": "It is the same task as on line 8."}]


def test_events_are_counted_in_a_warning(read):
    event = ["BEGIN:VEVENT", "SUMMARY:x", "END:VEVENT"]
    contents = read(calendar("SUMMARY:y", head=[*event, *event]))
    assert (len(contents.tasks), contents.read) == (1, 1)
    assert contents.warnings == [
        {"line": 1, "detail": "Only tasks are imported: 2 events and journal entries are left out."}
    ]


def test_folded_lines_are_joined_and_counted_as_they_are_in_the_file(read):
    data = calendar("SUMMARY:Ml", " éko", "\t a\u2028b", head=["X-A:1", " 2"]).encode()
    contents = read(data)
    assert contents.tasks[0].sample["title"] == "Mléko a\u2028b"
    faulty = read(data.replace(b"SUMMARY", b"SUMMARY;X"))
    assert faulty.faults[0] == {"line": 5, "detail": "Line 6 is no property with a name and a value."}


def test_line_that_is_folded_inside_a_character_is_joined(read):
    data = calendar("SUMMARY:Mléko", "DUE:soon", head=["X-A:1"]).encode().replace("é".encode(), b"\xc3\r\n \xa9")
    contents = read(data)
    assert contents.faults[0]["line"] == 4
    data = data.replace(b"DUE:soon\r\n", b"")
    assert read(data).tasks[0].sample["title"] == "Mléko"


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("BEGIN:VCALENDAR\nBEGIN:VTODO\nSUMMARY:x\n", ["The file was cut off: the task has no END:VTODO."]),
        (
            "BEGIN:VCALENDAR\nBEGIN:VTODO\nSUMMARY:x\nBEGIN:VTODO\nSUMMARY:y\nEND:VTODO\nEND:VEVENT\n",
            ["The file was cut off: the task has no END:VTODO."],
        ),
        ("BEGIN:VCALENDAR\nEND:VTODO\nSUMMARY:x\nnothing\nEND:VCALENDAR\n", []),
        ("begin:vcalendar\nbegin:vtodo\nsummary:x\nend:vtodo\nend:vcalendar", []),
    ],
)
def test_broken_structure_is_a_fault_or_harmless(read, content, faults):
    assert [fault["detail"] for fault in read(content).faults] == faults


def test_alarm_that_does_not_end_ends_with_its_task(read):
    contents = read(calendar("SUMMARY:x", head=todo("SUMMARY:y", "BEGIN:VALARM", "TRIGGER:-PT5M")))
    assert [task.sample["title"] for task in contents.tasks] == ["y", "x"]


def test_task_without_a_summary_is_a_fault(read):
    assert read(calendar("UID:1")).faults == [
        {"line": 3, "detail": "title must have 1 to 200 characters, not counting white space around them."}
    ]


def test_file_that_begins_otherwise_is_no_calendar(read):
    with pytest.raises(Unreadable, match="BEGIN:VCALENDAR"):
        read("BEGIN:VCARD\nEND:VCARD\n", "ical")


@pytest.mark.parametrize(
    "line",
    [
        "SUMMARY" + ";A=B" * 100_000,
        "SUMMARY;A=" + '"",' * 100_000,
        "SUMMARY:" + "\\" * 200_001,
        "CATEGORIES:" + "a," * 100_000,
        "DUE;TZID=" + "/" * 100_000 + ":20260301T093000",
    ],
    ids=lambda line: line[:14],
)
def test_hostile_line_takes_no_long_time(read, line):
    begun = time.process_time()
    read(calendar(line))
    assert time.process_time() - begun < 2
