"""The fast path and the output schema write the same bytes, and the descriptions for senders are true."""

import re
import sys
import unicodedata
from datetime import date, datetime

import pytest
from flask import jsonify

from todo.tasks.rows import MEMBERS
from todo.tasks.schemas import NOT_BLANK, READ_ONLY, TaskOut
from todo.tasks.search import is_hidden, shows_nothing

ROW = {
    "id": 1,
    "user_id": "u1",
    "title": "x",
    "description": None,
    "completed": False,
    "created_at": datetime(2026, 3, 1, 9, 30),
    "updated_at": datetime(2026, 3, 1, 9, 30, 0, 123456),
    "priority": None,
    "due_date": None,
    "tags": [],
    "completed_at": None,
    "revision": 17,
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"id": 2**63 - 1},
        {"user_id": "Žofie 😀"},
        {"title": '"quoted" \\ / </script> \u2028 \x7f \x01 é 😀'},
        {"description": ""},
        {"description": "\t\r\n"},
        {"completed": True, "completed_at": datetime(2026, 3, 1, 9, 30, 0, 123456)},
        {"priority": "high"},
        {"due_date": date(2026, 3, 1)},
        {"due_date": date(1, 1, 1)},
        {"due_date": datetime(2026, 3, 1, 9, 30)},
        {"due_date": datetime(9999, 12, 31, 23, 59, 59, 999999)},
        {"tags": ["home", "Žofie 😀", '"']},
        {"created_at": datetime(1, 1, 1), "updated_at": datetime(9999, 12, 31, 23, 59, 59, 999999)},
        {"created_at": datetime(2026, 3, 1, 9, 30, 0, 1), "updated_at": datetime(2026, 3, 1, 9, 30, 0, 500000)},
    ],
    ids=repr,
)
def test_fast_path_and_schema_give_the_same_bytes(app, values):
    row = ROW | values
    with app.test_request_context():
        assert jsonify([row]).get_data() == jsonify(TaskOut(many=True).dump([row])).get_data()


def test_fast_path_and_schema_have_the_same_members_in_the_same_order():
    assert list(MEMBERS) == list(TaskOut().fields) == list(ROW)


def test_schema_gives_null_for_a_moment_that_has_not_come():
    assert TaskOut().dump(ROW | {"created_at": None})["created_at"] is None


def test_read_only_members_are_what_the_server_writes():
    assert {"id", "user_id", "created_at", "updated_at", "completed_at", "revision"} == READ_ONLY


def test_pattern_of_titles_takes_for_blank_what_shows_nothing():
    """Combining marks, and what is beyond U+FFFF, cannot be said in a pattern."""
    every = [chr(code) for code in range(1, sys.maxunicode + 1)]
    blank = [c for c in every if not c.strip() or (is_hidden(c) and not unicodedata.category(c).startswith("M"))]
    refused = [c for c in every if not re.search(NOT_BLANK, c)]
    assert set(refused) <= {c for c in every if shows_nothing(c)}
    assert [c for c in refused if not unicodedata.category(c).startswith("M")] == [c for c in blank if c <= "\uffff"]
    assert re.search(NOT_BLANK, " \n a\n")
    assert not re.search(NOT_BLANK, "a\0b")
