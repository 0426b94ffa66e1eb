"""Pages of a list: the parameters that ask for one, the cursor that leads to the next, and the headers that say so."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import request, url_for
from marshmallow import ValidationError, validates_schema

from todo.http.openapi import header
from todo.http.parameters import BOOLEANS, Boolean, SingleValue, WholeNumber, described
from todo.http.requests import QuerySchema

PAGE_MAX = 1000
OFFSET_MAX = 10_000

DIGEST_BYTES = 8
PERSON = b"todo cursor"

# What every cursor is made of, as the documentation says it.
SEALED = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}


class BadCursor(ValueError):
    """The cursor cannot be used; the message says why."""


def seal(parts: Sequence[Any]) -> str:
    """Write down some parts, of which the first says what they are for and in which version."""
    payload = orjson.dumps(parts, option=orjson.OPT_NAIVE_UTC)
    return _written(payload + digest_of(payload))


def unseal(cursor: str, version: Any) -> list[Any]:
    """Read the parts that were written down, without the first one.

    They may still be nonsense: a cursor can be forged, and that must break nothing.

    Raises:
        BadCursor: it is damaged, or of another version.

    """
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        payload, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
        # The same bytes can be written in several ways, of which only one is ours.
        parts = orjson.loads(payload) if digest == digest_of(payload) and _written(data) == cursor else None
    except ValueError:
        parts = None
    if not isinstance(parts, list):
        raise BadCursor("is not one that this service gave, or it was altered: begin again without it.")
    if parts[:1] != [version]:
        raise BadCursor("was given by another version of this service: begin again without it.")
    return parts[1:]


def forged() -> BadCursor:
    """Make the error for parts that nobody but a forger can have written."""
    return BadCursor("is not one that this service gave: begin again without it.")


def _written(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def digest_of(data: bytes) -> bytes:
    """Return the short digest that cursors carry; it finds damage, and guards nothing."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES, person=PERSON).digest()


def integer(value: Any) -> int:
    """Read a number that the database could have given as an id or a revision, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError
    return value


class PageQuery(QuerySchema):
    """The parameters of every list that comes in pages."""

    limit = WholeNumber(1, PAGE_MAX, metadata=described(f"How many tasks at most; {PAGE_MAX} without it."))
    offset = WholeNumber(
        0, OFFSET_MAX, metadata=described("How many tasks to skip. The pages of `Link` are faster, and skip nothing.")
    )
    cursor = SingleValue(metadata=SEALED | described("Where to go on, from the `Link` of the page before."))
    count = Boolean(BOOLEANS, metadata=described("Whether to count all tasks that match, for `X-Total-Count`."))

    @validates_schema
    def begins_in_one_place(self, sent: dict[str, Any], **_: Any) -> None:
        """Refuse to guess where a page begins."""
        if "cursor" in sent and "offset" in sent:
            raise ValidationError("cannot be sent together with cursor.", "offset")


PAGED: dict[str, Any] = {
    "Link": header(
        'Where the next page is, as long as there is one: `<path>; rel="next"` (RFC 8288).',
        required=False,
        example='</api/me/tasks?cursor=WzEsIjE0In0>; rel="next"',
    ),
    "X-Total-Count": header(
        "With `count=true`: how many tasks there are on all pages.", required=False, type="integer", minimum=0
    ),
}


def paged(cursor: str | None, total: int | None) -> dict[str, str]:
    """Give the headers of a page: where the next one begins and how many tasks there are, where that is known."""
    headers = {} if cursor is None else {"Link": f'<{_next_path(cursor)}>; rel="next"'}
    return headers if total is None else headers | {"X-Total-Count": str(total)}


def _next_path(cursor: str) -> str:
    """Give the path that was asked for, as the client wrote it, with the cursor in the query."""
    asked = [(name, value) for name, value in request.args.items(multi=True) if name not in ("cursor", "offset")]
    return f"{url_for(str(request.endpoint), **(request.view_args or {}))}?{urlencode([*asked, ('cursor', cursor)])}"
