"""How migrations run: one after another, each in a transaction of its own, by one process at a time."""

import time

import click
from alembic import context
from alembic.runtime.migration import MigrationInfo
from flask import current_app
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from todo.commands import database_error
from todo.database import statements
from todo.database.embedded import EmbeddedUnavailable
from todo.extensions import db

# Replicas that start together queue here: the first one migrates, the others then find nothing to do.
# The lock belongs to a transaction, so it also works through a pooler that shares sessions. They ask again and again
# rather than wait in PostgreSQL: building an index beside writers waits for every statement that has begun.
MIGRATION_LOCK = text("SELECT pg_try_advisory_xact_lock(7239562310011904)")
ASK_AGAIN_S = 0.2

# Whoever holds the lock does nothing else, for as long as the migrations take; some providers end such sessions.
MAY_BE_IDLE = text("SET LOCAL idle_in_transaction_session_timeout = 0")

# A change that cannot get its lock soon gives up, instead of making every request queue behind it.
LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '5s'")


def report(step: MigrationInfo, **_: object) -> None:
    """Say which migration has just been applied or taken back."""
    click.echo(f"{'Applied' if step.is_upgrade else 'Took back'} {step.up_revision_id}.")


def run_migrations_online() -> None:
    """Migrate the database that the application uses.

    The lock has a transaction of its own, which lasts for all migrations: so one of them may end its transaction
    before its long work, and lock nobody out meanwhile.
    """
    with statements.transaction() as guard:
        guard.execute(MAY_BE_IDLE)
        while not guard.scalar(MIGRATION_LOCK):
            time.sleep(ASK_AGAIN_S)
        with db.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            event.listen(connection, "begin", lambda begun: begun.execute(LOCK_TIMEOUT))
            context.configure(
                connection=connection,
                target_metadata=db.metadata,
                transaction_per_migration=True,
                on_version_apply=report,
                **current_app.extensions["migrate"].configure_args,
            )
            with context.begin_transaction():
                context.run_migrations()


def run_migrations_offline() -> None:
    """Write the migrations as an SQL script, for those who apply it by hand."""
    context.configure(
        dialect_name="postgresql", target_metadata=db.metadata, literal_binds=True, dialect_opts={"paramstyle": "named"}
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    try:
        run_migrations_online()
    except (DBAPIError, EmbeddedUnavailable) as error:
        raise database_error(error) from error
