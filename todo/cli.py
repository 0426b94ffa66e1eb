"""The commands that concern the whole service: serve, dev, migrate, db restored, token and seed.

`todo` and `flask` share these functions; `serve` and `migrate` belong to `todo` alone, because `flask` has `run` and
`db upgrade`.
"""

import os
import re
import sys
from importlib.util import find_spec
from typing import ClassVar

import click
from flask import Blueprint, Flask, current_app
from flask.cli import with_appcontext

from config import ROOT, SERVERS, Config
from todo.auth.tokens import issue
from todo.commands import Command, UserId, confirm_loss, counted, reporting_database_errors
from todo.database import distribution
from todo.database import migrate as migrations
from todo.extensions import db
from todo.health import database_state
from todo.tasks import renumbering, seeds

bp = Blueprint("cli", __name__, cli_group=None)

DEMO_USER = "user-123"
DAY_S = 86_400
LIFETIME_MAX_S = 366 * DAY_S
GUNICORN_CONF = ROOT / "gunicorn.conf.py"
GRANIAN_CONF = ROOT / "granian.conf.py"


class Duration(click.ParamType[int]):
    """A number with a unit, such as 90s, 30m, 1h or 7d; in seconds."""

    name = "duration"
    UNITS: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of seconds, or fail for no duration, for none at all and for more than 366 days."""
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value).strip().lower())
        if not match:
            self.fail(f"{value!r} is not a duration such as 90s, 30m, 1h or 7d.", param, ctx)
        seconds = int(match[1]) * self.UNITS[match[2]]
        if not 0 < seconds <= LIFETIME_MAX_S:
            self.fail("must be longer than nothing and at most 366 days.", param, ctx)
        return seconds


@click.command(
    "serve",
    cls=Command,
    examples={
        "todo migrate && todo serve": "Start in production",
        "PORT=8080 WEB_CONCURRENCY=4 todo serve": "Listen on port 8080 with four worker processes",
        "todo serve --server granian": "Serve with Granian, behind a proxy",
    },
    exit_status={
        0: "The server was stopped by SIGTERM or SIGINT.",
        1: "It cannot start: a setting is wrong, the port is in use, or Granian is not installed.",
    },
    see_also=["todo migrate", "todo dev", "todo doctor", "docs/operate/deploy.md"],
)
@click.option(
    "--server",
    type=click.Choice(list(SERVERS)),
    metavar="NAME",
    help="The server: gunicorn or granian; by default that of WEB_SERVER.",
)
def serve(server: str | None) -> None:
    """Serve the API with gunicorn, as in production, or with Granian.

    The settings set the address and the number of processes and threads, gunicorn.conf.py or granian.conf.py the rest.
    The database is not migrated. SIGTERM ends it once the requests in progress have been answered.
    """
    server = server or Config.from_environment().web_server
    if server == "gunicorn":
        words = ["-m", "gunicorn", "--config", str(GUNICORN_CONF), "--chdir", str(ROOT), "wsgi:app"]
    elif find_spec("granian") is None:
        raise click.ClickException("Granian is not installed: run `pip install -r requirements-granian.txt`.")
    else:
        words = [str(GRANIAN_CONF)]
    # The server takes the place of this process. Its configuration must run before the application is imported, which
    # has happened here, and whatever stops or watches the service deals with the server itself.
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 (no shell is wanted)  # nosec B606


@bp.cli.command(
    "dev",
    cls=Command,
    examples={"todo dev": "Start on http://127.0.0.1:8000", "PORT=8123 todo dev": "Start on another port"},
    exit_status={
        0: "The server was stopped by Ctrl-C or SIGTERM.",
        1: "It cannot start, or this is production.",
    },
    see_also=["todo serve", "todo migrate", "todo seed", "todo token"],
)
def dev() -> None:
    """Migrate, add example tasks, serve, and print a call to paste.

    The server is gunicorn with gunicorn.conf.py, as in production. Without DATABASE_URL it uses an embedded PostgreSQL
    that keeps its data in instance/. Ctrl-C stops everything.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    config: Config = app.extensions["config"]
    if config.production:
        raise click.ClickException("this is production: run `todo migrate && todo serve` instead.")
    _upgrade(sql=False)
    with seeds.planting(DEMO_USER, len(seeds.EXAMPLES)) as (_, batches):
        sum(batches)
    db.engine.dispose()
    serve_app(app, greeting(config))


def greeting(config: Config) -> str:
    """Return the message with the address of the server, a page and a call to paste, with a token that works."""
    address = f"http://{config.address}"
    if config.jwks_url is None:
        token = development_token(config, DEMO_USER, DAY_S)
        user = DEMO_USER
        # Browsers send no fragment, so no log has the token.
        origin = f"""Two devices side by side, in a browser:

{address}/demo#token={token}

A token for {DEMO_USER}, valid for a day:

{token}"""
    else:
        user, token = "me", "$TOKEN"
        origin = f"Tokens come from {config.better_auth_url}: a front-end gets one with authClient.token()."
    return f"""
todo is ready at {address} (try it in a browser: {address}/docs)

{origin}

A call to paste:

curl -H "Authorization: Bearer {token}" {address}/api/{user}/tasks

Ctrl-C stops everything.
"""


def serve_app(app: Flask, message: str) -> None:
    """Serve an application with gunicorn in this process until it is stopped.

    Args:
        app: The application.
        message: What to print once the server listens.

    """
    # gunicorn needs a POSIX system; the other commands do not.
    from gunicorn.app.base import Application  # noqa: PLC0415
    from gunicorn.arbiter import Arbiter  # noqa: PLC0415

    class Server(Application):  # type: ignore[misc]
        def load_config(self) -> None:
            self.load_config_from_file(str(GUNICORN_CONF))
            self.cfg.set("when_ready", when_ready)

        def load(self) -> Flask:
            return app

    def when_ready(_arbiter: Arbiter) -> None:
        click.echo(message)

    Server().run()


@click.command(
    "migrate",
    cls=Command,
    examples={
        "todo migrate": "Before a new version serves",
        "todo migrate --check": "Find out whether that is necessary",
        "todo migrate --sql > migrations.sql": "Have a database administrator apply the migrations",
    },
    exit_status={
        0: "The schema is up to date.",
        1: "The database cannot be used, a migration failed, or --check found that the schema does not fit.",
    },
    see_also=["todo serve", "todo doctor", "flask db"],
)
@click.option("--check", is_flag=True, help="Change nothing; check whether this version can serve the schema.")
@click.option("--sql", is_flag=True, help="Change nothing; print all migrations as an SQL script.")
@with_appcontext
def migrate(*, check: bool, sql: bool) -> None:
    """Migrate the database to the newest schema.

    Migrations run while older versions serve, each in a transaction of its own. Several processes may start this at
    once: they wait for one another, and the work is done once.
    """
    if check and sql:
        raise click.UsageError("--check and --sql exclude each other.")
    if not check:
        _upgrade(sql=sql)
        return
    _, fault = database_state()
    if fault is not None:
        raise click.ClickException(f"{fault.reason}: run `todo migrate`, or `todo doctor` for the reason.")
    click.echo("The schema is up to date.")


def _upgrade(*, sql: bool) -> None:
    # The other commands do without Alembic.
    import flask_migrate  # noqa: PLC0415

    flask_migrate.upgrade(sql=sql)


def before_downgrade(target: str, directory: str | None, *, yes: bool) -> None:
    """Ask before `flask db downgrade` drops what users wrote.

    Args:
        target: The revision to return to, as Alembic takes it.
        directory: The folder of the migrations; by default that of this project.
        yes: Whether not to ask.

    Raises:
        click.ClickException: There is no such revision, the database cannot be used, or nobody may be asked.
        click.Abort: The answer is no.

    """
    with reporting_database_errors():
        reverted = migrations.reverted(target, directory)
        rows = migrations.count_rows()
    if not reverted:
        return
    held = f"{counted(rows['tasks'], 'task')}, {counted(rows['trash'], 'deleted task')} and " + counted(
        rows["task_lists"], "list"
    )
    loss = f"Reverting {', '.join(reverted)} drops the tables and columns that came with them. There are {held}."
    if yes:
        click.echo(loss)
    else:
        confirm_loss(loss, "Drop them with all that is in them")


@click.command(
    "restored",
    cls=Command,
    examples={"todo migrate && todo db restored": "After a backup was restored, before clients call again"},
    exit_status={0: "All lists are raised.", 1: "The database cannot be used, or Ctrl-C was pressed: run it again."},
    see_also=["todo migrate", "todo doctor", "docs/operate/backup.md"],
)
@with_appcontext
def restored() -> None:
    """Begin new numbers after the restore of a backup.

    Run it after each restore that lost writes, and before clients call again: when a dump or a snapshot was restored,
    when the database went back to an earlier time, and after a failover to a replica that was behind. An upgrade, or a
    move that loses nothing, does not need it. It needs the owner of the tables, as todo migrate does.

    Clients have seen later numbers than the backup has. Every list gets a revision above all of them, so that no ETag
    from before matches other content; the cursors of the changes feed expire, so that every follower begins again; and
    new tasks get ids that no task has had. No task is changed.

    It works in batches that each take effect at once. Each run begins new numbers: an interrupted one is to be
    repeated, and one too many costs followers another beginning.
    """
    raised = 0
    with reporting_database_errors():
        number, lists = renumbering.prepare()
        with click.progressbar(length=lists, label="Raising the lists") as bar:
            for batch in renumbering.raise_lists(number):
                raised += batch
                bar.update(batch)
    click.echo(f"Raised {counted(raised, 'list')} to revision {number}. Clients begin again.")


@click.command(
    "distribute",
    cls=Command,
    examples={
        "todo distribute --dry-run": "Find out what is missing",
        "todo distribute": "Distribute the tables while the service serves",
    },
    exit_status={
        0: "All tables are distributed; with --dry-run, nothing keeps them from being distributed.",
        1: "Something is missing, the database cannot be used, or Ctrl-C was pressed: run it again.",
    },
    see_also=["todo migrate", "todo doctor", "docs/operate/scale.md"],
)
@click.option(
    "--shards",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="The number of pieces that each table is cut into: several for each core that the cluster may ever have.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; check whether the tables can be distributed.")
@with_appcontext
def distribute(*, shards: int, dry_run: bool) -> None:
    """Distribute the tables over the machines of a Citus cluster, by user.

    The extension has to be there on every node, and the coordinator has to know the workers. The tables are moved one
    after the other while others read and write. Meanwhile writers wait for up to a few seconds, and batches, imports
    and exports are answered with 503. Nothing brings the tables back but a dump and a restore.

    A second run changes nothing. After an interruption PostgreSQL may finish the step that it works on; the next run
    waits for that and goes on.
    """
    with reporting_database_errors():
        cluster = distribution.read_cluster()
        if cluster is None:
            raise click.ClickException("there is no Citus here: run CREATE EXTENSION citus on every node first.")
        missing = list(distribution.faults(cluster))
        _, fault = database_state()
        if fault is not None:
            missing.append(f"{fault.reason}: run `todo migrate` first")
        if missing:
            raise click.ClickException("\n".join(f"{reason}." for reason in missing))
        if dry_run:
            click.echo(_described(cluster))
            return
        with migrations.alone():
            distribution.distribute(shards, click.echo, lambda: sum(renumbering.expire_cursors()))


def _described(cluster: distribution.Cluster) -> str:
    nodes = [f"{node.name}{' (coordinator)' if node.is_coordinator else ''}" for node in cluster.nodes]
    kinds = {name: cluster.tables.get(name, ("ordinary", 0))[0] for name in distribution.tables()}
    return f"Nodes: {', '.join(nodes)}. Tables: {', '.join(f'{name} ({kind})' for name, kind in kinds.items())}."


@bp.cli.command(
    "token",
    cls=Command,
    examples={
        'curl -H "Authorization: Bearer $(todo token --user user-123)" http://127.0.0.1:8000/api/me/tasks': "A call",
        "todo token --user user-123 --expires 7d": "A token that is valid for a week",
    },
    exit_status={0: "The token was printed.", 1: "Only the issuer can make tokens, or this is production."},
    see_also=["todo doctor --token -", "todo seed"],
)
@click.option("--user", type=UserId(), required=True, help="The user's id: the claim sub.")
@click.option("--email", help="The claim email, for front-ends that show it.")
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="The lifetime: 90s, 30m, 1h, 7d.")
@click.option("--force", is_flag=True, help="Make one in production too, where tokens should come from the issuer.")
def token(user: str, email: str | None, expires: int, *, force: bool) -> None:
    """Print a token for development.

    It is signed with BETTER_AUTH_SECRET, as Better Auth would sign it. Nothing else is printed.
    """
    config: Config = current_app.extensions["config"]
    if config.jwks_url is not None:
        raise click.ClickException(
            f"tokens come from {config.better_auth_url} (BETTER_AUTH_URL), and only it can make them: sign in there."
        )
    if config.production and not force:
        raise click.ClickException("this is production, where tokens come from the issuer; --force makes one anyway.")
    click.echo(development_token(config, user, expires, email))


def development_token(config: Config, user: str, lifetime_s: int, email: str | None = None) -> str:
    """Return a token that this application accepts with these settings.

    Args:
        config: The settings; they must hold a shared secret.
        user: The user's id.
        lifetime_s: The lifetime in seconds.
        email: The claim `email`; none by default.

    """
    return issue(
        config.better_auth_secret or "",
        user,
        lifetime_s=lifetime_s,
        email=email,
        issuer=next(iter(config.jwt_issuer), None),
        audience=next(iter(config.jwt_audience), None),
    )


@bp.cli.command(
    "seed",
    cls=Command,
    examples={
        "todo seed": f"A dozen tasks for {DEMO_USER}",
        "todo seed --user user-456 --count 1000000": "A million tasks for another user",
    },
    exit_status={0: "The user has that many tasks.", 1: "The database cannot be used; nothing was added."},
    see_also=["todo token", "todo user erase"],
)
@click.option("--user", type=UserId(), default=DEMO_USER, show_default=True, help="The user's id.")
@click.option(
    "--count",
    type=click.IntRange(1, 10_000_000),
    default=len(seeds.EXAMPLES),
    show_default=True,
    help="The least number of tasks that the user has afterwards.",
)
def seed(user: str, count: int) -> None:
    """Add example tasks to a user, up to a number of tasks.

    A second run adds nothing, and an interrupted run leaves nothing behind.
    """
    with reporting_database_errors(), seeds.planting(user, count) as (missing, batches):
        if missing == 0:
            click.echo(f"{user} has {count} tasks or more already: nothing added.")
            return
        with click.progressbar(length=missing, label=f"Adding {missing} tasks") as bar:
            for added in batches:
                bar.update(added)
    click.echo(f"Added {missing} tasks for {user}.")
