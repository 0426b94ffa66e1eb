"""Every statement touches the shard of its user alone, where users are spread over shards."""

import json
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg2
import pytest
from sqlalchemy import text
from support import call_as, config_for, new_database, new_user

from todo import create_app
from todo.batch import queries as batch
from todo.calendar import queries as calendar
from todo.events import beat
from todo.extensions import db
from todo.importing import queries as importing
from todo.tasks import changes, listing, queries, summary
from todo.tasks.listing import Filters, Listing, Position, SortKey
from todo.tasks.rows import INITIAL, STORED
from todo.trash import purging
from todo.trash import queries as trash
from todo.users import queries as user_queries

SHARDS = 4
TABLES = {
    "tasks": "PRIMARY KEY (user_id, id), UNIQUE (user_id, revision), UNIQUE (user_id, idempotency_key)",
    "task_lists": "PRIMARY KEY (user_id)",
    "trash": "PRIMARY KEY (user_id, id), UNIQUE (user_id, revision)",
}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

OPERATIONS = [
    {"number": 0, "op": "create", "key": "key", "digest": "\\x00", "members": INITIAL | {"title": "x"}},
    {"number": 1, "op": "update", "id": 7, "revisions": [1, 2], "members": {"title": "x"}},
    {"number": 2, "op": "delete", "id": 8},
    {"number": 3, "op": "restore", "id": 9},
]


def sharded(name, keys):
    """Return the statements that replace a table by one with the same columns, partitioned by user."""
    columns = ", ".join(f"ADD {key}" for key in keys.replace("), ", ")\n").split("\n"))
    yield f"ALTER TABLE {name} SET SCHEMA unsharded"
    like = f"LIKE unsharded.{name} INCLUDING DEFAULTS INCLUDING IDENTITY"
    yield f"CREATE TABLE {name} ({like}) PARTITION BY HASH (user_id)"
    yield f"ALTER TABLE {name} {columns}"
    for shard in range(SHARDS):
        bounds = f"MODULUS {SHARDS}, REMAINDER {shard}"
        yield f"CREATE TABLE {name}_{shard} PARTITION OF {name} FOR VALUES WITH ({bounds})"


@pytest.fixture(scope="module")
def shards(postgres, migrated_template):
    """Return the application on a database whose tables are partitioned by user."""
    url = new_database(postgres, "todo_shards", migrated_template)
    app = create_app(config_for(url))
    with app.app_context():
        with db.engine.connect() as connection:
            connection.execute(text("CREATE SCHEMA unsharded"))
            for name, keys in TABLES.items():
                for statement in sharded(name, keys):
                    connection.execute(text(statement))
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def cursor(postgres, shards):
    """Return a cursor of the driver."""
    with closing(psycopg2.connect(postgres.get_uri(database="todo_shards"))) as connection:
        connection.autocommit = True
        yield connection.cursor()


@pytest.fixture(scope="module")
def users(cursor):
    """Return a user of each shard, by its number."""
    found = {}
    while len(found) < SHARDS:
        user = new_user()
        belongs = "satisfies_hash_partition('tasks'::regclass, %(shards)s, n, %(user)s::text)"
        numbers = "generate_series(0, %(shards)s - 1) n"
        cursor.execute(f"SELECT n FROM {numbers} WHERE {belongs}", {"shards": SHARDS, "user": user})
        found[cursor.fetchone()[0]] = user
    return found


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
    sent |= {"operations": json.dumps(OPERATIONS), "keys": ["key"], "restored": [9], "atomic": True}
    return row | times | known | page | sent | {"caller": user, "user": user, "task_id": 7}


STATEMENTS = {
    f"{module.__name__} {name}": sql
    for module in (queries, batch, changes, summary, beat, trash, purging, user_queries, importing, calendar)
    for name, sql in module.SQL.items()
    if name not in ("list_changed", "list_expired", "update_task")
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


def nodes(plan):
    """Return all nodes of a plan."""
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


def relations(plan):
    """Return each relation that a plan reads or changes, and each that it inserts into."""
    read, written = set(), set()
    for node in nodes(plan):
        if node["Node Type"] != "ModifyTable":
            read |= {node["Relation Name"]} if "Relation Name" in node else set()
        elif node["Operation"] == "Insert":
            written.add(node["Relation Name"])
        else:
            read |= {target["Relation Name"] for target in node.get("Target Tables", [node])}
    return read, written


def assert_one_shard(cursor, users, statement_of):
    """Assert that a statement touches the shard of its user alone, for a user of each shard."""
    for shard, user in users.items():
        sql, parameters = statement_of(user)
        seen = set()
        for part in sql.split(";\n"):
            cursor.execute(f"EXPLAIN (FORMAT JSON) {part}", sample(user) | parameters)
            ((answer,),) = cursor.fetchone()
            read, written = relations(answer["Plan"])
            assert read <= {f"{name}_{shard}" for name in TABLES}
            # A new row is routed to its shard when it exists.
            assert written <= set(TABLES)
            seen |= read | written
        assert seen


@pytest.mark.parametrize("statement", [pytest.param(statement, id=name) for name, statement in STATEMENTS.items()])
def test_statement_of_any_call_plans_to_the_shard_of_its_user(cursor, users, statement):
    assert_one_shard(cursor, users, lambda _: (statement, {}))


@pytest.mark.parametrize("asked", [pytest.param(asked, id=name) for name, asked in LISTINGS.items()])
def test_statement_of_any_list_plans_to_the_shard_of_its_user(cursor, users, asked):
    assert_one_shard(cursor, users, lambda user: listing.statement(user, Listing(as_of=NOW, **asked), 7))


def test_statement_that_names_no_user_plans_to_all_shards(cursor, users):
    with pytest.raises(AssertionError):
        assert_one_shard(cursor, users, lambda _: (purging.SQL["list_expired"], {}))


def test_calls_of_a_user_leave_rows_in_one_shard(shards, cursor, users):
    client = shards.test_client()
    for shard, user in users.items():
        call = call_as(client, user)
        key = {"Idempotency-Key": "key"}
        made = [call("POST", "/tasks", title="x", tags=["a"]).json, call("POST", "/tasks", key, title="x").json]
        assert call("POST", "/tasks", key, title="x").headers["Idempotent-Replayed"] == "true"
        since = call("GET", "/tasks/changes").json["next"]
        call("PATCH", f"/tasks/{made[0]['id']}", title="new")
        for task in made:
            call("DELETE", f"/tasks/{task['id']}")
        call("POST", f"/trash/{made[0]['id']}/restore")
        queue = [
            {"op": "create", "key": "another", "task": {"title": "y"}},
            {"op": "restore", "id": made[1]["id"]},
            {"op": "update", "id": made[0]["id"], "task": {"title": "newer"}},
        ]
        results = call("POST", "/tasks/batch", operations=queue).json["results"]
        queue = [{"op": "delete", "id": results[n]["task"]["id"]} for n in (0, 1)]
        results += call("POST", "/tasks/batch", operations=queue).json["results"]
        assert [result["status"] for result in results] == [201, 200, 200, 204, 204]
        assert call("GET", "/tasks?sort=title&count=true").headers["X-Total-Count"] == "1"
        for created in (1, 0):
            assert (
                call("POST", "/import", {"Content-Type": "text/csv"}, data="id,title\n7,x\n").json["created"] == created
            )
        call("DELETE", f"/tasks/{call('GET', '/tasks').json[-1]['id']}")
        assert call("POST", "/import", {"Content-Type": "text/csv"}, data="id,title\n7,x\n").json["known"] == 1
        path = urlsplit(call("PUT", "/calendar").json["url"]).path
        assert client.get(path).status_code == 200
        assert call("GET", "/tasks/summary").json["by_tag"] == [{"tag": "a", "count": 1}]
        page = call("GET", f"/tasks/changes?since={since}").json
        assert ([task["revision"] for task in page["tasks"]], page["count"]) == ([9], 1)
        assert [gone["id"] for gone in page["deleted"]][:2] == [results[0]["task"]["id"], made[1]["id"]]
        for name in TABLES:
            cursor.execute(f"SELECT tableoid::regclass::text FROM {name} WHERE user_id = %s", (user,))
            assert set(cursor.fetchall()) == {(f"{name}_{shard}",)}
