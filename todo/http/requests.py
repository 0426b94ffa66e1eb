"""From an HTTP request to validated input, or to a problem that names every fault."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, ClassVar, ParamSpec
from urllib.parse import quote

from flask import current_app, make_response, request
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, Schema, ValidationError, missing
from werkzeug.http import parse_list_header

from todo.http.problems import BadRequest, ContentTooLarge, Fault, UnprocessableContent, UnsupportedMediaType

BODY_MAX_BYTES = 64 * 1024
DISCARD_MAX_BYTES = 16 * 1024 * 1024
DISCARD_MAX_S = 5
NESTING_MAX = 100
HINTS_MAX = 100

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

BROKEN_OFF = "The request body ended before it was complete."

APPLIED = "Preference-Applied"
STRICT = {APPLIED: "handling=strict"}

P = ParamSpec("P")


class QuerySchema(Schema):
    """The parameters of a call. Each field is given the list of the values that were sent under its name."""

    class Meta:
        """What nobody knows is ignored."""

        unknown = EXCLUDE

    # Other names for the same parameters, as clients have them.
    aliases: ClassVar[Mapping[str, str]] = {}


def accepts(
    body: Schema | None = None,
    *,
    query: QuerySchema | None = None,
    read_only: Iterable[str] = (),
    headers: Sequence[str] = (),
    media_types: Sequence[str] = (JSON,),
    required: bool = True,
) -> Callable[[Callable[P, ResponseReturnValue]], Callable[P, ResponseReturnValue]]:
    """Say what a view takes; it then gets the validated body as `body` and query as `query`, or is not called.

    Args:
        body: The schema of the body; without one a body is ignored.
        query: The schema of the parameters; without one they are ignored.
        read_only: Members that are no fault in a body and have no effect.
        headers: The request headers that the view reads.
        media_types: The media types that the body may have.
        required: Whether there must be a body.

    """
    known = frozenset(read_only) | frozenset(body.fields if body else ())
    parameters = {*query.fields, *query.aliases} if query else set()
    documentation = _documentation(body, query, headers, media_types, required=required)

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
        first, *rest = view.__name__.split("_")
        name = first + "".join(word.title() for word in rest)
        documented = Blueprint.doc(operationId=name, **documentation)(view)

        @wraps(documented)
        def validated(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            strict = preference("handling") == "strict"
            faults = _unknown(request.args, parameters, sorted(parameters), _in_query) if strict else []
            if query is not None:
                kwargs["query"] = load_query(query, faults, strict=strict)
            if body is not None:
                document = read_json(media_types)
                if document is missing and not required:
                    document = {}
                kwargs["body"] = load(body, document, known, faults, strict=strict)
            elif faults:
                raise UnprocessableContent(faults, headers=STRICT)
            answer = view(*args, **kwargs)
            if strict:
                answer = make_response(answer)
                answer.headers.add(APPLIED, STRICT[APPLIED])
            return answer

        return validated

    return decorate


def load_query(schema: QuerySchema, faults: list[Fault], *, strict: bool) -> Any:
    """Validate the parameters, and report all their faults together with those found before.

    A parameter without a value, as forms send it, counts as absent.

    Raises:
        UnprocessableContent: there is a fault; each one is an entry.

    """
    faults = list(faults)
    names: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, sent in request.args.lists():
        field = schema.aliases.get(name, name)
        if field not in schema.fields or not (given := [value for value in sent if value.strip()]):
            continue
        if field in names:
            faults.append({"parameter": name, "detail": f"{name} cannot be sent together with {names[field]}."})
        elif any("\0" in value for value in given):
            faults.append({"parameter": name, "detail": f"{name} must not contain the NUL character (U+0000)."})
        else:
            names[field], values[field] = name, given
    try:
        # None is required and none has a default: those that were not sent need not be looked at.
        loaded = schema.load(values, partial=True)
    except ValidationError as error:
        faults += [
            {"parameter": names[field], "detail": f"{names[field]} {message}"}
            for field, messages in error.messages_dict.items()
            for message in messages
        ]
    if faults:
        raise UnprocessableContent(faults, headers=STRICT if strict else None)
    return loaded


def preference(name: str) -> str | None:
    """Give what the client prefers (`Prefer`, RFC 7240, section 2), in lower case; its first word on it counts."""
    for sent in parse_list_header(request.headers.get("Prefer", "")):
        preferred, _, value = sent.partition(";")[0].partition("=")
        if preferred.strip().lower() == name:
            return value.strip().strip('"').lower()
    return None


def read_json(media_types: Sequence[str]) -> Any:
    """Read the body of the request as JSON (RFC 8259).

    Args:
        media_types: Those that it may have. A body with none at all counts as JSON.

    Returns:
        What the body says, or `missing` where there is none.

    Raises:
        BadRequest: it is not JSON.
        ContentTooLarge: it is over the limit.
        UnsupportedMediaType: it has another media type, or is compressed.

    """
    data = _read_body()
    if not data:
        return missing
    if request.mimetype and request.mimetype not in media_types:
        expected = " or ".join(media_types)
        raise UnsupportedMediaType(
            f"The request body must have the media type {expected}.", headers={"Accept": ", ".join(media_types)}
        )
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType(
            "The request body must be sent without a content coding.", headers={"Accept-Encoding": "identity"}
        )
    try:
        document = current_app.json.loads(data)
    except ValueError as error:
        # The parser says what it met and where, never anything about us.
        raise BadRequest(f"The request body is not valid JSON: {error}.") from None
    # Only a body with many brackets can nest deep: all others are spared the walk.
    if data.count(b"[") + data.count(b"{") > NESTING_MAX and _nests_too_deep(document):
        raise BadRequest(f"The request body is nested more than {NESTING_MAX} levels deep.")
    return document


def _read_body() -> bytes:
    data = b""
    try:
        while len(data) <= BODY_MAX_BYTES and (piece := request.stream.read(BODY_MAX_BYTES + 1 - len(data))):
            data += piece
        if len(data) > BODY_MAX_BYTES:
            _discard_rest()
    except Exception as error:
        # Every server has its own exceptions for a body that breaks off or is framed wrongly.
        raise BadRequest(BROKEN_OFF, reason=type(error).__name__) from error
    if len(data) > BODY_MAX_BYTES:
        raise ContentTooLarge
    # What has come might be good JSON by itself; it is still not what the client meant to say.
    if len(data) < (request.content_length or 0):
        raise BadRequest(BROKEN_OFF)
    return data


def _discard_rest() -> None:
    """Let a client that sends first and reads later come to our answer: a closed connection would say nothing."""
    deadline = time.monotonic() + DISCARD_MAX_S
    discarded = 0
    while discarded < DISCARD_MAX_BYTES and time.monotonic() < deadline:
        piece = request.stream.read(BODY_MAX_BYTES)
        if not piece:
            break
        discarded += len(piece)


def _nests_too_deep(document: Any) -> bool:
    level: list[Any] = [[document]]
    for _ in range(NESTING_MAX + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def load(schema: Schema, document: Any, known: frozenset[str], faults: list[Fault], *, strict: bool) -> Any:
    """Validate a document, and report all its faults together with those found before.

    Raises:
        UnprocessableContent: there is a fault; each one is an entry.

    """
    headers = STRICT if strict else None
    if not isinstance(document, dict):
        rule = "A JSON body is required." if document is missing else "The body must be a JSON object."
        raise UnprocessableContent([*faults, {"pointer": "#", "detail": rule}], headers=headers)
    if strict:
        faults = faults + _unknown(document, known, schema.fields, _in_body)
    try:
        loaded = schema.load(document)
    except ValidationError as error:
        messages = error.messages_dict
        whole = [Fault(pointer="#", detail=message) for message in messages.pop("_schema", [])]
        members = [fault for name, found in messages.items() for fault in _faults(name, found)]
        # What is wrong with the whole is mostly explained by a member that was misspelt.
        raise UnprocessableContent([*(faults or whole), *members], headers=headers) from None
    if faults:
        raise UnprocessableContent(faults, headers=headers)
    return loaded


def _faults(name: str, found: Sequence[str] | Mapping[int, Sequence[str]]) -> Iterable[Fault]:
    """Give an entry for each fault of a member, or of the entries of one that is an array."""
    if isinstance(found, Mapping):
        for place, messages in found.items():
            for message in messages:
                yield {"pointer": f"{_in_body(name)['pointer']}/{place}", "detail": f"{name}[{place}] {message}"}
    else:
        for message in found:
            yield {**_in_body(name), "detail": f"{name} {message}"}


def _in_body(name: str) -> Fault:
    """Point at a member of the body (RFC 6901, section 6: a URI fragment)."""
    return {"pointer": "#/" + quote(name.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@?")}


def _in_query(name: str) -> Fault:
    return {"parameter": name}


def _unknown(
    names: Iterable[str], known: Iterable[str], suggested: Iterable[str], locate: Callable[[str], Fault]
) -> list[Fault]:
    faults: list[Fault] = []
    for name in names:
        if name not in known:
            # Looking for the nearest name takes time: who makes hundreds of mistakes has made another one before.
            nearest = get_close_matches(name, suggested, n=1, cutoff=0) if len(faults) < HINTS_MAX else []
            hint = f"; did you mean {nearest[0]}?" if nearest else "."
            faults.append({**locate(name), "detail": f"{name} is not known here{hint}"})
    return faults


def _documentation(
    body: Schema | None,
    query: QuerySchema | None,
    headers: Sequence[str],
    media_types: Sequence[str],
    *,
    required: bool,
) -> dict[str, Any]:
    parameters: list[Any] = ["Prefer", *headers]
    if query is not None:
        parameters.append({"in": "query", "schema": query})
    if body is None:
        return {"parameters": parameters, "responses": {422: "UnprocessableContent"}}
    return {
        "parameters": parameters,
        "requestBody": {"required": required, "content": {media_type: {"schema": body} for media_type in media_types}},
        "responses": {
            400: "BadRequest",
            413: "ContentTooLarge",
            415: "UnsupportedMediaType",
            422: "UnprocessableContent",
        },
    }
