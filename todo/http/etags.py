"""Conditional requests (RFC 9110, section 13): the ETags of responses, and those in the headers of a request."""

import hashlib
import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import orjson
from flask import Response, current_app, request
from flask_smorest import Blueprint

from todo.http.problems import PreconditionRequired

V = TypeVar("V", bound=Callable[..., Any])

# The one way in which this service writes a revision. Any other spelling of the number is another ETag.
REVISION = re.compile(r"0|[1-9][0-9]{0,17}")
DIGEST_BYTES = 8
DIGEST_PERSON = b"todo query"

# A browser may keep a response for its user alone, and validates it before each reuse (RFC 9111, section 5.2.2).
PRIVATE_NO_CACHE = {"Cache-Control": "private, no-cache"}

# The problems of a write to one task with `If-Match`.
WRITE_PROBLEMS = {404: "TaskNotFound", 412: "PreconditionFailed", 428: "PreconditionRequired"}


def conditional_write(view: V) -> V:
    """Document the problems of a view that changes one task if its ETag matches: 404, 412 and 428."""
    documented: V = Blueprint.doc(responses=WRITE_PROBLEMS)(view)
    return documented


def matches_if_none_match(etag: str) -> bool:
    """Return whether the request's `If-None-Match` contains this ETag, by weak comparison."""
    return request.if_none_match.contains_weak(etag.strip('"'))


def not_modified(etag: str) -> Response:
    """Return a 304: the client has the representation with this ETag already."""
    response = Response(status=304, headers={"ETag": etag, **PRIVATE_NO_CACHE})
    del response.headers["Content-Type"]
    return response


def if_match() -> Collection[int] | None:
    """Return the revisions in the request's `If-Match`, or None if the client accepts any revision.

    A weak ETag counts like a strong one: proxies weaken ETags when they compress, and no revision is used twice.

    Raises:
        PreconditionRequired: The header is absent, and the settings require it.

    """
    if "If-Match" not in request.headers:
        if current_app.extensions["config"].require_if_match:
            raise PreconditionRequired
        return None
    if request.if_match.star_tag:
        return None
    return {int(etag) for etag in request.if_match.as_set(include_weak=True) if REVISION.fullmatch(etag or "")}


class QueryETag:
    """The ETag of a response that depends on all tasks of a user: the user's revision and a digest of the query.

    The digest covers the caller too: a browser that two people use in turn may send the ETag of one of them with the
    token of the other.

    Args:
        caller: The authenticated user.
        *query: What the response depends on besides the tasks.
        cacheable: False for a response that changes with time alone, which has no ETag.

    Attributes:
        last_revision: The newest revision in the request's `If-None-Match` for the same query, or None.

    """

    def __init__(self, caller: str, *query: Any, cacheable: bool = True) -> None:
        self.last_revision: int | None = None
        self._suffix: str | None = None
        if not cacheable:
            return
        document = orjson.dumps([caller, *query])
        digest = hashlib.blake2b(document, digest_size=DIGEST_BYTES, person=DIGEST_PERSON)
        self._suffix = suffix = f"-{digest.hexdigest()}"
        etags = request.if_none_match.as_set(include_weak=True)
        revisions = [etag.removesuffix(suffix) for etag in etags if etag and etag.endswith(suffix)]
        self.last_revision = max((int(number) for number in revisions if REVISION.fullmatch(number)), default=None)

    def headers(self, revision: int | None) -> dict[str, str]:
        """Return the headers of the response at a revision."""
        return {} if self._suffix is None else {"ETag": f'"{revision}{self._suffix}"', **PRIVATE_NO_CACHE}

    def not_modified(self) -> Response:
        """Return a 304: the client has the response at the last revision already."""
        return not_modified(self.headers(self.last_revision)["ETag"])


def no_content() -> Response:
    """Return a 204 without a body and without headers that describe one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
