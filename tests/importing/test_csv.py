"""Tables with a header of our names or of others, in the dialects of the wild."""

import csv
import io
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todo.importing import imports
from todo.importing.csv_table import ALIASES, COMPLETED
from todo.importing.records import Unreadable
from todo.tasks.schemas import DueDate
from todo.tasks.search import shows_nothing

ROW = {
    "title": "Milk, fresh",
    "description": 'Two "litres"\nof it',
    "due_date": "2026-03-01",
    "tags": "a; b,c",
    "completed": "x",
    "priority": "HIGH",
    "created_at": "2026-02-01 10:00",
}


def written(rows, **dialect):
    """Return a table as the standard library writes it."""
    output = io.StringIO()
    writer = csv.DictWriter(output, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()


DIALECTS = {
    "excel": {"dialect": "excel"},
    "excel-tab": {"dialect": "excel-tab"},
    "unix": {"dialect": "unix"},
    "semicolons": {"delimiter": ";"},
    "quoted": {"delimiter": ";", "quoting": csv.QUOTE_ALL},
    # Unless it quotes everything, the writer leaves line feeds as they are.
    "old-mac": {"lineterminator": "\r", "quoting": csv.QUOTE_ALL},
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_table_in_any_dialect_is_the_same_task(only, dialect, encoding):
    task = only(written([ROW], **dialect).encode(encoding), zone="Europe/Prague")
    assert task.pop("completed_at") is not None
    assert task == {
        "title": "Milk, fresh",
        "description": 'Two "litres"\nof it',
        "completed": True,
        "created_at": datetime(2026, 2, 1, 9, tzinfo=UTC),
        "priority": "high",
        "due_date": date(2026, 3, 1),
        "tags": ["a", "b", "c"],
    }


@pytest.mark.parametrize(
    "alias",
    [(member, alias) for member in ("description", "due_date", "tags", "completed") for alias in ALIASES[member]],
)
def test_alias_of_a_column_is_that_member(only, alias):
    member, name = alias
    value = {"description": "x", "due_date": "2026-03-01", "tags": "x", "completed": "done"}[member]
    expected = {"description": "x", "due_date": date(2026, 3, 1), "tags": ["x"], "completed": True}[member]
    assert only(f"Title,{name.replace('_', ' ').upper()}\nmilk,{value}\n")[member] == expected


@pytest.mark.parametrize("name", ALIASES["title"])
def test_alias_of_the_title_makes_a_table(only, name):
    assert only(f"{name}\nmilk\n")["title"] == "milk"


def test_own_name_counts_before_its_aliases_which_are_left_out(read):
    contents = read("name,title,colour\nshort,long,red\n")
    assert contents.tasks[0].sample["title"] == "long"
    assert [warning["detail"] for warning in contents.warnings] == [
        "The column name is left out.",
        "The column colour is left out.",
    ]


def test_line_of_excel_that_names_the_separator_is_no_header(only):
    assert only("sep=;\r\ntitle;tags\r\nmilk;a\r\n")["tags"] == ["a"]


@pytest.mark.parametrize("word", COMPLETED)
def test_completed_in_any_word_and_case(only, word):
    task = only(f"title,done\nmilk,{word.title()}\n")
    assert task["completed"] == COMPLETED[word]
    assert (task["completed_at"] is None) == (not COMPLETED[word])


def test_time_of_completion_alone_completes(only):
    task = only("title,completed_at\nmilk,2026-02-01T10:00:00Z\n")
    assert (task["completed"], task["completed_at"]) == (True, datetime(2026, 2, 1, 10, tzinfo=UTC))
    assert task["created_at"] == task["completed_at"]


@pytest.mark.parametrize(
    ("column", "value", "detail"),
    [
        ("due", "03/04/2026", f"due_date {DueDate.default_error_messages['invalid']}"),
        ("due", "1.3.2026", f"due_date {DueDate.default_error_messages['invalid']}"),
        ("due", "2026-02-30", f"due_date {DueDate.default_error_messages['invalid']}"),
        ("due", "tomorrow", f"due_date {DueDate.default_error_messages['invalid']}"),
        (
            "status",
            "in progress",
            "completed must be one of true, 1, yes, x, done, completed, false, 0, no, open, pending.",
        ),
        ("priority", "urgent", "priority must be low, medium, high or null."),
        ("created", "yesterday", "created_at must be a date-time such as 2026-03-01T09:30:00Z that exists."),
        ("notes", "a\0b", "description must not contain the NUL character (U+0000): the database cannot hold one."),
    ],
)
def test_value_that_breaks_a_rule_is_a_fault_of_its_line(read, column, value, detail):
    contents = read(f"title,{column}\nfine,\n\nmilk,{value}\n")
    assert contents.faults == [{"line": 4, "detail": detail}]
    assert len(contents.tasks) == 1


def test_row_without_a_title_is_a_fault(read):
    contents = read("title,tags\n,a\n,\n")
    assert contents.faults == [{"line": 2, "detail": "title is required."}]
    assert contents.read == 1


def test_row_that_is_no_csv_is_a_fault_and_the_next_is_read(read):
    contents = read('title,tags\n"milk"s,a\nbread,b\n"cut')
    assert [fault["line"] for fault in contents.faults] == [2, 4]
    assert [task.sample["title"] for task in contents.tasks] == ["bread"]


def test_priority_none_is_null(only):
    assert only("title,priority\nmilk,None\n")["priority"] is None


@pytest.mark.parametrize("content", ["colour\nred\n", "milk\n", "{}", "[1]"])
def test_file_without_a_title_is_of_no_format(read, content):
    with pytest.raises(Unreadable, match="cannot be recognised"):
        read(content)


@pytest.mark.parametrize("name", ["csv", "todoist", "ticktick", "ical"])
def test_file_of_another_format_than_was_named_cannot_be_read(read, name):
    with pytest.raises(Unreadable, match="The file"):
        read("colour\nred\n", name)


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(lambda text: not shows_nothing(text))


@given(titles=st.lists(TEXTS, min_size=1, max_size=5), dialect=st.sampled_from(list(DIALECTS.values())))
def test_what_the_standard_library_writes_is_read_back(titles, dialect):
    rows = [{"title": title, "description": title} for title in titles]
    contents = imports.read(written(rows, **dialect).encode(), "csv", ZoneInfo("UTC"))
    assert [task.sample["title"] for task in contents.tasks] == [title.strip() for title in titles]
