"""Other members that say whether a task is completed, in requests and in responses."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask
from marshmallow import Schema, ValidationError, fields

from todo.extensions import ORJSONProvider
from todo.http.adapters import Adapters, Body, MemberFault
from todo.http.fields import JsonBoolean
from todo.tasks.aliases import STATUS_ALIASES
from todo.tasks.schemas import TaskInput

PENDING, COMPLETED = "pending", "completed"
STATES = {PENDING: False, COMPLETED: True}


class State(fields.Field[bool]):
    """The state of a task as a word, with the other names that lists know it by."""

    default_error_messages = {  # noqa: RUF012 (declared so by marshmallow)
        "null": "must be pending or completed.",
        "invalid": "must be pending or completed.",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        word = value.strip().lower() if isinstance(value, str) else ""
        try:
            return STATES[STATUS_ALIASES.get(word, word)]
        except KeyError:
            raise self.make_error("invalid") from None


MIRRORS: dict[str, fields.Field[bool]] = {
    "is_completed": JsonBoolean(),
    "is_complete": JsonBoolean(),
    "status": State(),
}


class MirroringProvider(ORJSONProvider):
    """JSON in which every task has the mirrors, wherever it stands."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return the JSON text of an object."""
        return super().dumps(_mirrored(obj), **kwargs)

    def encode(self, obj: Any) -> bytes:
        """Return the JSON text of an object in UTF-8."""
        return super().encode(_mirrored(obj))


def mirrors(app: Flask, adapters: Adapters) -> None:
    """Add `is_completed`, `is_complete` and `status` to tasks, and take them."""
    app.json = MirroringProvider(app)
    adapters.body = _completed
    adapters.representation += ("mirrors",)


def _mirrored(value: Any) -> Any:
    if isinstance(value, list):
        return [_mirrored(member) for member in value]
    if not isinstance(value, dict):
        return value
    completed = value.get("completed")
    if isinstance(completed, bool) and "revision" in value:
        return value | {
            "is_completed": completed,
            "is_complete": completed,
            "status": COMPLETED if completed else PENDING,
        }
    return {name: _mirrored(member) for name, member in value.items()}


def _completed(schema: Schema, document: Body) -> tuple[Body, Iterable[MemberFault]]:
    """Return the body with `completed` in the place of its mirrors, and their faults."""
    if not isinstance(schema, TaskInput) or MIRRORS.keys().isdisjoint(document):
        return document, ()
    body = {name: value for name, value in document.items() if name not in MIRRORS}
    said: dict[str, bool] = {}
    faults: list[MemberFault] = []
    for name, field in MIRRORS.items():
        if name in document:
            try:
                said[name] = bool(field.deserialize(document[name]))
            except ValidationError as error:
                faults += [(name, str(message)) for message in error.messages]
    if not said:
        return body, faults
    if "completed" not in body:
        first, body["completed"] = next(iter(said.items()))
        rule = f"means the same as {first}, and must not have another value."
        faults += [(name, rule) for name, value in said.items() if value is not body["completed"]]
    elif isinstance(body["completed"], bool):
        body["completed"] = _changed(body["completed"], said)
    return body, faults


def _changed(completed: bool, said: Mapping[str, bool]) -> bool:  # noqa: FBT001 (the value of a member)
    """Return what a body means that has `completed` too.

    A client puts back what it read, with the one name changed that it knows. So a mirror that differs from `completed`
    counts; where all of them differ from it, the one that was changed is `completed`.
    """
    differing = [name for name, value in said.items() if value is not completed]
    return completed if len(differing) in (0, len(MIRRORS)) else not completed
