"""Cursors: they carry the values they were made with, and no other text is accepted as one."""

import base64
import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_problem, bearer

from todo.http import pagination
from todo.http.pagination import BadCursor
from todo.tasks import cursors
from todo.tasks.cursors import decode, encode
from todo.tasks.listing import BY_ID, Filters, Position, SortKey

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

# The characters that PostgreSQL can store: no NUL, no surrogates.
TITLES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
IDS = st.integers(0, 2**63 - 1)
# As the driver returns them: in UTC, without a time zone.
MOMENTS = st.datetimes()
VALUES = {
    "created_at": MOMENTS,
    "updated_at": MOMENTS,
    "title": TITLES,
    "due_date": st.none() | MOMENTS,
    "priority": st.sampled_from(["low", "medium", "high", None]),
    "completed": st.booleans(),
}
AWARE = st.datetimes(timezones=st.just(UTC))
FILTERS = st.builds(
    Filters,
    completed=st.sampled_from([(), (False,), (True,), (False, True)]),
    priorities=st.lists(st.sampled_from(["low", "medium", "high", None]), max_size=3).map(tuple),
    tag_keys=st.lists(TITLES, max_size=3).map(tuple),
    due_before=st.none() | AWARE,
    due_after=st.none() | AWARE,
    created_after=st.none() | AWARE,
    updated_after=st.none() | AWARE,
    overdue=st.none() | st.booleans(),
    words=st.lists(st.tuples(TITLES) | st.tuples(TITLES, TITLES), max_size=3).map(tuple),
    tz=st.sampled_from(["UTC", "Asia/Tokyo"]),
)

ALTERED = "is not one that this service gave, or it was altered: begin again without it."
FORGED = "is not one that this service gave: begin again without it."
OTHER_VERSION = "was given by another version of this service: begin again without it."
OTHER_QUESTION = "was given for other filters or another order: begin again without it."


@st.composite
def orders(draw):
    """Return the keys of an order, and a value for each."""
    if draw(st.integers(0, 9)) == 0:
        return (SortKey("id", draw(st.booleans())),), (draw(IDS),)
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, unique=True))
    return tuple(SortKey(name, draw(st.booleans())) for name in names), tuple(draw(VALUES[name]) for name in names)


def sealed(payload):
    """Encode bytes as a cursor with the right checksum, as any reader of the code could."""
    return base64.urlsafe_b64encode(payload + pagination.short_digest(payload)).rstrip(b"=").decode()


def forged(values, last=7, as_of="2026-03-01T12:00:00+00:00", *, sort=BY_ID):
    """Encode a cursor that has the right checksum, version and question, but possibly invalid values."""
    return sealed(json.dumps([cursors.VERSION, cursors._digest(Filters(), sort), values, last, as_of]).encode())


@pytest.fixture
def refuse(client, user):
    """Assert that a request with a cursor is refused, and return the reason."""

    def refuse(cursor, query=()):
        response = client.get("/api/me/tasks", query_string=[*query, ("cursor", cursor)], headers=bearer(user))
        (fault,) = assert_problem(response, 422)["errors"]
        assert fault["parameter"] == "cursor"
        return fault["detail"].removeprefix("cursor ")

    return refuse


@pytest.mark.slow
@given(order=orders(), filters=FILTERS, last=IDS, as_of=AWARE)
def test_cursor_says_what_it_was_made_with(order, filters, last, as_of):
    sort, values = order
    position = Position(values, last, as_of)
    cursor = encode(filters, sort, position)
    assert decode(cursor, filters, sort) == position
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(order=orders(), filters=FILTERS, other_order=orders(), other_filters=FILTERS)
def test_cursor_for_other_filters_or_another_order_is_refused(order, filters, other_order, other_filters):
    sort, values = order
    cursor = encode(filters, sort, Position(values, 7, NOW))
    for wanted, keys in ((other_filters, sort), (filters, other_order[0]), (other_filters, other_order[0])):
        if (wanted, keys) == (filters, sort):
            decode(cursor, wanted, keys)
        else:
            with pytest.raises(BadCursor, match=OTHER_QUESTION):
                decode(cursor, wanted, keys)


def test_cursor_with_any_character_altered_is_refused():
    sort = (SortKey("title"), SortKey("due_date", descending=True))
    # Each length leaves a different number of unused bits in the last character.
    for title in ("žluť", "žluť?", "žluť??"):
        cursor = encode(Filters(), sort, Position((title, None), 7, NOW))
        decode(cursor, Filters(), sort)
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= .é\n"
        for place, there in enumerate(cursor):
            for other in alphabet.replace(there, ""):
                with pytest.raises(BadCursor, match=ALTERED):
                    decode(cursor[:place] + other + cursor[place + 1 :], Filters(), sort)


def test_cursor_with_anything_cut_off_or_added_is_refused():
    cursor = encode(Filters(), BY_ID, Position((7,), 7, NOW))
    for place in range(len(cursor)):
        for altered in (cursor[:place], cursor[place + 1 :], cursor[:place] + cursor[place + 1 :]):
            with pytest.raises(BadCursor, match=ALTERED):
                decode(altered, Filters(), BY_ID)
    for addition in ("A", "=", "==", "\n", ".", "AAAA", cursor):
        for altered in (cursor + addition, addition + cursor):
            with pytest.raises(BadCursor, match=ALTERED):
                decode(altered, Filters(), BY_ID)


@given(st.text() | st.text("ABCxyz019-_=", max_size=60))
def test_cursor_that_is_any_text_is_refused(text):
    with pytest.raises(BadCursor, match=ALTERED):
        decode(text, Filters(), BY_ID)


@pytest.mark.parametrize("version", [0, 1, "2", None, [2], 2.5, {"v": 2}])
def test_cursor_of_another_version_is_refused(refuse, version):
    question = cursors._digest(Filters(), BY_ID)
    cursor = sealed(orjson.dumps([version, question, [7], 7, NOW]))
    assert refuse(cursor) == OTHER_VERSION


def test_cursor_of_nothing_is_refused_as_one_of_another_version(refuse):
    assert refuse(sealed(b"[]")) == OTHER_VERSION


@pytest.mark.parametrize(
    "query",
    [
        [("sort", "title")],
        [("order", "desc")],
        [("q", "x")],
        [("status", "pending")],
        [("overdue", "true")],
        [("tag", "a"), ("tag", "b")],
        [("due_before", "2026-03-01")],
    ],
)
def test_cursor_for_another_question_is_refused_on_the_wire(client, user, refuse, query):
    for _ in range(2):
        client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    link = client.get("/api/me/tasks?limit=1", headers=bearer(user)).headers["Link"]
    cursor = link.partition("cursor=")[2].partition(">")[0]
    assert refuse(cursor, query) == OTHER_QUESTION
    # The size of the page and the total are not part of the question.
    for same in ("limit=5", "count=true&limit=1000", "q=&status=all&sort=&order=asc&colour=red"):
        response = client.get(f"/api/me/tasks?{same}&cursor={cursor}", headers=bearer(user))
        assert response.status_code == 200
        assert len(response.json) == 1


def test_cursor_for_the_same_question_in_other_words_is_taken(client, user):
    for _ in range(2):
        body = {"title": "Oat milk", "tags": ["a", "b"], "priority": "low"}
        client.post("/api/me/tasks", headers=bearer(user), json=body)
    query = "status=pending&q=oat+milk&tag=a&tag=b&priority=low,none&sort=-created,title&due_after="
    link = client.get(f"/api/me/tasks?limit=1&{query}", headers=bearer(user)).headers["Link"]
    cursor = link.partition("cursor=")[2].partition(">")[0]
    same = "status=TODO&search=MILK+OAT&tag=B&tag=A&priority=none&priority=LOW&sort_by=created_at,title&order=asc"
    same = same.replace("sort_by=created_at", "sort_by=-created_at")
    response = client.get(f"/api/me/tasks?{same}&cursor={cursor}", headers=bearer(user))
    assert response.status_code == 200
    assert len(response.json) == 1


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("x", id="one character"),
        pytest.param("=" * 8, id="padding alone"),
        pytest.param("😀", id="no ASCII"),
        pytest.param("A" * 5000, id="long"),
        pytest.param("AAAAAAAA", id="shorter than the checksum"),
        pytest.param(
            base64.urlsafe_b64encode(pagination.short_digest(b"")).decode().rstrip("="), id="the checksum of nothing"
        ),
        pytest.param(sealed(b"{}"), id="an object"),
        pytest.param(sealed(b"null"), id="null"),
        pytest.param(sealed(b"[1"), id="no JSON"),
        pytest.param(sealed(b"[NaN]"), id="a number that JSON does not have"),
        pytest.param(sealed(b"\xff\xfe"), id="no UTF-8"),
        pytest.param(sealed(b'["\\ud800"]'), id="half a surrogate pair"),
        pytest.param(sealed(b"[" * 3000 + b"]" * 3000), id="nested deeply"),
    ],
)
def test_cursor_that_is_none_is_refused_as_altered(refuse, cursor):
    assert refuse(cursor) == ALTERED


QUESTION = cursors._digest(Filters(), BY_ID)
AS_OF = "2026-03-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        pytest.param([2], FORGED, id="the version alone"),
        pytest.param([2, QUESTION, [7], 7], FORGED, id="a part too few"),
        pytest.param([2, QUESTION, [7], 7, AS_OF, 0], FORGED, id="a part too many"),
        pytest.param([2, None, [7], 7, AS_OF], OTHER_QUESTION, id="a question that is null"),
        pytest.param([2, [QUESTION], [7], 7, AS_OF], OTHER_QUESTION, id="a question in an array"),
        pytest.param([2, QUESTION, [], 7, AS_OF], FORGED, id="a value too few"),
        pytest.param([2, QUESTION, [7, 7], 7, AS_OF], FORGED, id="a value too many"),
        pytest.param([2, QUESTION, None, 7, AS_OF], FORGED, id="values that are null"),
        pytest.param([2, QUESTION, 7, 7, AS_OF], FORGED, id="values that are a number"),
        pytest.param([2, QUESTION, "7", 7, AS_OF], FORGED, id="values that are a string"),
        pytest.param([2, QUESTION, {"7": 7}, 7, AS_OF], FORGED, id="values that are an object"),
    ],
)
def test_cursor_of_other_parts_with_the_right_checksum_is_refused(refuse, parts, detail):
    assert refuse(sealed(orjson.dumps(parts))) == detail


NO_IDS = [None, True, False, "7", "x", 7.0, 1.5, -1, 2**63, 2**64, 10**40, [], [7], {}]
NO_MOMENTS = [
    7,
    True,
    [],
    {},
    "",
    "x",
    "\0",
    "2026-03-01T12:00:00",
    "2026-03-01",
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00+02:00",
    "2026-03-01 12:00:00+00:00",
    "2026-W09-7T12:00:00+00:00",
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00+10:00",
    "9999-12-31T23:59:59-10:00",
    "2026-03-01T12:00:00+24:00",
    "2026-02-30T12:00:00Z",
    "2026-03-01T12:00:60Z",
    "-2026-03-01T12:00:00Z",
    "10000-01-01T00:00:00Z",
    "infinity",
    "now",
    "2026-03-01T12:00:00\0Z",
    "9" * 1000,
]


@pytest.mark.parametrize(
    ("sort", "values"),
    [
        (None, NO_IDS),
        ("created_at", [None, *NO_MOMENTS]),
        ("updated_at", [None, *NO_MOMENTS]),
        ("due_date", NO_MOMENTS),
        ("title", [None, 7, True, [], {}, "\0", "a\0b", "x" * 201, "😀" * 201]),
        ("priority", [7, True, [], {}, ["low"], "", "LOW", "none", "urgent", "\0", "low'--"]),
        ("completed", [None, 0, 1, "true", "t", [], {}, 1.0]),
    ],
)
def test_cursor_with_a_value_of_another_kind_is_refused(refuse, sort, values):
    keys = BY_ID if sort is None else (SortKey(sort),)
    for value in values:
        cursor = forged([value], sort=keys)
        assert refuse(cursor, [("sort", sort)] if sort else []) == FORGED, value


def test_cursor_with_another_id_or_time_than_there_can_be_is_refused(refuse):
    for last in NO_IDS:
        assert refuse(forged([7], last)) == FORGED, last
    for as_of in [None, *NO_MOMENTS]:
        assert refuse(forged([7], as_of=as_of)) == FORGED, as_of


@pytest.mark.parametrize(
    ("sort", "values"),
    [
        (None, [0, 7, 2**63 - 1]),
        ("created_at", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"]),
        ("due_date", [None, "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"]),
        ("title", ["", "'; DROP TABLE tasks;--", "%s %(x)s :y \\", "😀" * 200, "\u0001", "\uffff"]),
        ("priority", ["low", "medium", "high", None]),
        ("completed", [True, False]),
    ],
)
def test_cursor_with_values_that_could_be_opens_the_own_list_alone(client, user, sort, values):
    client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    keys = BY_ID if sort is None else (SortKey(sort, descending=True),)
    for value in values:
        for as_of in ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"):
            for count in ("true", "false"):
                query = {"cursor": forged([value], as_of=as_of, sort=keys), "count": count}
                query |= {"sort": f"-{sort}"} if sort else {}
                response = client.get("/api/me/tasks", query_string=query, headers=bearer(user))
                assert response.status_code == 200, response.get_data(as_text=True)
                assert {task["user_id"] for task in response.json} <= {user}


@pytest.mark.parametrize("character", ["\u0001", "😀", '"', "\\", "\ufdfa", "\uffff", "x"])
def test_cursor_for_the_worst_title_stays_short(client, user, character):
    for _ in range(2):
        response = client.post("/api/me/tasks", headers=bearer(user), json={"title": character * 200})
        assert response.status_code == 201
    sort = "title,-priority,due_date,-created_at,updated_at,completed"
    response = client.get(f"/api/me/tasks?limit=1&sort={sort}", headers=bearer(user))
    link = response.headers["Link"]
    assert len(link.partition("cursor=")[2]) < 2500
    following = client.get(link.partition("<")[2].partition(">")[0], headers=bearer(user))
    assert [task["id"] for task in following.json] == [response.json[0]["id"] - 1]
