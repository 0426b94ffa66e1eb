"""One function per operation on the trash, one statement each, the caller's id always first."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    update,
)

from todo.database import statements
from todo.database.statements import Prepared, prepared
from todo.http.problems import TaskNotFound
from todo.tasks.queries import LOCKED, raised_to
from todo.tasks.rows import COLUMNS, TaskRow, as_task, columns_of, stored_in, tasks, trash, utc

NEWEST = 2**63 - 1

_mine = trash.c.user_id == bindparam("caller", type_=Text)
_this = trash.c.id == bindparam("task", type_=BigInteger)
# The mark of a task of which nothing is left is for followers of the changes alone.
_full = trash.c.task.is_not(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which page of the trash: the newest deletions that were made before a revision."""

    limit: int
    offset: int = 0
    before: int = NEWEST
    count: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Deleted tasks; before which revision the next page begins, if there is one; how many there are, if asked."""

    tasks: list[TaskRow]
    next: int | None
    total: int | None


def _listing(*, counted: bool) -> Prepared:
    stored = stored_in(trash)
    moments = (utc(trash.c.deleted_at).label("deleted_at"), utc(trash.c.expires_at).label("expires_at"))
    page = (
        select(*columns_of(stored), *moments, trash.c.revision.label("deleted_in"))
        .select_from(trash.join(stored, true()))
        .where(_mine, _full, trash.c.revision < bindparam("before", type_=BigInteger))
        .order_by(trash.c.revision.desc())
        .limit(bindparam("rows", type_=BigInteger))
        .offset(bindparam("offset", type_=BigInteger))
    )
    if not counted:
        return prepared(page)
    rows = page.subquery("page")
    total = select(func.count().label("total")).where(_mine, _full).subquery("counted")
    beside = select(*rows.c, total.c.total).select_from(total.outerjoin(rows, true()))
    return prepared(beside.order_by(rows.c.deleted_in.desc()))


def _restoration() -> Prepared:
    gone = (
        delete(trash)
        .where(_mine, _this, _full, trash.c.revision < LOCKED.c.revision)
        .returning(trash.c.task, LOCKED.c.revision.label("list_revision"))
        .cte("gone")
    )
    stored = stored_in(gone)
    moved = func.greatest(func.now(), stored.c.updated_at + literal_column("interval '1 microsecond'"))
    columns = {of.name: stored.c[of.name] for of in tasks.c} | {"updated_at": moved, "revision": gone.c.list_revision}
    source = select(*columns.values()).select_from(gone.join(stored, true()))
    restored = insert(tasks).from_select([*columns], source).returning(*COLUMNS).cte("restored")
    return prepared(select(restored).add_cte(raised_to(restored.c.revision)))


_emptied = update(trash).where(_mine, _full).values(task=null(), expires_at=null()).returning(trash.c.id)

LIST, LIST_AND_COUNT = _listing(counted=False), _listing(counted=True)
RESTORE = _restoration()
DISCARD = prepared(_emptied.where(_this))
EMPTY = prepared(_emptied)


def list_trash(caller: str, asked: Asked) -> Page:
    """Read one page of the caller's deleted tasks, the newest deletion first."""
    place = {"before": asked.before, "rows": asked.limit + 1, "offset": asked.offset}
    rows = statements.read(LIST_AND_COUNT if asked.count else LIST, {"caller": caller, **place})
    total = rows[0].total if asked.count else None
    if asked.count and rows[0].id is None:
        rows = []
    page = rows[: asked.limit]
    deleted = [as_task(row) | {"deleted_at": row.deleted_at, "expires_at": row.expires_at} for row in page]
    return Page(deleted, page[-1].deleted_in if len(rows) > asked.limit else None, total)


def restore_task(caller: str, task: int) -> TaskRow:
    """Bring a deleted task of the caller back, or raise TaskNotFound."""
    rows = statements.write(RESTORE, {"caller": caller, "task": task})
    if not rows:
        raise TaskNotFound
    return as_task(rows[0])


def discard_task(caller: str, task: int) -> None:
    """Forget what a deleted task of the caller held, or raise TaskNotFound."""
    if not statements.write(DISCARD, {"caller": caller, "task": task}):
        raise TaskNotFound


def empty_trash(caller: str) -> None:
    """Forget what all deleted tasks of the caller held."""
    statements.write(EMPTY, {"caller": caller})
