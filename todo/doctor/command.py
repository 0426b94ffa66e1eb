"""The command itself."""

import sys
from collections.abc import Iterable
from itertools import chain
from typing import Any, TextIO

import click
from flask import Blueprint, Flask, current_app

from config import Config, InvalidSettings
from todo.doctor.diagnosis import Diagnosis, Mark
from todo.doctor.installation import (
    examine_database,
    examine_front_ends,
    examine_issuer,
    examine_limits,
    examine_refusal,
    examine_settings,
)
from todo.doctor.token import clean, examine_token, verdict

# Far more than any token has.
FILE_MAX = 100_000

bp = Blueprint("doctor", __name__, cli_group=None)


class TokenFile(click.File):
    """A file with a token in it, or - for the input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open it; where that fails, do not repeat the name: it is the token itself when somebody pastes it there."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail("there is no such file to read. It takes a file with a token in it, or - for the input.")


@bp.cli.command("doctor")
@click.option(
    "--token", "token", type=TokenFile(errors="replace"), help="Explain the token in this file, or - for the input."
)
@click.option("--origin", "origins", multiple=True, help="The origin of a front-end that must be able to call.")
def doctor(token: TextIO | None, origins: tuple[str, ...]) -> None:
    """Say what is wrong, and what to do about it.

    Looks at the settings, the database, the issuer of the tokens and the front-ends, and ends with status 1 when
    something does not work. Nothing secret is printed.

    With --token it explains one token, rule by rule, instead:

    \b
        pbpaste | flask doctor --token -
    """  # noqa: D301 (click looks for the character itself)
    if (refusal := current_app.extensions.get("refusal")) is not None:
        report(examine_refusal(refusal.errors))
    config: Config = current_app.extensions["config"]
    if token is not None:
        text = clean(token.read(FILE_MAX))
        verifier = current_app.extensions["token_verifier"]
        report(examine_token(config, verifier, text), verdict(verifier, text))
    report(
        chain(
            examine_settings(config),
            examine_database(config),
            examine_issuer(config),
            examine_limits(config),
            examine_front_ends(config, origins),
        )
    )


def report(diagnoses: Iterable[Diagnosis], verdict: str = "") -> None:
    """Print each line as soon as it is known, and end the command."""
    # Not every output knows the marks, and it must not end in the middle: some consoles of Windows do not.
    sys.stdout.reconfigure(errors="namereplace")  # type: ignore[union-attr]
    troubles = 0
    for diagnosis in diagnoses:
        click.echo(str(diagnosis))
        troubles += diagnosis.mark is Mark.BAD
    click.echo("")
    click.echo(
        verdict
        or ("All is well." if troubles == 0 else f"Faults: {troubles}. Each is marked ✗, and what to do is below it.")
    )
    raise SystemExit(1 if troubles else 0)


def patient(refusal: InvalidSettings) -> Flask:
    """Give an application that can do nothing but be examined, for settings that are not fit to start with.

    Raises:
        InvalidSettings: unless it is the doctor who asks.

    """
    if "doctor" not in sys.argv:
        raise refusal
    app = Flask("todo", static_folder=None)
    app.extensions["refusal"] = refusal
    app.register_blueprint(bp)
    return app
