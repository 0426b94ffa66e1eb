"""Responses that carry a task, with its ETag."""

from collections.abc import Mapping
from http import HTTPStatus

from flask import Response

from todo.context import current_application
from todo.http.etags import PRIVATE_NO_CACHE
from todo.tasks.rows import TaskRow


def task_tag(task: TaskRow) -> str:
    """Return the ETag of a task: the revision of its last change."""
    return f'"{task["revision"]}"'


def tagged(task: TaskRow, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that carries a task and its ETag."""
    response: Response = current_application().json.response(task)  # type: ignore[assignment]
    if status != HTTPStatus.OK:
        response.status_code = status
    for name, value in {"ETag": task_tag(task), **PRIVATE_NO_CACHE, **(headers or {})}.items():
        response.headers.add(name, value)
    return response
