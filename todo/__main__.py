"""The command `todo`, which is also `python -m todo`: everything that an operator does with the service.

It lists the project's own commands only; those of Flask and of the libraries are commands of `flask`. Like `flask`
and gunicorn it works in the folder of the project.
"""

from collections.abc import Mapping

import click
from flask import Flask
from flask.cli import ScriptInfo

from config import InvalidSettings
from todo import cli, create_app, trash, users
from todo.commands import Reporting
from todo.doctor.command import doctor, stub_app
from todo.http.openapi import VERSION


class Commands(Reporting, click.Group):
    """A group whose help lists its commands in the order of their declaration."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        del ctx
        return list(self.commands)


def _registered(*groups: click.Group) -> Mapping[str, click.Command]:
    return {name: command for group in groups for name, command in group.commands.items()}


@click.group(
    "todo",
    cls=Commands,
    commands={
        "serve": cli.serve,
        "dev": cli.dev,
        "migrate": cli.migrate,
        "db": click.Group("db", commands={"restored": cli.restored}, help="Look after a restored database."),
        "distribute": cli.distribute,
        "doctor": doctor,
        "token": cli.token,
        "seed": cli.seed,
        **_registered(trash.commands.cli),
        "user": users.commands.cli,
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="The settings are environment variables, or lines of .env: see .env.example.",
)
@click.version_option(VERSION, prog_name="todo", message="%(prog)s %(version)s")
def todo() -> None:
    """Run and look after a todo service.

    In production: todo migrate && todo serve. To try it: todo dev.
    """


def application() -> Flask:
    """Build the application, or for wrong settings the one that only the doctor can use.

    Raises:
        InvalidSettings: The settings are wrong, and the command is another one.

    """
    try:
        return create_app()
    except InvalidSettings as refusal:
        if click.get_current_context().command is doctor:
            return stub_app(refusal)
        raise


def main() -> None:
    """Run the command that the process was started with."""
    todo(prog_name="todo", obj=ScriptInfo(create_app=application))


if __name__ == "__main__":
    main()
