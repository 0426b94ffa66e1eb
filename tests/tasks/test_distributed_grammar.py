"""What Citus accepts, judged by PostgreSQL alone: how it has parsed every statement of the service.

Citus sends a statement to the machine of its user, and refuses what might mean something else there: in an UPDATE or a
DELETE an expression over columns that is not IMMUTABLE, as the sum of a time with a time zone and an interval is not,
and one that is not IMMUTABLE within CASE or COALESCE. It accepts an INSERT that reads a CTE, and copies the rows to
every machine, so that one that is away would stop all users. It cannot hand a subquery without columns from machine to
machine, writes a CASE that compares a value wrong where it has computed a part of it, and locks no rows of several
machines.

PostgreSQL stores the body of a function in SQL as it has parsed it (`pg_proc.prosqlbody`).
"""

import re
from contextlib import closing

import psycopg2
import pytest
from tasks.every_statement import FOR_ALL_USERS, STATEMENTS, parameters_of

# The values of enumerations in that form: CmdType and RTEKind.
UPDATE, INSERT, DELETE = "2", "3", "4"
CTE = "6"

# Each inserts one row, which the coordinator builds from the revision of the list, and sends to the one machine.
FROM_A_CTE = {"todo.tasks.queries create_task"}

TOKEN = re.compile(r"[{}()]|(?:\\.|[^\s{}()\\])+", re.DOTALL)
FUNCTION = re.compile(r":(?:funcid|opfuncid) (\d+)")


def parse(tokens):
    """Return the next node or list: a node as a dictionary of its fields, with its kind under ""."""
    token = next(tokens)
    if token == "(":
        return list(iter(lambda: parse(tokens), None))
    if token in ")}":
        return None
    if token != "{":
        return token
    node, field = {"": next(tokens)}, ""
    while (part := parse(tokens)) is not None:
        if isinstance(part, str) and part.startswith(":"):
            field = part[1:]
            node[field] = []
        else:
            node[field].append(part)
    return node


def below(part, *, queries):
    """Yield a node and all nodes below it; with or without those of other queries."""
    if isinstance(part, list):
        for one in part:
            yield from below(one, queries=queries)
    elif isinstance(part, dict) and (queries or part[""] != "QUERY"):
        yield part
        for values in part.values():
            yield from below(values, queries=queries) if isinstance(values, list) else ()


class Judge:
    """PostgreSQL, and what it has said of functions."""

    def __init__(self, cursor):
        self.cursor = cursor

    def parsed(self, sql, parameters):
        """Return all queries in a statement, or in several that are one message."""
        body = self.cursor.mogrify(sql, parameters).decode()
        self.cursor.execute(f"CREATE FUNCTION judged() RETURNS void LANGUAGE sql BEGIN ATOMIC {body}; END")
        self.cursor.execute("SELECT prosqlbody FROM pg_proc WHERE proname = 'judged'")
        ((text,),) = self.cursor.fetchall()
        self.cursor.execute("DROP FUNCTION judged()")
        return [node for node in below(parse(iter(TOKEN.findall(text))), queries=True) if node[""] == "QUERY"]

    def is_immutable(self, expression):
        """Check whether an expression is IMMUTABLE; a cast by text is what the functions of its type are."""
        functions, types = [], []
        for node in below(expression, queries=False):
            functions += [number for name in ("funcid", "opfuncid") for number in node.get(name, ())]
            types += [number for number in node.get("resulttype", ()) if node[""] == "COERCEVIAIO"]
            if node[""] in ("SQLVALUEFUNCTION", "NEXTVALUEEXPR"):
                return False
        self.cursor.execute(
            """
            SELECT bool_and(provolatile = 'i') IS NOT FALSE FROM pg_proc WHERE oid = ANY (%s::oid[])
                OR oid IN (SELECT typinput FROM pg_type WHERE oid = ANY (%s::oid[]))
            """,
            (functions, types),
        )
        return self.cursor.fetchone()[0]

    def faults(self, sql, parameters):
        """Yield what Citus would refuse, do wrong, or do on every machine."""
        for query in self.parsed(sql, parameters):
            kind = query["commandType"][0]
            if kind in (UPDATE, DELETE):
                yield from self.faults_of_change(query, query["targetList"][0] if kind == UPDATE else [])
            if kind == INSERT:
                yield from faults_of_insertion(query)
            if any(node[""] == "CASEEXPR" and node["arg"] != ["<>"] for node in below(query, queries=True)):
                yield "CASE compares a value"

    def faults_of_change(self, query, assignments):
        for expression in (query["jointree"], *assignments):
            nodes = list(below(expression, queries=False))
            if any(node[""] == "VAR" for node in nodes) and not self.is_immutable(expression):
                yield "an expression over columns is not IMMUTABLE"
            branches = [node for node in nodes if node[""] in ("CASEEXPR", "COALESCEEXPR")]
            if not all(self.is_immutable(list(branch.values())) for branch in branches):
                yield "CASE or COALESCE is not IMMUTABLE"


def faults_of_insertion(query):
    queries = [node for node in below(list(query.values()), queries=True) if node[""] == "QUERY"]
    tables = [table for one in [query, *queries] for table in one["rtable"][0] if one["rtable"] != ["<>"]]
    if any(table["rtekind"] == [CTE] for table in tables):
        yield "an INSERT reads a CTE"
    if any(one["targetList"] == ["<>"] for one in queries):
        yield "an INSERT has a subquery without columns"


@pytest.fixture(scope="module")
def judge(postgres, database_url):
    """Return PostgreSQL as the judge."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        yield Judge(connection.cursor())


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - FROM_A_CTE))
def test_statement_of_the_service_is_one_that_citus_accepts(judge, name):
    assert set(judge.faults(STATEMENTS[name][0], parameters_of(name, "user-1"))) == set()


@pytest.mark.parametrize("name", sorted(FOR_ALL_USERS))
def test_statement_for_all_users_locks_nothing_and_has_columns(judge, name):
    queries = judge.parsed(STATEMENTS[name][0], parameters_of(name, "user-1"))
    assert all(query["rowMarks"] == ["<>"] for query in queries)
    assert all(query["targetList"] != ["<>"] for query in queries)


@pytest.mark.parametrize("name", sorted(FROM_A_CTE))
def test_creation_by_name_reads_a_cte_and_nothing_else_is_wrong(judge, name):
    assert set(judge.faults(STATEMENTS[name][0], parameters_of(name, "user-1"))) == {"an INSERT reads a CTE"}


REFUSED = {
    "time with a time zone and an interval": (
        "UPDATE tasks SET updated_at = updated_at + interval '1 day' WHERE user_id = 'u'",
        "an expression over columns is not IMMUTABLE",
    ),
    "time of the statement beside a column": (
        "UPDATE tasks SET updated_at = greatest(CURRENT_TIMESTAMP, updated_at) WHERE user_id = 'u'",
        "an expression over columns is not IMMUTABLE",
    ),
    "condition": (
        "DELETE FROM trash WHERE user_id = 'u' AND expires_at < now()",
        "an expression over columns is not IMMUTABLE",
    ),
    "cast by text": (
        "DELETE FROM trash WHERE user_id = 'u' AND (task ->> 'created_at')::timestamptz = deleted_at",
        "an expression over columns is not IMMUTABLE",
    ),
    "branch": (
        "UPDATE tasks SET completed_at = CASE WHEN true THEN now() END WHERE user_id = 'u'",
        "CASE or COALESCE is not IMMUTABLE",
    ),
    "rows of a CTE": (
        """
        WITH gone AS (DELETE FROM trash WHERE user_id = 'u' RETURNING *)
        INSERT INTO trash (user_id, id, revision) SELECT user_id, id, revision FROM (SELECT * FROM gone) AS gone
        """,
        "an INSERT reads a CTE",
    ),
    "comparison": (
        "SELECT CASE completed WHEN true THEN 1 END FROM tasks WHERE user_id = 'u'",
        "CASE compares a value",
    ),
    "subquery without columns": (
        """
        INSERT INTO trash (user_id, id, revision) SELECT user_id, 1, revision FROM task_lists
        WHERE user_id = 'u' AND NOT EXISTS (SELECT FROM tasks WHERE user_id = 'u')
        """,
        "an INSERT has a subquery without columns",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_statement_that_citus_refuses_is_found(judge, case):
    sql, fault = REFUSED[case]
    assert fault in set(judge.faults(sql, {}))
