"""The counts of a dashboard."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support import assert_problem, bearer, new_user

from todo.http import dates
from todo.tasks.summary import TAGS_MAX, Today


@pytest.fixture
def create(client, user):
    """Create a task of the user."""
    return lambda **members: client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"} | members)


@pytest.fixture
def summary(client, user):
    """Return the summary of the user's tasks."""
    return lambda query="": client.get(f"/api/{user}/tasks/summary{query}", headers=bearer(user))


def test_summary_of_nothing_is_all_zeros(summary):
    response = summary()
    assert response.status_code == 200
    assert response.json == {
        "total": 0,
        "pending": 0,
        "completed": 0,
        "overdue": 0,
        "due_today": 0,
        "by_priority": {"high": 0, "medium": 0, "low": 0, "none": 0},
        "by_tag": [],
    }


def test_summary_counts_the_callers_tasks_alone(client, create, summary):
    create(priority="high", completed=True)
    create(priority="low")
    create()
    client.post("/api/me/tasks", headers=bearer(new_user()), json={"title": "x", "priority": "high", "tags": ["a"]})
    counts = summary().json
    assert (counts["total"], counts["pending"], counts["completed"]) == (3, 2, 1)
    assert list(counts["by_priority"].items()) == [("high", 1), ("medium", 0), ("low", 1), ("none", 1)]
    assert counts["by_tag"] == []


def test_summary_counts_open_tasks_as_overdue_and_due(create, summary):
    now = datetime.now(UTC)
    today = now.date()
    for completed in (False, True):
        create(due_date=(today - timedelta(days=1)).isoformat(), completed=completed)
        create(due_date=today.isoformat(), completed=completed)
        create(due_date=(today + timedelta(days=1)).isoformat(), completed=completed)
        create(due_date=(now - timedelta(days=2)).isoformat(), completed=completed)
    counts = summary().json
    assert (counts["overdue"], counts["due_today"]) == (2, 1)


def test_summary_counts_tags_whatever_their_case_most_frequent_first(create, summary):
    create(tags=["home", "Émile"])
    create(tags=["Home", "work"])
    create(tags=["HOME", "émile"], completed=True)
    assert summary().json["by_tag"] == [
        {"tag": "HOME", "count": 3},
        {"tag": "Émile", "count": 2},
        {"tag": "work", "count": 1},
    ]


def test_summary_names_no_more_than_the_most_frequent_tags(create, summary):
    for first in range(0, TAGS_MAX + 10, 20):
        create(tags=[f"tag-{n:02}" for n in range(first, first + 20)])
    create(tags=["tag-59"])
    tags = summary().json["by_tag"]
    assert len(tags) == TAGS_MAX
    assert tags[:3] == [{"tag": "tag-59", "count": 2}, {"tag": "tag-00", "count": 1}, {"tag": "tag-01", "count": 1}]


@pytest.mark.parametrize(
    ("zone", "begin", "end"),
    [
        pytest.param("UTC", "2026-03-29T00:00+00:00", "2026-03-30T00:00+00:00", id="utc"),
        pytest.param("Pacific/Auckland", "2026-03-29T11:00+00:00", "2026-03-30T11:00+00:00", id="it is tomorrow there"),
        pytest.param("America/New_York", "2026-03-29T04:00+00:00", "2026-03-30T04:00+00:00", id="the same day there"),
        pytest.param("Europe/Prague", "2026-03-28T23:00+00:00", "2026-03-29T22:00+00:00", id="a day of 23 hours"),
    ],
)
def test_today_is_the_day_of_the_time_zone(zone, begin, end):
    today = Today.at(datetime(2026, 3, 29, 12, 30, tzinfo=UTC), ZoneInfo(zone))
    assert (today.begin, today.end) == (datetime.fromisoformat(begin), datetime.fromisoformat(end))
    assert today.due.all_day
    assert today.due.at.date().isoformat() == ("2026-03-30" if zone == "Pacific/Auckland" else "2026-03-29")


def test_summary_and_lists_have_a_day_be_over_where_the_caller_is(client, user, create, summary):
    zones = ("Pacific/Kiritimati", "etc/gmt+12")
    east, west = (datetime.now(dates.zone(zone)).date() for zone in zones)
    assert west < east
    made = {day: create(due_date=day.isoformat()).json["id"] for day in (west - timedelta(days=1), west, east)}
    create(due_date=(datetime.now(UTC) + timedelta(minutes=5)).isoformat())
    for zone, day in zip(zones, (east, west), strict=True):
        over = [number for due, number in made.items() if due < day]
        query = {"tz": zone, "overdue": "true"}
        listed = client.get("/api/me/tasks", headers=bearer(user), query_string=query).json
        assert [task["id"] for task in listed] == over
        assert summary(f"?tz={zone.replace('+', '%2B')}").json["overdue"] == len(over)
        before = client.get("/api/me/tasks", headers=bearer(user), query_string={"tz": zone, "due_before": day}).json
        assert {task["id"] for task in before} >= set(over)
        after = client.get("/api/me/tasks", headers=bearer(user), query_string={"tz": zone, "due_after": day}).json
        assert {task["id"] for task in after} & set(made.values()) == set(made.values()) - set(over)


def test_summary_takes_the_day_of_a_time_zone(create, summary):
    zones = ("Pacific/Kiritimati", "Etc/GMT+12")
    days = {zone: datetime.now(ZoneInfo(zone)).date() for zone in zones}
    for day in days.values():
        create(due_date=day.isoformat())
    assert len(set(days.values())) == 2
    for zone in zones:
        assert summary(f"?tz={zone.replace('+', '%2B')}").json["due_today"] == 1


@pytest.mark.parametrize(
    "zone",
    [
        "Mars/Olympus",
        "../../etc/passwd",
        "/etc/localtime",
        "Europe",
        "Europe/Prague%2F",
        "x" * 1000,
        "%C3%A9",
        "localtime",
        "posixrules",
        "Factory",
        "factory",
        "right/Europe/Prague",
        "posix/UTC",
        "zone.tab",
        "tzdata.zi",
    ],
)
def test_summary_of_an_unknown_time_zone_is_refused(summary, zone):
    problem = assert_problem(summary(f"?tz={zone}"), 422)
    assert problem["errors"] == [
        {"parameter": "tz", "detail": "tz must be the name of a time zone such as Europe/Prague."}
    ]


def test_summary_in_strict_mode_names_unknown_parameters(client, user):
    headers = bearer(user) | {"Prefer": "handling=strict"}
    problem = assert_problem(client.get("/api/me/tasks/summary?zone=UTC", headers=headers), 422)
    assert problem["detail"] == "zone is not known here; did you mean tz?"
