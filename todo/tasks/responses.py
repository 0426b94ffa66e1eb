"""Responses that carry a task, with its ETag."""

from collections.abc import Mapping

from flask import jsonify
from flask.typing import ResponseReturnValue

from todo.http.etags import PRIVATE_NO_CACHE
from todo.tasks.rows import TaskRow


def task_tag(task: TaskRow) -> str:
    """Return the ETag of a task: the revision of its last change."""
    return f'"{task["revision"]}"'


def tagged(task: TaskRow, status: int = 200, headers: Mapping[str, str] | None = None) -> ResponseReturnValue:
    """Return the response that carries a task and its ETag."""
    return jsonify(task), status, {"ETag": task_tag(task), **PRIVATE_NO_CACHE, **(headers or {})}
