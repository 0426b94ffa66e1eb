"""`todo purge`, which a cron job runs."""

import click
from flask import Blueprint, current_app

from todo.commands import Command, reporting_database_errors
from todo.database.failures import NodeUnavailable
from todo.trash import purging

bp = Blueprint("purge", __name__, cli_group=None)


@bp.cli.command(
    "purge",
    cls=Command,
    examples={"todo purge": "Once a day, from cron"},
    exit_status={
        0: "Everything that had expired is purged.",
        1: "The database or a part of it cannot be used, or Ctrl-C was pressed.",
    },
    see_also=["todo user erase"],
)
def purge() -> None:
    """Purge what has expired in the trash.

    After TRASH_DAYS the contents of deleted tasks go, after TOMBSTONE_DAYS their tombstones. The work is done in
    batches that each take effect at once: any number of purges may run at the same time, and an interrupted one keeps
    what it has done. Where a machine of a cluster is away, the users of all others are purged.
    """
    days = current_app.extensions["config"].tombstone_days
    purged = 0
    with reporting_database_errors():
        expired, is_complete = purging.list_expired(days)
        with click.progressbar(length=sum(one.number for one in expired), label="Purging") as bar:
            for one in expired:
                try:
                    for number in purging.purge(one.user, days):
                        purged += number
                        bar.update(number)
                except NodeUnavailable:
                    is_complete = False
    click.echo(f"Purged {purged} deleted tasks and tombstones." if purged else "Nothing has expired.")
    if not is_complete:
        raise click.ClickException("a machine of the cluster is away, and its users are left out: run it again later.")
