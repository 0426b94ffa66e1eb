"""The calls of assistants: HTTP in, HTTP out. The protocol describes itself, so `openapi.json` has none of them."""

from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from config import Config, is_loopback
from todo.assistants import protocol, results
from todo.auth import access, allow_access_tokens
from todo.auth.tokens import Caller
from todo.http.problems import ForeignOrigin, NotFound

P = ParamSpec("P")
R = TypeVar("R")

bp = Blueprint("assistants", __name__)


def check_origin(view: Callable[P, R]) -> Callable[P, R]:
    """Restrict a view to requests of no page, of a page of this service, and of the known front-ends.

    A page that makes a browser take its name for the address of this server has an origin of its own (DNS rebinding).
    """

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        origin = request.headers.get("Origin")
        if origin is not None and not _is_known(origin):
            raise ForeignOrigin(reason="the origin is none of CORS_ORIGINS")
        return view(*args, **kwargs)

    return checked


def _is_known(origin: str) -> bool:
    config: Config = current_app.extensions["config"]
    if origin in config.cors_origins:
        return True
    if config.public_url is not None:
        return origin == urlsplit(config.public_url)._replace(path="").geturl()
    # The name that the request was sent to may be anybody's, unless it is that of this machine.
    return origin == request.host_url.rstrip("/") and is_loopback(urlsplit(origin).hostname or "")


@bp.route("/mcp", methods=["POST"])
@check_origin
@allow_access_tokens
def answer(caller: Caller) -> ResponseReturnValue:
    """Answer one message of an assistant (Streamable HTTP)."""
    return protocol.answer(partial(results.of, caller=caller))


@bp.route(access.METADATA_PATH)
@bp.route(f"{access.METADATA_PATH}/mcp")
def describe() -> ResponseReturnValue:
    """Return where clients get an access token (RFC 9728)."""
    metadata = access.metadata(current_app.extensions["config"])
    if metadata is None:
        raise NotFound
    return jsonify(metadata)
