"""`flask db`, from Flask-Migrate. Alembic, a seventh of a process's memory, is imported only when migrations run."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

import click
from flask import Flask, current_app, g
from werkzeug.local import LocalProxy

from todo.database import ownership, statements
from todo.database.timeouts import BATCH_LIMITS, NO_LIMITS
from todo.extensions import db

# The encoding of a database that can hold every text, as PostgreSQL names it.
ENCODING = "UTF8"
ENCODING_REMEDY = "Make another (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0), and copy the data with pg_dump."

# The tables that a downgrade drops, or drops columns of.
TABLES = ("tasks", "trash", "task_lists")


# Replicas that start together queue for this lock: the first one migrates, and the others then find nothing to do. The
# lock belongs to a transaction, so it also works through a pooler that shares sessions. The replicas poll for it rather
# than wait in PostgreSQL, because CREATE INDEX CONCURRENTLY waits for every statement that has started before it.
MIGRATION_LOCK = "SELECT pg_try_advisory_xact_lock(7239562310011904) AS is_held"
POLL_INTERVAL_S = 0.2


@contextmanager
def alone() -> Iterator[statements.Transaction]:
    """Wait until no other process changes the tables, and keep others from it; yield the transaction that does so.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    with statements.transaction(NO_LIMITS) as guard:
        while not guard.read(MIGRATION_LOCK, {})[0].is_held:
            time.sleep(POLL_INTERVAL_S)
        yield guard


class Commands(click.Command):
    """The commands of `flask db`, imported when one of them is called.

    Args:
        before_downgrade: What is called before a downgrade, with its target, the folder of the migrations, and whether
            `--yes` was given. It raises where nothing may be reverted.
        others: The commands that are no migrations.

    """

    def __init__(self, before_downgrade: Callable[..., None], others: Iterable[click.Command]) -> None:
        super().__init__("db", help="Perform database migrations.")
        self._before_downgrade = before_downgrade
        self._others = {command.name: command for command in others}

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Pass the call on."""
        from flask_migrate.cli import db as group  # noqa: PLC0415

        commands = copy(group)
        downgrade = copy(group.commands["downgrade"])
        downgrade.params = [*downgrade.params, click.Option(["--yes"], is_flag=True, help="Do not ask.")]
        downgrade.callback = partial(self._downgrade, downgrade.callback)
        commands.commands = {**group.commands, "downgrade": downgrade, **self._others}
        context: click.Context = commands.make_context(info_name, args, parent, **extra)
        return context

    def _downgrade(self, downgrade: Callable[..., None], *, yes: bool, **arguments: Any) -> None:
        # With --sql nothing is done but printed.
        if not arguments["sql"]:
            self._before_downgrade(arguments["revision"], arguments["directory"] or g.directory, yes=yes)
        downgrade(**arguments)


def init_app(app: Flask, before_downgrade: Callable[..., None], others: Iterable[click.Command]) -> None:
    """Register the commands and the extension that `flask_migrate` looks for, without importing either."""
    app.cli.add_command(Commands(before_downgrade, others))
    app.extensions["migrate"] = LocalProxy(partial(_migrate, app))


def _migrate(app: Flask) -> Any:
    from flask_migrate import Migrate  # noqa: PLC0415

    Migrate(app, db, directory=str(ownership.FOLDER), compare_type=True, compare_server_default=True)
    return app.extensions["migrate"]


def reverted(target: str, directory: str | None) -> list[str]:
    """Return the revisions that a downgrade reverts, the newest first.

    Args:
        target: The revision to return to, as Alembic takes it: a name, `-1` or `base`.
        directory: The folder of the migrations; by default that of this project.

    Raises:
        click.ClickException: There is no such revision below the one of the database, or no such folder, or the
            database is that of another application.

    """
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.script.revision import RevisionError  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    with statements.transaction(BATCH_LIMITS) as transaction:
        applied = ownership.applied_revision(transaction)
    if applied is None:
        return []
    try:
        script = ScriptDirectory.from_config(current_app.extensions["migrate"].migrate.get_config(directory))
        return [one.revision for one in script.iterate_revisions(applied, target, select_for_downgrade=True)]
    except (CommandError, RevisionError) as error:
        raise click.ClickException(f"{str(error).rstrip('.')}.") from error


def count_rows() -> dict[str, int]:
    """Return how many rows each table has; an older schema has fewer tables, and none in them."""
    with statements.transaction(BATCH_LIMITS) as transaction:
        return {table: _count(transaction, table) for table in TABLES}


def _count(transaction: statements.Transaction, table: str) -> int:
    if transaction.read("SELECT to_regclass(%(table)s) AS found", {"table": table})[0].found is None:
        return 0
    return int(transaction.read(f"SELECT count(*) AS number FROM {table}", {})[0].number)  # noqa: S608  # nosec B608


def encoding_fault(encoding: str) -> str | None:
    """Return what is wrong with the encoding of a database (`server_encoding`); none for the right one."""
    if encoding == ENCODING:
        return None
    return f"the database is encoded in {encoding}, which cannot hold every text: it must be {ENCODING}"


def check_encoding(transaction: statements.Transaction) -> None:
    """Refuse to migrate a database that could not hold every text.

    Raises:
        click.ClickException: It is another encoding than UTF-8.

    """
    encoding = transaction.read("SELECT current_setting('server_encoding') AS encoding", {})[0].encoding
    if (fault := encoding_fault(encoding)) is not None:
        raise click.ClickException(f"{fault}. {ENCODING_REMEDY}")
