"""A task's members, columns and schemas agree: a member that one of them lacks fails here."""

from todo.tasks.rows import DERIVED, INITIAL, MEMBERS, STORED, STORED_AS, WRITTEN, columns_of, tasks
from todo.tasks.schemas import TaskCompletion, TaskIn, TaskOut, TaskPatch

# The columns that the server alone writes, and those that follow from a member that it writes.
SERVER = {"user_id", "id", "created_at", "updated_at", "completed_at", "revision"}
SERVER |= {"idempotency_key", "idempotency_digest"}


def test_members_are_those_of_the_response_in_its_order():
    assert list(MEMBERS) == list(TaskOut().fields)


def test_bodies_have_the_same_members_and_return_them_all():
    assert list(TaskIn().fields) == list(TaskPatch().fields)
    assert TaskIn().fields.keys() <= MEMBERS.keys()
    assert TaskCompletion().fields.keys() <= MEMBERS.keys()


def test_columns_of_the_table_are_all_written_by_someone():
    assert {*tasks.c.keys()} == {*STORED, *SERVER}
    assert not {*STORED} & SERVER


def test_every_writable_member_is_stored_in_the_columns_that_it_names():
    values = dict.fromkeys(TaskPatch().fields) | {"title": "x", "tags": ["a"], "completed": True}
    for member, value in values.items():
        columns = columns_of({member: value})
        assert tuple(columns)[: len(STORED_AS.get(member, (member,)))] == STORED_AS.get(member, (member,))
        assert {*columns} <= {*STORED}
    assert {*columns_of(values)} == {*WRITTEN, *DERIVED}


def test_new_task_without_a_member_has_a_value_wherever_the_table_needs_one():
    required = {name for name, field in TaskIn().fields.items() if field.required}
    lacking = {name for name in STORED if not tasks.c[name].nullable and INITIAL[name] is None}
    assert lacking == required
