"""The environment of Alembic: migrations run in order, each in its own transaction, in one process at a time."""

import click
from alembic import context
from alembic.runtime.migration import MigrationInfo
from flask import current_app
from sqlalchemy import event, text

from todo.commands import reporting_database_errors
from todo.database import distribution, ownership
from todo.database.migrate import alone, check_encoding
from todo.database.timeouts import NO_LIMITS, NO_TRANSACTION_TIMEOUT
from todo.extensions import db

# A migration that cannot lock a table soon fails, instead of making every request queue behind it. It may take as long
# as it needs, whatever the time-outs of the role are.
TIMEOUTS = f"{NO_LIMITS.settings}{NO_TRANSACTION_TIMEOUT};\nSET LOCAL lock_timeout = '5s'"

# Where the tables are distributed with Citus, a transaction that changes a table may then change a type only if it goes
# from shard to shard. To any other PostgreSQL this is a setting without a meaning.
SHARD_BY_SHARD = "SET LOCAL citus.multi_shard_modify_mode = 'sequential'"
SETTINGS = text(f"{TIMEOUTS};\n{SHARD_BY_SHARD}")


def report(step: MigrationInfo, **_: object) -> None:
    """Print the migration that was just applied or reverted."""
    if step.is_stamp:
        return
    click.echo(f"{'Applied' if step.is_upgrade else 'Reverted'} {step.up_revision_id}.")


def is_ours(_schema_item: object, _name: str, kind: str, is_in_database: bool, model: object) -> bool:  # noqa: FBT001
    """Check whether the models and the database are compared here: not where another application has a table."""
    return kind != "table" or not is_in_database or model is not None


def run_migrations_online() -> None:
    """Migrate the database of the application.

    The lock is held by a separate transaction, which lasts for all migrations. So a migration may end its own
    transaction before its long work, and block no other session meanwhile.
    """
    with alone() as guard:
        check_encoding(guard)
        before = ownership.applied_revision(guard)
        with db.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
            event.listen(connection, "begin", lambda connection: connection.execute(SETTINGS))
            context.configure(
                connection=connection,
                target_metadata=db.metadata,
                transaction_per_migration=True,
                on_version_apply=report,
                include_object=is_ours,
                **current_app.extensions["migrate"].configure_args,
            )
            migration = context.get_context()
            # The function that Alembic was called for.
            command = migration.opts["fn"].__name__
            if command in {"upgrade", "downgrade"}:
                scripts = migration.script.walk_revisions()
                names = {script.revision: getattr(script.module, "CREATES", {}) for script in scripts}
                ownership.check(guard, names, upgrades=command == "upgrade")
            with context.begin_transaction():
                context.run_migrations()
        if command == "upgrade":
            for name in distribution.distribute_new(guard):
                click.echo(f"Distributed {name}.")
        if command == "do_stamp":
            after = ownership.applied_revision(guard)
            click.echo(f"Stamped {after or 'no revision'}, after {before or 'no revision'}. No migration ran.")


def run_migrations_offline() -> None:
    """Write the migrations as an SQL script, to be applied by hand."""
    context.configure(
        dialect_name="postgresql", target_metadata=db.metadata, literal_binds=True, dialect_opts={"paramstyle": "named"}
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_migrations_offline()
else:
    with reporting_database_errors():
        run_migrations_online()
