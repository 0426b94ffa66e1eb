"""The extensions, created here and initialised by the factory. This module imports nothing from todo."""

import re
from collections.abc import Iterable
from typing import Any

import orjson
from flask import Flask
from flask.json.provider import JSONProvider
from flask.wrappers import Response
from flask_cors import CORS
from flask_smorest import Api
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """The base of the models. Every constraint has a name, by its kind and its table, so migrations can drop it."""

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
    """JSON by orjson: reads strict RFC 8259, writes UTF-8, and date-times as RFC 3339 in UTC with `Z`."""

    OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return the JSON text of an object."""
        indent = orjson.OPT_INDENT_2 if kwargs.get("indent") else 0
        return orjson.dumps(obj, option=self.OPTIONS | indent).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Parse JSON text.

        Raises:
            ValueError: The text is not JSON; the message names the position of the fault.

        """
        return orjson.loads(s)

    def encode(self, obj: Any) -> bytes:
        """Return the JSON text of an object in UTF-8, without the intermediate text of `dumps`."""
        return orjson.dumps(obj, option=self.OPTIONS)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a response with a body of JSON."""
        return Response(self.encode(self._prepare_response_obj(args, kwargs)), mimetype="application/json")


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
        "tracestate",
        "baggage",
        "sentry-trace",
        "Confirm",
        "Last-Event-ID",
        "MCP-Protocol-Version",
        "Mcp-Method",
        "Mcp-Name",
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


def init_cors(app: Flask, origins: Iterable[str]) -> None:
    """Allow these origins, and no others, to read responses (Fetch, CORS protocol); calendars are for no front-end."""
    # Flask-CORS takes some texts for regular expressions, so each origin becomes a pattern that matches it alone.
    patterns = [re.compile(rf"{re.escape(origin)}\Z") for origin in origins]
    cors.init_app(app, origins=patterns, resources=r"/(?!calendar/).*")
    app.after_request(_vary_by_origin)


def _vary_by_origin(response: Response) -> Response:
    """Add `Vary: Origin`, which caches need on allowed and refused requests alike (Fetch, CORS protocol)."""
    response.headers.add("Vary", "Origin")
    return response
