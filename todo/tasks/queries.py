"""One function per operation, one round trip each, the caller's id always first.

A task of somebody else is simply not found: ownership lives in the WHERE. Every write locks the caller's row of
`task_lists` before anything else, so all writers of one user take the same turns and those of others never wait; and
every table in a statement is asked for the caller's rows by name, so it also runs where users are spread over machines.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Integer,
    Interval,
    LargeBinary,
    Row,
    Text,
    any_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY

from todo.database import statements
from todo.database.statements import Prepared, prepared
from todo.http.idempotency import Idempotency
from todo.http.problems import IdempotencyKeyReused, PreconditionFailed, TaskNotFound
from todo.tasks import listing, search
from todo.tasks.cursors import encode
from todo.tasks.listing import Listing, Position
from todo.tasks.rows import COLUMNS, TaskRow, as_task, columns_of, lists, stored_in, tasks, trash

Revisions = Collection[int] | None

_caller = bindparam("caller", type_=Text)
_key = bindparam("key", type_=Text)
_mine = tasks.c.user_id == _caller
_this = tasks.c.id == bindparam("task", type_=BigInteger)
_my_list = lists.c.user_id == _caller

# Whether the task is still in one of the states that the caller knows, where the caller says so.
_known = cast(bindparam("revisions"), ARRAY(BigInteger))
_as_known = or_(_known.is_(None), tasks.c.revision == any_(_known))

# A change always moves the time forward, even when the clock was set back or two changes share a microsecond.
_now = func.greatest(func.now(), tasks.c.updated_at + literal_column("interval '1 microsecond'"))

# A task that stays completed keeps the time of its completion.
_since = case((tasks.c.completed, func.coalesce(tasks.c.completed_at, tasks.c.updated_at)))

# What is compared to tell whether a change changes anything. The other columns follow from these.
_COMPARED = ("title", "description", "completed", "priority", "due_at", "due_all_day", "tags")
_DERIVED = ("tag_keys", "folded_tags", "folded_title", "folded_description")
_SET_ON_CREATION = (*_COMPARED, *_DERIVED)
_NOTHING: dict[str, Any] = dict.fromkeys(_SET_ON_CREATION) | {"completed": False, "due_all_day": False, "tags": []}

# The first step of whatever changes tasks that are there.
LOCKED = (
    select((lists.c.revision + literal_column("1")).label("revision")).where(_my_list).with_for_update().cte("locked")
)


def raised_to(revision: ColumnElement[int]) -> CTE:
    """Raise the revision of the caller's list to that of what was written; what changed nothing has an old one."""
    return update(lists).where(_my_list, lists.c.revision < revision).values(revision=revision).cte("raised")


def _new(name: str) -> ColumnElement[Any]:
    return cast(bindparam(f"new_{name}"), tasks.c[name].type)


def _changing(differs: ColumnElement[bool], values: dict[str, Any]) -> Prepared:
    """Write to the task, in its newest state; where nothing differs it keeps its revision and its time."""
    changed = (
        update(tasks)
        .where(_mine, _this, _as_known, tasks.c.revision < LOCKED.c.revision)
        .values(
            {"completed_at": _since}
            | values
            | {
                "revision": case((differs, LOCKED.c.revision), else_=tasks.c.revision),
                "updated_at": case((differs, _now), else_=tasks.c.updated_at),
            }
        )
        .returning(*COLUMNS)
        .cte("changed")
    )
    return prepared(select(changed).add_cte(raised_to(changed.c.revision)))


@cache
def _setting(names: frozenset[str]) -> Prepared:
    values = {name: _new(name) for name in sorted(names)}
    if "completed" in names:
        values["completed_at"] = case((_new("completed"), func.coalesce(_since, _now)))
    compared = [tasks.c[name].is_distinct_from(values[name]) for name in _COMPARED if name in names]
    return _changing(or_(*compared), values)


TOGGLE = _changing(true(), {"completed": ~tasks.c.completed, "completed_at": case((~tasks.c.completed, _now))})

GET = prepared(select(*COLUMNS).where(_mine, _this))


def _insertion(raised: CTE) -> Any:
    """Write a new task with the revision that the list was raised to."""
    written = {name: _new(name) for name in _SET_ON_CREATION} | {
        "user_id": _caller,
        "completed_at": case((_new("completed"), func.now())),
        "idempotency_key": cast(_key, Text),
        "idempotency_digest": cast(bindparam("digest"), LargeBinary),
        "revision": raised.c.revision,
    }
    return insert(tasks).from_select([*written], select(*written.values()))


def _creation() -> Prepared:
    raised = (
        postgresql.insert(lists)
        .values(user_id=_caller, revision=literal_column("1"))
        .on_conflict_do_update(
            index_elements=[lists.c.user_id], set_={"revision": lists.c.revision + literal_column("1")}
        )
        .returning(lists.c.revision)
        .cte("raised")
    )
    return prepared(_insertion(raised).returning(*COLUMNS))


# Makes the caller's list if need be, and locks it in any case.
LOCK = (
    postgresql.insert(lists)
    .values(user_id=_caller, revision=literal_column("0"))
    .on_conflict_do_update(index_elements=[lists.c.user_id], set_={"revision": lists.c.revision})
    .returning(lists.c.revision)
)


def _creation_once() -> Prepared:
    """Write a new task unless its key made one before, which is looked for once the list is locked.

    That takes a statement of its own: one that began before it waited would not see what happened meanwhile, and of two
    creations at once with one key, or of one beside a deletion, the second would know nothing.
    """
    digest = tasks.c.idempotency_digest
    live = select(*COLUMNS, digest, false().label("created")).where(_mine, tasks.c.idempotency_key == _key).cte("live")
    stored = stored_in(trash)
    deleted = (
        select(*columns_of(stored), stored.c.idempotency_digest, false().label("created"))
        .select_from(trash.join(stored, true()))
        .where(trash.c.user_id == _caller, trash.c.task["idempotency_key"].astext == _key)
        .cte("deleted")
    )
    raised = (
        update(lists)
        .where(_my_list, ~exists().select_from(live), ~exists().select_from(deleted))
        .values(revision=lists.c.revision + literal_column("1"))
        .returning(lists.c.revision)
        .cte("raised")
    )
    made = _insertion(raised).returning(*COLUMNS, digest, true().label("created")).cte("made")
    return prepared(LOCK, union_all(select(made), select(live), select(deleted)))


CREATE = _creation()
CREATE_ONCE = _creation_once()


def _deletion() -> Prepared:
    """Move the task into the trash, with all that it holds or, where nothing is kept, only the mark of it."""
    gone = (
        delete(tasks)
        .where(_mine, _this, _as_known, tasks.c.revision < LOCKED.c.revision)
        .returning(*tasks.c, LOCKED.c.revision.label("list_revision"))
        .cte("gone")
    )
    days = cast(bindparam("days"), Integer)
    kept_at_all = days > literal_column("0")
    whole = func.to_jsonb(literal_column("gone")).op("-")(literal_column("'list_revision'"))
    kept = (
        insert(trash)
        .from_select(
            ["user_id", "id", "revision", "expires_at", "task"],
            select(
                gone.c.user_id,
                gone.c.id,
                gone.c.list_revision,
                case((kept_at_all, func.now() + days * literal_column("interval '1 day'", Interval))),
                case((kept_at_all, whole)),
            ),
        )
        .cte("kept")
    )
    return prepared(select(*columns_of(gone)).add_cte(raised_to(gone.c.list_revision), kept))


DELETE = _deletion()


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list.

    Attributes:
        tasks: What is on it, in order.
        next: Where the next page begins, if there is one.
        total: How many there are on all pages, if that was asked.
        revision: The revision of the caller's list.

    """

    tasks: list[TaskRow]
    next: str | None
    total: int | None
    revision: int


def list_tasks(caller: str, asked: Listing, known: int | None = None) -> Page | None:
    """Read one page of the caller's tasks; give None where the revision that the caller knows is still the newest."""
    seen = -1 if known is None else known
    if parameters := listing.default_parameters(caller, asked):
        rows = statements.read(listing.DEFAULT, {**parameters, "known": seen})
    else:
        rows = statements.read(listing.statement(caller, asked, seen), {})
    if not rows and seen > 0:
        return None
    revision = rows[0].list_revision if rows else 0
    if revision == seen:
        return None
    total = (rows[0].total if rows else 0) if asked.count else None
    if rows and rows[0].id is None:
        rows = []
    page, more = rows[: asked.limit], rows[asked.limit :]
    return Page([as_task(row) for row in page], _next(asked, page[-1]) if more else None, total, revision)


def _next(asked: Listing, last: Row[Any]) -> str:
    values = tuple(getattr(last, key.label) for key in asked.sort)
    return encode(asked.filters, asked.sort, Position(values, last.id, asked.as_of))


def create_task(caller: str, values: Mapping[str, Any], once: Idempotency | None = None) -> tuple[TaskRow, bool]:
    """Add a task to the caller's.

    Returns:
        The task, and whether it was made now: one that the same key made before is given as it is today.

    Raises:
        IdempotencyKeyReused: the key made a task of another body.

    """
    new = {"caller": caller, **making(values)}
    if once is None:
        (row,) = statements.write(CREATE, {**new, "key": None, "digest": None})
        return as_task(row), True
    (row,) = statements.write(CREATE_ONCE, {**new, "key": once.key, "digest": once.digest})
    if bytes(row.idempotency_digest) != once.digest:
        raise IdempotencyKeyReused
    return as_task(row), row.created


def get_task(caller: str, task: int) -> TaskRow:
    """Read one task of the caller, or raise TaskNotFound."""
    rows = statements.read(GET, {"caller": caller, "task": task})
    if not rows:
        raise TaskNotFound
    return as_task(rows[0])


def update_task(caller: str, task: int, changes: Mapping[str, Any], known: Revisions = None) -> TaskRow:
    """Set the given members of one task of the caller.

    Raises:
        TaskNotFound: there is no such task.
        PreconditionFailed: it is in none of the known revisions.

    """
    return _change(*setting(changes), caller, task, known)


def toggle_task(caller: str, task: int, known: Revisions = None) -> TaskRow:
    """Turn one task of the caller from open to completed or back; raise as `update_task` does."""
    return _change(TOGGLE, {}, caller, task, known)


def delete_task(caller: str, task: int, trash_days: int, known: Revisions = None) -> TaskRow:
    """Move one task of the caller into the trash, for some days or for good; raise as `update_task` does."""
    return _change(DELETE, {"days": trash_days}, caller, task, known)


def _change(statement: Prepared, values: Mapping[str, Any], caller: str, task: int, known: Revisions) -> TaskRow:
    revisions = None if known is None else list(known)
    rows = statements.write(statement, {**values, "caller": caller, "task": task, "revisions": revisions})
    if rows:
        return as_task(rows[0])
    if known is None:
        raise TaskNotFound
    raise PreconditionFailed(current=get_task(caller, task))


def setting(changes: Mapping[str, Any]) -> tuple[Prepared, dict[str, Any]]:
    """Give the statement that sets these members, and with what."""
    held = columns(changes)
    return _setting(frozenset(held)), _renamed(held)


def making(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give with what a task is made that has these members."""
    return _renamed(_NOTHING | columns(values))


def _renamed(held: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in held.items()}


def columns(members: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns that hold what clients call by these names."""
    held = dict(members)
    if "due_date" in held:
        due = held.pop("due_date")
        held["due_at"], held["due_all_day"] = due or (None, False)
    return held | search.columns(held)
