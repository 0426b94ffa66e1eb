"""`todo user import`: a file of any size, written in pieces."""

from collections.abc import Iterable, Mapping
from typing import BinaryIO
from zoneinfo import ZoneInfo

import click

from todo.commands import Command, UserId, counted, reporting_database_errors
from todo.http.problems import Fault
from todo.importing import imports
from todo.importing.formats import FORMATS
from todo.importing.imports import FAIL, SKIP, Contents, Outcome
from todo.importing.records import Unreadable, time_zone
from todo.users import commands


class Zone(click.ParamType[ZoneInfo]):
    """A time zone, by its name in the IANA database."""

    name = "zone"

    def convert(self, value: str | ZoneInfo, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        """Return the zone, or fail where there is none of that name."""
        zone = value if isinstance(value, ZoneInfo) else time_zone(value)
        if zone is None:
            self.fail("must be the name of a time zone such as Europe/Prague.", param, ctx)
        return zone


@commands.cli.command(
    "import",
    cls=Command,
    examples={
        "todo user import user-123 todoist.csv --dry-run": "Report what would be imported",
        "todo user import user-123 user.ndjson": "Import an export of this service",
        "todo user import user-123 backup.csv --zone Europe/Prague --on-error skip": "Import what follows the rules",
    },
    exit_status={
        0: "Everything was imported, or was known.",
        1: "The file cannot be read, a task breaks a rule, or the database cannot be used.",
    },
    see_also=["todo user export", "POST /api/{user_id}/import"],
)
@click.argument("user", type=UserId(), metavar="ID", help="The user's id.")
@click.argument("file", type=click.File("rb"), metavar="FILE", help="The file; - is stdin.")
@click.option(
    "--format", "format_name", type=click.Choice(list(FORMATS)), help="Its format; by default it is recognised."
)
@click.option("--zone", type=Zone(), default="UTC", show_default=True, help="The time zone of times that state none.")
@click.option(
    "--on-error",
    type=click.Choice([FAIL, SKIP]),
    default=FAIL,
    show_default=True,
    help="Whether tasks that break a rule stop the import, or are skipped.",
)
@click.option("--dry-run", is_flag=True, help="Report what would be imported, and do nothing.")
def import_file(
    user: str, file: BinaryIO, format_name: str | None, zone: ZoneInfo, on_error: str, *, dry_run: bool
) -> None:
    """Add the tasks of a file to a user's list.

    Tasks that an earlier import created are known, and are not created again. The work is done in batches that each
    take effect at once: an interrupted import keeps what it has done, and the next one goes on from there. What is
    skipped, and what is kept elsewhere than in its own member, is reported on stderr.
    """
    try:
        contents = imports.read(file.read(), format_name, zone)
    except Unreadable as error:
        raise click.ClickException(f"{_where(error.place)}{error}") from error
    except OSError as error:
        raise click.ClickException(f"the file cannot be read: {error.strerror}.") from error
    if on_error == SKIP:
        imports.accept(contents)
    _report("warning", contents.warnings)
    _report("skipped", contents.skipped)
    _report("error", contents.faults)
    if contents.faults:
        raise click.ClickException(
            f"{counted(len(contents.faults), 'fault')}: nothing was imported. --on-error skip imports the other tasks."
        )
    outcome = Outcome()
    with (
        reporting_database_errors(),
        click.progressbar(length=len(contents.tasks), label=f"Importing {counted(len(contents.tasks), 'task')}") as bar,
    ):
        for number in imports.write_in_pieces(user, contents.tasks, outcome, dry_run=dry_run):
            bar.update(number)
    click.echo(_summary(contents, outcome, user, dry_run=dry_run))


def _report(kind: str, entries: Iterable[Fault]) -> None:
    for entry in entries:
        click.echo(f"{kind}: {_where(entry)}{entry['detail']}", err=True)


def _where(place: Mapping[str, object]) -> str:
    return f"line {place['line']}: " if "line" in place else f"{place['pointer']}: " if "pointer" in place else ""


def _summary(contents: Contents, outcome: Outcome, user: str, *, dry_run: bool) -> str:
    done = "would be imported" if dry_run else "imported"
    return (
        f"Read {counted(contents.read, 'task')} ({contents.format}): {outcome.created} {done} for {user}, "
        f"{outcome.known} known, {len(contents.skipped)} skipped, {counted(len(contents.warnings), 'warning')}."
    )
