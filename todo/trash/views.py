"""The operations on deleted tasks: HTTP in, HTTP out."""

from typing import Any

from flask import jsonify
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError, post_load

from todo.auth import require_jwt
from todo.http.documented import Blueprint
from todo.http.etags import Preconditions, check_untagged, conditional_read, no_content
from todo.http.fields import TIMESTAMP, UtcDateTime
from todo.http.openapi import CONDITIONAL, ETAG_HEADER, with_links
from todo.http.pagination import (
    PAGE_HEADERS,
    BadCursor,
    PageQuery,
    bigint,
    decode_cursor,
    encode_cursor,
    limit_and_offset,
    page_headers,
)
from todo.http.requests import validate_request
from todo.tasks.responses import tagged
from todo.tasks.schemas import TaskOut
from todo.trash import queries
from todo.trash.queries import NEWEST, TrashRequest

bp = Blueprint("trash", __name__, url_prefix="/api/<user_id>/trash", description="Deleted tasks, until they expire.")

CURSOR_VERSION = "trash 1"


class TrashQuery(PageQuery):
    """The query parameters of the trash."""

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> TrashRequest:
        """Return the request."""
        before = self._before(parameters["cursor"]) if "cursor" in parameters else NEWEST
        limit, offset = limit_and_offset(parameters)
        return TrashRequest(limit=limit, offset=offset, before=before, count=parameters.get("count", False))

    @staticmethod
    def _before(cursor: str) -> int:
        try:
            (revision,) = decode_cursor(cursor, CURSOR_VERSION, 1)
            return bigint(revision)
        except BadCursor as error:
            raise ValidationError(str(error), "cursor") from None


PAGES = TrashQuery()


class TrashedTaskOut(TaskOut):
    """A deleted task, as it was when it was deleted."""

    deleted_at = UtcDateTime(required=True, metadata=TIMESTAMP | {"description": "When the task was deleted."})
    expires_at = UtcDateTime(
        required=True, metadata=TIMESTAMP | {"description": "Until when the task can be restored, at least."}
    )


@bp.route("")
@require_jwt
@bp.response(
    200,
    TrashedTaskOut(many=True),
    description="Deleted tasks: by default the last 1000, the newest deletion first.",
    headers=PAGE_HEADERS,
)
@conditional_read
@validate_request(query=PAGES, headers=CONDITIONAL)
def list_trash(user_id: str, query: TrashRequest) -> ResponseReturnValue:
    """List deleted tasks."""
    page = queries.list_trash(user_id, query)
    cursor = None if page.next is None else encode_cursor([CURSOR_VERSION, page.next])
    return jsonify(page.tasks), 200, page_headers(PAGES, cursor, page.total)


@bp.route("/<int64:task_id>/restore", methods=["POST"])
@require_jwt
@bp.response(200, TaskOut, headers=ETAG_HEADER)
@bp.alt_response(404, "TaskNotFound")
@bp.alt_response(412, "PreconditionFailed")
@with_links(200, "Read", "Replace", "Change", "Complete", "Delete")
@validate_request(headers=CONDITIONAL)
def restore_task(user_id: str, task_id: int) -> ResponseReturnValue:
    """Restore a deleted task.

    It has its old id and a new revision.
    """
    return tagged(queries.restore_task(user_id, task_id, Preconditions.sent()))


@bp.route("/<int64:task_id>", methods=["DELETE"])
@require_jwt
@bp.response(204)
@bp.alt_response(404, "TaskNotFound")
@bp.alt_response(412, "PreconditionFailed")
@validate_request(headers=CONDITIONAL)
def discard_task(user_id: str, task_id: int) -> ResponseReturnValue:
    """Discard a deleted task, for good."""
    queries.discard_task(user_id, task_id, Preconditions.sent())
    return no_content()


@bp.route("", methods=["DELETE"])
@require_jwt
@bp.response(204)
@bp.alt_response(412, "PreconditionFailed")
@validate_request(headers=CONDITIONAL)
def empty_trash(user_id: str) -> ResponseReturnValue:
    """Empty the trash, for good."""
    check_untagged()
    queries.empty_trash(user_id)
    return no_content()
