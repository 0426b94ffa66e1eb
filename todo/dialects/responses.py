"""Responses in other forms."""

from dataclasses import replace
from typing import Any

import orjson
from flask import Flask, Response, make_response, request
from flask.typing import ResponseReturnValue

from todo.http.adapters import Adapters, View
from todo.http.problems import PROBLEM_JSON
from todo.http.requests import JSON, PREFERENCE_APPLIED, preference

DELETE = "tasks.delete_task"
LISTS = ("tasks.list_tasks", "trash.list_trash")
TOTAL = "X-Total-Count"


def delete_body(_: Flask, adapters: Adapters) -> None:
    """Return the deleted task, unless the client prefers otherwise."""
    adapters.views[DELETE] = _delete


def _delete(view: View, **arguments: Any) -> ResponseReturnValue:
    if preference("return") in ("minimal", "representation"):
        return view(**arguments)
    # The view reads no other preference, and behind a malformed one this would not be read.
    request.environ["HTTP_PREFER"] = "return=representation"
    response = make_response(view(**arguments))
    # The client did not ask for it.
    del response.headers[PREFERENCE_APPLIED]
    return response


def envelope(_: Flask, adapters: Adapters) -> None:
    """Return lists as objects with the number of tasks, which the same statement counts."""
    adapters.views |= dict.fromkeys(LISTS, _list)
    adapters.representation += ("envelope",)


def _list(view: View, *, query: Any, **arguments: Any) -> ResponseReturnValue:
    response = make_response(view(query=replace(query, count=True), **arguments))
    if not response.data:
        # A 304.
        return response
    total = int(response.headers[TOTAL])
    if not query.count:
        del response.headers[TOTAL]
    tasks = response.data
    # The array is JSON already, and need not be written twice more.
    response.data = b'{"tasks":%b,"items":%b,"total":%d,"count":%d}' % (tasks, tasks, total, len(orjson.loads(tasks)))
    return response


def plain_errors(app: Flask, _: Adapters) -> None:
    """Return errors as `application/json`, unless the client accepts them as what they are."""
    app.after_request(_as_json)


def _as_json(response: Response) -> Response:
    if response.mimetype == PROBLEM_JSON and not _accepts_problems():
        response.mimetype = JSON
    return response


def _accepts_problems() -> bool:
    """Return whether the client names the media type of problems; `*/*` does not."""
    return any(
        media_type.partition(";")[0].lower() == PROBLEM_JSON and quality > 0
        for media_type, quality in request.accept_mimetypes
    )
