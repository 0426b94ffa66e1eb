"""Pages of a list: their query parameters, the cursor of the next page, and the headers of the response."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import request, url_for
from marshmallow import ValidationError, validates_schema

from todo.http.openapi import response_header
from todo.http.parameters import Boolean, SingleValue, WholeNumber, described
from todo.http.requests import QuerySchema

PAGE_MAX = 1000
OFFSET_MAX = 10_000

DIGEST_BYTES = 8
DIGEST_PERSON = b"todo cursor"

# Other names of the size and the beginning of a page.
LIMIT_ALIASES = {"per_page": "limit", "page_size": "limit"}
PAGE_ALIASES = {**LIMIT_ALIASES, "skip": "offset"}

# Every cursor is URL-safe Base64 without padding (RFC 4648, section 5).
CURSOR_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}


class BadCursor(ValueError):
    """A cursor that cannot be used; the message is the rest of a sentence about it."""


class ForgedCursor(BadCursor):
    """A cursor with a correct digest and values that this service never writes."""

    def __init__(self) -> None:
        super().__init__("is not one that this service gave: begin again without it.")


def encode_cursor(values: Sequence[Any]) -> str:
    """Encode values as a cursor. The first value is the version: the kind of cursor and the format of its values."""
    payload = orjson.dumps(values, option=orjson.OPT_NAIVE_UTC)
    return _base64url(payload + short_digest(payload))


def decode_cursor(cursor: str, version: Any, number: int) -> list[Any]:
    """Decode a cursor of this version, and return its other values.

    The values may still be of any type: the digest is no signature, and a forged cursor must break nothing.

    Args:
        cursor: The cursor.
        version: Its first value.
        number: How many values follow.

    Raises:
        BadCursor: The cursor is damaged, has another version, or has another number of values.

    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        payload, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        # Base64 can write the same bytes in several ways, of which only the canonical one is accepted.
        values = orjson.loads(payload) if digest == short_digest(payload) and _base64url(data) == cursor else None
    except ValueError:
        values = None
    if not isinstance(values, list):
        raise BadCursor("is not one that this service gave, or it was altered: begin again without it.")
    if values[:1] != [version]:
        raise BadCursor("was given by another version of this service: begin again without it.")
    if len(values) != 1 + number:
        raise ForgedCursor
    return values[1:]


def short_digest(data: bytes) -> bytes:
    """Return the short digest that cursors carry. It detects damage; it is no protection against forgery."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, person=DIGEST_PERSON).digest()


def bigint(value: Any) -> int:
    """Return the value of a cursor if it can be an id or a revision: an integer from 0 to 2**63 - 1.

    Raises:
        ForgedCursor: The value is anything else.

    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ForgedCursor
    return value


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class PageQuery(QuerySchema):
    """The query parameters of every list with pages."""

    aliases = PAGE_ALIASES

    limit = WholeNumber(1, PAGE_MAX, metadata=described(f"The greatest number of tasks; {PAGE_MAX} by default."))
    offset = WholeNumber(
        0, OFFSET_MAX, metadata=described("The number of tasks to skip. The pages of `Link` are faster, and miss none.")
    )
    page = WholeNumber(
        1,
        OFFSET_MAX + 1,
        metadata=described(
            "The number of the page, from 1, where each has `limit` tasks: another way to set `offset`."
        ),
    )
    cursor = SingleValue(
        metadata=CURSOR_SCHEMA | described("The start of the page, from the `Link` of the previous one.")
    )
    count = Boolean(metadata=described("Whether to count all matching tasks, for `X-Total-Count`."))

    @validates_schema
    def begins_in_one_place(self, values: dict[str, Any], **_: Any) -> None:
        """Refuse parameters that set different beginnings of the page, or one beyond the greatest offset."""
        if "cursor" in values:
            for name in ("offset", "page"):
                if name in values:
                    raise ValidationError("cannot be sent together with cursor.", name)
        limit, offset = limit_and_offset(values)
        if values.get("offset", offset) != offset:
            raise ValidationError("must be the page that begins at offset, or be sent without it.", "page")
        if offset > OFFSET_MAX:
            rule = (
                f"must begin at most {OFFSET_MAX} tasks after the first one, and page {values['page']} of {limit} tasks"
            )
            raise ValidationError(f"{rule} begins {offset} after it: follow the `Link` of each page instead.", "page")


def limit_and_offset(parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Return the greatest number of tasks of a page, and how many tasks are before it, of these valid parameters."""
    limit: int = parameters.get("limit", PAGE_MAX)
    offset: int = (parameters["page"] - 1) * limit if "page" in parameters else parameters.get("offset", 0)
    return limit, offset


# The headers of a page in the OpenAPI document.
PAGE_HEADERS: dict[str, Any] = {
    "Link": response_header(
        'The path of the next page, if there is one: `<path>; rel="next"` (RFC 8288).',
        required=False,
        example='</api/me/tasks?cursor=WzEsIjE0In0>; rel="next"',
    ),
    "X-Total-Count": response_header(
        "With `count=true`: the number of tasks on all pages.", required=False, type="integer", minimum=0
    ),
}


def page_headers(schema: QuerySchema, cursor: str | None, total: int | None) -> dict[str, str]:
    """Return the headers of a page.

    Args:
        schema: The schema of the query parameters.
        cursor: The cursor of the next page, or None if there is none.
        total: The number of tasks on all pages, or None if they were not counted.

    """
    headers = {} if cursor is None else {"Link": f'<{_next_path(schema, cursor)}>; rel="next"'}
    return headers if total is None else headers | {"X-Total-Count": str(total)}


def _next_path(schema: QuerySchema, cursor: str) -> str:
    """Return the path of the request with its query, the names of the parameters canonical, and with the cursor."""
    known = {sent: (name, values) for sent, name, values in schema.canonical(request.args)}
    query: dict[str, list[str]] = {}
    for sent, values in request.args.lists():
        if sent in known:
            query.setdefault(*known[sent])
        elif schema.resolve(sent) is None:
            query[sent] = values
    begin = {"cursor", "offset", "page"}
    kept = {name: values for name, values in query.items() if name not in begin} | {"cursor": [cursor]}
    return f"{url_for(str(request.endpoint), **(request.view_args or {}))}?{urlencode(kept, doseq=True)}"
