"""Every statement of the service, with a value for each of its parameters."""

import json
import re
from datetime import UTC, datetime
from importlib import import_module

from config import ROOT
from todo.batch import queries as batch
from todo.tasks import listing, queries
from todo.tasks.listing import Filters, Listing, Position, SortKey
from todo.tasks.rows import INITIAL, STORED

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

OPERATIONS = [
    {"number": 0, "op": "create", "key": "key", "digest": "\\x00", "members": INITIAL | {"title": "x"}},
    {"number": 1, "op": "update", "id": 7, "revisions": [1, 2], "members": {"title": "x"}},
    {"number": 2, "op": "delete", "id": 8},
    {"number": 3, "op": "restore", "id": 9},
]

TEMPLATE = re.compile(r"\{\w+\}")

# The modules that have a file of statements beside them.
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "todo").glob("**/*.sql"))
# What changes no rows.
DEFINITIONS = {
    f"todo.tasks.renumbering {name}" for name in ("drop_trigger", "create_function", "allow_trigger", "create_trigger")
}
# What only Citus knows.
CITUS_ONLY = "todo.database.distribution", "todo.trash.purging list_expired_by_piece"
# Those of commands and of the beat, for all users at once.
FOR_ALL_USERS = {
    "todo.events.beat list_changed",
    "todo.tasks.renumbering begin_ids",
    "todo.tasks.renumbering choose_number",
    "todo.tasks.renumbering expire_cursors",
    "todo.tasks.renumbering find_last",
    "todo.tasks.renumbering raise_lists",
    "todo.trash.purging list_expired",
}


def sample(user):
    """Return a value for each parameter of any statement."""
    row = INITIAL | {"title": "x", "completed": True, "priority": "low", "due_at": NOW, "tags": ["a"]}
    times = dict.fromkeys(("now", "day", "begin", "end", "completed_since"), NOW)
    known = {
        "among": [1, 2],
        "besides": [3],
        "known_revision": 7,
        "key": "key",
        "digest": b"digest",
        "days": 30,
        "revision": 8,
    }
    page = {"before": 9, "since": 1, "deleted_since": 1, "rows": 11, "offset": 0, "batch": 10}
    sent = {"tasks": '[{"title": "x", "id": 7, "idempotency_key": "key"}]', "with_completed": True}
    sent |= {"operations": json.dumps(OPERATIONS), "keys": ["key"], "ids": [9], "atomic": True}
    others = {"users": [user], "revisions": [1], "after": "", "last": "z", "number": 9}
    return row | times | known | page | sent | others | {"caller": user, "user": user, "task_id": 7}


STATEMENTS = {
    f"{module} {name}": sql
    for module in MODULES
    for name, sql in import_module(module).SQL.items()
    # The others are templates.
    if not TEMPLATE.search(sql)
    and f"{module} {name}" not in DEFINITIONS
    and not f"{module} {name}".startswith(CITUS_ONLY)
}
STATEMENTS["toggle"] = queries.TOGGLE
STATEMENTS["batch"] = batch.message(frozenset({"create", "update", "delete", "restore"}))
STATEMENTS |= {
    f"update {' '.join(sorted(names))}": queries.update_statement(frozenset(names))
    for names in (
        {"title", "folded_title"},
        {"completed"},
        {"due_at", "due_all_day", "priority", "tags", "tag_keys", "folded_tags", "description", "folded_description"},
        set(STORED),
    )
}

TITLE, DUE = SortKey("title"), SortKey("due_date", descending=True)
LISTINGS = {
    "filtered": {
        "filters": Filters(completed=(False,), priorities=("low", None), tag_keys=("a",), words=(("x", "ł"), ("%",)))
    },
    "bounded": {"filters": Filters(due_before=NOW, due_after=NOW, created_after=NOW, updated_after=NOW, overdue=True)},
    "bounded in a time zone": {"filters": Filters(due_before=NOW, due_after=NOW, overdue=False, tz="Asia/Tokyo")},
    "skipped": {"offset": 5},
    "turned": {"sort": (SortKey("id", descending=True),)},
    "sorted": {"sort": (TITLE, DUE)},
    "sorted, a later page": {"sort": (DUE, TITLE), "after": Position((NOW.replace(tzinfo=None), "x"), 7, NOW)},
    "sorted, a later page after null": {"sort": (DUE,), "after": Position((None,), 7, NOW), "offset": 2},
    "counted": {"count": True},
    "sorted and counted": {"sort": (TITLE,), "count": True, "after": Position(("x",), 7, NOW)},
}
STATEMENTS = {name: (sql, {}) for name, sql in STATEMENTS.items()} | {
    f"list, {name}": listing.statement("", Listing(as_of=NOW, **wanted), 7) for name, wanted in LISTINGS.items()
}


def parameters_of(name, user):
    """Return a value for each parameter of a statement that runs for this user."""
    return sample(user) | STATEMENTS[name][1] | {"caller": user}
