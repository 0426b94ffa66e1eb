"""The import of a file: HTTP in, HTTP out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from flask import jsonify
from flask.typing import ResponseReturnValue
from marshmallow import fields, post_load, validate

from todo.auth import require_jwt
from todo.http.body import IMPORT_MAX_BYTES, read_bytes
from todo.http.documented import Blueprint
from todo.http.etags import check_untagged
from todo.http.fields import Output
from todo.http.openapi import CONDITIONAL, FaultOut
from todo.http.parameters import Boolean, Choice, TimeZone
from todo.http.problems import FAULTS_MAX, Fault, UnprocessableContent
from todo.http.requests import QuerySchema, validate_request
from todo.importing import imports
from todo.importing.formats import FORMATS
from todo.importing.imports import COMMAND, FAIL, SAMPLE, SKIP, TASKS_MAX
from todo.importing.records import Unreadable
from todo.tasks.schemas import TaskOut

bp = Blueprint("importing", __name__, url_prefix="/api/<user_id>", description="Tasks from elsewhere.")

NDJSON = "application/x-ndjson"
MEDIA_TYPES = ("text/csv", "application/json", NDJSON, "text/calendar", "application/octet-stream")
# Generators of clients make bytes or a file of this.
FILE = {"type": "string", "format": "binary"}

TOO_LARGE = f"The file is larger than {IMPORT_MAX_BYTES // 2**20} MiB. {COMMAND}"


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A request to import a file; see `ImportQuery`."""

    format: str | None
    dry_run: bool
    zone: ZoneInfo
    skips: bool


class ImportQuery(QuerySchema):
    """The query parameters of an import."""

    # As the summary calls it.
    aliases: ClassVar[Mapping[str, str]] = {"tz": "zone"}

    format = Choice(
        {name: name for name in FORMATS},
        metadata={"description": "The format of the file. By default it is recognised by its content."},
    )
    dry_run = Boolean(metadata={"description": "Whether to report what an import would do, and do nothing."})
    zone = TimeZone("The time zone of times that state none")
    on_error = Choice(
        {FAIL: False, SKIP: True},
        metadata={
            "description": "What to do if tasks break a rule: `fail`, the default, imports nothing; `skip` imports the "
            "others."
        },
    )

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> ImportRequest:
        """Return the request."""
        return ImportRequest(
            parameters.get("format"),
            parameters.get("dry_run", False),
            parameters.get("zone", ZoneInfo("UTC")),
            parameters.get("on_error", False),
        )


class NewTaskOut(TaskOut):
    """A task before it has an id."""

    class Meta(TaskOut.Meta):
        """What follows from its place in the list of its user."""

        exclude = ("id", "user_id", "updated_at", "revision")


class ImportOut(Output):
    """What became of the tasks of a file."""

    format = fields.String(required=True, validate=validate.OneOf(list(FORMATS)))
    read = fields.Integer(
        required=True, metadata={"description": "How many tasks the file has, those that are skipped included."}
    )
    created = fields.Integer(
        required=True, metadata={"description": "How many of them are new; with `dry_run` they are not created."}
    )
    known = fields.Integer(
        required=True, metadata={"description": "How many an earlier import created, or are this service's own."}
    )
    skipped = fields.List(
        fields.Nested(FaultOut), required=True, metadata={"description": "What is left out.", "maxItems": FAULTS_MAX}
    )
    skipped_count = fields.Integer(required=True, metadata={"description": "How many `skipped` there are in all."})
    warnings = fields.List(
        fields.Nested(FaultOut),
        required=True,
        metadata={"description": "What is kept elsewhere than in its own member, or cut.", "maxItems": FAULTS_MAX},
    )
    warnings_count = fields.Integer(required=True, metadata={"description": "How many `warnings` there are in all."})
    sample = fields.List(
        fields.Nested(NewTaskOut),
        required=True,
        metadata={"description": "The first of the new tasks.", "maxItems": SAMPLE},
    )


@bp.route("/import", methods=["POST"])
@require_jwt
@bp.doc(
    requestBody={
        "required": True,
        "description": f"The file. An export of this service may be `{NDJSON}`, too.",
        # Generators of clients take lines of JSON for a text alone, as which they come.
        "content": {media_type: {"schema": FILE} for media_type in MEDIA_TYPES if media_type != NDJSON},
    },
    responses={400: "BadRequest", 413: "ContentTooLarge", 415: "UnsupportedMediaType"},
)
@bp.response(200, ImportOut)
@bp.alt_response(412, "PreconditionFailed")
@validate_request(query=ImportQuery(), headers=CONDITIONAL)
def import_tasks(user_id: str, query: ImportRequest) -> ResponseReturnValue:
    """Import tasks from a file.

    Tasks are added, and none is replaced. What was imported before is known, and is not created again, even if it is in
    the trash.
    """
    data = read_bytes(MEDIA_TYPES, TOO_LARGE)
    try:
        contents = imports.read(data, query.format, query.zone, TASKS_MAX)
    except Unreadable as error:
        fault: Fault = {**(error.place or {"pointer": "#"}), "detail": str(error)}  # type: ignore[typeddict-item]
        raise UnprocessableContent([fault]) from None
    if query.skips:
        imports.accept(contents)
    if contents.faults:
        raise UnprocessableContent(contents.faults)
    check_untagged()
    outcome = imports.write(user_id, contents.tasks, dry_run=query.dry_run)
    return jsonify(
        {
            "format": contents.format,
            "read": contents.read,
            "created": outcome.created,
            "known": outcome.known,
            "skipped": contents.skipped[:FAULTS_MAX],
            "skipped_count": len(contents.skipped),
            "warnings": contents.warnings[:FAULTS_MAX],
            "warnings_count": len(contents.warnings),
            "sample": outcome.sample,
        }
    )
