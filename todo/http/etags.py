"""Conditional requests (RFC 9110, section 13): the tags of what is answered, and those that a client knows."""

import hashlib
import re
from collections.abc import Collection
from typing import Any

import orjson
from flask import Response, current_app, request

from todo.http.problems import PreconditionRequired

# As we write them; any other way to write a number is another tag, and the empty tag is none of ours.
REVISION = re.compile(r"0|[1-9][0-9]{0,17}")
DIGEST_BYTES = 8
PERSON = b"todo query"

# A browser may keep an answer, for its user alone, and asks before it shows it again (RFC 9111, section 5.2.2).
REVALIDATED = {"Cache-Control": "private, no-cache"}


def knows(tag: str) -> bool:
    """Tell whether the client has what this tag stands for (`If-None-Match`, which compares weakly)."""
    return request.if_none_match.contains_weak(tag.strip('"'))


def unchanged(tag: str) -> Response:
    """Answer 304: the client has it already."""
    response = Response(status=304, headers={"ETag": tag, **REVALIDATED})
    del response.headers["Content-Type"]
    return response


def if_match() -> Collection[int] | None:
    """Give the revisions of a task that the client is ready to change, or None where it takes any.

    A weak tag counts like a strong one: proxies weaken tags when they compress, and no revision comes twice.

    Raises:
        PreconditionRequired: the client does not say, and the settings want it to.

    """
    if "If-Match" not in request.headers:
        if current_app.extensions["config"].require_if_match:
            raise PreconditionRequired
        return None
    if request.if_match.star_tag:
        return None
    return {int(tag) for tag in request.if_match.as_set(include_weak=True) if REVISION.fullmatch(tag or "")}


class QueryTag:
    """The tag of an answer that is made of all tasks of a user: the user's revision, and what was asked.

    The caller is a part of what was asked: a browser that two people use after each other may send the tag of the one
    with the token of the other.

    Attributes:
        known: The newest revision of which the client has this answer, if any (`If-None-Match`).

    """

    def __init__(self, caller: str, *question: Any, lasting: bool = True) -> None:
        """Take what the answer depends on beside the tasks; one that changes with time has no tag."""
        self.known: int | None = None
        self._suffix: str | None = None
        if not lasting:
            return
        asked = orjson.dumps([caller, *question])
        self._suffix = suffix = "-" + hashlib.blake2b(asked, digest_size=DIGEST_BYTES, person=PERSON).hexdigest()
        tags = request.if_none_match.as_set(include_weak=True)
        known = [tag.removesuffix(suffix) for tag in tags if tag and tag.endswith(suffix)]
        self.known = max((int(revision) for revision in known if REVISION.fullmatch(revision)), default=None)

    def headers(self, revision: int | None) -> dict[str, str]:
        """Give the headers of the answer at a revision."""
        return {} if self._suffix is None else {"ETag": f'"{revision}{self._suffix}"', **REVALIDATED}

    def unchanged(self) -> Response:
        """Answer 304: the client has it already."""
        return unchanged(self.headers(self.known)["ETag"])


def no_content() -> Response:
    """Answer 204, with no body and nothing that describes one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
