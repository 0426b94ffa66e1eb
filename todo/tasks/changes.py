"""What has changed since a client last asked, in the order in which it happened."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import fields, post_load
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Row,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from todo.database import statements
from todo.database.statements import Prepared, prepared
from todo.http.fields import Output, UtcDateTime
from todo.http.pagination import CURSOR_SCHEMA, PAGE_MAX, BadCursor, ForgedCursor, bigint, decode_cursor, encode_cursor
from todo.http.parameters import SingleValue, WholeNumber
from todo.http.problems import CursorExpired, UnprocessableContent
from todo.http.requests import QuerySchema
from todo.tasks.rows import COLUMNS, MEMBERS, TaskRow, as_task, lists, tasks, trash, utc
from todo.tasks.schemas import TaskOut

VERSION = "changes 1"
USER_DIGEST_BYTES = 8
PERSON = b"todo changes"

NEVER = 2**63 - 1

CHECKSUM = "SHA-256, in hex, of a line `id:revision` for each task, in the order of the revisions."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for.

    Attributes:
        since: The cursor that it was given last, as it was sent.
        limit: How many changes at most.

    """

    since: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Place:
    """How far a follower has come.

    Attributes:
        revision: All changes up to this one are known.
        begun: The revision when the first page was read, which begins with all tasks: nobody need be told of what was
            deleted before.

    """

    revision: int
    begun: int = 0

    @property
    def told(self) -> int:
        """Give the revision up to which all deletions are known."""
        return max(self.revision, self.begun)


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of changes, and the revision of the list that it was read at."""

    page: dict[str, Any]
    revision: int


class ChangesQuery(QuerySchema):
    """The parameters of the changes."""

    since = SingleValue(
        metadata=CURSOR_SCHEMA | {"description": "The `next` of the answer before. Without it, all tasks are given."}
    )
    limit = WholeNumber(1, PAGE_MAX, metadata={"description": f"How many changes at most; {PAGE_MAX} without it."})

    @post_load
    def build(self, sent: dict[str, Any], **_: Any) -> Asked:
        """Give what is asked for."""
        return Asked(sent.get("since"), sent.get("limit", PAGE_MAX))


class DeletedOut(Output):
    """A task that is gone."""

    id = fields.Integer(required=True, metadata={"example": 42, "format": "int64"})
    revision = fields.Integer(required=True, metadata={"example": 18, "format": "int64"})
    deleted_at = UtcDateTime(
        required=True, metadata={"type": "string", "format": "date-time", "example": "2026-03-01T09:30:00.123456Z"}
    )


class ChangesOut(Output):
    """What has changed, in the order of the revisions."""

    tasks = fields.List(
        fields.Nested(TaskOut), required=True, metadata={"description": "Each task that is new or other, as it is now."}
    )
    deleted = fields.List(fields.Nested(DeletedOut), required=True, metadata={"description": "Those that are gone."})
    next = fields.String(required=True, metadata={"description": "What to send as `since` the next time."})
    has_more = fields.Boolean(required=True, metadata={"description": "Whether there is more to be had at once."})
    count = fields.Integer(metadata={"description": "On the last page: how many tasks there are.", "example": 12})
    checksum = fields.String(
        metadata={"description": f"On the last page: {CHECKSUM}", "pattern": "^[0-9a-f]{64}$", "example": "0" * 64}
    )


def _changes() -> Prepared:
    caller, rows = bindparam("caller", type_=Text), bindparam("rows", type_=BigInteger)
    changed = (
        select(*COLUMNS, cast(null(), DateTime()).label("deleted_at"))
        .where(tasks.c.user_id == caller, tasks.c.revision > bindparam("since", type_=BigInteger))
        .order_by(tasks.c.revision)
        .limit(rows)
    )
    deleted = (
        select(*_no_task(), utc(trash.c.deleted_at))
        .where(trash.c.user_id == caller, trash.c.revision > bindparam("deleted_since", type_=BigInteger))
        .order_by(trash.c.revision)
        .limit(rows)
    )
    merged = union_all(select(changed.subquery("alive")), select(deleted.subquery("gone"))).subquery("merged")
    page = select(merged).order_by(merged.c.revision).limit(rows).cte("page")
    last = select(func.count()).select_from(page).scalar_subquery() < rows
    proof = _proof().where(tasks.c.user_id == caller, last).subquery("proof")
    return prepared(
        select(*page.c, *proof.c, lists.c.revision.label("list_revision"), lists.c.forgotten)
        .select_from(lists.outerjoin(page, true()).outerjoin(proof, true()))
        .where(lists.c.user_id == caller, lists.c.revision != bindparam("known", type_=BigInteger))
        .order_by(page.c.revision)
    )


def _no_task() -> list[Any]:
    """Give, for the mark of a deleted task, what stands for the columns of one."""
    kinds: dict[str, Any] = {name: DateTime() for name in ("created_at", "updated_at", "due_date", "completed_at")}
    kinds |= {"tags": ARRAY(Text()), "priority": tasks.c.priority.type}
    known = {name: trash.c[name] for name in ("id", "user_id", "revision")}
    empty = {name: cast(null(), kinds.get(name, member.type)) for name, member in MEMBERS.items()}
    return [*(column.label(name) for name, column in (empty | known).items()), cast(null(), Boolean()).label("all_day")]


def _proof() -> Select[Any]:
    """Count the tasks and make the checksum, from an index alone, and in its order."""
    line = func.concat(tasks.c.id, literal_column("':'"), tasks.c.revision, literal_column("E'\\n'"))
    lines = func.coalesce(
        func.string_agg(line, aggregate_order_by(literal_column("''"), tasks.c.revision)), literal_column("''")
    )
    digest = func.sha256(func.convert_to(lines, literal_column("'UTF8'")))
    return select(func.count().label("count"), func.encode(digest, literal_column("'hex'")).label("checksum"))


CHANGES = _changes()
OF_NOTHING = {"count": 0, "checksum": hashlib.sha256().hexdigest()}


def list_changes(caller: str, asked: Asked, known: int | None = None) -> Changes | None:
    """Read one page of changes; give None where the revision that the caller knows is still the newest.

    Raises:
        UnprocessableContent: the cursor is not one that was given for this user's list.
        CursorExpired: it was, but deletions since then are no longer known.

    """
    place = None if asked.since is None else _place(caller, asked.since)
    since, deleted_since = (place.revision, place.told) if place else (0, NEVER)
    parameters = {"caller": caller, "since": since, "deleted_since": deleted_since, "rows": asked.limit + 1}
    rows = statements.read(CHANGES, {**parameters, "known": -1 if known is None else known})
    if not rows and known is not None:
        return None
    newest, forgotten = (rows[0].list_revision, rows[0].forgotten) if rows else (0, 0)
    if place is not None:
        _check(place, newest, forgotten)
    page = rows[: asked.limit] if rows and rows[0].id is not None else []
    more = len(rows) > asked.limit
    reached = Place(page[-1].revision, place.begun if place else newest) if more else Place(newest)
    proof = {} if more else {"count": rows[0].count, "checksum": rows[0].checksum} if rows else OF_NOTHING
    return Changes({**_told(page), "next": _cursor(caller, reached), "has_more": more, **proof}, newest)


def _told(page: Sequence[Row[Any]]) -> dict[str, list[TaskRow]]:
    """Sort what has changed from what is gone."""
    deleted = [{"id": row.id, "revision": row.revision, "deleted_at": row.deleted_at} for row in page if row.deleted_at]
    return {"tasks": [as_task(row) for row in page if not row.deleted_at], "deleted": deleted}


def _check(place: Place, newest: int, forgotten: int) -> None:
    """Tell whether all that happened since is known."""
    if place.told > newest:
        raise _refused("is ahead of this list, so it was given for another one: begin again without it.")
    if place.told < forgotten:
        raise CursorExpired


def _cursor(caller: str, place: Place) -> str:
    return encode_cursor([VERSION, _of(caller), place.revision, place.begun])


def _place(caller: str, cursor: str) -> Place:
    try:
        user, revision, begun = decode_cursor(cursor, VERSION)
        place = Place(bigint(revision), bigint(begun))
    except BadCursor as error:
        raise _refused(str(error)) from None
    except ValueError:
        raise _refused(str(ForgedCursor())) from None
    if user != _of(caller):
        raise _refused("was given to another user: begin again without it.")
    return place


def _refused(rule: str) -> UnprocessableContent:
    return UnprocessableContent([{"parameter": "since", "detail": f"since {rule}"}])


def _of(caller: str) -> str:
    return hashlib.blake2b(caller.encode(), digest_size=USER_DIGEST_BYTES, person=PERSON).hexdigest()
