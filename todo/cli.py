"""The flask commands: one line out, a progress bar on long work, exit status set."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import click
import psycopg2
from flask import Blueprint, Flask, current_app
from sqlalchemy.exc import DBAPIError

from config import ROOT, Config
from todo.auth.tokens import USER_ID, issue
from todo.database import failures
from todo.database.embedded import EmbeddedUnavailable
from todo.database.failures import DatabaseUnavailable
from todo.extensions import db
from todo.http.problems import InternalError
from todo.tasks import seeds

bp = Blueprint("cli", __name__, cli_group=None)

DEMO_USER = "user-123"
DAY_S = 86_400
LIFETIME_MAX_S = 366 * DAY_S


class UserId(click.ParamType[str]):
    """An id that a token may carry."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what no token could name."""
        if not USER_ID.fullmatch(value):
            self.fail("must have 1 to 255 characters, none of them a control character.", param, ctx)
        return value


class Duration(click.ParamType[int]):
    """A number with a unit, such as 90s, 30m, 1h or 7d; in seconds."""

    name = "duration"
    UNITS: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it, and refuse a lifetime that nobody can mean."""
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value).strip().lower())
        if not match:
            self.fail(f"{value!r} is not a duration such as 90s, 30m, 1h or 7d.", param, ctx)
        seconds = int(match[1]) * self.UNITS[match[2]]
        if not 0 < seconds <= LIFETIME_MAX_S:
            self.fail("must be longer than nothing and at most 366 days.", param, ctx)
        return seconds


@bp.cli.command("token")
@click.option("--user", type=UserId(), required=True, help="Whose token: the `sub` of its claims.")
@click.option("--email", help="The e-mail address in it, for front-ends that show one.")
@click.option(
    "--expires", type=Duration(), default="1h", show_default=True, help="How long it is good: 90s, 30m, 1h, 7d."
)
@click.option("--force", is_flag=True, help="Do it in production too, where only the issuer should make tokens.")
def token(user: str, email: str | None, expires: int, *, force: bool) -> None:
    """Print a token for development.

    It is signed with BETTER_AUTH_SECRET, as Better Auth would, and it is all that is printed:

    \b
        curl -H "Authorization: Bearer $(flask token --user user-123)" http://127.0.0.1:8000/api/me/tasks
    """  # noqa: D301 (click looks for the character itself)
    config: Config = current_app.extensions["config"]
    if config.jwks_url is not None:
        raise click.ClickException(
            f"tokens come from {config.better_auth_url} (BETTER_AUTH_URL), and only it can make them: sign in there."
        )
    if config.production and not force:
        raise click.ClickException(
            "this is production, where tokens come from the issuer; --force makes one all the same."
        )
    click.echo(development_token(config, user, expires, email))


def development_token(config: Config, user: str, lifetime_s: int, email: str | None = None) -> str:
    """Make a token that this application, with these settings, takes as good."""
    return issue(
        config.better_auth_secret or "",
        user,
        lifetime_s=lifetime_s,
        email=email,
        issuer=next(iter(config.jwt_issuer), None),
        audience=next(iter(config.jwt_audience), None),
    )


@bp.cli.command("seed")
@click.option("--user", type=UserId(), default=DEMO_USER, show_default=True, help="Whose tasks.")
@click.option(
    "--count",
    type=click.IntRange(1, 10_000_000),
    default=len(seeds.EXAMPLES),
    show_default=True,
    help="How many tasks the user has afterwards, at least.",
)
def seed(user: str, count: int) -> None:
    """Give a user example tasks, up to a number of them.

    A second run adds nothing; an interrupted one leaves nothing behind.
    """
    with reported(), seeds.planting(user, count) as (missing, batches):
        if missing == 0:
            click.echo(f"{user} has {count} tasks or more already: nothing added.")
            return
        with click.progressbar(length=missing, label=f"Adding {missing} tasks") as bar:
            for added in batches:
                bar.update(added)
    click.echo(f"Added {missing} tasks for {user}.")


@contextmanager
def reported() -> Iterator[None]:
    """End a command whose database does not do its part with one line about that."""
    try:
        yield
    except DBAPIError as error:
        raise database_trouble(error) from error
    except (DatabaseUnavailable, InternalError) as problem:
        if isinstance(cause := problem.__cause__, psycopg2.Error | EmbeddedUnavailable):
            raise database_trouble(cause) from problem
        raise click.ClickException(str(problem)) from problem


def database_trouble(error: psycopg2.Error | DBAPIError | EmbeddedUnavailable) -> click.ClickException:
    """Say in one line what an operator can do about a database that does not do its part."""
    if isinstance(error, EmbeddedUnavailable):
        return click.ClickException(str(error))
    if failures.lacks_schema(error):
        return click.ClickException("the database has no tables yet, or older ones: run `flask db upgrade` first.")
    return click.ClickException(f"the database cannot be used: {failures.first_line(error)}")


@bp.cli.command("dev")
def dev() -> None:
    """Do everything that a newcomer needs: migrate, seed, serve, and print a call to try.

    The server is gunicorn with gunicorn.conf.py, as in production. Ctrl-C stops everything.
    """
    # No other command of ours needs Alembic.
    import flask_migrate  # noqa: PLC0415

    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    config: Config = app.extensions["config"]
    if config.production:
        raise click.ClickException(
            "this is production: run `flask db upgrade`, then gunicorn -c gunicorn.conf.py wsgi:app."
        )
    flask_migrate.upgrade()
    with seeds.planting(DEMO_USER, len(seeds.EXAMPLES)) as (_, batches):
        sum(batches)
    db.engine.dispose()
    serve(app, greeting(config))


def greeting(config: Config) -> str:
    """Say where the server is and how to call it, with a token that works."""
    address = f"http://{config.host}:{config.port}"
    if config.jwks_url is None:
        token = development_token(config, DEMO_USER, DAY_S)
        user, where = DEMO_USER, f"A token for {DEMO_USER}, good for a day:\n\n{token}"
    else:
        user, token = "me", "$TOKEN"
        where = f"Tokens come from {config.better_auth_url}: a front-end gets one with authClient.token()."
    return f"""
todo is ready at {address} (try it in a browser: {address}/docs)

{where}

A call to paste:

curl -H "Authorization: Bearer {token}" {address}/api/{user}/tasks

Ctrl-C stops everything.
"""


def serve(app: Flask, message: str) -> None:
    """Run gunicorn in this process until it is stopped, and print the message once it listens."""
    # gunicorn needs a POSIX system; the other commands do not.
    from gunicorn.app.base import Application  # noqa: PLC0415
    from gunicorn.arbiter import Arbiter  # noqa: PLC0415

    class Server(Application):  # type: ignore[misc]
        def load_config(self) -> None:
            self.load_config_from_file(str(ROOT / "gunicorn.conf.py"))
            self.cfg.set("when_ready", when_ready)

        def load(self) -> Flask:
            return app

    def when_ready(_arbiter: Arbiter) -> None:
        click.echo(message)

    Server().run()
