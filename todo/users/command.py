"""`flask user`: the same for an operator."""

from typing import BinaryIO

import click
from flask import Blueprint

from todo.cli import UserId, reported
from todo.users import data

bp = Blueprint("user", __name__, cli_group="user")
bp.cli.short_help = bp.cli.help = "Take a user's data along, or erase it."


@bp.cli.command("export")
@click.argument("user", type=UserId(), metavar="ID")
@click.option("--output", type=click.File("wb", lazy=True, atomic=True), default="-", help="A file, instead of stdout.")
def export(user: str, output: BinaryIO) -> None:
    """Write everything of a user as lines of JSON (NDJSON), as of one moment."""
    with reported():
        output.writelines(data.export(user))


@bp.cli.command("erase")
@click.argument("user", type=UserId(), metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(user: str, *, yes: bool) -> None:
    """Erase everything of a user, for good."""
    if not yes:
        click.confirm(f"Erase all tasks of {user}? Nothing brings them back", abort=True)
    with reported():
        erased = data.erase(user)
    click.echo(f"Erased {erased.tasks} tasks and {erased.deleted} deleted ones of {user}.")
