"""From an HTTP request to validated input, or to a problem that lists the faults."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar
from urllib.parse import quote

from flask import make_response, request
from flask.typing import ResponseReturnValue
from marshmallow import EXCLUDE, Schema, ValidationError, fields, missing
from werkzeug.datastructures import MultiDict
from werkzeug.http import parse_list_header

from todo.context import current_request
from todo.http import adapters
from todo.http.body import read_json
from todo.http.documented import Blueprint
from todo.http.problems import FAULTS_MAX, Fault, TaskNotFound, UnprocessableContent
from todo.http.routing import NO_ID

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

# What a fragment holds as it is, beside what never needs an escape (RFC 3986, section 3.5).
FRAGMENT_SAFE = "~!$&'()*+,;=:@?"

PREFERENCE_APPLIED = "Preference-Applied"
STRICT_APPLIED = {PREFERENCE_APPLIED: "handling=strict"}

P = ParamSpec("P")
V = TypeVar("V")


class AliasedSchema(Schema):
    """A schema whose fields clients also know by other names, in snake_case or in camelCase."""

    # Other name to field.
    aliases: ClassVar[Mapping[str, str]] = {}

    def resolve(self, name: str) -> str | None:
        """Return the field that a name stands for, or None if it stands for none."""
        snake_case = _snake_case(name)
        field = self.aliases.get(snake_case, snake_case)
        return field if field in self.fields else None


class QuerySchema(AliasedSchema):
    """The query parameters of a call. Each field receives the list of the values under its name.

    Some clients add `[]` to the name of an array, which is the same name.
    """

    class Meta:
        """Unknown parameters are ignored."""

        unknown = EXCLUDE

    # The aliases whose values are separated by commas, although those of their fields are not.
    comma_separated: ClassVar[Collection[str]] = ()

    def resolve(self, name: str) -> str | None:
        """Return the field that the name of a parameter stands for, or None if it stands for none."""
        return super().resolve(name.removesuffix("[]"))

    def canonical(self, query: MultiDict[str, str]) -> Iterator[tuple[str, str, list[str]]]:
        """Yield the known parameters of a query that have a value: the name as sent, the field, and the values.

        A parameter without a value, as HTML forms send it, counts as absent.
        """
        for name, sent in query.lists():
            if (field := self.resolve(name)) is not None:
                has_commas = _snake_case(name.removesuffix("[]")) in self.comma_separated
                values = [part for value in sent for part in (value.split(",") if has_commas else [value])]
                if present := [value for value in values if value.strip()]:
                    yield name, field, present


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
    parameters = sorted({*query.fields, *query.aliases}) if query else []
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
                unknown = [name for name in request.args if query is None or query.resolve(name) is None]
                faults = unknown_names(unknown, parameters, _in_query)
            if query is not None:
                kwargs["query"] = load_query(query, faults, strict=strict)
            if body is not None:
                document = read_json(media_types)
                if document is missing and not required:
                    document = {}
                kwargs["body"] = load_body(body, document, known_members, faults, strict=strict)
            elif faults:
                raise UnprocessableContent(faults, headers=STRICT_APPLIED)
            if kwargs.get("task_id") == NO_ID:
                # No database is needed to know that.
                raise TaskNotFound
            response = adapters.current().call(view, *args, **kwargs)
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
    if (header := current_request().environ.get("HTTP_PREFER")) is None:
        return None
    for sent in parse_list_header(header):
        preferred, _, value = sent.partition(";")[0].partition("=")
        if preferred.strip().lower() == name:
            return value.strip().strip('"').lower()
    return None


def load_query(schema: QuerySchema, faults: Sequence[Fault], *, strict: bool) -> Any:
    """Validate the query parameters of the request.

    Args:
        schema: The schema of the parameters.
        faults: The faults found so far. They are reported together with those of the parameters.
        strict: Whether a problem confirms `Prefer: handling=strict`.

    Raises:
        UnprocessableContent: There is at least one fault.

    """
    faults = list(faults)
    sent: list[tuple[str, str, list[str]]] = []
    for name, field, values in schema.canonical(current_request().args):
        if any("\0" in value for value in values):
            faults.append({"parameter": name, "detail": f"{name} must not contain the NUL character (U+0000)."})
        else:
            sent.append((name, field, values))
    values_by_field, names, conflicts = _merge(schema, sent, _in_query)
    faults += conflicts
    try:
        # No parameter is required and none has a default, so absent ones need not be visited.
        loaded = schema.load(values_by_field, partial=True)
    except ValidationError as error:
        faults += [
            {**_in_query(names[field]), "detail": f"{names[field]} {message}"}
            for field, messages in error.messages_dict.items()
            for message in messages
        ]
    if faults:
        raise UnprocessableContent(faults, headers=STRICT_APPLIED if strict else None)
    return loaded


def load_body(
    schema: Schema,
    document: Any,
    known_members: frozenset[str],
    faults: list[Fault],
    *,
    strict: bool,
    pointer: str = "#",
    listed: int = FAULTS_MAX,
) -> Any:
    """Validate a parsed body, or a part of it.

    Args:
        schema: The schema of the body.
        document: The parsed body, or `marshmallow.missing`.
        known_members: The members that are no fault with `Prefer: handling=strict`.
        faults: The faults found so far. They are reported together with those of the body.
        strict: Whether unknown members are faults.
        pointer: Where the document is in the body.
        listed: How many faults are listed at most.

    Raises:
        UnprocessableContent: There is at least one fault.

    """

    def locate(name: str) -> Fault:
        return {"pointer": member_pointer(pointer, name)}

    headers = STRICT_APPLIED if strict else None
    if not isinstance(document, dict):
        rule = "A JSON body is required." if document is missing else "The body must be a JSON object."
        raise UnprocessableContent([*faults, {"pointer": pointer, "detail": rule}], headers=headers)
    document, adapted = adapters.current().body(schema, document)
    faults = faults + [Fault(**locate(name), detail=f"{name} {rule}") for name, rule in adapted]
    names: Mapping[str, str] = {}
    unknown = [name for name in document if name not in known_members]
    if isinstance(schema, AliasedSchema):
        unknown = [name for name in unknown if schema.resolve(name) is None]
        sent = [(name, field, value) for name, value in document.items() if (field := schema.resolve(name))]
        document, names, conflicts = _merge(schema, sent, locate)
        faults = faults + conflicts
    if strict:
        faults = faults + unknown_names(unknown, schema.fields, locate, listed)
    try:
        loaded = schema.load(document)
    except ValidationError as error:
        messages = error.messages_dict
        whole = [Fault(pointer=pointer, detail=message) for message in messages.pop("_schema", [])]
        as_sent = {names.get(field, field): member for field, member in messages.items()}
        members = [
            fault
            for name, member in as_sent.items()
            for fault in _member_faults(name, member_pointer(pointer, name), member)
        ]
        # A misspelt member usually explains a fault of the whole body, such as "nothing to change".
        raise UnprocessableContent([*(faults or whole), *members], listed=listed, headers=headers) from None
    if faults:
        raise UnprocessableContent(faults, listed=listed, headers=headers)
    return loaded


def _member_faults(name: str, pointer: str, messages: Sequence[str] | Mapping[Any, Any]) -> Iterable[Fault]:
    """Yield the faults of a member, of each element if it is an array, and of each member if it is an object."""
    if not isinstance(messages, Mapping):
        for message in messages:
            yield {"pointer": pointer, "detail": f"{name} {message}"}
        return
    for key, inner in messages.items():
        inner_name = f"{name}[{key}]" if isinstance(key, int) else f"{name}.{key}"
        yield from _member_faults(inner_name, member_pointer(pointer, str(key)), inner)


def member_pointer(pointer: str, name: str) -> str:
    """Return the pointer to a member of what a pointer leads to, as a URI fragment (RFC 6901, section 6)."""
    return f"{pointer}/{quote(name.replace('~', '~0').replace('/', '~1'), safe=FRAGMENT_SAFE)}"


def _in_query(name: str) -> Fault:
    return {"parameter": name}


def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _merge(
    schema: Schema, sent: Iterable[tuple[str, str, V]], locate: Callable[[str], Fault]
) -> tuple[dict[str, V], dict[str, str], list[Fault]]:
    """Return the value of each field, the name under which it was sent, and the faults.

    A field that was sent under several names must have the same value under each of them.

    Args:
        schema: The schema of the fields.
        sent: The names as sent, with their fields and values.
        locate: Makes the position of a fault from a name.

    """
    values: dict[str, V] = {}
    names: dict[str, str] = {}
    faults: list[Fault] = []
    for name, field, value in sent:
        if field not in values:
            values[field], names[field] = value, name
        elif not _means_the_same(schema.fields[field], value, values[field]):
            rule = f"{name} means the same as {names[field]}, and must not have another value."
            faults.append({**locate(name), "detail": rule})
    return values, names, faults


def _means_the_same(field: fields.Field[Any], one: Any, other: Any) -> bool:
    try:
        return bool(field.deserialize(one) == field.deserialize(other))
    except ValidationError:
        return repr(one) == repr(other)


def unknown_names(
    names: Iterable[str], suggested: Iterable[str], locate: Callable[[str], Fault], listed: int = FAULTS_MAX
) -> list[Fault]:
    """Return a fault for each of these unknown names.

    Args:
        names: The unknown names.
        suggested: Those of which the nearest is named.
        locate: Makes the position of a fault from a name.
        listed: How many faults are listed at most. The others need no nearest name, which takes time to find.

    """
    faults: list[Fault] = []
    for name in names:
        nearest = get_close_matches(name, suggested, n=1, cutoff=0) if len(faults) < listed else []
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
