"""What every format has in common: bounds, keys, order, encodings, and the export of this service."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from todo.importing.records import Unreadable


def rows(*titles):
    return "title\n" + "".join(f"{title}\n" for title in titles)


def keys(contents):
    return [task.columns["idempotency_key"] for task in contents.tasks]


def test_long_title_goes_on_in_the_description(read):
    contents = read(f"title,description\n{'a' * 200} {'b' * 49},more\n")
    sample = contents.tasks[0].sample
    assert (sample["title"], sample["description"]) == ("a" * 200, "b" * 49 + "\nmore")
    assert contents.warnings == [
        {"line": 2, "detail": "The title has 250 characters: what is beyond 200 is in the description."}
    ]


def test_long_description_is_cut_before_the_lines_that_were_added(read):
    header = "TYPE,CONTENT,DESCRIPTION,DATE,INDENT\n"
    contents = read(f"{header}task,x,{'a' * 1000},every day\n")
    assert contents.tasks[0].sample["description"] == "a" * 984 + "\nDate: every day"
    assert contents.warnings[-1] == {
        "line": 2,
        "detail": "The description has 1016 characters: 16 of them are left out.",
    }
    contents = read(f"{header}task,x,{'a' * 10},{'b' * 2000}\n")
    assert contents.tasks[0].sample["description"] == ("Date: " + "b" * 2000)[:1000]


def test_tags_that_a_task_cannot_hold_are_a_line(read):
    tags = [f"t{number}" for number in range(21)]
    contents = read(f'title,tags\nmilk,"{",".join([*tags, "T1", "x" * 51])}"\n')
    sample = contents.tasks[0].sample
    assert sample["tags"] == tags[:20]
    assert sample["description"] == f"Tags: t20, {'x' * 51}"


def test_title_that_is_missing_is_the_first_line_of_the_description(read):
    contents = read('title,description\n,"\nfirst \nsecond"\n,only\n')
    assert [(task.sample["title"], task.sample["description"]) for task in contents.tasks] == [
        ("first", "second"),
        ("only", None),
    ]
    assert len(contents.warnings) == 2


def test_future_times_become_the_present(read):
    future = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    contents = read(f"title,created_at,completed_at\nmilk,{future},{future}\n")
    sample = contents.tasks[0].sample
    assert sample["created_at"] == sample["completed_at"] <= datetime.now(UTC)


def test_tasks_are_in_the_order_of_their_creation(read):
    contents = read("title,created\nnow,\nsecond,2026-02-02\nfirst,2026-02-01\nalso second,2026-02-02\nalso now,\n")
    titles = [task.sample["title"] for task in contents.tasks]
    assert titles == ["first", "second", "also second", "now", "also now"]


def test_equal_rows_are_as_many_tasks_with_keys_that_last(read):
    contents = read(rows("milk", "bread", "milk"))
    assert len(set(keys(contents))) == 3
    assert all(key.startswith("import:csv:") and len(key) == 75 for key in keys(contents))
    assert keys(read(rows("milk", "bread", "milk"))) == keys(contents)
    assert keys(read(rows("milk", "milk"))) == [keys(contents)[0], keys(contents)[2]]
    assert keys(read("title,colour\nmilk,\n")) == keys(contents)[:1]


def test_key_does_not_depend_on_zone(read):
    row = "title,due\nmilk,2026-03-01T09:30\n"
    assert keys(read(row)) == keys(read(row, zone="Europe/Prague"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("7,milk,2026-02-01", "7,milk,2026-02-01", True),
        ("7,milk,2026-02-01", "7,bread,2026-02-01", False),
        ("7,milk,2026-02-01", "7,milk,2026-02-02", False),
        ("7,milk,2026-02-01", "8,milk,2026-02-01", False),
    ],
)
def test_key_of_an_id_holds_time_and_title_too(read, one, other, same):
    header = "id,title,created,notes\n"
    assert (keys(read(f"{header}{one},a\n")) == keys(read(f"{header}{other},b\n"))) == same


def test_record_of_the_same_id_is_skipped_with_a_line(read):
    contents = read("id,title\n7,milk\n7,milk\n")
    assert (len(contents.tasks), contents.read) == (1, 2)
    assert contents.skipped == [{"line": 3, "detail": "It is the same task as on line 2."}]


def test_record_of_the_same_id_in_json_is_skipped_with_a_pointer(read):
    item = {"id": "1", "title": "milk"}
    contents = read(json.dumps({"kind": "tasks#taskLists", "items": [{"items": [item, item]}]}))
    assert contents.skipped == [
        {"pointer": "#/items/0/items/1", "detail": "It is the same task as at #/items/0/items/0."}
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "The file is empty."),
        (b"\n \n", "The file is empty."),
        ("title\nm\u011bl\n".encode("cp1250"), "not UTF-8"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"PK\x03\x04rest", "ZIP archive"),
        (b"\x89PNG", "not UTF-8"),
        (b"<html></html>", "cannot be recognised"),
    ],
)
def test_file_that_no_format_reads_says_why(read, data, message):
    with pytest.raises(Unreadable, match=message):
        read(data)


TASK = {
    "id": 7,
    "user_id": "u",
    "title": " x",
    "description": "",
    "completed": True,
    "created_at": "2026-02-01T00:00:00Z",
    "updated_at": "2026-02-03T00:00:00Z",
    "priority": "low",
    "due_date": None,
    "tags": None,
    "completed_at": "2026-02-02T00:00:00Z",
    "revision": 3,
    "idempotency_key": "key",
}


def lines(*documents):
    return "".join(json.dumps(document) + "\n" for document in documents)


def test_export_is_read_as_it_was(read):
    contents = read(lines({"list": {"tasks": 1, "deleted": 1}}, {"task": TASK}, {"deleted": {"id": 8}}))
    assert (contents.format, contents.read, contents.warnings, contents.faults) == ("todo", 2, [], [])
    assert contents.skipped == [{"line": 3, "detail": "It was deleted."}]
    columns = contents.tasks[0].columns
    assert (columns["id"], columns["title"], columns["description"], columns["tags"]) == (7, "x", "", [])
    assert columns["updated_at"] == datetime(2026, 2, 3, tzinfo=UTC)
    assert not columns["idempotency_key"].endswith("key")


def test_export_of_an_empty_list_has_nothing(read):
    contents = read(lines({"list": {"tasks": 0, "deleted": 0}}))
    assert (contents.read, contents.tasks, contents.warnings) == (0, [], [])


def test_export_that_was_cut_off_is_a_warning(read):
    contents = read(lines({"list": {"tasks": 2, "deleted": 1}}, {"task": TASK}))
    assert [warning["detail"] for warning in contents.warnings] == [
        "The file was cut off: it announces 2 lines task, and has 1.",
        "The file was cut off: it announces 1 lines deleted, and has 0.",
    ]


def test_member_of_a_later_version_is_one_warning(read):
    later = TASK | {"colour": "red"}
    contents = read(lines({"task": later}, {"task": later | {"id": 9}}))
    assert contents.warnings == [{"line": 1, "detail": "The member colour is left out."}]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ('{"task": {"title": "x"', "must be a JSON object with one of"),
        ('{"note": {}}', "must be a JSON object with one of"),
        ('{"task": 1}', "must be a JSON object with one of"),
        ("[]", "must be a JSON object with one of"),
        ('{"task": {}}', "title is required."),
        ('{"task": {"title": 7}}', "title must be a string."),
        ('{"task": {"title": "x", "tags": [7]}}', "tags[0] must be a string."),
        ('{"task": {"title": "x", "tags": 7}}', "tags must be an array of strings"),
        ('{"task": {"title": "x", "created_at": "soon"}}', "created_at must be a date-time"),
        ('{"task": {"title": "x", "updated_at": 7}}', "updated_at must be a date-time"),
    ],
)
def test_line_of_an_export_that_breaks_a_rule_is_a_fault(read, line, detail):
    contents = read('{"task": {"title": "fine"}}\n\n' + line)
    assert [fault["line"] for fault in contents.faults] == [3]
    assert detail in contents.faults[0]["detail"]
    assert len(contents.tasks) == 1


def test_member_that_is_nested_deeply_is_left_out(read):
    nested = "[" * 500 + "]" * 500
    line = f'{{"task": {{"title": "x", "later": {nested}}}}}\n'
    contents = read(line * 2)
    assert len({task.columns["idempotency_key"] for task in contents.tasks}) == 2
    titled = read(f'{{"task": {{"id": 7, "title": {nested}}}}}\n')
    assert titled.faults == [{"line": 1, "detail": "title must be a string."}]


@pytest.mark.parametrize("number", [True, "7", 2**63, 1.5, None])
def test_id_that_is_no_id_of_ours_is_none(read, number):
    assert read(lines({"task": TASK | {"id": number}})).tasks[0].columns["id"] is None
