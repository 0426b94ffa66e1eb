"""The form of a batch and of its operations, and the shape of the results."""

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from todo.http.fields import (
    NO_NUL,
    PRESENT,
    Int64,
    JsonArray,
    JsonBoolean,
    JsonObject,
    OneOf,
    Output,
    PlainText,
    whole_number,
)
from todo.http.idempotency import IDEMPOTENCY_KEY_MAX
from todo.http.openapi import FaultOut
from todo.tasks.changes import DeletedOut
from todo.tasks.schemas import TaskIn, TaskOut, TaskPatch

OPERATIONS_MAX = 100
REVISIONS_MAX = 20

ANY_REVISION = "*"

INT64 = {"type": "integer", "format": "int64", "maximum": 2**63 - 1}
TASK_ID = INT64 | {
    "description": "The id of the task. Each task is addressed once in a batch.",
    "minimum": -(2**63),
    "example": 12,
}


class Revisions(fields.Field[list[int] | None]):
    """The revisions in which a task may be changed: one, a list of them, or `*` for any, which is None."""

    default_error_messages = PRESENT | {
        "null": f'must be a positive integer, an array of 1 to {REVISIONS_MAX} of them, or "{ANY_REVISION}".',
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[int] | None:
        if value == ANY_REVISION:
            return None
        sent = value if isinstance(value, list) else [value]
        revisions = [number for number in map(whole_number, sent[:REVISIONS_MAX]) if number and 0 < number < 2**63]
        if not sent or len(revisions) < len(sent):
            raise self.make_error("null")
        return revisions


def op(name: str) -> fields.String:
    """Return the member that states the kind of an operation."""
    return fields.String(required=True, validate=validate.OneOf([name]), metadata={"description": "The operation."})


def if_revision() -> Revisions:
    """Return the member that states in which revisions a task may be changed."""
    number = INT64 | {"minimum": 1}
    several = {"type": "array", "items": number, "minItems": 1, "maxItems": REVISIONS_MAX}
    return Revisions(
        metadata={
            "description": "The revision, or the revisions, in which the task may be changed, or `*` for any.",
            "anyOf": [number, several, {"type": "string", "enum": [ANY_REVISION]}],
            "example": 17,
        }
    )


class OperationIn(Schema):
    """The base of the operations."""

    class Meta:
        """Unknown members are ignored, unless the client wants to know of them."""

        unknown = EXCLUDE


class CreateOperation(OperationIn):
    """Create a task, once for its key."""

    op = op("create")
    key = PlainText(
        required=True,
        validate=validate.Length(1, IDEMPOTENCY_KEY_MAX, error="must have {min} to {max} characters."),
        metadata={
            "description": "A unique name for this creation, such as a UUID, as `Idempotency-Key` is.",
            "pattern": NO_NUL,
            "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
        },
    )
    task = JsonObject(TaskIn, required=True)


class UpdateOperation(OperationIn):
    """Change members of a task."""

    op = op("update")
    id = Int64(required=True, metadata=TASK_ID)
    if_revision = if_revision()
    task = JsonObject(TaskPatch, required=True)


class DeleteOperation(OperationIn):
    """Move a task into the trash."""

    op = op("delete")
    id = Int64(required=True, metadata=TASK_ID)
    if_revision = if_revision()


class RestoreOperation(OperationIn):
    """Restore a task from the trash."""

    op = op("restore")
    id = Int64(required=True, metadata=TASK_ID)


KINDS: dict[str, Schema] = {
    "create": CreateOperation(),
    "update": UpdateOperation(),
    "delete": DeleteOperation(),
    "restore": RestoreOperation(),
}


class BatchIn(Schema):
    """A batch of operations."""

    class Meta:
        """Unknown members are ignored."""

        unknown = EXCLUDE

    # Without a default in the document, generated clients need not send it.
    atomic = JsonBoolean(
        metadata={
            "description": "Whether nothing is changed if any operation is refused; otherwise each is for itself."
        }
    )
    operations = JsonArray(
        OneOf("op", KINDS), 1, OPERATIONS_MAX, required=True, metadata={"description": "The operations, in order."}
    )

    @validates_schema
    def addresses_each_task_once(self, data: Mapping[str, Any], **_: Any) -> None:
        """Refuse a task that two operations address, or a key that two creations use."""
        faults: dict[int, dict[str, list[str]]] = {}
        for name, what in (("id", "is already addressed"), ("key", "is already used")):
            positions: dict[Any, int] = {}
            for position, operation in enumerate(data["operations"]):
                # Unknown members of an operation are kept so far.
                if name not in KINDS[operation["op"]].fields:
                    continue
                first = positions.setdefault(operation[name], position)
                if first != position:
                    faults[position] = {name: [f"{what} by operation {first}."]}
        if faults:
            raise ValidationError({"operations": dict(sorted(faults.items()))})


class RefusalOut(Output):
    """Why an operation was refused (RFC 9457)."""

    type = fields.String(required=True, metadata={"format": "uri-reference", "example": "about:blank"})
    title = fields.String(required=True, metadata={"description": "The name of the status code."})
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "An explanation for people."})
    errors = fields.List(fields.Nested(FaultOut), metadata={"description": "With a 422: the faults, at most 10."})
    more = fields.Integer(
        metadata={"description": "With a 422 of more than 10 faults: how many are not in `errors`.", "minimum": 1}
    )
    current = fields.Nested(TaskOut, metadata={"description": "With a 412: the current task."})


class ResultOut(Output):
    """The result of one operation."""

    status = fields.Integer(
        required=True,
        validate=validate.OneOf([200, 201, 204, 404, 412, 422, 428]),
        metadata={"description": "The status code that a request of its own would have.", "example": 200},
    )
    task = fields.Nested(TaskOut, metadata={"description": "With a 200 or 201: the task."})
    replayed = fields.Boolean(metadata={"description": "`true` where an earlier creation with the key made the task."})
    deleted = fields.Nested(
        DeletedOut, metadata={"description": "With a 204: the deletion. With a 201: the task is in the trash by now."}
    )
    already = fields.Boolean(metadata={"description": "`true` where the task had been deleted before."})
    problem = fields.Nested(RefusalOut, metadata={"description": "With any other status: why it was refused."})


class BatchOut(Output):
    """The results of a batch."""

    results = fields.List(
        fields.Nested(ResultOut),
        required=True,
        metadata={"description": "The result of each operation, in the order of the operations."},
    )
    before = fields.Integer(
        required=True,
        metadata={
            "description": "The revision of the list before the batch; 0 before the first write.",
            "example": 17,
            "format": "int64",
        },
    )
    revision = fields.Integer(
        required=True,
        metadata={"description": "The revision of the list after the batch.", "example": 19, "format": "int64"},
    )
    next = fields.String(
        required=True,
        metadata={
            "description": "The `since` that continues the changes feed after the batch, for a client whose copy "
            "was at `before`."
        },
    )
