"""Operations: from their form in a request to what the statements need, or to the problem of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import current_app

from todo.batch.schemas import KINDS
from todo.http.idempotency import identify
from todo.http.problems import SENTENCES_MAX, Fault, PreconditionRequired, Problem, UnprocessableContent
from todo.http.requests import STRICT_APPLIED, load_body, member_pointer, preference, unknown_names
from todo.tasks.rows import INITIAL, columns_of
from todo.tasks.schemas import READ_ONLY, TaskIn, TaskPatch

BODIES = {"create": TaskIn(), "update": TaskPatch()}
WRITABLE = frozenset(TaskPatch().fields)

REVISION_REQUIRED = "Send if_revision with the revision of the task, so that nobody's changes are overwritten unseen."


@dataclass(frozen=True, slots=True)
class Operation:
    """A valid operation, with the names that the statements have for its parts.

    Attributes:
        number: Its position in the batch, from 0.
        op: `create`, `update`, `delete` or `restore`.
        id: The task that it addresses.
        key: The client's name for a creation.
        digest: The digest of a creation's values, in hexadecimal as PostgreSQL writes it.
        revisions: The revisions in which the task may be changed; None stands for any.
        members: The values to write, by columns.

    """

    number: int
    op: str
    id: int | None = None
    key: str | None = None
    digest: str | None = None
    revisions: Sequence[int] | None = None
    members: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch whose form is right.

    Attributes:
        operations: What the database is to judge.
        refused: The problem of each operation that is refused already, by its position.
        is_atomic: Whether nothing is written if any operation is refused.

    """

    operations: list[Operation]
    refused: dict[int, Problem]
    is_atomic: bool


def read_batch(body: dict[str, Any]) -> Batch:
    """Return the batch that a valid body describes.

    Raises:
        UnprocessableContent: Operations have unknown members, and the client wants to know of them; or the batch is all
            or nothing, and values are invalid.

    """
    is_strict = preference("handling") == "strict"
    operations: list[dict[str, Any]] = body["operations"]
    if is_strict:
        _check_members(operations)
    batch = Batch([], {}, body.get("atomic", False))
    faults: list[Fault] = []
    for number, operation in enumerate(operations):
        try:
            batch.operations.append(_read(number, operation, is_strict=is_strict))
        except UnprocessableContent as problem:
            batch.refused[number] = problem
            faults += problem.members["errors"]
        except PreconditionRequired as problem:
            batch.refused[number] = problem
    if batch.is_atomic and faults:
        raise UnprocessableContent(faults, headers=STRICT_APPLIED if is_strict else None)
    return batch


def _check_members(operations: Sequence[dict[str, Any]]) -> None:
    faults: list[Fault] = []
    for number, operation in enumerate(operations):
        known = KINDS[operation["op"]].fields
        unknown = [name for name in operation if name not in known]
        locate = partial(_locate, f"#/operations/{number}")
        faults += unknown_names(unknown, known, locate, SENTENCES_MAX)
    if faults:
        raise UnprocessableContent(faults, headers=STRICT_APPLIED)


def _locate(pointer: str, name: str) -> Fault:
    return {"pointer": member_pointer(pointer, name)}


def _read(number: int, operation: dict[str, Any], *, is_strict: bool) -> Operation:
    """Return one operation.

    Raises:
        UnprocessableContent: The values of its task are invalid.
        PreconditionRequired: It does not state a revision, and the settings require that.

    """
    op = operation["op"]
    values: dict[str, Any] = {}
    if op in BODIES:
        pointer = member_pointer(f"#/operations/{number}", "task")
        known = READ_ONLY | WRITABLE
        values = load_body(
            BODIES[op], operation["task"], known, [], strict=is_strict, pointer=pointer, listed=SENTENCES_MAX
        )
    if op == "create":
        identity = identify(operation["key"], values)
        digest = rf"\x{identity.digest.hex()}"
        return Operation(number, op, key=identity.key, digest=digest, members=INITIAL | columns_of(values))
    if op != "restore" and "if_revision" not in operation and current_app.extensions["config"].require_if_match:
        raise PreconditionRequired(REVISION_REQUIRED)
    revisions = operation.get("if_revision") if op != "restore" else None
    return Operation(number, op, operation["id"], revisions=revisions, members=columns_of(values) or None)
