"""The operations on a user's calendar, and the calendar itself: HTTP in, HTTP out."""

import re
from datetime import UTC, datetime
from typing import Any, ClassVar

from flask import Response, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError, fields, post_load

from config import Config
from todo.auth import require_jwt
from todo.calendar import addresses, ical, queries
from todo.calendar.ical import MEDIA_TYPE, Form
from todo.http.documented import Blueprint
from todo.http.etags import QueryETag, check_untagged, conditional_read, no_content
from todo.http.fields import Output
from todo.http.openapi import CONDITIONAL, ETAG_HEADER
from todo.http.parameters import Boolean, Choice, SingleValue
from todo.http.problems import NoPublicUrl, NotFound
from todo.http.requests import QuerySchema, validate_request
from todo.limits import count_read
from todo.telemetry import requests

bp = Blueprint("calendar", __name__, url_prefix="/api/<user_id>/calendar", description="A user's calendar.")
feeds = Blueprint("feeds", __name__, url_prefix="/calendar", description="Calendars to subscribe to.")

# Programs may keep a calendar for 15 minutes, and nobody may keep it for others (RFC 9111, section 5.2.2).
CACHE_CONTROL = {"Cache-Control": "private, max-age=900"}

# A duration of weeks, or of days, hours and minutes (RFC 5545, section 3.3.6), of at most four digits each.
ALARM = re.compile(r"P(?=[0-9T])(?:[0-9]{1,4}W|(?:[0-9]{1,4}D)?(?:T(?=[0-9])(?:[0-9]{1,4}H)?(?:[0-9]{1,4}M)?)?)")


class Alarm(SingleValue):
    """A duration before a task is due."""

    def read(self, value: str) -> str:
        """Return the duration in upper case."""
        if not ALARM.fullmatch(value.upper()):
            raise ValidationError("must be a duration such as PT30M, PT2H or P1D.")
        return value.upper()


FORMS = {"event": False, "todo": True}


class FeedQuery(QuerySchema):
    """The query parameters of a calendar."""

    class Meta(QuerySchema.Meta):
        """A parameter whose name is a word of Python."""

        include: ClassVar[dict[str, fields.Field[Any]]] = {
            "as": Choice(
                FORMS,
                metadata={
                    "description": "Whether tasks are events (VEVENT), which is the default and what most programs "
                    "show, or tasks (VTODO)."
                },
            )
        }

    completed = Boolean(
        metadata={"description": "Whether tasks that were completed within the last 30 days are in it too."}
    )
    alarm = Alarm(
        metadata={
            "description": "How long before a task is due programs should remind of it, as a duration (RFC 5545, "
            "section 3.3.6).",
            "type": "string",
            "pattern": f"^{ALARM.pattern}$",
            "examples": ["PT30M"],
        }
    )

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> tuple[Form, bool]:
        """Return the form of the calendar, and whether completed tasks are in it."""
        return Form(parameters.get("as", False), parameters.get("alarm")), parameters.get("completed", False)


class CalendarOut(Output):
    """Whether a calendar has an address."""

    active = fields.Boolean(required=True)


class AddressOut(Output):
    """The address of a calendar."""

    url = fields.String(
        required=True,
        metadata={
            "description": "Whoever knows it reads the calendar. It is returned this once.",
            "format": "uri",
            "example": f"https://api.example.com/calendar/dXNlci0xMjM.{'0' * 43}.ics",
        },
    )


@bp.route("")
@require_jwt
@bp.response(200, CalendarOut)
@conditional_read
@validate_request(headers=CONDITIONAL)
def get_calendar(user_id: str) -> ResponseReturnValue:
    """Check whether the calendar has an address."""
    return jsonify({"active": queries.is_active(user_id)})


@bp.route("", methods=["PUT"])
@require_jwt
@bp.response(201, AddressOut)
@bp.alt_response(409, "NoPublicUrl")
@bp.alt_response(412, "PreconditionFailed")
@validate_request(headers=CONDITIONAL)
def put_calendar(user_id: str) -> ResponseReturnValue:
    """Give the calendar a new address.

    An earlier address stops working. Nobody can look the new one up later.
    """
    config: Config = current_app.extensions["config"]
    if config.production and config.public_url is None:
        raise NoPublicUrl
    check_untagged()
    address, digest = addresses.create(user_id)
    queries.activate(user_id, digest)
    return jsonify({"url": f"{config.public_url or request.root_url.rstrip('/')}/calendar/{address}.ics"}), 201


@bp.route("", methods=["DELETE"])
@require_jwt
@bp.response(204)
@bp.alt_response(412, "PreconditionFailed")
@validate_request(headers=CONDITIONAL)
def delete_calendar(user_id: str) -> ResponseReturnValue:
    """Take the address of the calendar away."""
    check_untagged()
    queries.deactivate(user_id)
    return no_content()


@feeds.route("/<address>.ics")
@feeds.doc(security=[])
@feeds.response(
    200,
    {"type": "string"},
    content_type=MEDIA_TYPE,
    description="Open tasks that are due from 90 days ago to two years ahead, at most 5000.",
    headers=ETAG_HEADER,
)
@conditional_read
@feeds.alt_response(404, "NotFound")
@feeds.alt_response(429, "TooManyRequests")
@feeds.alt_response(503, "Unavailable")
@validate_request(query=FeedQuery(), headers=CONDITIONAL)
def read_calendar(address: str, query: tuple[Form, bool]) -> ResponseReturnValue:
    """Read a calendar.

    Its address is the permission to do so.
    """
    form, with_completed = query
    found = addresses.parse(address)
    if found is None:
        raise NotFound
    count_read(f"{found.owner} {found.digest.hex()}")
    today = datetime.now(UTC).date()
    tag = QueryETag(found.owner, "calendar", today, form, with_completed)
    feed = queries.read(found, today, tag.last_revision, with_completed=with_completed)
    if feed is None:
        raise NotFound
    requests.current().user_id = found.owner
    if feed.revision == tag.last_revision:
        response = tag.not_modified()
    else:
        response = Response(ical.write(found.owner, feed.tasks, form), mimetype=MEDIA_TYPE)
        response.headers["ETag"] = tag.headers(feed.revision)["ETag"]
    response.headers.update(CACHE_CONTROL)
    return response
