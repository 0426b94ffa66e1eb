"""The extensions, created here and initialised by the factory. This module imports nothing from todo."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
from flask import Flask, request
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
        body = self.encode(self._prepare_response_obj(args, kwargs))
        response: Response = self._app.response_class(body, mimetype="application/json")  # type: ignore[arg-type,assignment]
        return response


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
    hooks: list[Callable[[Response], Response]] = []
    # It takes a blueprint too, and needs no more of either: errors pass all hooks here.
    taker: Any = SimpleNamespace(after_request=hooks.append)
    cors.init_app(taker, origins=patterns, resources=r"/(?!calendar/).*")
    (allow,) = hooks
    app.after_request(partial(_add_cors_headers, allow))


def _add_cors_headers(allow: Callable[[Response], Response], response: Response) -> Response:
    """Allow the origin of a request to read the response.

    Caches need `Vary` on allowed and refused requests alike. A request without an origin gets no other header, and
    Flask-CORS takes as long as all other hooks to find that out.
    """
    response.headers.add("Vary", "Origin")
    return allow(response) if "HTTP_ORIGIN" in request.environ else response
