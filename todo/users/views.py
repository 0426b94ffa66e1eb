"""The operations on all data of a user: HTTP in, HTTP out."""

from itertools import chain
from urllib.parse import unquote

from flask import Flask, Response, current_app, request
from flask.typing import ResponseReturnValue

from config import Config
from todo.auth import require_jwt
from todo.http.documented import Blueprint
from todo.http.etags import check_untagged, conditional_read, no_content
from todo.http.openapi import CONDITIONAL, response_header
from todo.http.problems import UnprocessableContent
from todo.http.requests import validate_request
from todo.users import queries
from todo.users.exports import Exports

bp = Blueprint("users", __name__, url_prefix="/api/<user_id>", description="All data of a user.")

NDJSON = "application/x-ndjson"
ATTACHMENT = 'attachment; filename="tasks.ndjson"'
CONFIRM = (
    "Confirm must hold the id of the user, percent-encoded where it is not plain ASCII: everything is erased, and "
    "nothing can be restored."
)


@bp.route("/export")
@require_jwt
@bp.response(
    200,
    {"type": "string"},
    content_type=NDJSON,
    description="A line of JSON for the list, for each task and for each deleted task.",
    headers={"Content-Disposition": response_header("The file name for browsers.", example=ATTACHMENT)},
)
@conditional_read
@validate_request(headers=CONDITIONAL)
def export_user(user_id: str) -> ResponseReturnValue:
    """Export everything.

    All lines are as of one moment. The first line has the number of the others: if fewer follow, the response was cut.
    """
    exports: Exports = current_app.extensions["exports"]
    pieces = exports.run(user_id)
    # Until the first piece is there, an error can still become a problem response.
    response = Response(chain([next(pieces)], pieces), mimetype=NDJSON)
    response.headers["Content-Disposition"] = ATTACHMENT
    response.call_on_close(pieces.close)
    return response


@bp.route("", methods=["DELETE"])
@require_jwt
@bp.response(204)
@bp.alt_response(412, "PreconditionFailed")
@validate_request(headers=["Confirm", *CONDITIONAL])
def erase_user(user_id: str) -> ResponseReturnValue:
    """Erase everything, for good.

    `Confirm` must hold the id of the user.
    """
    if user_id not in _readings(request.headers.get("Confirm", "")):
        raise UnprocessableContent([{"header": "Confirm", "detail": CONFIRM}])
    check_untagged()
    queries.erase(user_id)
    return no_content()


def _readings(header: str) -> set[str]:
    """Return the texts that a header may stand for: clients encode characters beyond ASCII in several ways."""
    return {header, unquote(header), header.encode("latin-1").decode(errors="replace")}


def init_app(app: Flask, config: Config) -> None:
    """Let a quarter of the threads of a process work for exports, or the only one."""
    app.extensions["exports"] = Exports(max(1, config.web_threads // 4))
