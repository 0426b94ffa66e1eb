"""The changes feed: what has changed since a client last asked, in the order in which it happened."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import fields, post_load

from todo.database import statements
from todo.database.failures import NotSupported, RolledBack
from todo.database.timeouts import REQUEST_LIMITS
from todo.http.fields import Output, UtcDateTime
from todo.http.pagination import CURSOR_SCHEMA, LIMIT_ALIASES, PAGE_MAX, BadCursor, bigint, decode_cursor, encode_cursor
from todo.http.parameters import SingleValue, WholeNumber
from todo.http.problems import CursorExpired, UnprocessableContent
from todo.http.requests import QuerySchema
from todo.tasks.rows import COLUMNS, TOMBSTONE, TaskRow, as_task
from todo.tasks.schemas import TaskOut

SQL = statements.load(__file__, columns=COLUMNS, tombstone=TOMBSTONE)
SQL["list_changes_behind_lock"] = statements.fill(SQL["list_changes"], recursive="")
SQL["list_changes"] = statements.fill(SQL["list_changes"], recursive="RECURSIVE")

VERSION = "changes 1"
USER_DIGEST_BYTES = 8
PERSON = b"todo changes"

NEVER = 2**63 - 1

# No user has this id.
NOBODY = ""

CHECKSUM = "SHA-256, in hexadecimal, of a line `id:revision` for each task, in the order of the revisions."


@dataclass(frozen=True, slots=True)
class ChangesRequest:
    """A request for a page of changes.

    Attributes:
        since: The `next` of the page before, as the client sent it.
        limit: How many changes at most.

    """

    since: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a follower of the changes has come.

    Attributes:
        revision: It knows all changes up to this one.
        first_revision: The revision of the list when it read the first page. That page begins with all tasks, so it
            need not learn of earlier deletions.

    """

    revision: int
    first_revision: int = 0

    @property
    def deletions_revision(self) -> int:
        """Return the revision up to which it needs no more deletions."""
        return max(self.revision, self.first_revision)


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """A page of changes, and the revision of the list that it was read at."""

    body: dict[str, Any]
    revision: int


class ChangesQuery(QuerySchema):
    """The query parameters of the changes feed."""

    aliases = LIMIT_ALIASES

    since = SingleValue(
        metadata=CURSOR_SCHEMA
        | {"description": "The `next` of the page before. Without it, the feed begins with all tasks."}
    )
    limit = WholeNumber(1, PAGE_MAX, metadata={"description": f"How many changes at most; {PAGE_MAX} without it."})

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> ChangesRequest:
        """Return the request."""
        return ChangesRequest(parameters.get("since"), parameters.get("limit", PAGE_MAX))


class DeletedOut(Output):
    """A task that was deleted."""

    id = fields.Integer(required=True, metadata={"example": 42, "format": "int64"})
    revision = fields.Integer(required=True, metadata={"example": 18, "format": "int64"})
    deleted_at = UtcDateTime(
        required=True, metadata={"type": "string", "format": "date-time", "example": "2026-03-01T09:30:00.123456Z"}
    )


class ChangesOut(Output):
    """A page of changes, in the order of their revisions."""

    tasks = fields.List(
        fields.Nested(TaskOut),
        required=True,
        metadata={"description": "Each task that was created or changed, as it is now."},
    )
    deleted = fields.List(fields.Nested(DeletedOut), required=True, metadata={"description": "The deleted tasks."})
    next = fields.String(required=True, metadata={"description": "The `since` of the next request."})
    has_more = fields.Boolean(required=True, metadata={"description": "Whether more changes can be read at once."})
    count = fields.Integer(metadata={"description": "On the last page: how many tasks there are.", "example": 12})
    checksum = fields.String(
        metadata={"description": f"On the last page: {CHECKSUM}", "pattern": "^[0-9a-f]{64}$", "example": "0" * 64}
    )


def list_changes(caller: str, wanted: ChangesRequest, known_revision: int | None = None) -> ChangesPage | None:
    """Return one page of changes, or None where the list is still at the revision that the caller knows.

    Raises:
        UnprocessableContent: the cursor was not given for this user's list.
        CursorExpired: deletions since the cursor was given have been purged.

    """
    position = None if wanted.since is None else decode_position(caller, wanted.since)
    rows = _read(
        {
            "caller": caller,
            "since": position.revision if position else 0,
            "deleted_since": position.deletions_revision if position else NEVER,
            "rows": wanted.limit + 1,
            "known_revision": -1 if known_revision is None else known_revision,
        }
    )
    if not rows:
        return None
    newest, forgotten = rows[0].list_revision, rows[0].forgotten
    if position is not None:
        _check(position, newest, forgotten)
    page = rows[: wanted.limit] if rows[0].id is not None else []
    has_more = len(rows) > wanted.limit
    if has_more:
        reached = Position(page[-1].revision, position.first_revision if position else newest)
        proof: dict[str, Any] = {}
    else:
        reached = Position(newest)
        proof = {"count": rows[0].count, "checksum": rows[0].checksum}
    return ChangesPage({**_body(page), "next": encode_position(caller, reached), "has_more": has_more, **proof}, newest)


def _read(parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Return the rows of a page as of one moment; in one round trip unless the tables are being distributed."""
    try:
        return statements.read(SQL["list_changes"], parameters)
    except NotSupported:
        pass
    try:
        return _read_behind_lock(parameters)
    except RolledBack:
        return _read_behind_lock(parameters)


def _read_behind_lock(parameters: Mapping[str, Any]) -> Sequence[Any]:
    with statements.transaction(REQUEST_LIMITS) as transaction:
        if not transaction.read(SQL["lock_list"], parameters):
            # A list that comes now has no lock that keeps its writers out: it is read as it was, like that of nobody.
            parameters = {**parameters, "caller": NOBODY}
        return transaction.read(SQL["list_changes_behind_lock"], parameters)


def _body(page: Sequence[Any]) -> dict[str, list[TaskRow]]:
    deleted = [{"id": row.id, "revision": row.revision, "deleted_at": row.deleted_at} for row in page if row.deleted_at]
    return {"tasks": [as_task(row) for row in page if not row.deleted_at], "deleted": deleted}


def _check(position: Position, newest: int, forgotten: int) -> None:
    """Check that all changes since a position are still known."""
    check_not_ahead(position, newest)
    if position.deletions_revision < forgotten:
        raise CursorExpired


def check_not_ahead(position: Position, newest: int) -> None:
    """Check that a position is one of this list.

    Raises:
        UnprocessableContent: it is ahead of the newest revision.

    """
    if position.deletions_revision > newest:
        raise _invalid("is ahead of this list, so it was given for another one: begin again without it.")


def encode_position(caller: str, position: Position) -> str:
    """Return the cursor of a position."""
    return encode_cursor([VERSION, _digest(caller), position.revision, position.first_revision])


def decode_position(caller: str, cursor: str) -> Position:
    """Return the position of a cursor.

    Raises:
        UnprocessableContent: the cursor was not given for this user's list.

    """
    try:
        user, revision, first_revision = decode_cursor(cursor, VERSION, 3)
        position = Position(bigint(revision), bigint(first_revision))
    except BadCursor as error:
        raise _invalid(str(error)) from None
    if user != _digest(caller):
        raise _invalid("was given to another user: begin again without it.")
    return position


def _invalid(rule: str) -> UnprocessableContent:
    return UnprocessableContent([{"parameter": "since", "detail": f"since {rule}"}])


def _digest(caller: str) -> str:
    return hashlib.blake2b(caller.encode(), digest_size=USER_DIGEST_BYTES, person=PERSON).hexdigest()
