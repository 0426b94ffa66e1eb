"""JSON Schemas (draft 2020-12) from the schemas of marshmallow, each of them whole: models follow no references."""

from collections.abc import Collection
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from todo.tasks.schemas import COMPONENTS

REFERENCE = "#/components/schemas/"

# A model reads neither patterns nor the sizes of integers, and the longest patterns would fill more of its context than
# all else. What it is given it need not be told of before.
LEFT_OUT = ("pattern", "format", "example")
LEFT_OUT_OF_RESULTS = (*LEFT_OUT, "description", "examples")
FORMATS = ("date", "date-time")
ANNOTATIONS = ("description", "examples", "default")


def of_arguments(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of the arguments that a schema loads, and no others."""
    return _of(schema, LEFT_OUT) | {"additionalProperties": False}


def of_result(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of the result that a schema describes."""
    return _of(schema, LEFT_OUT_OF_RESULTS)


def _of(schema: Schema, left_out: Collection[str]) -> dict[str, Any]:
    plugin = MarshmallowPlugin(schema_name_resolver=lambda _: "")
    APISpec("tools", "1", "3.1.0", plugins=[plugin])
    described: dict[str, Any] = _whole(plugin.converter.schema2jsonschema(schema), left_out)  # type: ignore[union-attr]
    return described


def _whole(part: Any, left_out: Collection[str]) -> Any:
    """Return a part of a schema without references, and without these keywords."""
    if isinstance(part, list):
        return [_whole(member, left_out) for member in part]
    if not isinstance(part, dict):
        return part
    if (reference := part.get("$ref", "")).startswith(REFERENCE):
        part = COMPONENTS[reference.removeprefix(REFERENCE)]
    # A property may have the name of a keyword; what it has is a schema then.
    kept = {name: value for name, value in part.items() if name not in left_out or isinstance(value, dict)}
    whole = {name: _whole(value, left_out) for name, value in kept.items()}
    if part.get("format") in FORMATS:
        whole["format"] = part["format"]
    return _with_one_type(whole)


def _with_one_type(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose type is one word, since not all models are told of lists of types."""
    if not isinstance(schema.get("type"), list):
        return schema
    about = {name: value for name, value in schema.items() if name in ANNOTATIONS}
    rules = {name: value for name, value in schema.items() if name not in (*ANNOTATIONS, "type")}
    either = [{"type": word, **(rules if word != "null" else {})} for word in schema["type"]]
    return {"anyOf": either, **about}
