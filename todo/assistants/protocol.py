"""The Model Context Protocol over HTTP: one JSON-RPC message in, one out, and nothing is kept between two requests.

Clients of the revision 2026-07-28 describe each request in its `_meta`, and repeat that in headers. Those of earlier
revisions begin with `initialize`, whose answer binds this service to nothing.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Response, request
from marshmallow import missing

from todo.extensions import ORJSONProvider
from todo.http.body import read_json
from todo.http.openapi import VERSION
from todo.http.problems import BadRequest
from todo.http.requests import JSON

# The revisions in which each request stands for itself, and those with `initialize`, the newest first.
SUPPORTED = ("2026-07-28",)
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
REVISION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# The members of `_meta`, and the headers.
META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_SERVER = "io.modelcontextprotocol/serverInfo"
VERSION_HEADER, METHOD_HEADER, NAME_HEADER = "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"

# What a header holds that no header can hold as it is.
ENCODED = re.compile(r"=\?base64\?(.*)\?=")

# The codes of JSON-RPC 2.0 (section 5.1), and those of the protocol.
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

SERVER = {"name": "todo", "title": "Tasks", "version": VERSION}


class ProtocolError(Exception):
    """An error of JSON-RPC.

    Args:
        code: Its code.
        message: One sentence.
        status: The status of the response.
        data: More about it, for programs.

    """

    def __init__(self, code: int, message: str, status: int = 200, data: Mapping[str, Any] | None = None) -> None:
        self.code = code
        self.status = status
        self.members = {"code": code, "message": message} | ({} if data is None else {"data": data})
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Message:
    """A request of JSON-RPC, or a notification, which has no id and gets no answer.

    Attributes:
        id: Its id.
        method: Its method.
        params: Its parameters.
        is_modern: Whether it is one of the revisions in which each request stands for itself.

    """

    id: str | float | None
    method: str
    params: Mapping[str, Any]
    is_modern: bool


def answer(result_of: Callable[[Message], Mapping[str, Any]]) -> Response:
    """Answer the message in the body of the request.

    Args:
        result_of: Returns the result of a message, or raises `ProtocolError`.

    Raises:
        ContentTooLarge: The body is too long.
        UnsupportedMediaType: The body is no JSON by its media type, or has a content coding.

    """
    message_id = None
    try:
        document = _read()
        message_id = document.get("id")
        message = _parse(document)
        if message.id is None:
            return Response(status=202)
        if message.is_modern:
            _check_metadata(message)
        result = result_of(message)
    except ProtocolError as error:
        return _response({"error": error.members}, message_id, error.status)
    if message.is_modern:
        result = {"resultType": "complete", **result, "_meta": {META_SERVER: SERVER}}
    return _response({"result": result}, message_id)


def _response(outcome: Mapping[str, Any], message_id: Any, status: int = 200) -> Response:
    # An answer to what has no id that can be read has none either, as the protocol says; JSON-RPC itself has null.
    members = {"jsonrpc": "2.0", **({"id": message_id} if _is_id(message_id) else {}), **outcome}
    return Response(orjson.dumps(members, option=ORJSONProvider.OPTIONS), status=status, mimetype=JSON)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _read() -> dict[str, Any]:
    """Read the message.

    Raises:
        ProtocolError: The body is not JSON, or not one object.

    """
    try:
        document = read_json((JSON,))
    except BadRequest as problem:
        raise ProtocolError(PARSE_ERROR, problem.detail, 400) from None
    if document is missing:
        raise ProtocolError(PARSE_ERROR, "A JSON body is required.", 400)
    if not isinstance(document, dict):
        raise ProtocolError(INVALID_REQUEST, "The body must be one message: a JSON object, and no array.", 400)
    return document


def _parse(document: Mapping[str, Any]) -> Message:
    """Return a message whose form is right.

    Raises:
        ProtocolError: It is none of JSON-RPC 2.0, its parameters are no object, or its revision is not known.

    """
    method, params = document.get("method"), document.get("params", {})
    if document.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, 'A message has "jsonrpc": "2.0" and a method.', 400)
    if "id" in document and not _is_id(document["id"]):
        raise ProtocolError(INVALID_REQUEST, "An id is a string or a number.", 400)
    if not isinstance(params, dict):
        raise ProtocolError(INVALID_PARAMS, "params must be an object.", 400)
    meta, header = params.get("_meta"), request.headers.get(VERSION_HEADER)
    is_modern = isinstance(meta, dict) and META_VERSION in meta
    if not is_modern and header is not None:
        if header not in LEGACY and not (REVISION.fullmatch(header) and header >= SUPPORTED[-1]):
            raise _unsupported(header)
        is_modern = header not in LEGACY
    return Message(document.get("id"), method, params, is_modern)


def _check_metadata(message: Message) -> None:
    """Check what a request says of itself.

    Raises:
        ProtocolError: `_meta` lacks a member, the headers say something else, or the revision is not known.

    """
    meta = message.params.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    version = meta.get(META_VERSION)
    if not isinstance(version, str) or not isinstance(meta.get(META_CAPABILITIES), dict):
        rule = f"_meta must have {META_VERSION}, a string, and {META_CAPABILITIES}, an object."
        raise ProtocolError(INVALID_PARAMS, rule, 400)
    _check_header(VERSION_HEADER, request.headers.get(VERSION_HEADER), version)
    _check_header(METHOD_HEADER, request.headers.get(METHOD_HEADER), message.method)
    if message.method == "tools/call":
        _check_header(NAME_HEADER, _decode(request.headers.get(NAME_HEADER)), message.params.get("name"))
    if version not in SUPPORTED:
        raise _unsupported(version)


def _check_header(name: str, header: str | None, value: Any) -> None:
    if header != value:
        raise ProtocolError(HEADER_MISMATCH, f"The header {name} does not say what the body says.", 400)


def _decode(header: str | None) -> str | None:
    """Return the value of a header, which may be encoded."""
    if header is None or not (encoded := ENCODED.fullmatch(header)):
        return header
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _unsupported(version: str) -> ProtocolError:
    data = {"supported": SUPPORTED, "requested": version}
    return ProtocolError(UNSUPPORTED_VERSION, "This revision of the protocol is not supported.", 400, data)
