"""`flask db`, by Flask-Migrate. Alembic is imported when somebody migrates: it would take a seventh of each process."""

from functools import cache, partial
from typing import Any

import click
from flask import Flask
from werkzeug.local import LocalProxy

from config import ROOT
from todo.extensions import db

FOLDER = ROOT / "migrations"


class Commands(click.Command):
    """Stands for the commands of `flask db` until one of them is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand the call over."""
        from flask_migrate.cli import db as commands  # noqa: PLC0415

        context: click.Context = commands.make_context(info_name, args, parent, **extra)
        return context


def init_app(app: Flask) -> None:
    """Make the commands and what they and `flask_migrate` look for, without importing any of it yet."""
    app.cli.add_command(Commands("db", help="Perform database migrations."))
    app.extensions["migrate"] = LocalProxy(partial(_migrate, app))


def _migrate(app: Flask) -> Any:
    from flask_migrate import Migrate  # noqa: PLC0415

    Migrate(app, db, directory=str(FOLDER), compare_type=True, compare_server_default=True)
    return app.extensions["migrate"]


@cache
def newest() -> str:
    """Name the newest migration, which this version of the code is written for.

    Revisions are named like their files, and begin with their number.
    """
    return max(path.stem for path in (FOLDER / "versions").glob("[0-9]*.py"))
