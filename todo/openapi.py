"""The contract as OpenAPI 3.1, generated from the code and committed as `openapi.json`."""

from typing import Any

from apispec import BasePlugin
from flask import Flask
from marshmallow import EXCLUDE, Schema, fields

from todo import errors
from todo.extensions import api
from todo.headers import ETAG, REQUEST, header
from todo.links import LINKS
from todo.routing import Int64Converter

VERSION = "1.0.0"

DESCRIPTION = """\
Tasks, one list per user, guarded by the bearer token (JWT) that Better Auth issues.

`{user_id}` in a path is the caller's own id, or the word `me`. Every error is `application/problem+json` (RFC 9457),
and its `detail` is a sentence that can be shown to a person. With `Prefer: handling=strict` (RFC 7240) members and
parameters that are not known are errors instead of being skipped.
"""

RETRY_AFTER = {"Retry-After": header("Seconds to wait before trying again.", type="integer", minimum=1, example=2)}

# What each kind of refusal is called in the document, and the headers that come with it.
PROBLEMS: dict[type[errors.Problem], dict[str, Any]] = {
    errors.BadRequest: {},
    errors.Unauthorized: {"WWW-Authenticate": header("The challenge (RFC 6750).", example="Bearer")},
    errors.WrongUser: {},
    errors.TaskNotFound: {},
    errors.CursorExpired: {},
    errors.PreconditionFailed: {},
    errors.ContentTooLarge: {},
    errors.UnsupportedMediaType: {
        "Accept": header("What is accepted instead.", required=False, example="application/json")
    },
    errors.UnprocessableContent: {},
    errors.PreconditionRequired: {},
    errors.TooManyRequests: {
        **RETRY_AFTER,
        "RateLimit": header("What is left of each limit (draft-ietf-httpapi-ratelimit-headers)."),
        "RateLimit-Policy": header("The limits themselves."),
    },
    errors.Unavailable: RETRY_AFTER,
}

AUTHORIZE = (
    "The token that Better Auth issued, without the word Bearer. In development, `flask token --user ID` makes one."
)

USER = {
    "in": "path",
    "name": "user_id",
    "description": "The caller's own id, or the word `me`.",
    "example": "me",
}


class Output(Schema):
    """What the bodies of all answers have in common: members may be added to them later."""

    class Meta:
        """So nobody is told that there will never be more."""

        unknown = EXCLUDE


class FaultOut(Output):
    """One thing that is wrong."""

    pointer = fields.String(metadata={"description": "Where in the body (RFC 6901).", "example": "#/title"})
    parameter = fields.String(metadata={"description": "Which parameter of the query."})
    header = fields.String(metadata={"description": "Which header of the request."})
    detail = fields.String(required=True, metadata={"example": "title is required."})


class ProblemOut(Output):
    """An error (RFC 9457)."""

    type = fields.String(required=True, metadata={"format": "uri-reference", "example": "about:blank"})
    title = fields.String(required=True, metadata={"description": "The name of the status."})
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "One sentence for a person."})
    instance = fields.String(required=True, metadata={"format": "uri-reference", "description": "The path."})
    request_id = fields.String(required=True, metadata={"description": "Finds the request in the logs."})
    reason = fields.String(
        metadata={
            "description": "Outside production: what exactly is wrong with the token, or with its issuer.",
            "example": "audience: expected http://localhost:3000, got http://127.0.0.1:3000",
        }
    )
    errors = fields.List(fields.Nested(FaultOut), metadata={"description": "With a 422: every fault."})
    # By its name, because tasks know of this room and not the other way round.
    current = fields.Nested("TaskOut", metadata={"description": "With a 412: the task as it is now."})
    code = fields.String(metadata={"description": "With a 410: `cursor_expired`.", "example": "cursor_expired"})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "With a 503 of /health/ready: each check."},
    )


class House(BasePlugin):
    """What our code says in its own way."""

    def schema_helper(self, name: str, definition: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002
        """Say of a schema that needs at least one of its members that it does."""
        schema = kwargs["schema"]
        if not getattr(schema, "at_least_one", False):
            return {}
        return {"anyOf": [{"required": [member]} for member in schema.fields]}

    def operation_helper(
        self,
        path: str | None = None,  # noqa: ARG002 (apispec passes it)
        operations: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Take the full stop from the summaries, as a heading has none, and sort the answers by their status."""
        for operation in (operations or {}).values():
            operation["summary"] = operation["summary"].removesuffix(".")
            operation["responses"] = dict(sorted(operation["responses"].items()))


def init_app(app: Flask) -> None:
    """Describe what all operations share, and serve the document at `/openapi.json`."""
    app.config |= {
        "API_TITLE": "todo",
        "API_VERSION": VERSION,
        "OPENAPI_VERSION": "3.1.0",
        "OPENAPI_URL_PREFIX": "/",
        "API_SPEC_OPTIONS": {
            "info": {"description": DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
            "security": [{"bearer": []}],
        },
    }
    # Each operation lists the errors it has; there is no other.
    api.DEFAULT_ERROR_RESPONSE_NAME = None
    api.ERROR_SCHEMA = ProblemOut
    api.init_app(app, spec_kwargs={"extra_plugins": [House()]})
    api.register_converter(Int64Converter, lambda _: {"type": "integer", "format": "int64"})
    # Pages come as links, so the schema of the library's own paging describes nothing here.
    del api.spec.components.schemas["PaginationMetadata"]
    api.ma_plugin.converter.add_parameter_attribute_function(_in_query)
    for name, read in REQUEST.items():
        api.spec.components.parameter(name, "header", {"schema": {"type": "string"}} | read)
    for name, link in LINKS.items():
        api.spec.components.link(name, link)
    api.spec.components.response("NotModified", {"description": "The client has it already.", "headers": ETAG})
    api.spec.components.security_scheme(
        "bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": AUTHORIZE}
    )
    for problem, headers in PROBLEMS.items():
        api.spec.components.response(problem.__name__, _response(problem, headers))


def _in_query(_: Any, field: fields.Field[Any], **__: Any) -> dict[str, Any]:
    """Say of a parameter of a query that it counts as absent without a value, and whether commas separate several."""
    return {"allowEmptyValue": True} | getattr(field, "style", {})


def _response(problem: type[errors.Problem], headers: dict[str, Any]) -> dict[str, Any]:
    first_line, _, _ = (problem.__doc__ or "").partition("\n")
    description = first_line.partition(": ")[2]
    return {
        "description": description[0].upper() + description[1:],
        "headers": headers,
        "content": {errors.PROBLEM_JSON: {"schema": ProblemOut}},
    }
