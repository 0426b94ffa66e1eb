"""The batch: HTTP in, HTTP out."""

from typing import Any

from flask import current_app, jsonify
from flask.typing import ResponseReturnValue

from todo.auth import require_jwt
from todo.batch import queries
from todo.batch.operations import read_batch
from todo.batch.schemas import BatchIn, BatchOut
from todo.http.documented import Blueprint
from todo.http.etags import Preconditions, conditional_write
from todo.http.openapi import CONDITIONAL
from todo.http.requests import validate_request
from todo.limits import count_operations
from todo.tasks.changes import Position, encode_position

bp = Blueprint(
    "batch", __name__, url_prefix="/api/<user_id>/tasks/batch", description="Many operations in one request."
)


@bp.route("", methods=["POST"])
@require_jwt
@bp.response(200, BatchOut)
@conditional_write
@validate_request(BatchIn(), headers=CONDITIONAL)
def run_batch(user_id: str, body: dict[str, Any]) -> ResponseReturnValue:
    """Run a batch.

    Each operation has a result of its own, in the order of the operations. With `atomic`, nothing is changed if any
    operation is refused: the response is the problem of the first one, and lists all. A batch that is sent again
    changes nothing more.
    """
    count_operations(user_id, len(body["operations"]))
    days = current_app.extensions["config"].trash_days
    outcome = queries.run_batch(user_id, read_batch(body), days, Preconditions.sent())
    cursor = encode_position(user_id, Position(outcome.revision))
    revisions = {"before": outcome.before, "revision": outcome.revision}
    return jsonify({"results": outcome.results, **revisions, "next": cursor})
