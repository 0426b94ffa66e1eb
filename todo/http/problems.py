"""Problems: every 4xx and 5xx answer is made here, as `application/problem+json` (RFC 9457).

    Problem
    ├── BadRequest              400  the request cannot be read
    ├── Unauthorized            401
    │   ├── MissingToken             no bearer token was sent
    │   ├── ExpiredToken             it was good once
    │   ├── InvalidToken             anything else is wrong with it
    │   └── AnonymousToken           it is genuine and names nobody
    ├── WrongUser               403  the path belongs to somebody else
    ├── NotFound                404  no such path
    │   └── TaskNotFound             no such task of this caller
    ├── MethodNotAllowed        405  with Allow
    ├── CursorExpired           410  the changes since then are no longer known in full
    ├── PreconditionFailed      412  the task is not as the client knows it: `current` is how it is
    ├── ContentTooLarge         413
    ├── UnsupportedMediaType    415
    ├── UnprocessableContent    422  readable, and breaks a rule: `errors` names each
    │   └── IdempotencyKeyReused     the key belongs to another creation
    ├── PreconditionRequired    428  a change must say which state of the task it is meant for
    ├── TooManyRequests         429  with Retry-After: the user calls more often than the settings allow
    │   └── TooManyFailures          calls from this address were refused with 401 too often
    ├── InternalError           500  a bug of ours: says nothing about the inside
    └── Unavailable             503  with Retry-After

The rooms below the views raise these; the handlers at the bottom turn them into answers.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, TypedDict
from urllib.parse import quote

from flask import Flask, Response, current_app, request
from werkzeug import exceptions
from werkzeug.exceptions import HTTPException

from todo.telemetry import requests

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 2
SENTENCES_MAX = 10


class Fault(TypedDict, total=False):
    """One entry of a 422: where (`pointer`, RFC 6901, `parameter` or `header`) and what."""

    pointer: str
    parameter: str
    header: str
    detail: str


class Problem(Exception):
    """An answer that is an error.

    Args:
        detail: One sentence for a person. Clients show it.
        reason: What an operator should know and a stranger should not. It goes to the log; of some kinds of problem
            a developer reads it in the answer too, outside production.
        user_id: Whose request it is, as far as that is known. It goes to the log as a hash.
        headers: Sent with the answer.
        **members: Extension members of the problem (RFC 9457, section 3.2).

    """

    status: ClassVar[HTTPStatus]
    # Only where Python names the status differently from version to version.
    title: ClassVar[str | None] = None
    detail: str
    headers: Mapping[str, str] = {}
    # Whether the reason is in the answer outside production.
    explained: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        reason: str | None = None,
        user_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Fill in what the class leaves open."""
        self.detail = detail or self.detail
        self.reason = reason
        self.user_id = user_id
        self.headers = {**self.headers, **(headers or {})}
        self.members = members
        super().__init__(reason or self.detail)


class BadRequest(Problem):
    """400: the request cannot be read."""

    status = HTTPStatus.BAD_REQUEST
    detail = "The request is malformed."


class Unauthorized(Problem):
    """401: the caller is not known. The challenge follows RFC 6750, section 3."""

    status = HTTPStatus.UNAUTHORIZED
    explained = True
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}


class MissingToken(Unauthorized):
    """401: no bearer token was sent, so the challenge names no error."""

    detail = "Missing authentication token"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class ExpiredToken(Unauthorized):
    """401: the token was good once."""

    detail = "Token has expired"


class InvalidToken(Unauthorized):
    """401: one sentence for every other fault of a token; the real one is the `reason`."""

    detail = "Invalid token"


class AnonymousToken(Unauthorized):
    """401: the signature is good and the token names nobody."""

    detail = "Invalid token: missing user_id"


class WrongUser(Problem):
    """403: the user in the path is neither the caller nor `me`."""

    status = HTTPStatus.FORBIDDEN
    detail = "User ID mismatch"


class NotFound(Problem):
    """404: no such path."""

    status = HTTPStatus.NOT_FOUND
    detail = "There is nothing at this path."


class TaskNotFound(NotFound):
    """404: the task is absent, or somebody else's: the same answer, to the byte."""

    detail = "Task not found"


class MethodNotAllowed(Problem):
    """405: raise it with an `Allow` header."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    detail = "This path does not take this method."


class CursorExpired(Problem):
    """410: what was deleted since the cursor was given is no longer known in full."""

    status = HTTPStatus.GONE
    detail = "The cursor is too old: deletions since then are no longer known. Begin again without it."

    def __init__(self) -> None:
        """Say it in a word that programs can tell from other problems."""
        super().__init__(code="cursor_expired")


class PreconditionFailed(Problem):
    """412: the task has changed since the client read it; `current` is how it is now (RFC 9110, section 13.1.1)."""

    status = HTTPStatus.PRECONDITION_FAILED
    detail = "The task has changed since it was read. Look at the current one and try again."


class ContentTooLarge(Problem):
    """413: the body is over the limit."""

    status = HTTPStatus(413)
    title = "Content Too Large"
    detail = "The request body is too large."


class UnsupportedMediaType(Problem):
    """415: the body is not JSON, or is compressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    detail = "The request body must be JSON."


class UnprocessableContent(Problem):
    """422: the JSON can be read and breaks a rule; `errors` has an entry for each."""

    status = HTTPStatus(422)
    title = "Unprocessable Content"

    def __init__(self, errors: Sequence[Fault], **kwargs: Any) -> None:
        """Say the faults in one sentence each; a person reads the first ones, a program all."""
        sentences = [error["detail"] for error in errors[:SENTENCES_MAX]]
        if len(errors) > SENTENCES_MAX:
            sentences.append(f"There are {len(errors) - SENTENCES_MAX} more faults.")
        super().__init__(" ".join(sentences), errors=list(errors), **kwargs)


class IdempotencyKeyReused(UnprocessableContent):
    """422: the key made a task of another body before, so nobody can say which of the two is meant."""

    def __init__(self) -> None:
        """Name the header."""
        rule = "Idempotency-Key has been used for another task: take a new key for a new task."
        super().__init__([{"header": "Idempotency-Key", "detail": rule}])


class PreconditionRequired(Problem):
    """428: the settings want every change to say which state of the task it is meant for (RFC 6585, section 3)."""

    status = HTTPStatus.PRECONDITION_REQUIRED
    detail = "Send If-Match with the ETag of the task, so that nobody's changes are overwritten unseen."


class TooManyRequests(Problem):
    """429: the calls of this user, or the failed ones from this address, are over the limit (RFC 6585, section 4)."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    cause: ClassVar[str] = "Too many requests"

    def __init__(self, wait_s: int, **kwargs: Any) -> None:
        """Say how many seconds to wait."""
        sentence = f"{self.cause}. Please try again in {wait_s} s."
        super().__init__(sentence, headers={"Retry-After": str(wait_s)}, **kwargs)


class TooManyFailures(TooManyRequests):
    """429: what would have been a 401, from an address that had too many of them."""

    cause = "Too many failed authentications from your address"


class InternalError(Problem):
    """500: a bug of ours. The answer says nothing about the inside."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "Something went wrong on our side. The request id finds it in our logs."


class Unavailable(Problem):
    """503: something we depend on is away. Trying again is right."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    detail = f"The service is busy. Please try again in {RETRY_AFTER_S} seconds."
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_S)}


def answer(problem: Problem) -> Response:
    """Make the one shape of an error (RFC 9457)."""
    response = Response(
        current_app.json.dumps(
            {
                "type": "about:blank",
                "title": problem.title or problem.status.phrase,
                "status": problem.status.value,
                "detail": problem.detail,
                "instance": quote(request.path),
                "request_id": requests.current().request_id,
                **problem.members,
            }
        ),
        status=problem.status,
        mimetype=PROBLEM_JSON,
    )
    response.headers.update(problem.headers)
    return response


def handle_problem(problem: Problem) -> Response:
    """Answer a problem that a room of ours raised; what somebody may want to know of it goes to the log."""
    record = requests.current()
    record.reason = problem.reason
    record.user_id = problem.user_id or record.user_id
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        record.error = problem
    if problem.explained and not current_app.extensions["config"].production:
        problem.members["reason"] = problem.reason
    return answer(problem)


def handle_http_exception(error: HTTPException) -> Response:
    """Translate what Flask and Werkzeug raise by themselves; all but two of those are faults of syntax."""
    match error:
        case exceptions.NotFound():
            return answer(NotFound())
        case exceptions.MethodNotAllowed():
            return answer(MethodNotAllowed(headers={"Allow": ", ".join(sorted(error.valid_methods or ()))}))
        case _:
            return answer(BadRequest())


def handle_bug(error: Exception) -> Response:
    """Answer what nobody foresaw."""
    requests.current().error = error
    return answer(InternalError())


def init_app(app: Flask) -> None:
    """Make every error of every path and method a problem."""
    app.register_error_handler(Problem, handle_problem)
    app.register_error_handler(HTTPException, handle_http_exception)
    app.register_error_handler(Exception, handle_bug)
