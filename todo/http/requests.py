"""From an HTTP request to validated input, or to a problem that lists the faults."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, ClassVar, ParamSpec
from urllib.parse import quote

from flask import make_response, request
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, Schema, ValidationError, missing
from werkzeug.http import parse_list_header

from todo.http.body import read_json
from todo.http.problems import Fault, UnprocessableContent

SUGGESTIONS_MAX = 100

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

PREFERENCE_APPLIED = "Preference-Applied"
STRICT_APPLIED = {PREFERENCE_APPLIED: "handling=strict"}

P = ParamSpec("P")


class QuerySchema(Schema):
    """The query parameters of a call. Each field receives the list of the values under its name."""

    class Meta:
        """Unknown parameters are ignored."""

        unknown = EXCLUDE

    # Other names that clients use for the same parameters: alias to field.
    aliases: ClassVar[Mapping[str, str]] = {}


def validate_request(
    body: Schema | None = None,
    *,
    query: QuerySchema | None = None,
    read_only: Iterable[str] = (),
    headers: Sequence[str] = (),
    media_types: Sequence[str] = (JSON,),
    required: bool = True,
) -> Callable[[Callable[P, ResponseReturnValue]], Callable[P, ResponseReturnValue]]:
    """Validate the query and the body of each request, pass them to the view, and document them.

    The view receives the validated query as `query` and the validated body as `body`. If anything is invalid, the
    view is not called, and one problem lists the faults.

    Args:
        body: The schema of the body. Without one a body is ignored.
        query: The schema of the query parameters. Without one they are ignored.
        read_only: Members of the body that are ignored, even with `Prefer: handling=strict`.
        headers: The request headers that the view reads, as the OpenAPI document names them.
        media_types: The media types that the body may have.
        required: Whether the body is required.

    """
    known_members = frozenset(read_only) | frozenset(body.fields if body else ())
    known_parameters = {*query.fields, *query.aliases} if query else set()
    documentation = _documentation(body, query, headers, media_types, required=required)

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
        first, *rest = view.__name__.split("_")
        operation_id = first + "".join(word.title() for word in rest)
        documented = Blueprint.doc(operationId=operation_id, **documentation)(view)

        @wraps(documented)
        def validated(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            strict = preference("handling") == "strict"
            faults: list[Fault] = []
            if strict:
                faults = _unknown(request.args, known_parameters, sorted(known_parameters), _in_query)
            if query is not None:
                kwargs["query"] = load_query(query, faults, strict=strict)
            if body is not None:
                document = read_json(media_types)
                if document is missing and not required:
                    document = {}
                kwargs["body"] = load_body(body, document, known_members, faults, strict=strict)
            elif faults:
                raise UnprocessableContent(faults, headers=STRICT_APPLIED)
            response = view(*args, **kwargs)
            if strict:
                response = make_response(response)
                response.headers.add(PREFERENCE_APPLIED, STRICT_APPLIED[PREFERENCE_APPLIED])
            return response

        return validated

    return decorate


def preference(name: str) -> str | None:
    """Return the client's preference of this name in lower case, or None (`Prefer`, RFC 7240, section 2).

    If a preference is sent more than once, its first value counts, as the RFC requires.
    """
    for sent in parse_list_header(request.headers.get("Prefer", "")):
        preferred, _, value = sent.partition(";")[0].partition("=")
        if preferred.strip().lower() == name:
            return value.strip().strip('"').lower()
    return None


def load_query(schema: QuerySchema, faults: Sequence[Fault], *, strict: bool) -> Any:
    """Validate the query parameters of the request.

    A parameter without a value, as HTML forms send it, counts as absent.

    Args:
        schema: The schema of the parameters.
        faults: The faults found so far. They are reported together with those of the parameters.
        strict: Whether a problem confirms `Prefer: handling=strict`.

    Raises:
        UnprocessableContent: There is at least one fault.

    """
    faults = list(faults)
    names: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, sent in request.args.lists():
        field = schema.aliases.get(name, name)
        if field not in schema.fields or not (present := [value for value in sent if value.strip()]):
            continue
        if field in names:
            faults.append({"parameter": name, "detail": f"{name} cannot be sent together with {names[field]}."})
        elif any("\0" in value for value in present):
            faults.append({"parameter": name, "detail": f"{name} must not contain the NUL character (U+0000)."})
        else:
            names[field], values[field] = name, present
    try:
        # No parameter is required and none has a default, so absent ones need not be visited.
        loaded = schema.load(values, partial=True)
    except ValidationError as error:
        faults += [
            {"parameter": names[field], "detail": f"{names[field]} {message}"}
            for field, messages in error.messages_dict.items()
            for message in messages
        ]
    if faults:
        raise UnprocessableContent(faults, headers=STRICT_APPLIED if strict else None)
    return loaded


def load_body(
    schema: Schema, document: Any, known_members: frozenset[str], faults: list[Fault], *, strict: bool
) -> Any:
    """Validate a parsed body.

    Args:
        schema: The schema of the body.
        document: The parsed body, or `marshmallow.missing`.
        known_members: The members that are no fault with `Prefer: handling=strict`.
        faults: The faults found so far. They are reported together with those of the body.
        strict: Whether unknown members are faults.

    Raises:
        UnprocessableContent: There is at least one fault.

    """
    headers = STRICT_APPLIED if strict else None
    if not isinstance(document, dict):
        rule = "A JSON body is required." if document is missing else "The body must be a JSON object."
        raise UnprocessableContent([*faults, {"pointer": "#", "detail": rule}], headers=headers)
    if strict:
        faults = faults + _unknown(document, known_members, schema.fields, _in_body)
    try:
        loaded = schema.load(document)
    except ValidationError as error:
        messages = error.messages_dict
        whole = [Fault(pointer="#", detail=message) for message in messages.pop("_schema", [])]
        members = [fault for name, member in messages.items() for fault in _member_faults(name, member)]
        # A misspelt member usually explains a fault of the whole body, such as "nothing to change".
        raise UnprocessableContent([*(faults or whole), *members], headers=headers) from None
    if faults:
        raise UnprocessableContent(faults, headers=headers)
    return loaded


def _member_faults(name: str, messages: Sequence[str] | Mapping[int, Sequence[str]]) -> Iterable[Fault]:
    """Yield the faults of a member, or of each element if the member is an array."""
    if isinstance(messages, Mapping):
        for index, element_messages in messages.items():
            for message in element_messages:
                yield {"pointer": f"{_in_body(name)['pointer']}/{index}", "detail": f"{name}[{index}] {message}"}
    else:
        for message in messages:
            yield {**_in_body(name), "detail": f"{name} {message}"}


def _in_body(name: str) -> Fault:
    """Point at a member of the body with a URI fragment (RFC 6901, section 6)."""
    return {"pointer": "#/" + quote(name.replace("~", "~0").replace("/", "~1"), safe="~!$&'()*+,;=:@?")}


def _in_query(name: str) -> Fault:
    return {"parameter": name}


def _unknown(
    names: Iterable[str], known: Iterable[str], suggested: Iterable[str], locate: Callable[[str], Fault]
) -> list[Fault]:
    faults: list[Fault] = []
    for name in names:
        if name not in known:
            # The search for the nearest name takes time, and hundreds of unknown names are no spelling mistakes.
            suggest = len(faults) < SUGGESTIONS_MAX
            nearest = get_close_matches(name, suggested, n=1, cutoff=0) if suggest else []
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
