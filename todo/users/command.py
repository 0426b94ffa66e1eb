"""`todo user`: what the owner of the data may ask for, done by an operator."""

import errno
import sys

import click
from flask import Blueprint

from todo.commands import Command, UserId, confirm_loss, counted, reporting_database_errors
from todo.users import files, queries

bp = Blueprint("user", __name__, cli_group="user")
bp.cli.short_help = bp.cli.help = "Export a user's data, or erase it."


@bp.cli.command(
    "export",
    cls=Command,
    examples={
        "todo user export user-123 --output user-123.ndjson": "Write a file, which only you can read",
        "todo user export user-123 | gzip > user-123.ndjson.gz": "Write a compressed file",
    },
    exit_status={0: "Everything was written.", 1: "The database cannot be used, or the file cannot be written."},
    see_also=["todo user erase", "GET /api/{user_id}/export"],
)
@click.argument("user", type=UserId(), metavar="ID", help="The user's id.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, readable=False, allow_dash=True),
    help="Where to write; - is stdout, as without it.",
)
def export(user: str, output: str | None) -> None:
    """Write everything of a user as lines of JSON (NDJSON).

    It is one snapshot of the database. A file that exists is replaced once everything is written, and left alone when
    anything fails; it keeps its mode, and a new one can be read by its owner alone. Symbolic links are followed. A
    named pipe or a device is written into.
    """
    pieces = queries.export(user)
    try:
        with reporting_database_errors():
            if output in {None, "-"}:
                sys.stdout.buffer.writelines(pieces)
                sys.stdout.flush()
            else:
                files.write(str(output), pieces)
    except OSError as error:
        # The reader of a pipe may close it early, which click handles.
        if error.errno == errno.EPIPE:
            raise
        raise click.ClickException(f"the export cannot be written: {error.strerror}.") from error


@bp.cli.command(
    "erase",
    cls=Command,
    examples={
        "todo user erase user-123": "Ask, then erase",
        "todo user erase --yes user-123": "Erase in production, or from a script",
    },
    exit_status={0: "Everything was erased.", 1: "Nothing was erased: not confirmed, or the database cannot be used."},
    see_also=["todo user export", "DELETE /api/{user_id}"],
)
@click.argument("user", type=UserId(), metavar="ID", help="The user's id.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def erase(user: str, *, yes: bool) -> None:
    """Erase everything of a user, for good.

    It counts what would go, and asks. In production, and where there is no terminal to ask at, it does nothing without
    --yes.
    """
    if not yes:
        with reporting_database_errors():
            kept = queries.count(user)
        loss = f"This erases {counted(kept.tasks, 'task')} and {counted(kept.deleted, 'deleted task')} of {user}."
        confirm_loss(loss, f"Erase all tasks of {user}")
    with reporting_database_errors():
        erased = queries.erase(user)
    click.echo(f"Erased {erased.tasks} tasks and {erased.deleted} deleted ones of {user}.")
