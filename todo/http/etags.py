"""Conditional requests (RFC 9110, section 13): the ETags of responses, and those in the headers of a request.

Preconditions are evaluated in the order of section 13.2.2, and only where the response would be a success without them.
Those of a read are evaluated here, on its response, whatever resource it is of. Those of a write belong into its
statement, where nothing can change in between. There is no `Last-Modified`, so a date in a precondition says nothing.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from flask import Flask, Response

from todo.context import current_application, current_request
from todo.http import adapters
from todo.http.documented import Blueprint
from todo.http.problems import PreconditionFailed, PreconditionRequired, handle_problem

V = TypeVar("V", bound=Callable[..., Any])

# The one way in which this service writes a revision. Any other spelling of the number is another ETag.
REVISION = re.compile(r"0|[1-9][0-9]{0,17}")
DIGEST_BYTES = 8
DIGEST_PERSON = b"todo query"
LIST_ETAG = re.compile(rf"({REVISION.pattern})-[0-9a-f]{{{2 * DIGEST_BYTES}}}")

# A member of the list in a header: everything up to a comma that no quotation marks enclose.
MEMBER = re.compile(r'(?:"[^"]*"|[^,])+')
WEAK = re.compile(r"\AW/", re.IGNORECASE)

# What proxies make of an ETag when they compress. Apache httpd, Caddy and lighttpd append `-gzip`, Jetty `--gzip`,
# Django and LiteSpeed `;gzip` or `;gz`, Traffic Server `-df`; others have a slash, or put the coding in front. Some do
# it twice, and some behind the closing quotation mark. The names of codings have no case (RFC 9110, section 8.4.1). The
# numbers of repetitions are bounded because the header is not.
CODING = "(?:(?:x-)?(?:gzip|compress)|gz|br|brotli|zstd|zst|dcb|dcz|deflate|df|bzip2|bz2|identity)"
SEPARATOR = "[-/;:+._~]{1,2}"
CODED = re.compile(rf"\A(?:{CODING}{SEPARATOR}){{0,3}}(.*?)(?:{SEPARATOR}{CODING}){{0,3}}\Z", re.IGNORECASE | re.DOTALL)

# A browser may keep a response for its user alone, and validates it before each reuse (RFC 9111, section 5.2.2).
PRIVATE_NO_CACHE = {"Cache-Control": "private, no-cache"}

# The headers of a request that are evaluated here, as WSGI has them (PEP 3333). Most requests have none of them.
IF_MATCH, IF_NONE_MATCH = "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"

# What a 304 has of the headers of its 200 (RFC 9110, section 15.4.5), with the policy of a page, which a browser would
# replace by that of the 304, and the confirmation of a preference.
KEPT_HEADERS = ("Cache-Control", "Content-Security-Policy", "ETag", "Preference-Applied")

# The problems of a write to one task with preconditions.
WRITE_PROBLEMS = {404: "TaskNotFound", 412: "PreconditionFailed", 428: "PreconditionRequired"}


def conditional_read(view: V) -> V:
    """Document the responses of a view that reads, where its preconditions fail: 304 and 412."""
    documented: V = Blueprint.doc(responses={304: "NotModified", 412: "PreconditionFailed"})(view)
    return documented


def conditional_write(view: V) -> V:
    """Document the problems of a view that changes one task if its ETag matches: 404, 412 and 428."""
    documented: V = Blueprint.doc(responses=WRITE_PROBLEMS)(view)
    return documented


@dataclass(frozen=True, slots=True)
class ETags:
    """The value of `If-Match` or `If-None-Match` (RFC 9110, sections 13.1.1 and 13.1.2).

    A weak ETag counts like a strong one: proxies weaken ETags when they compress, and no revision is used twice. For
    the same reason an ETag with the name of a coding is the one that it was made of.

    Attributes:
        any: Whether the value is `*`, which stands for every state.
        tags: The ETags, without quotation marks.

    """

    any: bool
    tags: frozenset[str]

    @classmethod
    def sent(cls, variable: str) -> "ETags | None":
        """Return the value of a header of the request, by its name in WSGI, or None where it is absent."""
        value = current_request().environ.get(variable)
        if value is None:
            return None
        return cls(value.strip() == "*", frozenset(map(_opaque, MEMBER.findall(value))))

    def include(self, etag: str | None) -> bool:
        """Return whether a state with this ETag, or with none, is among them."""
        return self.any or (etag is not None and _opaque(etag) in self.tags)

    def include_list(self, revision: int) -> bool:
        """Return whether a list at this revision is among them, whatever the query."""
        return self.any or any((found := LIST_ETAG.fullmatch(tag)) and int(found[1]) == revision for tag in self.tags)

    def revisions(self) -> list[int]:
        """Return the revisions of tasks among them."""
        return [int(tag) for tag in self.tags if REVISION.fullmatch(tag)]


def _opaque(etag: str) -> str:
    """Return an ETag without quotation marks, and without what proxies add to it inside and outside of them."""
    etag = WEAK.sub("", etag.strip())
    for _ in range(2):
        etag = CODED.sub(r"\1", etag)
        if len(etag) > 1 and etag[0] == etag[-1] == '"':
            etag = etag[1:-1]
    return etag


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The preconditions of a request (RFC 9110, section 13.2).

    Attributes:
        if_match: The states in which the request takes place; None where it names none.
        if_none_match: The states in which it does not.

    """

    if_match: ETags | None = None
    if_none_match: ETags | None = None

    @classmethod
    def sent(cls) -> "Preconditions":
        """Return those of the request."""
        environ = current_request().environ
        if IF_MATCH not in environ and IF_NONE_MATCH not in environ:
            return NO_PRECONDITIONS
        return cls(ETags.sent(IF_MATCH), ETags.sent(IF_NONE_MATCH))

    @classmethod
    def of_write(cls) -> "Preconditions":
        """Return those of a request that changes one task.

        Raises:
            PreconditionRequired: `If-Match` is absent, and the settings require it.

        """
        if IF_MATCH not in current_request().environ and current_application().extensions["config"].require_if_match:
            raise PreconditionRequired
        return cls.sent()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return self.if_match is not None or self.if_none_match is not None

    def check(self, include: Callable[[ETags], bool], **members: Any) -> None:
        """Check them where the request changes something.

        Args:
            include: Returns whether the present state is among the given ones.
            **members: Extension members of the problem.

        Raises:
            PreconditionFailed: The state is not among those of `If-Match`, or is among those of `If-None-Match`.

        """
        if self.if_match is not None and not include(self.if_match):
            raise PreconditionFailed(**members)
        if self.if_none_match is not None and include(self.if_none_match):
            raise PreconditionFailed("If-None-Match excludes the present state, so nothing was changed.", **members)

    def parameters(self) -> dict[str, list[int] | None]:
        """Return the revisions at which a statement writes, None for any; and those at which it does not.

        Of the latter, None stands for all: it compares with no revision as true.
        """
        among = None if self.if_match is None or self.if_match.any else self.if_match.revisions()
        if self.if_none_match is None:
            return {"among": among, "besides": []}
        return {"among": among, "besides": None if self.if_none_match.any else self.if_none_match.revisions()}


NO_PRECONDITIONS = Preconditions()


def check_untagged() -> None:
    """Check the preconditions of a request that changes something without an ETag, which always exists.

    Raises:
        PreconditionFailed: `If-Match` names an ETag, or `If-None-Match` is `*`.

    """
    Preconditions.sent().check(lambda etags: etags.any)


def check_if_match(etag: str | None, **members: Any) -> None:
    """Check the `If-Match` of a request that reads a state with this ETag, or with none.

    Raises:
        PreconditionFailed: The state is not among those of `If-Match`; the problem has the given members.

    """
    if (etags := ETags.sent(IF_MATCH)) is not None:
        Preconditions(if_match=etags).check(lambda sent: sent.include(etag), **members)


def evaluate(response: Response) -> Response:
    """Evaluate the preconditions of a read, where it succeeded, and return the response to send."""
    request = current_request()
    environ = request.environ
    if IF_MATCH not in environ and (IF_NONE_MATCH not in environ or response.status_code == HTTPStatus.NOT_MODIFIED):
        # There is none, or the view has evaluated it.
        return response
    if request.method not in ("GET", "HEAD") or response.status_code not in (200, 304):
        return response
    etag = response.headers.get("ETag")
    try:
        check_if_match(etag)
    except PreconditionFailed as problem:
        response.close()
        return handle_problem(problem)
    if (etags := ETags.sent(IF_NONE_MATCH)) is not None and etags.include(etag):
        response.close()
        return not_modified({name: response.headers[name] for name in KEPT_HEADERS if name in response.headers})
    return response


def not_modified(headers: dict[str, str]) -> Response:
    """Return a 304 with these headers: the client has the representation already."""
    response = Response(status=304, headers=headers)
    del response.headers["Content-Type"]
    return response


class QueryETag:
    """The ETag of a response that depends on all tasks of a user: the user's revision and a digest of the query.

    The digest covers the caller too: a browser that two people use in turn may send the ETag of one of them with the
    token of the other.

    Args:
        caller: The authenticated user.
        *query: What the response depends on besides the tasks.
        cacheable: False for a response that changes with time alone, which has no ETag.

    Attributes:
        query: The caller and the whole query, as bytes that no other query has; None if it is not cacheable.
        last_revision: The newest revision in the request's `If-None-Match` for the same query, or None.

    """

    def __init__(self, caller: str, *query: Any, cacheable: bool = True) -> None:
        self.query: bytes | None = None
        self.last_revision: int | None = None
        self._suffix: str | None = None
        if not cacheable:
            return
        self.query = orjson.dumps([caller, *query, *adapters.current().representation])
        digest = hashlib.blake2b(self.query, digest_size=DIGEST_BYTES, person=DIGEST_PERSON)
        self._suffix = suffix = f"-{digest.hexdigest()}"
        if (etags := ETags.sent(IF_NONE_MATCH)) is not None:
            revisions = [tag.removesuffix(suffix) for tag in etags.tags if tag.endswith(suffix)]
            self.last_revision = max((int(number) for number in revisions if REVISION.fullmatch(number)), default=None)

    def headers(self, revision: int | None) -> dict[str, str]:
        """Return the headers of the response at a revision."""
        return {} if self._suffix is None else {"ETag": f'"{revision}{self._suffix}"', **PRIVATE_NO_CACHE}

    def not_modified(self) -> Response:
        """Return a 304: the client has the response at the last revision already."""
        return not_modified(self.headers(self.last_revision))


def no_content() -> Response:
    """Return a 204 without a body and without headers that describe one."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def init_app(app: Flask) -> None:
    """Evaluate the preconditions of every read."""
    app.after_request(evaluate)
