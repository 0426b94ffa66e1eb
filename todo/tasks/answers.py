"""What answers about tasks have in common: the tag of a task, where the next page is, and nothing at all."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from todo.headers import header
from todo.tasks.preconditions import REVALIDATED, task_tag
from todo.tasks.rows import TaskRow

PAGED: dict[str, Any] = {
    "Link": header(
        'Where the next page is, as long as there is one: `<path>; rel="next"` (RFC 8288).',
        required=False,
        example='</api/me/tasks?cursor=WzEsIjE0In0>; rel="next"',
    ),
    "X-Total-Count": header(
        "With `count=true`: how many tasks there are on all pages.", required=False, type="integer", minimum=0
    ),
}


def tagged(task: TaskRow, status: int = 200, headers: Mapping[str, str] | None = None) -> ResponseReturnValue:
    """Answer with a task and the tag of its state."""
    return jsonify(task), status, {"ETag": task_tag(task), **REVALIDATED, **(headers or {})}


def paged(cursor: str | None, total: int | None) -> dict[str, str]:
    """Give the headers of a page: where the next one begins and how many tasks there are, where that is known."""
    headers = {} if cursor is None else {"Link": f'<{_next_path(cursor)}>; rel="next"'}
    return headers if total is None else headers | {"X-Total-Count": str(total)}


def _next_path(cursor: str) -> str:
    """Give the path that was asked for, as the client wrote it, with the cursor in the query."""
    asked = [(name, value) for name, value in request.args.items(multi=True) if name not in ("cursor", "offset")]
    return f"{url_for(str(request.endpoint), **(request.view_args or {}))}?{urlencode([*asked, ('cursor', cursor)])}"


def no_content() -> Response:
    """Answer 204, with no body and nothing that describes one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
