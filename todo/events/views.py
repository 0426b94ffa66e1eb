"""The stream of events: HTTP in, Server-Sent Events out."""

from typing import Any

from flask import Response, current_app, request
from flask.typing import ResponseReturnValue
from marshmallow import post_load

from todo.auth import require_jwt, token_lifetime_s
from todo.events.beat import read_revision
from todo.events.hub import POLL_MS, Hub, Stream, first_words
from todo.http.documented import Blueprint
from todo.http.etags import conditional_read
from todo.http.openapi import CONDITIONAL, response_header
from todo.http.pagination import CURSOR_SCHEMA
from todo.http.parameters import SingleValue
from todo.http.problems import UnprocessableContent
from todo.http.requests import QuerySchema, validate_request
from todo.tasks import changes
from todo.tasks.changes import Position
from todo.telemetry import requests

bp = Blueprint("events", __name__, url_prefix="/api/<user_id>/tasks/events", description="Changes, as they happen.")

EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"

# No cache stores a stream, and no proxy compresses or buffers it, or it would arrive when it has ended.
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


class EventsQuery(QuerySchema):
    """The query parameters of the stream of events."""

    since = SingleValue(
        metadata=CURSOR_SCHEMA
        | {"description": "A `next` of the changes feed, or the `id` of an event. `Last-Event-ID` counts instead."}
    )

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> str | None:
        """Return the cursor."""
        return parameters.get("since")


@bp.route("")
@require_jwt
@bp.response(
    200,
    {"type": "string"},
    content_type=EVENT_STREAM,
    description="Server-Sent Events (WHATWG HTML, section 9.2): `changed` and `expired`.",
    headers={"Cache-Control": response_header("It is not to be stored, compressed or buffered.", example="no-store")},
)
@conditional_read
@validate_request(query=EventsQuery(), headers=[*CONDITIONAL, LAST_EVENT_ID])
def stream_events(user_id: str, query: str | None) -> ResponseReturnValue:
    """Wait for changes.

    `changed` states the revision of the list, never what has changed: read the changes feed from where you are. The
    first one comes at once, unless the cursor that was sent is current. `expired` is sent when the token expires: come
    back with a new one.
    """
    since, last = _positions(user_id, query)
    if request.method == "HEAD":
        return _response(iter(()))
    stream = _open(user_id)
    revision = read_revision(user_id)
    known_revision = _known_revision(since, last, revision)
    if stream is None:
        return _response(first_words(user_id, revision, known_revision, POLL_MS))
    return _response(stream.begin(revision, known_revision))


def _positions(caller: str, since: str | None) -> tuple[Position | None, Position | None]:
    """Return the positions that `since` and `Last-Event-ID` state.

    A browser repeats a bad `Last-Event-ID` whatever the response is, so that one is ignored.

    Raises:
        UnprocessableContent: `since` was not given for this user's list.

    """
    position = None if since is None else changes.decode_position(caller, since)
    try:
        return position, changes.decode_position(caller, request.headers.get(LAST_EVENT_ID, ""))
    except UnprocessableContent:
        return position, None


def _known_revision(since: Position | None, last: Position | None, revision: int) -> int | None:
    """Return the revision that the client knows, if it says so.

    Raises:
        UnprocessableContent: `since` is ahead of the list.

    """
    if since is not None:
        changes.check_not_ahead(since, revision)
    position = last if last is not None and last.deletions_revision <= revision else since
    return None if position is None else position.revision


def _open(caller: str) -> Stream | None:
    """Open a stream, if the server can keep one open without a thread. Others respond and end.

    Raises:
        TooManyStreams: the caller has too many.
        StreamsExhausted: this process has too many.

    """
    hold = getattr(request.environ.get("gunicorn.socket"), "hold", None)
    if hold is None:
        return None
    hub: Hub = current_app.extensions["events"]
    stream = hub.open(caller, requests.current().request_id, token_lifetime_s())
    hold(stream)
    return stream


def _response(body: Any) -> Response:
    return Response(body, content_type=EVENT_STREAM, headers=HEADERS)
