"""The calls on tasks: HTTP in, HTTP out."""

from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint

from todo.auth import require_jwt
from todo.tasks import queries, summary
from todo.tasks.listing import Listing
from todo.tasks.parameters import TaskQuery
from todo.tasks.schemas import READ_ONLY, TaskCompletion, TaskIn, TaskOut, TaskPatch
from todo.tasks.summary import SummaryOut, SummaryQuery, Today
from todo.validation import JSON, MERGE_PATCH, accepts

bp = Blueprint("tasks", __name__, url_prefix="/api/<user_id>/tasks", description="What a user has to do.")


@bp.route("")
@require_jwt
@bp.response(
    200,
    TaskOut(many=True),
    description="The caller's tasks: by default the first 1000, oldest first.",
    headers={
        "Link": {
            "description": 'Where the next page is, as long as there is one: `<path>; rel="next"` (RFC 8288).',
            "schema": {"type": "string"},
        },
        "X-Total-Count": {
            "description": "With `count=true`: how many tasks there are on all pages.",
            "schema": {"type": "integer"},
        },
    },
)
@accepts(query=TaskQuery())
def list_tasks(user_id: str, query: Listing) -> ResponseReturnValue:
    """List tasks."""
    page = queries.list_tasks(user_id, query)
    headers = {} if page.next is None else {"Link": f'<{next_path(page.next)}>; rel="next"'}
    if page.total is not None:
        headers["X-Total-Count"] = str(page.total)
    return jsonify(page.tasks), 200, headers


def next_path(cursor: str) -> str:
    """Give the path of the page that begins at this cursor: as the client wrote it, with the cursor in the query."""
    asked = [(name, value) for name, value in request.args.items(multi=True) if name not in ("cursor", "offset")]
    path_user = (request.view_args or {})["user_id"]
    return f"{url_for('.list_tasks', user_id=path_user)}?{urlencode([*asked, ('cursor', cursor)])}"


@bp.route("/summary")
@require_jwt
@bp.response(200, SummaryOut)
@accepts(query=SummaryQuery())
def summarize_tasks(user_id: str, query: Today) -> ResponseReturnValue:
    """Count tasks, for a dashboard."""
    return jsonify(summary.summarize(user_id, query))


@bp.route("", methods=["POST"])
@require_jwt
@bp.response(
    201, TaskOut, headers={"Location": {"description": "The path of the new task.", "schema": {"type": "string"}}}
)
@accepts(TaskIn(), read_only=READ_ONLY)
def create_task(user_id: str, body: dict[str, Any]) -> ResponseReturnValue:
    """Create a task."""
    task = queries.create_task(user_id, body)
    # As the client wrote the path: an id with a slash in it can be called `me` only.
    path_user = (request.view_args or {})["user_id"]
    return jsonify(task), 201, {"Location": url_for(".get_task", user_id=path_user, task_id=task["id"])}


@bp.route("/<int64:task_id>")
@require_jwt
@bp.response(200, TaskOut)
@bp.alt_response(404, "TaskNotFound")
@accepts()
def get_task(user_id: str, task_id: int) -> ResponseReturnValue:
    """Read one task."""
    return jsonify(queries.get_task(user_id, task_id))


@bp.route("/<int64:task_id>", methods=["PUT"])
@require_jwt
@bp.response(200, TaskOut)
@bp.alt_response(404, "TaskNotFound")
@accepts(TaskIn(), read_only=READ_ONLY)
def replace_task(user_id: str, task_id: int, body: dict[str, Any]) -> ResponseReturnValue:
    """Replace a task.

    An absent `description` clears it; any other absent member is left alone.
    """
    return jsonify(queries.update_task(user_id, task_id, {"description": None, **body}))


@bp.route("/<int64:task_id>", methods=["PATCH"])
@require_jwt
@bp.response(200, TaskOut)
@bp.alt_response(404, "TaskNotFound")
@accepts(TaskPatch(), read_only=READ_ONLY, media_types=(JSON, MERGE_PATCH))
def update_task(user_id: str, task_id: int, body: dict[str, Any]) -> ResponseReturnValue:
    """Change a task.

    An absent member is untouched, `null` clears (RFC 7396).
    """
    return jsonify(queries.update_task(user_id, task_id, body))


@bp.route("/<int64:task_id>/complete", methods=["PATCH"])
@require_jwt
@bp.response(200, TaskOut)
@bp.alt_response(404, "TaskNotFound")
@accepts(TaskCompletion(), read_only=READ_ONLY, media_types=(JSON, MERGE_PATCH), required=False)
def complete_task(user_id: str, task_id: int, body: dict[str, Any]) -> ResponseReturnValue:
    """Complete a task, or reopen it.

    Without a body it toggles; with one it sets.
    """
    task = queries.update_task(user_id, task_id, body) if body else queries.toggle_task(user_id, task_id)
    return jsonify(task)


@bp.route("/<int64:task_id>", methods=["DELETE"])
@require_jwt
@bp.response(204)
@bp.alt_response(404, "TaskNotFound")
@accepts()
def delete_task(user_id: str, task_id: int) -> ResponseReturnValue:
    """Delete a task."""
    queries.delete_task(user_id, task_id)
    return no_content()


def no_content() -> Response:
    """Answer 204, with no body and nothing that describes one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
