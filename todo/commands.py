"""What the commands share: their help, the type of a user's id, the question before a loss, and how they fail."""

import errno
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import psycopg2
from flask import current_app
from sqlalchemy.exc import DBAPIError

from config import Config
from todo.auth.tokens import USER_ID
from todo.database import failures
from todo.database.embedded import EmbeddedUnavailable
from todo.database.failures import DatabaseUnavailable
from todo.http.problems import InternalError

# The exit statuses of every command, by click's convention; a command documents its own beside them.
USAGE_ERROR = {2: "An option or an argument is wrong."}


class ClosedOutput(SystemExit):
    """Stdout is closed. Uncaught, it ends the process with one line on stderr and exit status 1."""

    def __init__(self) -> None:
        super().__init__("Error: stdout is closed: redirect it to /dev/null to discard what is printed.")


def require_stdout() -> None:
    """Check that this process has a stdout.

    Where it is closed, the next file that the process opens takes its number, and would receive what is printed.

    Raises:
        ClosedOutput: Stdout is closed.

    """
    if sys.stdout is None:
        raise ClosedOutput


@contextmanager
def reporting_output_errors() -> Iterator[None]:
    """End a command whose output cannot be written with one line and exit status 1.

    Raises:
        click.ClickException: It cannot be written, as on a full disk. A reader that has gone is left to click, which
            ends the command without a line.

    """
    try:
        yield
    except OSError as error:
        # An error with a name is one of that file.
        if error.errno == errno.EPIPE or error.filename is not None:
            raise
        # What is still buffered would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.ClickException(f"the output cannot be written: {error.strerror}.") from error


class Reporting(click.Command):
    """A command whose output is checked, the one of `--help` too, and that of all commands below it."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the arguments, which may print the help."""
        require_stdout()
        with reporting_output_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with reporting_output_errors():
            return super().invoke(ctx)


class Command(Reporting):
    """A command whose help ends with examples, the exit statuses and related commands.

    Args:
        examples: Command lines, each with what it does.
        exit_status: The meaning of each exit status; 2 is a usage error for all commands.
        see_also: The command lines of related commands.
        *args: Those of `click.Command`.
        **kwargs: Those of `click.Command`.

    """

    def __init__(
        self,
        *args: Any,
        examples: Mapping[str, str],
        exit_status: Mapping[int, str],
        see_also: Sequence[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.exit_status = {**exit_status, **USAGE_ERROR}
        self.see_also = see_also

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections at the end of the help."""
        del ctx
        with formatter.section("Examples"):
            for line, effect in self.examples.items():
                # An example is pasted, so it stays on one line however long it is.
                formatter.write(f"  # {effect}\n  {line}\n")
        with formatter.section("Exit status"):
            formatter.write_dl([(str(status), meaning) for status, meaning in self.exit_status.items()])
        with formatter.section("See also"):
            formatter.write_text(", ".join(self.see_also))


class UserId(click.ParamType[str]):
    """The id of a user, as a token may carry it."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id, or fail where no token could name such a user."""
        if not USER_ID.fullmatch(value):
            self.fail("must have 1 to 255 characters, none of them a control character.", param, ctx)
        return value


def is_interactive() -> bool:
    """Check whether there is somebody to ask: whether stdin is a terminal."""
    # Without a descriptor for it, Python has no stdin at all.
    return sys.stdin is not None and sys.stdin.isatty()


def confirm_loss(loss: str, question: str) -> None:
    """Ask before a command destroys what nobody can bring back.

    Production is not asked, because a command for another installation may have been pasted there: it wants `--yes`.
    So does a script, in which a question would be answered by whatever comes next on stdin.

    Args:
        loss: What the command would destroy, counted, as a whole sentence.
        question: The question, without its question mark.

    Raises:
        click.ClickException: This is production, or there is nobody to ask.
        click.Abort: The answer is no.

    """
    config: Config = current_app.extensions["config"]
    if config.production:
        raise click.ClickException(f"{loss} This is production, so nothing was done: --yes does it.")
    if not is_interactive():
        raise click.ClickException(f"{loss} There is no terminal to ask at, so nothing was done: --yes does it.")
    click.echo(loss)
    click.confirm(f"{question}? This cannot be undone", abort=True)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def reporting_database_errors() -> Iterator[None]:
    """End a command whose database fails with one line and exit status 1.

    Raises:
        click.ClickException: The database fails; the message is that of `database_error`.

    """
    try:
        yield
    except (DatabaseUnavailable, InternalError) as problem:
        if isinstance(cause := problem.__cause__, psycopg2.Error | EmbeddedUnavailable):
            raise database_error(cause) from problem
        raise click.ClickException(str(problem)) from problem


def database_error(error: psycopg2.Error | DBAPIError | EmbeddedUnavailable) -> click.ClickException:
    """Return the error of a command for a failure of the database: one line that an operator can act on."""
    if isinstance(error, EmbeddedUnavailable):
        return click.ClickException(str(error))
    if failures.lacks_schema(error):
        return click.ClickException("the database has no tables yet, or older ones: run `todo migrate` first.")
    return click.ClickException(f"the database cannot be used: {failures.first_line(error)}")
