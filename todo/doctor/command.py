"""The command `todo doctor`."""

import sys
from collections.abc import Iterable
from itertools import chain
from typing import Any, BinaryIO

import click
from flask import Blueprint, Flask, current_app

from config import Config, InvalidSettings
from todo.commands import Command
from todo.doctor.assistants import check_assistants
from todo.doctor.installation import (
    check_database,
    check_dialects,
    check_front_ends,
    check_issuer,
    check_rate_limits,
    check_refusal,
    check_settings,
)
from todo.doctor.results import Result, Status
from todo.doctor.token import check_token, clean, decode, verdict

# In bytes; no token is nearly as long.
FILE_MAX = 100_000

bp = Blueprint("doctor", __name__, cli_group=None)


class TokenFile(click.File):
    """A file with a token in it, or - for stdin."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open the file. The error does not repeat its name, which is the token itself where one is pasted there."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail("there is no such file to read. It takes a file with a token in it, or - for stdin.")


@bp.cli.command(
    "doctor",
    cls=Command,
    examples={
        "todo doctor": "Check the installation",
        "todo doctor --origin https://app.example.com": "Check also that this front-end may call",
        "todo doctor --mcp": "Check the way of assistants to the tools",
        "pbpaste | todo doctor --token -": "Explain the token in the clipboard",
    },
    exit_status={0: "No check failed.", 1: "A check failed, or the token is refused."},
    see_also=["todo migrate --check", "todo token", ".env.example"],
)
@click.option("--token", "token", type=TokenFile("rb"), help="Explain the token in this file; - is stdin.")
@click.option("--origin", "origins", multiple=True, help="The origin of a front-end that must be able to call.")
@click.option("--mcp", "for_assistants", is_flag=True, help="Check what assistants need instead.")
def doctor(token: BinaryIO | None, origins: tuple[str, ...], *, for_assistants: bool) -> None:
    """Check an installation, or one token, and print what to do.

    Checks the settings, the database, the issuer of the tokens, the rate limits and the front-ends. It runs with wrong
    settings too. No secret is printed.

    With --token it checks one token instead, rule by rule; with --mcp, whether assistants find the tools and the issuer
    of their access tokens, from where it runs.
    """
    if (refusal := current_app.extensions.get("refusal")) is not None:
        report(check_refusal(refusal.errors))
    config: Config = current_app.extensions["config"]
    if token is not None:
        text = clean(decode(token.read(FILE_MAX)))
        verifier = current_app.extensions["token_verifier"]
        report(check_token(config, verifier, text), verdict(verifier, text))
    if for_assistants:
        report(check_assistants(config))
    report(
        chain(
            check_settings(config),
            check_database(config),
            check_issuer(config),
            check_rate_limits(config),
            check_front_ends(config, origins),
            check_dialects(config),
        )
    )


def report(results: Iterable[Result], verdict: str = "") -> None:
    """Print each result as soon as there is one, then the verdict, and end the command.

    Args:
        results: The results.
        verdict: The last line; by default the number of failures.

    Raises:
        SystemExit: Always; the status is 1 where a check failed.

    """
    # Some outputs, among them consoles of Windows, cannot encode the marks; they must not end the report half-way.
    sys.stdout.reconfigure(errors="namereplace")  # type: ignore[union-attr]
    failures = 0
    for result in results:
        click.echo(str(result))
        failures += result.status is Status.FAILED
    click.echo("")
    summary = "All is well." if failures == 0 else f"Failed: {failures}. Each is marked ✗, with what to do below it."
    click.echo(verdict or summary)
    raise SystemExit(1 if failures else 0)


def stub_app(refusal: InvalidSettings) -> Flask:
    """Build the application for settings that are too wrong for a real one: it has the doctor's command and no other.

    Args:
        refusal: The faults of the settings, which the doctor reports.

    """
    app = Flask("todo", static_folder=None)
    app.extensions["refusal"] = refusal
    app.register_blueprint(bp)
    return app
