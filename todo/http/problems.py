"""Problems: every 4xx and 5xx response is built here, as `application/problem+json` (RFC 9457).

    Problem
    ├── BadRequest              400  the request cannot be parsed
    ├── Unauthorized            401  carries the `refusal` of the token
    │   ├── MissingToken             there is no bearer token
    │   ├── ExpiredToken             the token was valid until it expired
    │   ├── InvalidToken             the token breaks any other rule
    │   └── AnonymousToken           the token is genuine and names no user
    ├── WrongUser               403  the path is another user's
    ├── InsufficientScope       403  the access token does not allow this
    ├── ForeignOrigin           403  a page of an unknown origin sends the request
    ├── NotFound                404  there is no such path
    │   └── TaskNotFound             the caller has no such task
    ├── MethodNotAllowed        405  with Allow
    ├── NoPublicUrl             409  the settings lack the address that the response would have
    ├── CursorExpired           410  the deletions since the cursor are no longer all recorded
    ├── PreconditionFailed      412  a precondition fails: `current` is the present state of a task
    ├── OperationsRefused       412  a batch that is all or nothing; or the status of its first refused operation
    ├── ContentTooLarge         413
    ├── UnsupportedMediaType    415
    ├── UnprocessableContent    422  the body is valid JSON and breaks a rule: `errors` lists the faults
    │   └── IdempotencyKeyReused     the key was used for a different creation
    ├── PreconditionRequired    428  a change must name the state of the task that it applies to
    ├── TooManyRequests         429  with Retry-After: the user exceeds the rate limit
    │   └── TooManyFailures          the address exceeds the limit of failed authentications
    ├── InternalError           500  a bug: the response reveals nothing about it
    ├── UnsupportedCoding       501  the body has a transfer coding other than chunks
    └── Unavailable             503  with Retry-After

The packages below the views raise these; the handlers at the end of this module turn them into responses.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, TypedDict
from urllib.parse import quote

from flask import Flask, Response, current_app, request
from werkzeug import exceptions
from werkzeug.exceptions import HTTPException

from todo.http.routing import tasks_hint
from todo.telemetry import requests
from todo.telemetry.refusals import Refusal

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 2
SENTENCES_MAX = 10
FAULTS_MAX = 100

# What follows this in a path is the secret address of a calendar, which no error repeats.
SECRET_PATH = "/calendar/"  # noqa: S105  # nosec B105


class Fault(TypedDict, total=False):
    """One entry of a 422: where (`pointer`, RFC 6901, `line` of a file, `parameter` or `header`) and what."""

    pointer: str
    line: int
    parameter: str
    header: str
    detail: str


class Problem(Exception):
    """An error response.

    Args:
        detail: One sentence for a person. Clients show it.
        reason: The cause, for operators and not for clients. It is logged; outside production, the responses of some
            classes have it too, for developers.
        user_id: The caller, if known. Only a hash of it is logged.
        headers: Headers of the response.
        **members: Extension members of the problem (RFC 9457, section 3.2).

    """

    status: HTTPStatus
    # Set only where the name of the status differs between versions of Python.
    title: str | None = None
    detail: str
    headers: Mapping[str, str] = {}
    # Whether the response has the reason outside production.
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
        self.detail = detail or self.detail
        self.reason = reason
        self.user_id = user_id
        self.headers = {**self.headers, **(headers or {})}
        self.members = members
        super().__init__(reason or self.detail)

    def as_members(self, **of_the_request: Any) -> dict[str, Any]:
        """Return the members of the problem, with those that tell of its request before its extension members."""
        return {
            "type": "about:blank",
            "title": self.title or self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            **of_the_request,
            **self.members,
        }


class BadRequest(Problem):
    """400: the request cannot be parsed."""

    status = HTTPStatus.BAD_REQUEST
    detail = "The request is malformed."


class Unauthorized(Problem):
    """401: the caller is not authenticated. The challenge follows RFC 6750, section 3.

    Args:
        refusal: The rule that the token breaks. Its text is the `reason`.
        user_id: The user that the token names, if its signature is genuine.

    """

    status = HTTPStatus.UNAUTHORIZED
    explained = True
    headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}

    def __init__(self, refusal: Refusal, *, user_id: str | None = None) -> None:
        self.refusal = refusal
        super().__init__(reason=str(refusal), user_id=user_id)


class MissingToken(Unauthorized):
    """401: the request has no bearer token, so the challenge names no error."""

    detail = "Missing authentication token"
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class ExpiredToken(Unauthorized):
    """401: the token was valid until it expired."""

    detail = "Token has expired"


class InvalidToken(Unauthorized):
    """401: the token breaks another rule; the `detail` is the same for all of them, and the `reason` names the rule."""

    detail = "Invalid token"


class AnonymousToken(Unauthorized):
    """401: the signature is genuine and the token names no user."""

    detail = "Invalid token: missing user_id"


class WrongUser(Problem):
    """403: the user in the path is neither the caller nor `me`."""

    status = HTTPStatus.FORBIDDEN
    detail = "User ID mismatch"


class InsufficientScope(Problem):
    """403: the access token does not allow this; raise it with the challenge (RFC 6750, section 3.1)."""

    status = HTTPStatus.FORBIDDEN


class ForeignOrigin(Problem):
    """403: a page sends the request whose origin is neither that of this service nor that of a known front-end."""

    status = HTTPStatus.FORBIDDEN
    detail = "Pages of this origin may not call."


class NotFound(Problem):
    """404: there is no such path."""

    status = HTTPStatus.NOT_FOUND
    detail = "There is nothing at this path."


class TaskNotFound(NotFound):
    """404: the caller has no such task. Whether another user has it makes no difference to the response."""

    detail = "Task not found"


class MethodNotAllowed(Problem):
    """405: the path does not support the method. Raise it with an `Allow` header."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    detail = "This path does not support this method."


class NoPublicUrl(Problem):
    """409: the operator has not set the address of this service, which the response would have in it."""

    status = HTTPStatus.CONFLICT
    detail = "This service does not know its own address: its operator must set PUBLIC_URL."


class CursorExpired(Problem):
    """410: the deletions since the cursor was issued are no longer all recorded."""

    status = HTTPStatus.GONE
    detail = "The cursor is too old: deletions since then are no longer known. Begin again without it."

    def __init__(self) -> None:
        # Programs recognise the problem by this code.
        super().__init__(code="cursor_expired")


class PreconditionFailed(Problem):
    """412: the present state is not one that the request is for; `current` is that of a task (RFC 9110, section 13)."""

    status = HTTPStatus.PRECONDITION_FAILED
    detail = "This has changed since it was read. Look at the present state and try again."


class ContentTooLarge(Problem):
    """413: the body exceeds the limit."""

    status = HTTPStatus(413)
    title = "Content Too Large"
    detail = "The request body is too large."


class UnsupportedMediaType(Problem):
    """415: the body is not JSON, or is compressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    detail = "The request body must be JSON."


class UnprocessableContent(Problem):
    """422: the body is valid JSON, or absent, and the request breaks a rule; `errors` lists up to 100 faults.

    Args:
        errors: All faults.
        listed: How many of them the response lists at most.
        **kwargs: `reason`, `user_id` and `headers`, as of every problem.

    """

    status = HTTPStatus(422)
    title = "Unprocessable Content"

    def __init__(self, errors: Sequence[Fault], *, listed: int = FAULTS_MAX, **kwargs: Any) -> None:
        # A person reads the first sentences, a program the entries.
        sentences = [error["detail"] for error in errors[:SENTENCES_MAX]]
        if len(errors) > SENTENCES_MAX:
            sentences.append(f"There are {len(errors) - SENTENCES_MAX} more faults.")
        members: dict[str, Any] = {"errors": list(errors[:listed])}
        # Otherwise a small body could bring about a response that is thirty times as large.
        if (more := len(errors) - listed) > 0:
            members["more"] = more
        super().__init__(" ".join(sentences), **members, **kwargs)


class IdempotencyKeyReused(UnprocessableContent):
    """422: the key was used before with a different body, so which of the two tasks is meant is unknown."""

    def __init__(self) -> None:
        rule = "Idempotency-Key has been used for another task: take a new key for a new task."
        super().__init__([{"header": "Idempotency-Key", "detail": rule}])


class OperationsRefused(Problem):
    """412: a batch that is all or nothing has refused operations, which `errors` lists; the first decides the status.

    Args:
        refused: The problem of each refused operation by its position in the batch, in ascending order.

    """

    status = HTTPStatus.PRECONDITION_FAILED

    def __init__(self, refused: Mapping[int, Problem]) -> None:
        first, problem = next(iter(refused.items()))
        self.status, self.title = problem.status, problem.title
        errors = [
            {"pointer": f"#/operations/{position}", "status": problem.status.value, "detail": problem.detail}
            | {name: value for name, value in problem.members.items() if name == "current"}
            for position, problem in refused.items()
        ]
        super().__init__(f"Nothing was changed. Operation {first} was refused: {problem.detail}", errors=errors)


class PreconditionRequired(Problem):
    """428: the settings require that every change names the state that it applies to (RFC 6585, section 3)."""

    status = HTTPStatus.PRECONDITION_REQUIRED
    detail = "Send If-Match with the ETag of the task, so that nobody's changes are overwritten unseen."


class TooManyRequests(Problem):
    """429: the user, or the address with its failed authentications, exceeds a rate limit (RFC 6585, section 4).

    Args:
        wait_s: Seconds to wait before the next attempt.
        **kwargs: `reason` and `user_id`, as of every problem.

    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    cause: ClassVar[str] = "Too many requests"

    def __init__(self, wait_s: int, **kwargs: Any) -> None:
        sentence = f"{self.cause}. Please try again in {wait_s} s."
        super().__init__(sentence, headers={"Retry-After": str(wait_s)}, **kwargs)


class TooManyFailures(TooManyRequests):
    """429: sent instead of a 401 to an address that had too many of them."""

    cause = "Too many failed authentications from your address"


class InternalError(Problem):
    """500: a bug. The response reveals nothing about it."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    # How `database_errors_total` labels the failure of a statement that has a bug.
    kind: ClassVar[str] = "bug"
    detail = "Something went wrong on our side. The request id finds it in our logs."


class UnsupportedCoding(Problem):
    """501: the body has a transfer coding other than `chunked` (RFC 9112, section 6.1)."""

    status = HTTPStatus.NOT_IMPLEMENTED
    detail = "The request body must have no transfer coding but chunked."


class Unavailable(Problem):
    """503: a service that this one depends on is unavailable. Clients should try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    detail = f"The service is busy. Please try again in {RETRY_AFTER_S} seconds."
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_S)}


def build_response(problem: Problem) -> Response:
    """Build the response to a problem (RFC 9457)."""
    response = Response(
        current_app.json.dumps(
            problem.as_members(instance=_instance(request.path), request_id=requests.current().request_id)
        ),
        status=problem.status,
        mimetype=PROBLEM_JSON,
    )
    response.headers.update(problem.headers)
    return response


def _instance(path: str) -> str:
    head, separator, _ = path.partition(SECRET_PATH)
    return quote(head + separator)


def handle_problem(problem: Problem) -> Response:
    """Respond to a problem that a package of this application raised; record its reason and its caller for the log."""
    record = requests.current()
    record.reason = problem.reason
    record.user_id = problem.user_id or record.user_id
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        record.error = problem
    if problem.explained and not current_app.extensions["config"].production:
        problem.members["reason"] = problem.reason
    return build_response(problem)


def handle_http_exception(error: HTTPException) -> Response:
    """Respond to an exception of Flask or Werkzeug; all of them but two are faults of syntax."""
    match error:
        case exceptions.NotFound():
            return build_response(NotFound(NotFound.detail + tasks_hint(request.path)))
        case exceptions.MethodNotAllowed():
            allow = ", ".join(sorted(error.valid_methods or ()))
            detail = MethodNotAllowed.detail + tasks_hint(request.path)
            return build_response(MethodNotAllowed(detail, headers={"Allow": allow}))
        case _:
            return build_response(BadRequest())


def handle_bug(error: Exception) -> Response:
    """Respond to an unforeseen exception, which is a bug."""
    requests.current().error = error
    return build_response(InternalError())


def init_app(app: Flask) -> None:
    """Register the handlers that make every error of every path and method a problem."""
    app.register_error_handler(Problem, handle_problem)
    app.register_error_handler(HTTPException, handle_http_exception)
    app.register_error_handler(Exception, handle_bug)
