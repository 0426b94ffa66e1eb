"""The operations on tasks: HTTP in, HTTP out."""

from functools import partial
from typing import Any

from flask import jsonify, url_for
from flask.typing import ResponseReturnValue

from todo.auth import require_jwt
from todo.context import current_application, current_request
from todo.http import idempotency
from todo.http.application import Response
from todo.http.documented import Blueprint
from todo.http.etags import (
    Preconditions,
    QueryETag,
    check_if_match,
    conditional_read,
    conditional_write,
    no_content,
)
from todo.http.openapi import CONDITIONAL, ETAG_HEADER, response_header, with_links
from todo.http.pagination import PAGE_HEADERS, page_headers
from todo.http.requests import JSON, MERGE_PATCH, PREFERENCE_APPLIED, preference, validate_request
from todo.tasks import changes, kept_pages, queries, summary
from todo.tasks.changes import ChangesOut, ChangesQuery, ChangesRequest
from todo.tasks.filters import TaskQuery
from todo.tasks.listing import Listing
from todo.tasks.responses import tagged, task_tag
from todo.tasks.schemas import (
    READ_ONLY,
    CompletionQuery,
    CreatedTaskOut,
    TaskCompletion,
    TaskIn,
    TaskOut,
    TaskPatch,
    completion,
)
from todo.tasks.summary import SummaryOut, SummaryQuery, Today

bp = Blueprint("tasks", __name__, url_prefix="/api/<user_id>/tasks", description="A user's tasks.")

LISTS = TaskQuery()


@bp.route("")
@require_jwt
@bp.response(
    200,
    TaskOut(many=True),
    description="The caller's tasks: by default the first 1000, oldest first. With `overdue` there is no `ETag`.",
    headers=PAGE_HEADERS | {"ETag": ETAG_HEADER["ETag"] | {"required": False}},
)
@conditional_read
@validate_request(query=LISTS, headers=CONDITIONAL)
def list_tasks(user_id: str, query: Listing) -> ResponseReturnValue:
    """List tasks."""
    # Which tasks are overdue changes without a write.
    tag = QueryETag(user_id, *query.question, cacheable=query.filters.overdue is None)
    page = kept_pages.current().read(tag, partial(queries.list_tasks, user_id, query))
    if page is None:
        return tag.not_modified()
    headers = page_headers(LISTS, page.next, page.total) | tag.headers(page.revision)
    return Response(page.body, mimetype=JSON, headers=headers)


@bp.route("/changes")
@require_jwt
@bp.response(200, ChangesOut, headers=ETAG_HEADER)
@conditional_read
@bp.alt_response(410, "CursorExpired")
@with_links(200, "Follow")
@validate_request(query=ChangesQuery(), headers=CONDITIONAL)
def list_changes(user_id: str, query: ChangesRequest) -> ResponseReturnValue:
    """Follow the changes.

    Without `since`, the feed begins with all tasks. Send `next` as the `since` of the next request: at once while
    `has_more` is true, otherwise whenever you like. Each task comes once, as it is now, and each deletion after the
    task that it deletes. On the last page, `count` and `checksum` show whether the copy of a client is complete.
    """
    tag = QueryETag(user_id, "changes", query)
    page = changes.list_changes(user_id, query, tag.last_revision)
    return tag.not_modified() if page is None else (jsonify(page.body), 200, tag.headers(page.revision))


@bp.route("/summary")
@require_jwt
@bp.response(200, SummaryOut)
@conditional_read
@validate_request(query=SummaryQuery(), headers=CONDITIONAL)
def summarize_tasks(user_id: str, query: Today) -> ResponseReturnValue:
    """Count tasks, for a dashboard."""
    return jsonify(summary.summarize(user_id, query))


@bp.route("", methods=["POST"])
@require_jwt
@bp.response(
    201,
    CreatedTaskOut,
    headers={
        "Location": response_header("The path of the new task.", format="uri-reference", example="/api/me/tasks/42"),
        "Idempotent-Replayed": response_header(
            "`true` where an earlier request with the same `Idempotency-Key` created the task.",
            required=False,
            enum=["true"],
        ),
    }
    | ETAG_HEADER,
)
@bp.alt_response(412, "PreconditionFailed")
@with_links(201, "Read", "Replace", "Change", "Complete", "Delete")
@validate_request(TaskIn(), read_only=READ_ONLY, headers=["Idempotency-Key", *CONDITIONAL])
def create_task(user_id: str, body: dict[str, Any]) -> ResponseReturnValue:
    """Create a task."""
    request = current_request()
    key = idempotency.parse(request.headers.get(idempotency.HEADER), body)
    task, is_new = queries.create_task(user_id, body, key, Preconditions.sent())
    # As in the path of the request: a caller whose id has a slash in it is reached as `me` alone.
    path_user = (request.view_args or {})["user_id"]
    headers = {"Location": url_for(".get_task", user_id=path_user, task_id=task["id"])}
    return tagged(task, 201, headers if is_new else headers | {"Idempotent-Replayed": "true"})


@bp.route("/<int64:task_id>")
@require_jwt
@bp.response(200, TaskOut, headers=ETAG_HEADER)
@conditional_read
@bp.alt_response(404, "TaskNotFound")
@with_links(200, "Replace", "Change", "Complete", "Delete")
@validate_request(headers=CONDITIONAL)
def get_task(user_id: str, task_id: int) -> ResponseReturnValue:
    """Return one task."""
    task = queries.get_task(user_id, task_id)
    check_if_match(task_tag(task), current=task)
    return tagged(task)


@bp.route("/<int64:task_id>", methods=["PUT"])
@require_jwt
@bp.response(200, TaskOut, headers=ETAG_HEADER)
@conditional_write
@validate_request(TaskIn(), read_only=READ_ONLY, headers=CONDITIONAL)
def replace_task(user_id: str, task_id: int, body: dict[str, Any]) -> ResponseReturnValue:
    """Replace a task.

    An absent `description` is cleared; any other absent member stays as it is.
    """
    return tagged(queries.update_task(user_id, task_id, {"description": None, **body}, Preconditions.of_write()))


@bp.route("/<int64:task_id>", methods=["PATCH"])
@require_jwt
@bp.response(200, TaskOut, headers=ETAG_HEADER)
@conditional_write
@validate_request(TaskPatch(), read_only=READ_ONLY, headers=CONDITIONAL, media_types=(JSON, MERGE_PATCH))
def update_task(user_id: str, task_id: int, body: dict[str, Any]) -> ResponseReturnValue:
    """Change a task.

    An absent member stays as it is, and `null` clears it (RFC 7396).
    """
    return tagged(queries.update_task(user_id, task_id, body, Preconditions.of_write()))


@bp.route("/<int64:task_id>/complete", methods=["PATCH"])
@require_jwt
@bp.response(200, TaskOut, headers=ETAG_HEADER)
@conditional_write
@validate_request(
    TaskCompletion(),
    query=CompletionQuery(),
    read_only=READ_ONLY,
    headers=CONDITIONAL,
    media_types=(JSON, MERGE_PATCH),
    required=False,
)
def complete_task(user_id: str, task_id: int, query: dict[str, bool], body: dict[str, bool]) -> ResponseReturnValue:
    """Complete a task, or reopen it.

    Where the body or the query says so, `completed` is set; otherwise it is toggled.
    """
    if state := completion(query, body):
        return tagged(queries.update_task(user_id, task_id, state, Preconditions.of_write()))
    return tagged(queries.toggle_task(user_id, task_id, Preconditions.of_write()))


@bp.route("/<int64:task_id>", methods=["DELETE"])
@require_jwt
@bp.response(204)
@bp.alt_response(
    200, schema=TaskOut, description="With `Prefer: return=representation`: the task as it was.", headers=ETAG_HEADER
)
@conditional_write
@with_links(204, "Restore", "Discard")
@validate_request(headers=CONDITIONAL)
def delete_task(user_id: str, task_id: int) -> ResponseReturnValue:
    """Delete a task.

    The trash keeps it for some days.
    """
    days = current_application().extensions["config"].trash_days
    deletion = queries.delete_task(user_id, task_id, days, Preconditions.of_write())
    if preference("return") == "representation":
        return tagged(deletion.task, 200, {PREFERENCE_APPLIED: "return=representation"})
    return no_content()
