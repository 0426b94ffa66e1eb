"""Calendars, read back by two libraries that know nothing of each other."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import icalendar
import pytest
import vobject
from hypothesis import given
from hypothesis import strategies as st

from todo.calendar import ical
from todo.calendar.ical import Form
from todo.importing import imports
from todo.tasks.search import shows_nothing

EVENTS, TODOS = Form(as_todos=False, alarm=None), Form(as_todos=True, alarm=None)

CREATED = datetime(2026, 2, 1, 8)
UPDATED = datetime(2026, 2, 3, 10, 30, 15, 123456)
DAY, MOMENT = date(2026, 3, 1), datetime(2026, 3, 1, 9, 30)


def task(**members):
    """Return a task as the database returns it: date-times in UTC, without an offset."""
    return {
        "id": 7,
        "title": "Milk",
        "description": None,
        "completed": False,
        "created_at": CREATED,
        "updated_at": UPDATED,
        "priority": None,
        "due_date": DAY,
        "tags": [],
        "completed_at": None,
        "revision": 3,
    } | members


def components(tasks, form):
    """Return the tasks of a calendar as `icalendar` reads them, after a strict look at its lines."""
    data = ical.write("user-1", tasks, form)
    assert data.endswith(b"\r\nEND:VCALENDAR\r\n")
    for line in data.removesuffix(b"\r\n").split(b"\r\n"):
        assert len(line) <= 75
        assert b"\n" not in line
        assert b"\r" not in line
        line.decode()
    calendar = icalendar.Calendar.from_ical(data)
    assert [component.errors for component in calendar.walk()] == [[]] * len(calendar.walk())
    return calendar.walk("VTODO" if form.as_todos else "VEVENT")


def other_components(tasks, form):
    """Return them as `vobject` reads them."""
    calendar = vobject.readOne(ical.write("user-1", tasks, form).decode())
    return calendar.contents.get("vtodo" if form.as_todos else "vevent", [])


def test_calendar_names_itself_and_when_to_read_it_again():
    calendar = icalendar.Calendar.from_ical(ical.write("user-1", [], EVENTS))
    assert (calendar["VERSION"], calendar["X-WR-CALNAME"], calendar["X-PUBLISHED-TTL"]) == ("2.0", "Tasks", "PT1H")
    assert calendar["REFRESH-INTERVAL"].dt == timedelta(hours=1)
    assert calendar.walk("VEVENT") == []


@pytest.mark.parametrize("form", [EVENTS, TODOS], ids=["events", "todos"])
def test_task_is_identified_and_dated(form):
    (component,) = components([task()], form)
    assert component["UID"].startswith("7-")
    assert component["UID"].endswith("@todo")
    assert component["SEQUENCE"] == 3
    utc = ZoneInfo("UTC")
    assert component["CREATED"].dt == CREATED.replace(tzinfo=utc)
    assert component["LAST-MODIFIED"].dt == component["DTSTAMP"].dt == UPDATED.replace(tzinfo=utc, microsecond=0)
    assert components([task(revision=2**40)], form)[0]["SEQUENCE"] == 2**31 - 1
    assert ical.write("user-2", [task()], form) != ical.write("user-1", [task()], form)
    assert b"user-1" not in ical.write("user-1", [task()], form)


def test_day_is_an_event_of_that_day():
    (event,) = components([task()], EVENTS)
    assert (event["DTSTART"].dt, event["DTEND"].dt) == (DAY, DAY + timedelta(days=1))
    assert event["TRANSP"] == "TRANSPARENT"
    (other,) = other_components([task()], EVENTS)
    assert (other.dtstart.value, other.dtend.value) == (DAY, DAY + timedelta(days=1))


def test_moment_is_an_event_of_half_an_hour():
    (event,) = components([task(due_date=MOMENT)], EVENTS)
    assert event["DTSTART"].dt == MOMENT.replace(tzinfo=ZoneInfo("UTC"))
    assert event["DURATION"].dt == timedelta(minutes=30)
    (other,) = other_components([task(due_date=MOMENT)], EVENTS)
    assert other.dtstart.value.replace(tzinfo=None) == MOMENT
    assert other.duration.value == timedelta(minutes=30)


@pytest.mark.parametrize("due", [DAY, MOMENT])
def test_todo_is_due_when_the_task_is(due):
    (todo,) = components([task(due_date=due)], TODOS)
    expected = due.replace(tzinfo=ZoneInfo("UTC")) if isinstance(due, datetime) else due
    assert todo["DUE"].dt == expected
    assert todo["STATUS"] == "NEEDS-ACTION"
    assert {"DTSTART", "DTEND", "DURATION", "TRANSP"}.isdisjoint(todo)


def test_completed_task_has_a_mark_as_event_and_a_status_as_todo():
    done = task(completed=True, completed_at=datetime(2026, 2, 2, 9))
    (event,), (todo,) = components([done], EVENTS), components([done], TODOS)
    assert (event["SUMMARY"], todo["SUMMARY"]) == ("✓ Milk", "Milk")
    assert (todo["STATUS"], todo["COMPLETED"].dt) == ("COMPLETED", datetime(2026, 2, 2, 9, tzinfo=ZoneInfo("UTC")))
    assert "STATUS" not in event


@pytest.mark.parametrize(("priority", "number"), [("high", 1), ("medium", 5), ("low", 9), (None, None)])
@pytest.mark.parametrize("form", [EVENTS, TODOS], ids=["events", "todos"])
def test_priority_is_a_number(form, priority, number):
    (component,) = components([task(priority=priority)], form)
    assert component.get("PRIORITY") == number


def test_tags_are_categories():
    tags = ["a", "b, c", "d; e", "f\\g"]
    (event,) = components([task(tags=tags)], EVENTS)
    assert list(event["CATEGORIES"].cats) == tags
    assert "CATEGORIES" not in components([task()], EVENTS)[0]
    (other,) = other_components([task(tags=tags)], EVENTS)
    assert other.categories.value == tags


@pytest.mark.parametrize(
    ("form", "related"), [(Form(as_todos=False, alarm="PT30M"), "START"), (Form(as_todos=True, alarm="PT30M"), "END")]
)
def test_alarm_is_before_the_task_is_due_and_not_for_what_is_done(form, related):
    done = task(completed=True, completed_at=UPDATED)
    open_one, completed = components([task(), done], form)
    (alarm,) = open_one.walk("VALARM")
    assert (alarm["TRIGGER"].dt, alarm["TRIGGER"].params["RELATED"]) == (timedelta(minutes=-30), related)
    assert (alarm["ACTION"], alarm["DESCRIPTION"]) == ("DISPLAY", "Milk")
    assert completed.walk("VALARM") == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a\\nb, c; d\\\\", "a\\nb, c; d\\\\"),
        ("one\r\ntwo\rthree\nfour\u2028five\x0bsix", "one\ntwo\nthree\nfour\nfive\nsix"),
        ("\x07bell\x7f\x9b", "bell"),
        ("tab\tstays", "tab\tstays"),
        ("é" * 200, "é" * 200),
        ("👩‍👩‍👧‍👦" * 40, "👩‍👩‍👧‍👦" * 40),
        ("x" * 67, "x" * 67),
        ("BEGIN:VEVENT\nEND:VCALENDAR", "BEGIN:VEVENT\nEND:VCALENDAR"),
        (":;,=\"'", ":;,=\"'"),
    ],
)
def test_texts_are_read_as_they_were_written(text, read):
    written = [task(title=text, description=text)]
    for form in (EVENTS, TODOS):
        (component,) = components(written, form)
        assert (component["SUMMARY"], component["DESCRIPTION"]) == (read, read)
    (other,) = other_components(written, EVENTS)
    assert (other.summary.value, other.description.value) == (read, read)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)


@given(title=TEXTS, description=TEXTS, tags=st.lists(TEXTS.filter(str.strip), max_size=3))
def test_any_text_is_read_as_it_was_written(title, description, tags):
    separators = str.maketrans("\u2028\u2029", "\n\n")
    (component,) = components([task(title=title, description=description, tags=tags)], EVENTS)
    assert component["SUMMARY"] == title.translate(separators)
    assert component["DESCRIPTION"] == description.translate(separators)
    read = [str(tag) for tag in component["CATEGORIES"].cats] if tags else []
    assert read == [tag.translate(separators) for tag in tags]


@given(
    title=TEXTS.filter(lambda title: not shows_nothing(title)),
    description=TEXTS,
    tags=st.lists(st.sampled_from(["a", "b,c", "d;é"]), unique=True),
)
def test_calendar_of_todos_can_be_imported(title, description, tags):
    separators = str.maketrans("\u2028\u2029", "\n\n")
    written = task(title=title, description=description, tags=tags, due_date=MOMENT, priority="low")
    contents = imports.read(ical.write("user-1", [written], TODOS), None, ZoneInfo("Asia/Tokyo"))
    assert (contents.format, contents.faults, contents.warnings) == ("ical", [], [])
    sample = contents.tasks[0].sample
    assert sample["title"] == title.translate(separators).strip()
    assert sample["description"] == description.translate(separators)
    assert sample["tags"] == [*tags, "Tasks"]
    assert (sample["priority"], sample["due_date"].replace(tzinfo=None)) == ("low", MOMENT)


def test_early_year_has_four_digits():
    (event,) = components([task(created_at=datetime(1, 2, 3))], EVENTS)
    assert event["CREATED"].dt.year == 1
