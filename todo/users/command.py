"""`flask user`: the same for an operator."""

import errno
import sys
from collections.abc import Iterable
from pathlib import Path

import click
from flask import Blueprint

from todo.cli import UserId, reported
from todo.users import queries

bp = Blueprint("user", __name__, cli_group="user")
bp.cli.short_help = bp.cli.help = "Take a user's data along, or erase it."


@bp.cli.command("export")
@click.argument("user", type=UserId(), metavar="ID")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, instead of stdout.")
def export(user: str, output: Path | None) -> None:
    """Write everything of a user as lines of JSON (NDJSON), as of one moment.

    A file that is there already is replaced when all is written, and left alone when anything fails.
    """
    try:
        with reported():
            if output is None:
                sys.stdout.buffer.writelines(queries.export(user))
                sys.stdout.flush()
            else:
                replace(output, queries.export(user))
    except OSError as error:
        # Whoever reads may stop when it is enough.
        if error.errno == errno.EPIPE:
            raise
        raise click.ClickException(f"the export cannot be written: {error.strerror}.") from error


def replace(file: Path, pieces: Iterable[bytes]) -> None:
    """Write a file wholly or not at all."""
    unfinished = file.with_name(f"{file.name}.part")
    try:
        with unfinished.open("wb") as output:
            output.writelines(pieces)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@bp.cli.command("erase")
@click.argument("user", type=UserId(), metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(user: str, *, yes: bool) -> None:
    """Erase everything of a user, for good."""
    if not yes:
        click.confirm(f"Erase all tasks of {user}? Nothing brings them back", abort=True)
    with reported():
        erased = queries.erase(user)
    click.echo(f"Erased {erased.tasks} tasks and {erased.deleted} deleted ones of {user}.")
