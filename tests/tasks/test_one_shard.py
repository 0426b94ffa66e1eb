"""Every statement touches the shard of its user alone, where users are spread over shards."""

from contextlib import closing
from urllib.parse import urlsplit

import psycopg2
import pytest
from sqlalchemy import text
from support import call_as, config_for, new_database, new_user
from tasks.every_statement import FOR_ALL_USERS, STATEMENTS, parameters_of

from todo import create_app
from todo.extensions import db

SHARDS = 4
TABLES = {
    "tasks": "PRIMARY KEY (user_id, id), UNIQUE (user_id, revision), UNIQUE (user_id, idempotency_key)",
    "task_lists": "PRIMARY KEY (user_id)",
    "trash": "PRIMARY KEY (user_id, id), UNIQUE (user_id, revision)",
}


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


def assert_one_shard(cursor, users, name):
    """Assert that a statement touches the shard of its user alone, for a user of each shard."""
    for shard, user in users.items():
        seen = set()
        for part in STATEMENTS[name][0].split(";\n"):
            cursor.execute(f"EXPLAIN (FORMAT JSON) {part}", parameters_of(name, user))
            ((answer,),) = cursor.fetchone()
            read, written = relations(answer["Plan"])
            assert read <= {f"{name}_{shard}" for name in TABLES}
            # A new row is routed to its shard when it exists.
            assert written <= set(TABLES)
            seen |= read | written
        assert seen


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - FOR_ALL_USERS))
def test_statement_of_any_call_plans_to_the_shard_of_its_user(cursor, users, name):
    assert_one_shard(cursor, users, name)


def test_statement_that_names_no_user_plans_to_all_shards(cursor, users):
    with pytest.raises(AssertionError):
        assert_one_shard(cursor, users, "todo.trash.purging list_expired")


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
