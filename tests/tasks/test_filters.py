"""The parameters of a list: the values that each accepts, and how it refuses others."""

from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_problem, bearer

from todo.http.problems import UnprocessableContent
from todo.http.requests import load_query
from todo.tasks.filters import TaskQuery
from todo.tasks.listing import BY_ID, Filters, SortKey

STATUS_RULE = "must be all, pending, completed or overdue."
PRIORITY_RULE = "must be low, medium, high, none or all."
SORT_RULE = "must be created_at, updated_at, title, due_date, priority or completed."
BOOLEAN_RULE = "must be true or false."
DATETIME_RULE = "must be a date such as 2026-03-01 or a date-time such as 2026-03-01T09:30:00Z that exists."
LIMIT_RULE = "must be a whole number from 1 to 1000."
OFFSET_RULE = "must be a whole number from 0 to 10000."
NUL_RULE = "must not contain the NUL character (U+0000)."
BOUNDS = ["due_before", "due_after", "created_after", "updated_after"]


@pytest.fixture
def read(app):
    """Parse a query: read("limit=5"), or read(("limit", "5"))."""

    def read(*query, strict=False):
        path = query[0] if query and isinstance(query[0], str) else urlencode(query)
        with app.test_request_context(f"/?{path}"):
            return load_query(TaskQuery(), [], strict=strict)

    return read


@pytest.fixture
def faults(read):
    """Return the faults of a query as pairs of the parameter and the detail."""

    def faults(*query):
        with pytest.raises(UnprocessableContent) as refused:
            read(*query)
        for fault in (found := refused.value.members["errors"]):
            assert fault["detail"].startswith(f"{fault['parameter']} ")
        return [(fault["parameter"], fault["detail"].removeprefix(f"{fault['parameter']} ")) for fault in found]

    return faults


@pytest.fixture
def get(client, user):
    """Request a list."""

    def get(*sent, **headers):
        return client.get(f"/api/me/tasks?{urlencode(sent)}", headers=bearer(user) | headers)

    return get


def test_query_without_parameters_is_the_whole_list_by_id(read):
    before = datetime.now(UTC)
    listing = read("")
    assert (listing.filters, listing.sort, listing.limit, listing.offset) == (Filters(), BY_ID, 1000, 0)
    assert (listing.after, listing.count) == (None, False)
    assert before <= listing.as_of <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("word", "completed"),
    [
        ("all", ()),
        ("pending", (False,)),
        ("active", (False,)),
        ("incomplete", (False,)),
        ("todo", (False,)),
        ("completed", (True,)),
        ("done", (True,)),
    ],
)
def test_status_in_any_case_is_its_meaning(read, word, completed):
    for spelling in (word, word.upper(), word.title(), f"  {word}\t"):
        assert read(("status", spelling)).filters == Filters(completed=completed)


@pytest.mark.parametrize("parameter", ["completed", "overdue", "count"])
def test_boolean_in_any_case_is_its_meaning(read, parameter):
    for word, value in (("true", True), ("false", False)):
        for spelling in (word, word.upper(), word.title(), f" {word} "):
            listing = read((parameter, spelling))
            meant = {"completed": (value,)} if parameter == "completed" else {parameter: value}
            assert listing.filters == Filters(**({} if parameter == "count" else meant))
            assert listing.count is (value if parameter == "count" else False)


@pytest.mark.parametrize(
    ("status", "completed", "wanted"),
    [
        ("pending", "false", (False,)),
        ("done", "true", (True,)),
        ("all", "true", (True,)),
        ("pending", "true", (False, True)),
        ("done", "false", (False, True)),
    ],
)
def test_status_and_completed_both_count(read, get, client, user, status, completed, wanted):
    for done in (False, True):
        client.post("/api/me/tasks", headers=bearer(user), json={"title": "x", "completed": done})
    sent = [("status", status), ("completed", completed)]
    assert read(*sent).filters == Filters(completed=wanted)
    # Filters that contradict each other match no task.
    found = [] if len(wanted) > 1 else list(wanted)
    assert [task["completed"] for task in get(*sent).json] == found


@pytest.mark.parametrize(
    ("query", "priorities"),
    [
        ("priority=low", ("low",)),
        ("priority=LOW", ("low",)),
        ("priority=none", (None,)),
        ("priority=None,High", (None, "high")),
        ("priority=high&priority=medium", ("high", "medium")),
        ("priority=low,%20medium%20&priority=high,low", ("high", "low", "medium")),
        ("priority=,,high,", ("high",)),
        ("priority=,", ()),
        ("priority=low,medium,high,none", (None, "high", "low", "medium")),
    ],
)
def test_priority_repeated_or_with_commas_is_any_of_them(read, query, priorities):
    assert read(query).filters == Filters(priorities=priorities)


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (["home"], ("home",)),
        (["  HOME "], ("home",)),
        (["b", "a", "A"], ("a", "b")),
        (["a,b"], ("a,b",)),
        (["CAFE\u0301", "café", "cafe"], ("cafe", "café")),
        (["STRASSE", "straße"], ("strasse",)),
        ([f"tag {n % 20}" for n in range(40)], tuple(sorted(f"tag {n}" for n in range(20)))),
        (["x" * 60], ("x" * 60,)),
    ],
)
def test_tag_repeated_is_all_of_them_whatever_their_case(read, sent, keys):
    assert read(*(("tag", tag) for tag in sent)).filters == Filters(tag_keys=keys)


@pytest.mark.parametrize("parameter", BOUNDS)
@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31", datetime(9999, 12, 31, tzinfo=UTC)),
        ("2026-03-01T09:30", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T09:30:15.123456Z", datetime(2026, 3, 1, 9, 30, 15, 123456, tzinfo=UTC)),
        ("2026-03-01t09:30:15z", datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)),
        ("2026-03-01T09:30:00+02:00", datetime(2026, 3, 1, 7, 30, tzinfo=UTC)),
        ("2026-03-01T09:30:00-0530", datetime(2026, 3, 1, 15, 0, tzinfo=UTC)),
        (" 2026-03-01 ", datetime(2026, 3, 1, tzinfo=UTC)),
        # With a space before its time, whether or not seconds and an offset follow.
        ("2026-03-01 09:30", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01 09:30:15", datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)),
        ("2026-03-01 09:30+02:00", datetime(2026, 3, 1, 7, 30, tzinfo=UTC)),
    ],
)
def test_bound_is_a_moment_or_the_first_one_of_a_day(read, parameter, sent, moment):
    assert read((parameter, sent)).filters == Filters(**{parameter: moment})


@pytest.mark.parametrize(
    "sent",
    [
        "2026-03-01T09:30+02:00",
        "2026-03-01T09:30:00+02:00",
        "2026-03-01T09:30:00+0200",
        "2026-03-01T09:30:00.0+02:00",
        "2026-03-01+09:30:00+02:00",
    ],
)
def test_bound_whose_plus_signs_arrive_as_spaces_is_understood(read, sent):
    assert read(f"due_after={sent}").filters == Filters(due_after=datetime(2026, 3, 1, 7, 30, tzinfo=UTC))


@pytest.mark.parametrize("parameter", BOUNDS)
@pytest.mark.parametrize(
    "sent",
    [
        "tomorrow",
        "2026-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-04-31T00:00:00Z",
        "0000-01-01",
        "10000-01-01",
        "2026-3-1",
        "20260301",
        "2026-W09-7",
        "2026-060",
        "2026-03",
        "2026-03-01T",
        "2026-03-01T24:00:00Z",
        "2026-03-01T09:60:00Z",
        "2026-03-01T23:59:60Z",
        "2026-03-01T09:30:00+24:00",
        "2026-03-01T09:30:00+00:60",
        "2026-03-01T09:30:00 GMT",
        "2026-03-01  09:30",
        "2026-03-01 02:00 02:00 02:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "\u0662\u0660\u0662\u0666-03-01",
        "2026-03-01/2026-03-02",
        "1772323200",
        "9" * 5000,
        "-2026-03-01",
        "null",
    ],
)
def test_bound_that_is_no_moment_is_refused_by_name(faults, parameter, sent):
    assert faults((parameter, sent)) == [(parameter, DATETIME_RULE)]


@pytest.mark.parametrize("parameter", ["search", "q"])
@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("milk", ["milk"]),
        ("  Oat \t MILK\u2003milk ", ["milk", "oat"]),
        ("ÉCLAIR Straße", ["eclair", "strasse"]),
        ("100%_\\", ["100%_\\"]),
        ("a,b", ["a,b"]),
        (" ".join("abcdefghij"), list("abcdefghij")),
        (" ".join(["x"] * 100), ["x"]),
        # What shows nothing leaves no word.
        ("\u0301 \u200b \u00ad", []),
        # A text that an earlier release is still writing has the earlier form.
        ("Łódź \u2018tis", ["'tis \u2018tis", "lodz łodz"]),
        # It made two words of this.
        ("it\u00b4s", ["it's"]),
    ],
)
def test_search_is_each_of_its_words_folded(read, parameter, sent, words):
    assert read((parameter, sent)).filters == Filters(words=tuple(tuple(word.split()) for word in words))


@pytest.mark.parametrize(
    ("query", "sort"),
    [
        ("sort=created_at", "created_at"),
        ("sort=created", "created_at"),
        ("sort=updated_at", "updated_at"),
        ("sort=title", "title"),
        ("sort=due_date", "due_date"),
        ("sort=priority", "priority"),
        ("sort=completed", "completed"),
        ("sort_by=Title", "title"),
        ("sort=-TITLE", "-title"),
        ("sort=%20-title%20,%20due_date", "-title due_date"),
        ("sort=title&sort=-due_date", "title -due_date"),
        ("sort=title,,due_date,", "title due_date"),
        ("sort=+title", "title"),
        ("sort=created,-created_at,title,-created", "created_at title"),
        ("sort=,", "id"),
        ("sort=", "id"),
        ("order=asc", "id"),
        ("order=desc", "-id"),
        ("sort_order=DESC", "-id"),
        ("sort=title,due_date&order=desc", "-title -due_date"),
        ("sort=-title,due_date&order=desc", "-title -due_date"),
        ("sort=-title,due_date&order=asc", "-title due_date"),
        ("sort_order=desc&sort_by=title", "-title"),
    ],
)
def test_sort_is_its_keys_each_up_or_down(read, query, sort):
    keys = tuple(SortKey(word.removeprefix("-"), word.startswith("-")) for word in sort.split())
    assert read(query).sort == keys


@pytest.mark.parametrize(
    ("query", "limit", "offset"),
    [
        ("limit=1", 1, 0),
        ("limit=1000", 1000, 0),
        ("limit=%20007", 7, 0),
        ("offset=0", 1000, 0),
        ("offset=10000&limit=5", 5, 10000),
    ],
)
def test_limit_and_offset_at_their_bounds_are_taken(read, query, limit, offset):
    listing = read(query)
    assert (listing.limit, listing.offset) == (limit, offset)


@pytest.mark.parametrize(
    ("parameter", "rule", "values"),
    [
        ("status", STATUS_RULE, ["open", "complete", "true", "pending,done", "pend\u0131ng", "-all"]),
        ("completed", BOOLEAN_RULE, ["yes", "1", "0", "on", "t", "null", "tru\u0435"]),
        ("overdue", BOOLEAN_RULE, ["yes", "now"]),
        ("count", BOOLEAN_RULE, ["exact", "2"]),
        ("priority", PRIORITY_RULE, ["urgent", "null", "low;high", "low high", "high,x", "0"]),
        ("sort", SORT_RULE, ["id", "due", "-", "--title", "- title", "title desc", "title:desc", "title,x", "+-title"]),
        ("sort_by", SORT_RULE, ["created-at", "user_id", "tags", "-newest"]),
        ("order", "must be asc or desc.", ["down", "-1", "descending", "asc,desc"]),
        ("sort_order", "must be asc or desc.", ["up"]),
        ("limit", LIMIT_RULE, ["0", "1001", "-1", "1.0", "1e2", "ten", "0x10", "5 5", "1_0"]),
        ("limit", LIMIT_RULE, ["\u0665", "²", "9" * 5000, "0000000001"]),
        ("offset", OFFSET_RULE, ["-1", "10001", "9223372036854775808", "NaN", "+-1", "1,0"]),
        ("search", "must have at most 10 words.", ["a b c d e f g h i j k", "\u00a8".join("abcdefghijk")]),
        ("q", "must have at most 10 words.", [" ".join("abcdefghijk")]),
    ],
)
def test_value_outside_its_vocabulary_is_refused_by_the_name_that_was_sent(faults, parameter, rule, values):
    for value in values:
        assert faults((parameter, value)) == [(parameter, rule)], value


@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        ("Pacific/Auckland", "2026-02-28T11:00Z"),
        ("america/NEW_YORK", "2026-03-01T05:00Z"),
        ("ETC/gmt+12", "2026-03-01T12:00Z"),
        ("utc", "2026-03-01T00:00Z"),
    ],
)
@pytest.mark.parametrize("parameter", BOUNDS)
def test_bound_that_is_a_date_begins_in_the_time_zone(read, parameter, zone, begin):
    name = {"utc": "UTC", "ETC/gmt+12": "Etc/GMT+12", "america/NEW_YORK": "America/New_York"}.get(zone, zone)
    filters = Filters(**{parameter: datetime.fromisoformat(begin)}, tz=name)
    assert read((parameter, "2026-03-01"), ("tz", zone)).filters == filters
    # A date-time is the same in each time zone.
    assert read((parameter, begin), ("tz", zone)).filters == filters


def test_time_zone_whose_plus_sign_arrives_as_a_space_is_understood(read):
    assert read("tz=Etc/GMT+12").filters == Filters(tz="Etc/GMT+12")


def test_time_zone_that_is_none_is_refused(faults):
    for zone in ("Mars/Olympus", "localtime", "posixrules", "Factory", "posix/UTC", "right/UTC", "GMT+25", "Europe"):
        assert faults(("tz", zone)) == [("tz", "must be the name of a time zone such as Europe/Prague.")]


def test_tags_more_than_a_task_can_have_are_refused(read, faults):
    many = [("tag", f"tag {number}") for number in range(21)]
    assert faults(*many) == [("tag", "must be given at most 20 times: no task has more tags.")]
    assert len(read(*many[:20]).filters.tag_keys) == 20


ONCE = {
    "tz": "Europe/Prague",
    "status": "all",
    "completed": "true",
    "due_before": "2026-03-01",
    "due_after": "2026-03-01",
    "created_after": "2026-03-01",
    "updated_after": "2026-03-01",
    "overdue": "true",
    "search": "x",
    "q": "x",
    "order": "asc",
    "sort_order": "asc",
    "limit": "5",
    "offset": "5",
    "page": "2",
    "cursor": "x",
    "count": "true",
}


@pytest.mark.parametrize("parameter", ONCE)
def test_single_parameter_given_twice_is_refused(faults, parameter):
    assert faults(*[(parameter, ONCE[parameter])] * 2) == [(parameter, "must be given once.")]


@pytest.mark.parametrize("parameter", [*ONCE, "priority", "tag", "sort", "sort_by"])
def test_value_that_is_empty_counts_as_absent(read, parameter):
    nothing = read("")
    for value in ("", " ", "\t\n", "\u2003"):
        listing = read((parameter, value))
        assert (listing.filters, listing.sort, listing.limit) == (nothing.filters, nothing.sort, nothing.limit)
        assert (listing.offset, listing.after, listing.count) == (nothing.offset, nothing.after, nothing.count)


def test_value_that_is_empty_beside_another_is_no_second_one(read):
    assert read("limit=&limit=5&limit=").limit == 5
    assert read("q=&search=milk").filters == Filters(words=(("milk",),))
    assert read("tag=&tag=a").filters == Filters(tag_keys=("a",))
    assert read("cursor=&offset=5").offset == 5


@pytest.mark.parametrize("parameter", [*ONCE, "priority", "tag", "sort", "sort_by"])
def test_value_with_a_nul_is_refused(faults, parameter):
    for value in ("\0", "a\0b", "true\0", "2026-03-01\0"):
        assert faults((parameter, value)) == [(parameter, NUL_RULE)]


def test_value_with_a_nul_among_good_ones_is_refused(faults):
    assert faults(("tag", "a"), ("tag", "\0")) == [("tag", NUL_RULE)]


def test_offset_together_with_a_cursor_is_refused(faults):
    for offset in ("0", "5"):
        assert faults(("cursor", "x"), ("offset", offset)) == [("offset", "cannot be sent together with cursor.")]


def test_several_faults_are_reported_at_once(get):
    sent = [("limit", "0"), ("sort_by", "x"), ("due_before", "x"), ("status", "x"), ("q", "\0"), ("status", "x")]
    problem = assert_problem(get(*sent, ("priority", "x"), ("count", "x")), 422)
    found = {fault["parameter"]: fault["detail"] for fault in problem["errors"]}
    assert len(found) == len(problem["errors"])
    assert found == {
        "q": f"q {NUL_RULE}",
        "status": "status must be given once.",
        "priority": f"priority {PRIORITY_RULE}",
        "due_before": f"due_before {DATETIME_RULE}",
        "sort_by": f"sort_by {SORT_RULE}",
        "limit": f"limit {LIMIT_RULE}",
        "count": f"count {BOOLEAN_RULE}",
    }
    assert problem["detail"] == " ".join(found.values())


def test_parameters_that_nobody_knows_are_ignored(get, read):
    assert get(("pages", "2"), ("perpage", "\0"), ("Status", "x"), ("", "x"), ("[]", "x"), ("tag[0]", "x")).json == []
    assert read("Limit=5&SORT=title&pages=\0").limit == 1000


@pytest.mark.parametrize(
    ("parameter", "nearest"),
    [
        ("sortby", "sort_by"),
        ("Limit", "limit"),
        ("tagz", "tag"),
        ("state", "status"),
        ("due_befor", "due_before"),
        ("prioritiy", "priority"),
        ("sortorder", "sort_order"),
        ("qq", "q"),
    ],
)
def test_strict_refuses_an_unknown_parameter_with_the_nearest_name(get, parameter, nearest):
    response = get((parameter, "x"), Prefer="handling=strict")
    problem = assert_problem(response, 422)
    assert problem["errors"] == [
        {"parameter": parameter, "detail": f"{parameter} is not known here; did you mean {nearest}?"}
    ]
    assert response.headers["Preference-Applied"] == "handling=strict"


def test_strict_reports_broken_rules_beside_unknown_parameters(get):
    response = get(("limt", "5"), ("limit", "0"), Prefer="handling=strict")
    problem = assert_problem(response, 422)
    assert [fault["parameter"] for fault in problem["errors"]] == ["limt", "limit"]
    assert response.headers["Preference-Applied"] == "handling=strict"


def test_strict_takes_every_known_parameter_and_every_alias(get):
    values = {**ONCE, "priority": "low", "tag": "x", "sort": "title", "sort_by": "title"}
    for parameter, value in values.items():
        if parameter != "cursor":
            response = get((parameter, value), Prefer="handling=strict")
            assert response.status_code == 200, parameter
            assert response.headers["Preference-Applied"] == "handling=strict"


@pytest.mark.parametrize("query", ["q=%ff%fe", "tag=%c3", "status=%ff", "%ff=1", "q=%ed%a0%80", "limit", "&&=&", "q=%"])
def test_query_that_is_no_proper_text_is_answered(client, user, query):
    response = client.get(f"/api/me/tasks?{query}", headers=bearer(user))
    assert response.status_code in (200, 422)
    if response.status_code == 422:
        assert_problem(response, 422)


ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = [*ONCE, "priority", "tag", "sort", "sort_by"]


def outcome(app, query):
    """Return the listing of a query, or None, and the parameters for which it is refused."""
    with app.test_request_context(f"/?{query}"):
        try:
            return load_query(TaskQuery(), [], strict=False), []
        except UnprocessableContent as refused:
            return None, [fault["parameter"] for fault in refused.members["errors"]]


@given(sent=st.lists(st.tuples(st.sampled_from(NAMES), ANYTHING | st.sampled_from(sorted(ONCE.values()))), max_size=5))
def test_query_of_any_values_is_read_or_refused_by_name(app, sent):
    listing, refused = outcome(app, "&".join(f"{name}={quote(value)}" for name, value in sent))
    if listing is None:
        assert refused
        assert set(refused) <= {name for name, _ in sent}
    else:
        assert 1 <= listing.limit <= 1000
        assert 0 <= listing.offset <= 10_000
        assert listing.sort


@given(offset=st.integers(-(10**12), 10**12), limit=st.integers(-(10**12), 10**12))
def test_numbers_are_taken_in_their_bounds_and_refused_outside(app, offset, limit):
    listing, refused = outcome(app, f"offset={offset}&limit={limit}")
    good = {"limit": 1 <= limit <= 1000, "offset": 0 <= offset <= 10_000}
    assert refused == [name for name, taken in good.items() if not taken]
    if listing:
        assert (listing.limit, listing.offset) == (limit, offset)
