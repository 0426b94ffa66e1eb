"""`flask purge`: the command of the cron job."""

import click
from flask import Blueprint, current_app

from todo.cli import reported
from todo.trash import purging

bp = Blueprint("purge", __name__, cli_group=None)


@bp.cli.command("purge")
def purge() -> None:
    """Forget what has expired in the trash.

    First what deleted tasks held (TRASH_DAYS), later that there were any (TOMBSTONE_DAYS). Any number of these may run
    at once; an interrupted one has done what it said it had.
    """
    days = current_app.extensions["config"].tombstone_days
    forgotten = 0
    with reported():
        expired = purging.list_expired(days)
        with click.progressbar(length=sum(one.number for one in expired), label="Purging") as bar:
            for one in expired:
                for number in purging.purge(one.user, days):
                    forgotten += number
                    bar.update(number)
    click.echo(f"Purged {forgotten} deleted tasks and marks of such." if forgotten else "Nothing has expired.")
