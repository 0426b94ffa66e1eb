"""The calls on all of a user's data: HTTP in, HTTP out."""

from itertools import chain
from urllib.parse import unquote

from flask import Response, request
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint

from todo.auth import require_jwt
from todo.http.etags import no_content
from todo.http.openapi import response_header
from todo.http.problems import UnprocessableContent
from todo.http.requests import validate_request
from todo.users import queries

bp = Blueprint("users", __name__, url_prefix="/api/<user_id>", description="Everything of a user.")

NDJSON = "application/x-ndjson"
ATTACHMENT = 'attachment; filename="tasks.ndjson"'
CONFIRM = (
    "Confirm must hold the id of the user, percent-encoded where it is not plain ASCII: this erases everything, and "
    "nothing brings it back."
)


@bp.route("/export")
@require_jwt
@bp.response(
    200,
    {"type": "string"},
    content_type=NDJSON,
    description="A line of JSON for the list, for each task and for each deleted one.",
    headers={"Content-Disposition": response_header("What a browser calls the file.", example=ATTACHMENT)},
)
@validate_request()
def export_user(user_id: str) -> ResponseReturnValue:
    """Take everything along.

    As of one moment. The first line tells how many follow: when fewer come, the answer broke off.
    """
    pieces = queries.export(user_id)
    # Before the first piece an error can still be an answer.
    response = Response(chain([next(pieces)], pieces), mimetype=NDJSON)
    response.headers["Content-Disposition"] = ATTACHMENT
    response.call_on_close(pieces.close)
    return response


@bp.route("", methods=["DELETE"])
@require_jwt
@bp.response(204)
@validate_request(headers=["Confirm"])
def erase_user(user_id: str) -> ResponseReturnValue:
    """Erase everything, for good.

    `Confirm` must hold the id of the user.
    """
    if user_id not in _readings(request.headers.get("Confirm", "")):
        raise UnprocessableContent([{"header": "Confirm", "detail": CONFIRM}])
    queries.erase(user_id)
    return no_content()


def _readings(header: str) -> set[str]:
    """Give what a header may mean, which has bytes only: clients write other characters than ASCII in several ways."""
    return {header, unquote(header), header.encode("latin-1").decode(errors="replace")}
