"""The arguments of the tools, and the shape of their results: the rules are those of the API's bodies and queries."""

from marshmallow import EXCLUDE, Schema, fields, validate

from todo.http.fields import TIMESTAMP, Int64, JsonBoolean, JsonObject, Output, PlainText, UtcDateTime
from todo.http.idempotency import IDEMPOTENCY_KEY_MAX
from todo.http.parameters import SingleValue, WholeNumber, described
from todo.tasks.changes import DeletedOut
from todo.tasks.filters import TaskQuery
from todo.tasks.schemas import COMPLETED, CreatedTaskOut, TaskIn, TaskOut, TaskPatch

LIMIT = 25
LIMIT_MAX = 100

# How many characters of each description a list has: a page of a hundred tasks should leave a model room to think.
DESCRIPTION_MAX = 200

FILTERS = ("status", "search", "tag", "priority", "due_before", "due_after", "overdue", "tz", "sort", "limit", "cursor")


class Arguments(Schema):
    """The base of the arguments of tools."""

    class Meta:
        """Unknown arguments are refused before."""

        unknown = EXCLUDE


def if_revision() -> Int64:
    """Return the argument that states in which revision a task may be changed."""
    return Int64(
        allow_none=True,
        metadata=described("The revision of the task that you read: if it has another one now, nothing is changed."),
    )


class ListArguments(TaskQuery):
    """Which tasks, in which order, from where on."""

    limit = WholeNumber(
        1, LIMIT_MAX, load_default=LIMIT, metadata=described(f"The greatest number of tasks; {LIMIT} by default.")
    )
    cursor = SingleValue(
        metadata={"type": "string"} | described("The next_cursor of the page before, with the same other arguments.")
    )


class TaskArguments(Arguments):
    """One task."""

    task_id = Int64(required=True, metadata=described("The id of the task."))


class AddArguments(TaskIn):
    """A new task."""

    idempotency_key = PlainText(
        allow_none=True,
        validate=validate.Length(1, IDEMPOTENCY_KEY_MAX, error="must have {min} to {max} characters."),
        metadata=described("A unique name for this creation, such as a UUID: a call again creates no second task."),
    )


class UpdateArguments(TaskArguments):
    """What changes of a task."""

    members = JsonObject(
        TaskPatch, required=True, metadata=described("The members to change; null clears one that may be null.")
    )
    if_revision = if_revision()


class CompleteArguments(TaskArguments):
    """Whether a task is completed."""

    completed = JsonBoolean(load_default=True, **COMPLETED)
    if_revision = if_revision()


class DeleteArguments(TaskArguments):
    """What is deleted."""

    if_revision = if_revision()


class TaskResult(Output):
    """One task."""

    task = fields.Nested(TaskOut, required=True)


class AddResult(Output):
    """The new task; that of an earlier call with the same key, as it is now."""

    task = fields.Nested(CreatedTaskOut, required=True)


class ListedTaskOut(TaskOut):
    """A task of a list."""

    description_truncated = fields.Boolean(
        metadata=described(f"Whether the description was cut to {DESCRIPTION_MAX} characters.")
    )


class ListResult(Output):
    """A page of tasks."""

    tasks = fields.List(fields.Nested(ListedTaskOut), required=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata=described("The cursor of the next page; null where there is none.")
    )


class DeletionOut(DeletedOut):
    """A deletion."""

    expires_at = UtcDateTime(
        required=True,
        allow_none=True,
        metadata=TIMESTAMP | described("Until when the task can be restored; null where it cannot."),
    )


class DeleteResult(Output):
    """What was deleted."""

    deleted = fields.Nested(DeletionOut, required=True)
