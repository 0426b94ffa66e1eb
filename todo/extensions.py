"""The extensions, built here and wired in the factory. Imports nothing from todo."""

import re
from collections.abc import Iterable
from typing import Any

import orjson
from flask.json.provider import JSONProvider
from flask.wrappers import Response
from flask_cors import CORS
from flask_smorest import Api
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Every constraint has a name that says its table, so that migrations can drop it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )


class ORJSONProvider(JSONProvider):
    """JSON by orjson: strict RFC 8259 in, UTF-8 out, datetimes as RFC 3339 in UTC with `Z`."""

    OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Give the JSON text of an object."""
        indent = orjson.OPT_INDENT_2 if kwargs.get("indent") else 0
        return orjson.dumps(obj, option=self.OPTIONS | indent).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Parse JSON text; a ValueError says where it is wrong."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Make an answer of a body, with no detour through text."""
        body = orjson.dumps(self._prepare_response_obj(args, kwargs), option=self.OPTIONS)
        return Response(body, mimetype="application/json")


db = SQLAlchemy(model_class=Base)
cors = CORS(
    supports_credentials=True,
    methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
    allow_headers=[
        "Authorization",
        "Content-Type",
        "Accept",
        "Prefer",
        "If-Match",
        "If-None-Match",
        "Idempotency-Key",
        "X-Request-ID",
        "traceparent",
        "Confirm",
    ],
    expose_headers=[
        "ETag",
        "Link",
        "Location",
        "Allow",
        "Retry-After",
        "WWW-Authenticate",
        "Preference-Applied",
        "Idempotent-Replayed",
        "X-Request-ID",
        "X-Total-Count",
        "RateLimit",
        "RateLimit-Policy",
    ],
    max_age=600,
    always_send=False,
    vary_header=False,
)
api = Api()


def exactly(origins: Iterable[str]) -> list[re.Pattern[str]]:
    """Give patterns that match these origins and nothing else; a text with brackets would be taken for a pattern."""
    return [re.compile(rf"{re.escape(origin)}\Z") for origin in origins]


def vary_by_origin(response: Response) -> Response:
    """Tell caches that the answer depends on who asks, whether or not this one was allowed (Fetch, CORS protocol)."""
    response.headers.add("Vary", "Origin")
    return response
