"""The calls on all of a user's data: HTTP in, HTTP out."""

from itertools import chain
from urllib.parse import unquote

from flask import Response, request
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint

from todo.auth import require_jwt
from todo.errors import UnprocessableContent
from todo.tasks.answers import no_content
from todo.users import data
from todo.validation import accepts

bp = Blueprint("users", __name__, url_prefix="/api/<user_id>", description="Everything of a user.")

NDJSON = "application/x-ndjson"


@bp.route("/export")
@require_jwt
@bp.response(
    200,
    {"type": "string"},
    content_type=NDJSON,
    description="A line of JSON for the list, for each task and for each deleted one.",
)
@accepts()
def export_user(user_id: str) -> ResponseReturnValue:
    """Take everything along.

    As of one moment. The first line tells how many follow: when fewer come, the answer broke off.
    """
    pieces = data.export(user_id)
    # Before the first piece an error can still be an answer.
    response = Response(chain([next(pieces)], pieces), mimetype=NDJSON)
    response.headers["Content-Disposition"] = 'attachment; filename="tasks.ndjson"'
    response.call_on_close(pieces.close)
    return response


@bp.route("", methods=["DELETE"])
@require_jwt
@bp.response(204)
@accepts(headers=["Confirm"])
def erase_user(user_id: str) -> ResponseReturnValue:
    """Erase everything, for good.

    `Confirm` must hold the id of the user.
    """
    confirmed = request.headers.get("Confirm", "")
    # An id may have characters that no header can.
    if user_id not in (confirmed, unquote(confirmed)):
        rule = "Confirm must hold the id of the user: this erases everything, and nothing brings it back."
        raise UnprocessableContent([{"header": "Confirm", "detail": rule}])
    data.erase(user_id)
    return no_content()
