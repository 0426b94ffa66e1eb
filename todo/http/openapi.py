"""The contract as OpenAPI 3.1, generated from the code and committed as `openapi.json`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from apispec import BasePlugin
from flask import Flask
from flask_smorest import Blueprint
from marshmallow import fields

from todo.extensions import api
from todo.http import problems
from todo.http.fields import Output
from todo.http.routing import Int64Converter

V = TypeVar("V", bound=Callable[..., Any])

VERSION = "1.0.0"

DESCRIPTION = """\
Tasks, one list per user, guarded by the bearer token (JWT) that Better Auth issues.

`{user_id}` in a path is the caller's own id, or the word `me`. Every error is `application/problem+json` (RFC 9457),
and its `detail` is a sentence that can be shown to a person. With `Prefer: handling=strict` (RFC 7240) members and
parameters that are not known are errors instead of being skipped.
"""

# Text that white space neither begins nor ends, or a string of a structured field (RFC 9651, section 3.3.3).
IDEMPOTENCY_KEY = (
    r'^(?:[^"\x00-\x20\x85\xa0](?:[^\x00]{0,253}[^\x00-\x20\x85\xa0])?|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$'
)

# The request headers that calls read. Pages fill in an `example` by themselves, but none of `examples`.
REQUEST: dict[str, dict[str, Any]] = {
    "Prefer": {
        "description": "With `handling=strict`, whatever is not known here is an error; with `return=representation`, "
        "a deletion answers with what was deleted (RFC 7240).",
        "schema": {"type": "string", "examples": ["return=representation", "handling=strict"]},
    },
    "If-Match": {
        "description": "The `ETag` of the task that is meant, or several: in any other state it is left alone, and the "
        "answer is 412 (RFC 9110).",
        "schema": {"type": "string", "examples": ['"17"', '"17", "18"', "*"]},
    },
    "If-None-Match": {
        "description": "The `ETag` of what is known already: when it is still the newest, the answer is 304 without a "
        "body (RFC 9110).",
        "schema": {"type": "string", "examples": ['"17"']},
    },
    "Idempotency-Key": {
        "description": "A name for this creation that no other has, such as a UUID, of up to 255 characters: sent "
        "again, it makes no second task.",
        "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
    },
    "Confirm": {
        "description": "The id of the user whose data is to be erased, percent-encoded where it is not plain ASCII.",
        "required": True,
        "schema": {"type": "string", "examples": ["user-123"]},
    },
}


def header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """Describe a header of an answer: text, unless the schema says otherwise."""
    return {"description": description, "required": required, "schema": {"type": "string"} | schema}


ETAG = {
    "ETag": header(
        "What it is the state of, for conditional requests (RFC 9110).", pattern='^"[0-9a-f-]+"$', example='"17"'
    )
}

RETRY_AFTER = {"Retry-After": header("Seconds to wait before trying again.", type="integer", minimum=1, example=2)}

# What each kind of refusal is called in the document, and the headers that come with it.
PROBLEMS: dict[type[problems.Problem], dict[str, Any]] = {
    problems.BadRequest: {},
    problems.Unauthorized: {"WWW-Authenticate": header("The challenge (RFC 6750).", example="Bearer")},
    problems.WrongUser: {},
    problems.TaskNotFound: {},
    problems.CursorExpired: {},
    problems.PreconditionFailed: {},
    problems.ContentTooLarge: {},
    problems.UnsupportedMediaType: {
        "Accept": header("What is accepted instead.", required=False, example="application/json")
    },
    problems.UnprocessableContent: {},
    problems.PreconditionRequired: {},
    problems.TooManyRequests: {
        **RETRY_AFTER,
        "RateLimit": header("What is left of each limit (draft-ietf-httpapi-ratelimit-headers)."),
        "RateLimit-Policy": header("The limits themselves."),
    },
    problems.Unavailable: RETRY_AFTER,
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
    api.spec.components.response("NotModified", {"description": "The client has it already.", "headers": ETAG})
    api.spec.components.security_scheme(
        "bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": AUTHORIZE}
    )
    for problem, headers in PROBLEMS.items():
        api.spec.components.response(problem.__name__, _response(problem, headers))


def register_links(links: Mapping[str, dict[str, Any]]) -> None:
    """Add a feature's links to the document; operations refer to them by name (OpenAPI 3.1, Link Object)."""
    for name, link in links.items():
        api.spec.components.link(name, link)


def followed_by(status: int, *links: str) -> Callable[[V], V]:
    """Say which calls an answer leads to, by the names of `LINKS`."""
    documented: Callable[[V], V] = Blueprint.doc(responses={status: {"links": {name: name for name in links}}})
    return documented


def _in_query(_: Any, field: fields.Field[Any], **__: Any) -> dict[str, Any]:
    """Say of a parameter of a query that it counts as absent without a value, and whether commas separate several."""
    return {"allowEmptyValue": True} | getattr(field, "style", {})


def _response(problem: type[problems.Problem], headers: dict[str, Any]) -> dict[str, Any]:
    first_line, _, _ = (problem.__doc__ or "").partition("\n")
    description = first_line.partition(": ")[2]
    return {
        "description": description[0].upper() + description[1:],
        "headers": headers,
        "content": {problems.PROBLEM_JSON: {"schema": ProblemOut}},
    }
