"""The contract as an OpenAPI 3.1 document, generated from the code and committed as `openapi.json`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from apispec import BasePlugin
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from marshmallow import fields

from todo.extensions import api
from todo.http import problems
from todo.http.documented import Blueprint
from todo.http.fields import OneOf, Output
from todo.http.routing import Int64Converter

V = TypeVar("V", bound=Callable[..., Any])

VERSION = "1.0.0"

DESCRIPTION = """\
A list of tasks for each user, protected by the bearer tokens (JWT) that Better Auth issues.

`{user_id}` in a path is the caller's own id, or the word `me`. Every error is `application/problem+json` (RFC 9457),
and its `detail` is a sentence to show to people. With `Prefer: handling=strict` (RFC 7240), unknown members and
parameters are errors; otherwise they are ignored.

Assistants reach the same tasks at `/mcp` by the Model Context Protocol, which describes itself and not here.
"""

# Text without white space at its ends, or a string of a structured field (RFC 9651, section 3.3.3).
IDEMPOTENCY_KEY = (
    r'^(?:[^"\x00-\x20\x85\xa0](?:[^\x00]{0,253}[^\x00-\x20\x85\xa0])?|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$'
)

# The request headers that calls read. Swagger UI fills an `example` into its form, but none of `examples`.
REQUEST_HEADERS: dict[str, dict[str, Any]] = {
    "Prefer": {
        "description": "With `handling=strict`, unknown members and parameters are errors; with "
        "`return=representation`, a deletion returns the deleted task (RFC 7240).",
        "schema": {"type": "string", "examples": ["return=representation", "handling=strict"]},
    },
    "If-Match": {
        "description": "One or more `ETag`s, or `*`: if the current one is not among them, nothing changes and the "
        "response is 412 (RFC 9110).",
        "schema": {"type": "string", "examples": ['"17"', '"17", "18"', "*"]},
    },
    "If-None-Match": {
        "description": "One or more `ETag`s, or `*`: if the current one is among them, nothing changes. The response "
        "to a read is then 304 without a body, and to any other call 412 (RFC 9110).",
        "schema": {"type": "string", "examples": ['"17"']},
    },
    "Idempotency-Key": {
        "description": "A unique name for this creation, such as a UUID, of up to 255 characters: a request that is "
        "repeated with it creates no second task.",
        "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
    },
    "Last-Event-ID": {
        "description": "The `id` of the last event that the client has received. One that is not valid is ignored.",
        "schema": {"type": "string"},
    },
    "Confirm": {
        "description": "The id of the user whose data is to be erased, percent-encoded if it is not ASCII.",
        "required": True,
        "schema": {"type": "string", "examples": ["user-123"]},
    },
}

# The headers of a conditional request, which every call reads.
CONDITIONAL = ("If-Match", "If-None-Match")


def response_header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """Return the documentation of a response header; its value is a string unless the schema overrides that."""
    return {"description": description, "required": required, "schema": {"type": "string"} | schema}


ETAG_HEADER = {
    "ETag": response_header(
        "The validator of this state, for conditional requests (RFC 9110).", pattern='^"[0-9a-f-]+"$', example='"17"'
    )
}

RETRY_AFTER_HEADER = {
    "Retry-After": response_header("Seconds to wait before a retry.", type="integer", minimum=1, example=2)
}

# The problems that operations refer to by the names of their classes, each with its headers.
PROBLEM_HEADERS: dict[type[problems.Problem], dict[str, Any]] = {
    problems.BadRequest: {},
    problems.Unauthorized: {"WWW-Authenticate": response_header("The challenge (RFC 6750).", example="Bearer")},
    problems.WrongUser: {},
    problems.TaskNotFound: {},
    problems.NotFound: {},
    problems.NoPublicUrl: {},
    problems.CursorExpired: {},
    problems.PreconditionFailed: {},
    problems.ContentTooLarge: {},
    problems.UnsupportedMediaType: {
        "Accept": response_header("The accepted media types.", required=False, example="application/json")
    },
    problems.UnprocessableContent: {},
    problems.PreconditionRequired: {},
    problems.TooManyRequests: {
        **RETRY_AFTER_HEADER,
        "RateLimit": response_header("The remaining quota of each limit (draft-ietf-httpapi-ratelimit-headers)."),
        "RateLimit-Policy": response_header("The limits."),
    },
    problems.Unavailable: RETRY_AFTER_HEADER,
}

BEARER_DESCRIPTION = (
    "The token that Better Auth issued, without the word Bearer. In development, `todo token --user ID` creates one."
)

USER_PARAMETER = {
    "in": "path",
    "name": "user_id",
    "description": "The caller's own id, or the word `me`.",
    "example": "me",
}


class FaultOut(Output):
    """One fault of a request."""

    pointer = fields.String(metadata={"description": "Its position in the body (RFC 6901).", "example": "#/title"})
    line = fields.Integer(metadata={"description": "Its line in the file, counted from 1.", "minimum": 1, "example": 7})
    parameter = fields.String(metadata={"description": "Its query parameter."})
    header = fields.String(metadata={"description": "Its request header."})
    detail = fields.String(required=True, metadata={"example": "title is required."})
    status = fields.Integer(metadata={"description": "Of a refused operation of a batch: its status code."})
    current = fields.Nested("TaskOut", metadata={"description": "Of a refused operation of a batch: the current task."})


class ProblemOut(Output):
    """An error (RFC 9457)."""

    type = fields.String(required=True, metadata={"format": "uri-reference", "example": "about:blank"})
    title = fields.String(required=True, metadata={"description": "The name of the status code."})
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "An explanation for people."})
    instance = fields.String(required=True, metadata={"format": "uri-reference", "description": "The request's path."})
    request_id = fields.String(required=True, metadata={"description": "Identifies the request in the logs."})
    reason = fields.String(
        metadata={
            "description": "Outside production: the exact fault of the token or of its issuer.",
            "example": "audience: expected http://localhost:3000, got http://127.0.0.1:3000",
        }
    )
    errors = fields.List(
        fields.Nested(FaultOut), metadata={"description": "The faults, at most 100, or the refused operations."}
    )
    more = fields.Integer(
        metadata={"description": "With a 422 of more than 100 faults: how many are not in `errors`.", "minimum": 1}
    )
    # By its name, because todo.tasks imports this module, and not the other way round.
    current = fields.Nested("TaskOut", metadata={"description": "With a 412: the current task."})
    code = fields.String(metadata={"description": "With a 410: `cursor_expired`.", "example": "cursor_expired"})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "With a 503 of /health/ready: the result of each check."},
    )


class OpenAPIPlugin(BasePlugin):
    """The apispec plugin for the conventions of this code."""

    def schema_helper(self, name: str, definition: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        """Express `at_least_one` of a schema, which marshmallow has no rule for, as JSON Schema.

        Generators of clients understand this, and lose the operation where each member is required in turn.
        """
        return {"minProperties": 1} if getattr(kwargs.get("schema"), "at_least_one", False) else {}

    def operation_helper(
        self,
        path: str | None = None,  # noqa: ARG002 (apispec passes it)
        operations: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Remove the full stop from the summary, which is a heading, and sort the responses by status."""
        for operation in (operations or {}).values():
            operation["summary"] = operation["summary"].removesuffix(".")
            operation["responses"] = dict(sorted(operation["responses"].items()))


def init_app(app: Flask) -> None:
    """Register what all operations share, and serve the document at `/openapi.json`."""
    app.config |= {
        "API_TITLE": "todo",
        "API_VERSION": VERSION,
        "OPENAPI_VERSION": "3.1.0",
        "OPENAPI_URL_PREFIX": "/",
        "API_SPEC_OPTIONS": {
            "info": {"description": DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
            "security": [{"bearer": []}],
            "servers": [{"url": "/"}],
        },
    }
    # Each operation lists its own errors, so the library adds no default one.
    api.DEFAULT_ERROR_RESPONSE_NAME = None
    api.ERROR_SCHEMA = ProblemOut
    api.init_app(app, spec_kwargs={"extra_plugins": [OpenAPIPlugin()]})
    app.view_functions["api-docs.openapi_json"] = _served_document
    api.register_converter(Int64Converter, lambda _: {"type": "integer", "format": "int64"})
    # Pages are linked with `Link`, so nothing uses the schema of the library's own pagination.
    del api.spec.components.schemas["PaginationMetadata"]
    api.ma_plugin.converter.add_parameter_attribute_function(_query_attributes)
    api.ma_plugin.converter.add_attribute_function(_one_of)
    for name, parameter in REQUEST_HEADERS.items():
        api.spec.components.parameter(name, "header", {"schema": {"type": "string"}} | parameter)
    api.spec.components.response(
        "NotModified", {"description": "The client has the current state already.", "headers": ETAG_HEADER}
    )
    api.spec.components.security_scheme(
        "bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": BEARER_DESCRIPTION}
    )
    for problem, headers in PROBLEM_HEADERS.items():
        api.spec.components.response(problem.__name__, _response(problem, headers))


def _served_document() -> ResponseReturnValue:
    """Return the document; behind a path prefix, the calls are below it."""
    return jsonify({**api.spec.to_dict(), "servers": [{"url": request.script_root or "/"}]})


def register_components(*, links: Mapping[str, dict[str, Any]], schemas: Mapping[str, dict[str, Any]]) -> None:
    """Add the components of a feature to the document, for references by name.

    Args:
        links: The calls that can follow a response (OpenAPI 3.1, Link Object).
        schemas: The values that several schemas share (OpenAPI 3.1, Schema Object).

    """
    for name, link in links.items():
        api.spec.components.link(name, link)
    for name, schema in schemas.items():
        api.spec.components.schema(name, schema)


def with_links(status: int, *links: str) -> Callable[[V], V]:
    """Document the calls that follow from a response, by the names of their registered links."""
    documented: Callable[[V], V] = Blueprint.doc(responses={status: {"links": {name: name for name in links}}})
    return documented


def _query_attributes(_: Any, field: fields.Field[Any], *, ret: dict[str, Any], **__: Any) -> dict[str, Any]:
    """Document that a query parameter without a value counts as absent, its aliases, and how an array is serialised."""
    aliases: Mapping[str, str] = getattr(field.parent, "aliases", {})
    names = [f"`{alias}`" for alias, name in aliases.items() if name == field.name]
    description = " ".join([ret["description"], *([f"Also {', '.join(names)}."] if names else [])])
    return {"allowEmptyValue": True, "description": description} | getattr(field, "style", {})


def _one_of(converter: Any, field: fields.Field[Any], **__: Any) -> dict[str, Any]:
    """Document an object of several kinds (OpenAPI 3.1, Discriminator Object)."""
    if not isinstance(field, OneOf):
        return {}
    references = {kind: converter.resolve_nested_schema(schema) for kind, schema in field.kinds.items()}
    mapping = {kind: reference["$ref"] for kind, reference in references.items()}
    return {
        "oneOf": list(references.values()),
        "discriminator": {"propertyName": field.discriminator, "mapping": mapping},
    }


def _response(problem: type[problems.Problem], headers: dict[str, Any]) -> dict[str, Any]:
    """Document a problem; its description is the first line of its class's docstring, after the status code."""
    first_line, _, _ = (problem.__doc__ or "").partition("\n")
    description = first_line.partition(": ")[2]
    return {
        "description": description[0].upper() + description[1:],
        "headers": headers,
        "content": {problems.PROBLEM_JSON: {"schema": ProblemOut}},
    }
