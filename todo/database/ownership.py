"""What in a database is this service's. Other applications may keep theirs beside it, even under the same names.

Nothing of theirs is taken over, changed or dropped: migrations end before their first step where a name that they need
belongs to somebody else.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import click

from config import ROOT
from todo.database.statements import Transaction
from todo.extensions import db

FOLDER = ROOT / "migrations"

# The names that a migration creates, by kind: "table", "index", "type" or "function".
Names = Mapping[str, Sequence[str]]

# A revision is named like its file and begins with its number. Alembic's own ids are hexadecimal.
REVISION = re.compile(r"[0-9]{4}_[a-z0-9_]+")

OWN_DATABASE = "Give this service a database, or a schema as its search_path, of its own."

# Both names are looked up as the service's statements look them up: along the search_path.
VERSION_TABLE = """
    SELECT relnamespace::regnamespace::text AS schema, quote_ident(current_schema()) AS created_in,
        EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'version_num') AS has_versions
    FROM pg_class WHERE oid = to_regclass('alembic_version')
"""

# What a database says of its schema: the revision, the oldest revision whose code can serve it, and how many of the
# columns that this version needs are lacking; and the encoding of the database. A migration that older code cannot work
# with stores the oldest revision that can, as a comment on this table. The comment is read by releases older than the
# migration, so it has to stay in a place that they already read.
STATE = """
    SELECT version_num::text AS applied, obj_description('alembic_version'::regclass) AS serves_from, (
            SELECT count(*) FROM unnest(%(tables)s::text[], %(columns)s::text[]) AS wanted ("table", "column")
            WHERE NOT EXISTS (
                SELECT FROM pg_attribute
                WHERE attrelid = to_regclass("table") AND attname = "column" AND NOT attisdropped
            )
        ) AS lacking,
        current_setting('server_encoding') AS encoding
    FROM alembic_version
"""

MISSING = """
    SELECT kind, name FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS wanted (kind, name)
    WHERE CASE kind
        WHEN 'table' THEN to_regclass(%(schema)s || '.' || name) IS NULL
        WHEN 'type' THEN to_regtype(%(schema)s || '.' || name) IS NULL
        ELSE false END
    LIMIT 1
"""

# A table has a type of its name, and indexes are named among the tables. An index of one of our own tables is what an
# interrupted migration left behind.
TAKEN = """
    SELECT kind, name
    FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS wanted (kind, name),
        (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AS here
    WHERE kind IN ('table', 'index') AND EXISTS (
            SELECT FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid
            WHERE relnamespace = here.oid AND relname = name
                AND (indrelid IS NULL OR indrelid::regclass::text <> ALL (%(own)s::text[]))
        )
        OR kind IN ('table', 'type') AND EXISTS (SELECT FROM pg_type WHERE typnamespace = here.oid AND typname = name)
        OR kind = 'function' AND EXISTS (
            SELECT FROM pg_proc WHERE pronamespace = here.oid AND proname = name AND pronargs = 0
        )
    LIMIT 1
"""


@cache
def revisions() -> tuple[str, ...]:
    """Return the schema revisions that this version of the code knows, in their order."""
    return tuple(sorted(path.stem for path in (FOLDER / "versions").glob("[0-9]*.py")))


def newest() -> str:
    """Return the newest schema revision, which is the one that this version of the code is written for."""
    return revisions()[-1]


def is_newer(revision: str) -> bool:
    """Return whether a revision may be that of a later version of this service."""
    return revision > newest() and REVISION.fullmatch(revision) is not None


def is_ours(state: Any) -> bool:
    """Return whether a row of `STATE` is of this service: of this version, or of a later one that serves our columns.

    A later one that no longer has them says so.
    """
    return state.applied in revisions() or (
        is_newer(state.applied) and (not state.lacking or is_newer(state.serves_from or ""))
    )


@cache
def columns() -> Mapping[str, list[str]]:
    """Return the parameters of `STATE`: the columns that this version of the code needs."""
    wanted = [(table.name, column.name) for table in db.metadata.sorted_tables for column in table.columns]
    return {"tables": [table for table, _ in wanted], "columns": [column for _, column in wanted]}


def applied_revision(transaction: Transaction) -> str | None:
    """Return the revision of a database, or None where no migration is applied.

    Raises:
        click.ClickException: The version table is that of another application.

    """
    for table in transaction.read(VERSION_TABLE, {}):
        rows = transaction.read(STATE, columns()) if table.has_versions else []
        foreign = [row.applied for row in rows if not is_ours(row)]
        if foreign or len(rows) > 1 or not table.has_versions:
            found = f" (it is at {foreign[0][:50]})" if foreign else ""
            raise click.ClickException(
                f"the table alembic_version in the schema {table.schema} is that of another application{found}. "
                f"{OWN_DATABASE}"
            )
        return rows[0].applied if rows else None
    return None


def check(transaction: Transaction, migrations: Mapping[str, Names], *, upgrades: bool) -> None:
    """Check that migrations may be applied or reverted.

    Args:
        transaction: A transaction on the database, behind the lock of the migrations.
        migrations: The names that each migration creates, by its revision.
        upgrades: Whether they are to be applied.

    Raises:
        click.ClickException: A name that is wanted is taken, or a table or type that is to be ours is not; the message
            says which.

    """
    applied = applied_revision(transaction) or ""
    if is_newer(applied):
        raise click.ClickException(f"the schema is at {applied}, and this version knows none after {newest()}.")
    done = _objects(names for revision, names in migrations.items() if revision <= applied)
    for table in transaction.read(VERSION_TABLE, {}) if applied else ():
        if table.schema != table.created_in:
            raise click.ClickException(
                f"the tables are in the schema {table.schema}, and new ones would come into {table.created_in}: put "
                f"{table.schema} first in the search_path."
            )
        for missing in transaction.read(MISSING, {**done, "schema": table.schema}):
            raise click.ClickException(
                f"the schema {table.schema} is said to be at {applied}, and has no {missing.kind} {missing.name}: "
                "correct the search_path, or restore what is missing."
            )
    if upgrades:
        wanted = _objects(names for revision, names in migrations.items() if revision > applied)
        own = [name for kind, name in zip(done["kinds"], done["names"], strict=True) if kind == "table"]
        for taken in transaction.read(TAKEN, {**wanted, "own": own}):
            raise click.ClickException(
                f"there is a {taken.kind} {taken.name} already, which is not of this service. {OWN_DATABASE}"
            )


def _objects(names: Any) -> dict[str, list[str]]:
    flat = [(kind, name) for one in names for kind, found in one.items() for name in found]
    return {"kinds": [kind for kind, _ in flat], "names": [name for _, name in flat]}
