"""Dates and date-times: how they are parsed, and what they stand for in comparisons."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todo.http import dates
from todo.http.dates import bound, due, parse

OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# A day away from the first and the last date-time, so that each one exists at each offset.
DATETIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-03-01", date(2026, 3, 1)),
        ("2024-02-29", date(2024, 2, 29)),
        ("2000-02-29", date(2000, 2, 29)),
        ("0001-01-01", date.min),
        ("9999-12-31", date.max),
    ],
)
def test_parse_of_a_date_is_the_date(text, day):
    parsed = parse(text)
    assert type(parsed) is date
    assert parsed == day


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-03-01T09:30:00Z", datetime(2026, 3, 1, 9, 30)),
        ("2026-03-01t09:30:00z", datetime(2026, 3, 1, 9, 30)),
        ("2026-03-01 09:30:00Z", datetime(2026, 3, 1, 9, 30)),
        ("2026-03-01T09:30", datetime(2026, 3, 1, 9, 30)),
        ("2026-03-01T09:30Z", datetime(2026, 3, 1, 9, 30)),
        ("2026-03-01T09:30:15", datetime(2026, 3, 1, 9, 30, 15)),
        ("2026-03-01T00:00:00+00:00", datetime(2026, 3, 1)),
        ("2026-03-01T00:00:00-00:00", datetime(2026, 3, 1)),
        ("2026-03-01T00:00:00+02:00", datetime(2026, 2, 28, 22)),
        ("2026-03-01T00:00+0545", datetime(2026, 2, 28, 18, 15)),
        ("2026-03-01T23:30:00-09:00", datetime(2026, 3, 2, 8, 30)),
        ("2026-03-01T12:00:00+23:59", datetime(2026, 2, 28, 12, 1)),
        ("2026-03-01T12:00:00-23:59", datetime(2026, 3, 2, 11, 59)),
        ("2026-03-01T23:59:59.9Z", datetime(2026, 3, 1, 23, 59, 59, 900_000)),
        ("2026-03-01T23:59:59.999999Z", datetime(2026, 3, 1, 23, 59, 59, 999_999)),
        # Digits after the microseconds are cut off: rounded up, a date-time could leave its date.
        ("2026-03-01T23:59:59.999999999Z", datetime(2026, 3, 1, 23, 59, 59, 999_999)),
        ("2026-03-01T00:00:00.000000001Z", datetime(2026, 3, 1)),
        ("2026-03-01T23:59:59.123+01:00", datetime(2026, 3, 1, 22, 59, 59, 123_000)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1)),
        ("0001-01-01T10:00:00+10:00", datetime(1, 1, 1)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999)),
        ("9999-12-31T13:59:59.999999-10:00", datetime(9999, 12, 31, 23, 59, 59, 999_999)),
    ],
)
def test_parse_of_a_datetime_is_the_datetime_in_utc(text, value):
    parsed = parse(text)
    assert isinstance(parsed, datetime)
    assert parsed.tzinfo is UTC
    assert parsed == value.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "today",
        "2026",
        "2026-03",
        "2026-3-1",
        "26-03-01",
        "20260301",
        "2026/03/01",
        "01.03.2026",
        "2026-03-01 ",
        " 2026-03-01",
        "2026-03-01\n",
        "2026-03-01Z",
        "2026-03-01T",
        "2026-03-01T09",
        "2026-03-01T09Z",
        "2026-03-01T0930",
        "2026-03-01T9:30",
        "2026-03-01T09:30:00.Z",
        "2026-03-01T09:30:00,5Z",
        "2026-03-01T09:30.5Z",
        "2026-03-01T09:30:00.0000000001Z",
        "2026-03-01T09:30:00 Z",
        "2026-03-01T09:30:00ZZ",
        "2026-03-01T09:30:00Z\n",
        "2026-03-01T09:30:00+2",
        "2026-03-01T09:30:00+02",
        "2026-03-01T09:30:00+02:00:00",
        "2026-03-01T09:30:00 02:00",
        "2026-03-01T09:30:00\u221202:00",
        "2026-03-01T09:30:00[Europe/Prague]",
        "2026-03-01_09:30:00Z",
        "2026-03-01  09:30:00Z",
        "20260301T093000Z",
        "2026-03-0109:30:00Z",
        "-2026-03-01",
        "+2026-03-01",
        "+012026-03-01T00:00:00Z",
        "12026-03-01",
        "2026-W09-7",
        "2026-W09",
        "2026W097",
        "2026-W09-7T09:30:00Z",
        "2026-060",
        "1772323200",
        "\u0662\u0660\u0662\u0666-03-01",
        "2026-03-0\uff11",
        "2026-03-01T09:30:0\u0660Z",
        "2026-03-01T09:30:00+0\u0662:00",
        "2026-03-01\0",
        "2026-03-01T09:30:00\0Z",
        "2026-03-01T09:30:00Z\0",
        # These are well-formed, and no such date or date-time exists.
        "0000-01-01",
        "0000-12-31T23:59:59Z",
        "2026-00-01",
        "2026-13-01",
        "2026-01-00",
        "2026-01-32",
        "2026-02-29",
        "2100-02-29",
        "2026-04-31",
        "2026-02-29T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T25:00:00Z",
        "2026-03-01T23:60:00Z",
        "2026-03-01T23:59:60Z",
        "2026-12-31T23:59:60Z",
        "2026-03-01T23:59:61Z",
        "2026-03-01T09:30:00+24:00",
        "2026-03-01T09:30:00-24:00",
        "2026-03-01T09:30:00+99:59",
        "2026-03-01T09:30:00+00:60",
        "2026-03-01T09:30:00-0199",
        "0001-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T00:01:00-23:59",
    ],
)
def test_parse_of_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


@pytest.mark.parametrize("value", [None, 5, True, 1.5, ["2026-03-01"], {}, b"2026-03-01", date(2026, 3, 1)])
def test_parse_of_another_type_is_a_type_error(value):
    with pytest.raises(TypeError):
        parse(value)


@given(st.text() | st.text("0123456789-:+.TZtz W", max_size=30))
def test_parse_of_any_text_is_a_date_or_a_datetime_or_refused(text):
    try:
        parsed = parse(text)
    except ValueError:
        return
    assert parsed.isoformat()[:5] == text[:5] or isinstance(parsed, datetime)


@given(st.dates())
def test_parse_of_any_date_is_the_date(day):
    assert parse(day.isoformat()) == day


@given(value=DATETIMES, zone=OFFSETS)
def test_parse_of_any_datetime_at_any_offset_is_the_datetime(value, zone):
    written = value.astimezone(zone).isoformat()
    assert parse(written) == value
    assert parse(written.replace("T", " ").lower()) == value
    # The colon of the offset is optional.
    assert parse(written[:-3] + written[-2:]) == value
    assert parse(value.replace(tzinfo=None).isoformat()) == value
    assert parse(value.isoformat().replace("+00:00", "Z")) == value


@pytest.mark.parametrize("day", [date.min, date(2024, 2, 29), date(2026, 3, 1), date.max])
def test_due_on_a_date_is_its_last_microsecond(day):
    at, all_day = due(day)
    assert all_day
    assert at == datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, tzinfo=UTC)


@given(DATETIMES)
def test_due_at_a_datetime_is_the_datetime(value):
    assert due(value) == dates.Due(value, all_day=False)


@given(st.dates())
def test_due_on_a_date_is_after_its_datetimes_and_before_the_next_date(day):
    at = due(day).at
    assert bound(day) <= at
    assert at - bound(day) == timedelta(days=1) - timedelta(microseconds=1)
    assert at.date() == day
    if day < date.max:
        assert at < bound(day + timedelta(days=1))


@pytest.mark.parametrize("day", [date.min, date(2024, 2, 29), date(2026, 3, 1), date.max])
def test_bound_of_a_date_is_its_first_instant(day):
    start = bound(day)
    assert start == datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert start.tzinfo is UTC


@given(DATETIMES)
def test_bound_of_a_datetime_is_the_datetime(value):
    assert bound(value) == value


@pytest.mark.parametrize(
    ("zone", "day", "first"),
    [
        ("Pacific/Auckland", date(2026, 3, 1), datetime(2026, 2, 28, 11, tzinfo=UTC)),
        ("America/New_York", date(2026, 3, 1), datetime(2026, 3, 1, 5, tzinfo=UTC)),
        # A day that begins at one o'clock, and one that begins a second time.
        ("America/Sao_Paulo", date(2018, 11, 4), datetime(2018, 11, 4, 3, tzinfo=UTC)),
        ("America/Havana", date(2026, 11, 1), datetime(2026, 11, 1, 4, tzinfo=UTC)),
        # A day that was left out.
        ("Pacific/Apia", date(2011, 12, 30), datetime(2011, 12, 30, 10, tzinfo=UTC)),
        ("Asia/Tokyo", date.min, datetime.min.replace(tzinfo=UTC)),
        ("Etc/GMT+12", date.max, datetime(9999, 12, 31, 12, tzinfo=UTC)),
    ],
)
def test_bound_of_a_date_is_its_first_instant_in_a_time_zone(zone, day, first):
    assert bound(day, ZoneInfo(zone)) == first


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("Pacific/Auckland", datetime(2026, 3, 1, 12, tzinfo=UTC), date(2026, 3, 2)),
        ("America/New_York", datetime(2026, 3, 1, 4, 59, tzinfo=UTC), date(2026, 2, 28)),
        ("Asia/Tokyo", datetime(9999, 12, 31, 23, tzinfo=UTC), date.max),
        ("America/New_York", datetime(1, 1, 1, tzinfo=UTC), date.min),
    ],
)
def test_date_in_a_time_zone_is_the_one_of_its_clocks(zone, moment, day):
    assert dates.date_in(ZoneInfo(zone), moment) == day


def test_zone_is_found_by_every_iana_name_in_any_case():
    names = available_timezones() - {"Factory", "localtime"}
    for name in names:
        assert {dates.zone(spelling).key for spelling in (name, name.lower(), name.upper())} == {name}


@pytest.mark.parametrize(
    "name", ["", "localtime", "posixrules", "Factory", "posix/UTC", "right/UTC", "zones", "..", "UTC "]
)
def test_zone_of_another_name_is_a_key_error(name):
    with pytest.raises(KeyError):
        dates.zone(name)
