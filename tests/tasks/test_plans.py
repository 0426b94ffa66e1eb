"""The plans of all statements: which scans, indexes, sorts and joins PostgreSQL chooses, compared with `plans.json`.

A change of a statement that changes its plan fails here. Where the new plan is meant, `UPDATE_PLANS=1 make test
ARGS=tests/tasks/test_plans.py` writes the file anew, and the difference is reviewed like code.
"""

import json
import os
import re
from contextlib import closing
from datetime import UTC, datetime

import flask_migrate
import psycopg2
import pytest
from support import config_for, new_database

from todo import create_app
from todo.batch import queries as batch
from todo.database.prepared import SEPARATOR, Prepared, forms_of
from todo.events import beat
from todo.extensions import db
from todo.tasks import changes, listing, queries, summary
from todo.tasks.listing import BY_ID, Filters, Listing, Position, SortKey
from todo.tasks.rows import INITIAL, columns_of
from todo.trash import purging
from todo.trash import queries as trash
from todo.users import queries as users

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

# One user with 8,000 tasks and 39 with 250; ANALYZE reads all rows of so few, so its statistics are always the same.
POPULATION = """
    INSERT INTO task_lists (user_id, revision) SELECT 'user-' || u, 10000 FROM generate_series(1, 40) u;
    INSERT INTO tasks (user_id, title, description, completed, created_at, updated_at, priority, due_at, due_all_day,
                       tags, folded_tags, folded_title, revision, idempotency_key)
    SELECT 'user-' || u, 'Task number ' || n, CASE WHEN n % 3 = 0 THEN 'More about ' || n END, n % 2 = 0,
        '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 minute',
        '2026-02-01T00:00:00Z'::timestamptz + n * interval '1 minute',
        (ARRAY['low', 'medium', 'high', NULL]::priority[])[1 + n % 4],
        CASE WHEN n % 2 = 1 THEN '2026-03-01T00:00:00Z'::timestamptz + n % 90 * interval '1 day' END, n % 4 = 1,
        CASE WHEN n % 5 = 0 THEN ARRAY['home', 'tag' || n % 20] ELSE '{}' END,
        CASE WHEN n % 5 = 0 THEN 'home' || chr(10) || 'tag' || n % 20 END,
        CASE WHEN n % 10 = 0 THEN 'folded ' || n END, n, CASE WHEN n % 7 = 0 THEN 'key-' || n END
    FROM generate_series(1, 40) u, generate_series(1, 250 + CASE WHEN u = 1 THEN 7750 ELSE 0 END) n;
    INSERT INTO trash (user_id, id, revision, deleted_at, expires_at, task)
    SELECT user_id, id + 1000000, 9000 + revision, '2026-02-01',
        CASE WHEN revision % 3 > 0 THEN '2027-02-01'::timestamptz END,
        CASE WHEN revision % 3 > 0 THEN to_jsonb(tasks) END
    FROM tasks WHERE revision <= 200;
    ANALYZE;
"""

# As many as there can be: some of each kind.
OPERATIONS = [
    {"number": number}
    | (
        {"op": "create", "key": f"key-{number}", "digest": "\\x00", "members": INITIAL | {"title": "x"}},
        {"op": "update", "id": number, "members": {"title": "x"}},
        {"op": "delete", "id": number},
        {"op": "restore", "id": 1000000 + number},
    )[number % 4]
    for number in range(100)
]

PARAMETERS = (
    {
        "caller": "user-1",
        "user": "user-1",
        "users": ["user-1", "user-2"],
        "revisions": [1, 2],
        "task_id": 7,
        "among": [1, 2],
        "besides": [3],
        "known_revision": 7,
        "days": 30,
    }
    | {"key": "key", "digest": b"digest", "before": 9900, "since": 9100, "deleted_since": 9100}
    | {"rows": 11, "offset": 0, "batch": 10, "now": NOW, "day": NOW, "begin": NOW, "end": NOW}
    | {"operations": json.dumps(OPERATIONS), "keys": ["key-7"], "ids": [1000001], "atomic": True}
    | INITIAL
    | columns_of({"title": "x", "completed": True, "priority": "low", "tags": ["a"]})
)

STATEMENTS = {
    f"{module.__name__} {name}": sql
    for module in (queries, batch, changes, summary, beat, trash, purging, users)
    for name, sql in module.SQL.items()
    if name not in ("update_task", "list_expired_by_piece")
}
STATEMENTS["toggle"] = queries.TOGGLE
STATEMENTS |= {
    f"update {' '.join(members)}": queries.update_statement(frozenset(columns_of(dict.fromkeys(members, value))))
    for members, value in ((("title",), "x"), (("completed",), True), (("priority", "due_date"), None))
}

TITLE, DUE = SortKey("title"), SortKey("due_date", descending=True)
ORDERS = {
    "id": (BY_ID, (7,)),
    "-id": ((SortKey("id", descending=True),), (7,)),
    "title": ((TITLE,), ("x",)),
    "-due_date, title": ((DUE, TITLE), (NOW.replace(tzinfo=None), "x")),
    "-due_date, where there is none": ((DUE,), (None,)),
    "priority, created_at": ((SortKey("priority"), SortKey("created_at")), ("low", NOW.replace(tzinfo=None))),
}
FILTERS = {
    "open": Filters(completed=(False,)),
    "priorities": Filters(priorities=("low", None)),
    "tags": Filters(tag_keys=("home", "tag5")),
    "due": Filters(due_before=NOW, due_after=NOW),
    "created and updated": Filters(created_after=NOW, updated_after=NOW),
    "overdue": Filters(overdue=True),
    "not overdue": Filters(overdue=False),
    "due and overdue in a time zone": Filters(due_before=NOW, overdue=True, tz="Asia/Tokyo"),
    "words": Filters(words=(("task",), ("8%",))),
    "words of two spellings": Filters(words=(("lodz", "łodz"),)),
}
LISTINGS = {
    f"{order}{', after a task' * after}{', counted' * count}": {"sort": sort, "count": count}
    | ({"after": Position(values, 7, NOW)} if after else {})
    for order, (sort, values) in ORDERS.items()
    for after in (False, True)
    for count in (False, True)
}
LISTINGS |= {
    f"{name}, by {order}{', counted' * count}": {"filters": filters, "sort": ORDERS[order][0], "count": count}
    for name, filters in FILTERS.items()
    for order in ("id", "title")
    for count in (False, True)
}
LISTINGS["offset"] = {"offset": 5}


@pytest.fixture(scope="module")
def cursor(postgres):
    """Return a cursor of the driver on a populated database."""
    app = create_app(config_for(new_database(postgres, "todo_plans")))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    with closing(psycopg2.connect(postgres.get_uri(database="todo_plans"))) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(POPULATION)
        yield cursor


@pytest.fixture(scope="module")
def expected(root):
    """Return the committed plans by the names of the statements."""
    return json.loads((root / "tests/tasks/plans.json").read_text())


def shape(node, depth=0):
    """Return a line for each node of a plan, without names that the statement chooses."""
    parts = [node.get(part) for part in ("Node Type", "Operation", "Join Type", "Relation Name", "Index Name")]
    condition = re.sub(r"\b\w+\.(?=\w)|page_(?=id)", "", node.get("Index Cond", ""))
    yield "  " * depth + " ".join(part for part in (*parts, condition) if part)
    for below in node.get("Plans", ()):
        yield from shape(below, depth + 1)


def plan_of(cursor, sql, parameters):
    """Return the lines of the plans of a statement, or of several that are one message."""
    lines = []
    for part in sql.split(SEPARATOR):
        cursor.execute(f"EXPLAIN (FORMAT JSON) {part}", parameters)
        lines += shape(cursor.fetchone()[0][0]["Plan"])
    return lines


def plan_of_page(cursor, wanted):
    return plan_of(cursor, *listing.statement("user-1", Listing(as_of=NOW, limit=50, **wanted), 7))


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_has_the_committed_plan(cursor, expected, name):
    assert plan_of(cursor, STATEMENTS[name], PARAMETERS) == expected[name]


@pytest.mark.parametrize("name", LISTINGS)
def test_page_of_a_list_has_the_committed_plan(cursor, expected, name):
    assert plan_of_page(cursor, LISTINGS[name]) == expected[f"list {name}"]


def prepared_statements():
    """Yield all statements that sessions keep prepared, with parameters."""
    for name, sql in STATEMENTS.items():
        yield name, sql, PARAMETERS
    for name, wanted in LISTINGS.items():
        yield f"list {name}", *listing.statement("user-1", Listing(as_of=NOW, limit=50, **wanted), 7)


PREPARED = {name: (sql, parameters) for name, sql, parameters in prepared_statements() if isinstance(sql, Prepared)}


@pytest.mark.parametrize("name", PREPARED)
def test_plan_for_all_values_reads_no_more_than_a_page_or_a_task(cursor, name):
    """PostgreSQL may use one plan for all users, though some have a thousand times as many tasks as others."""
    sql, parameters = PREPARED[name]
    cursor.execute("DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan")
    for form in forms_of(sql)[0]:
        cursor.execute(f"{form.preparation};\nEXPLAIN (FORMAT JSON) {form.execution}", parameters)
        lines = [line.strip() for line in shape(cursor.fetchone()[0][0]["Plan"])]
        # All lists of the few users here are one page of the disk, which no index makes faster to read.
        scans = [line for line in lines if re.search("Scan (tasks|trash)", line)]
        assert all("user_id = $" in scan for scan in scans), lines
        # Sorted are at most the tasks of the page, which come in the order of the key already.
        assert sum(line.startswith(("Sort", "Incremental Sort", "Bitmap Heap")) for line in lines[1:]) == 0, lines
    cursor.execute("RESET plan_cache_mode")


def test_committed_plans_are_those_of_all_statements(cursor, expected, root):
    if os.environ.get("UPDATE_PLANS"):
        plans = {name: plan_of(cursor, sql, PARAMETERS) for name, sql in STATEMENTS.items()}
        plans |= {f"list {name}": plan_of_page(cursor, wanted) for name, wanted in LISTINGS.items()}
        (root / "tests/tasks/plans.json").write_text(json.dumps(plans, indent=1) + "\n")
        pytest.fail("plans.json was written anew: review the difference")
    assert expected.keys() == {*STATEMENTS, *(f"list {name}" for name in LISTINGS)}
