"""What answers about tasks have in common: the tag of a task, where the next page is, and nothing at all."""

from collections.abc import Mapping

from flask import jsonify
from flask.typing import ResponseReturnValue

from todo.http.etags import PRIVATE_NO_CACHE
from todo.tasks.rows import TaskRow


def task_tag(task: TaskRow) -> str:
    """Give the tag of a task: the revision that it was last changed in."""
    return f'"{task["revision"]}"'


def tagged(task: TaskRow, status: int = 200, headers: Mapping[str, str] | None = None) -> ResponseReturnValue:
    """Answer with a task and the tag of its state."""
    return jsonify(task), status, {"ETag": task_tag(task), **PRIVATE_NO_CACHE, **(headers or {})}
