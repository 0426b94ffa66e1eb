"""`flask db`, from Flask-Migrate. Alembic, a seventh of a process's memory, is imported only when migrations run."""

from functools import cache, partial
from typing import Any

import click
from flask import Flask
from werkzeug.local import LocalProxy

from config import ROOT
from todo.extensions import db

FOLDER = ROOT / "migrations"


class Commands(click.Command):
    """The commands of `flask db`, imported when one of them is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Pass the call on."""
        from flask_migrate.cli import db as commands  # noqa: PLC0415

        context: click.Context = commands.make_context(info_name, args, parent, **extra)
        return context


def init_app(app: Flask) -> None:
    """Register the commands and the extension that `flask_migrate` looks for, without importing either."""
    app.cli.add_command(Commands("db", help="Perform database migrations."))
    app.extensions["migrate"] = LocalProxy(partial(_migrate, app))


def _migrate(app: Flask) -> Any:
    from flask_migrate import Migrate  # noqa: PLC0415

    Migrate(app, db, directory=str(FOLDER), compare_type=True, compare_server_default=True)
    return app.extensions["migrate"]


@cache
def newest() -> str:
    """Return the newest schema revision, which is the one that this version of the code is written for.

    A revision is named like its file and begins with its number.
    """
    return max(path.stem for path in (FOLDER / "versions").glob("[0-9]*.py"))
