"""One run of `todo doctor`, parsed line by line. Every run is searched for what it must not print."""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from flask import Flask
from support import SECRET

PASSWORD = "sesame-of-the-database"
PREVIOUS_SECRET = "previous-secret-that-is-long-enough-for-HS256-and-guards-nothing"

EMAIL = re.compile(r"[\w.+-]+(@|%40)([\w-]+\.)+[a-z]{2}")
LINE = re.compile(r"^([✓✗!]) (.+?): (.+)(?:\n    (.+))?", re.MULTILINE)
# Every header of a token begins with {", and so does every payload.
PART_OF_A_TOKEN = re.compile(r"eyJ[\w-]+")


class Line(NamedTuple):
    """The result of one check."""

    mark: str
    subject: str
    text: str
    remedy: str


class Report:
    """The output of a run, and its exit status.

    Args:
        status: Its exit status.
        output: What it printed, logs included.
        pasted: What it read from its input.

    """

    def __init__(self, status: int, output: str, pasted: str = "") -> None:
        self.status = status
        self.output = output
        self.lines = [Line(*groups) for groups in LINE.findall(output)]
        self._assert_is_well_formed()
        assert_prints_nothing_secret(output, pasted)

    def _assert_is_well_formed(self) -> None:
        faults = self.of_mark("✗")
        assert "Traceback" not in self.output
        assert all(line.remedy for line in faults), self.output
        assert all(line.remedy == "" for line in self.of_mark("✓")), self.output
        assert self.status in ((1,) if faults else (0, 2)), self.output

    def of_mark(self, mark: str) -> list[Line]:
        return [line for line in self.lines if line.mark == mark]

    @property
    def faults(self) -> dict[str, str]:
        """The failed checks."""
        return {line.subject: line.text for line in self.of_mark("✗")}

    @property
    def warnings(self) -> dict[str, str]:
        """The warnings."""
        return {line.subject: line.text for line in self.of_mark("!")}

    @property
    def last(self) -> str:
        """The verdict."""
        return self.output.rstrip().splitlines()[-1]

    def of(self, subject: str) -> Line:
        """Return the one result for a subject."""
        (line,) = [line for line in self.lines if line.subject == subject]
        return line

    @classmethod
    def of_app(cls, app: Flask, *words: str, pasted: str | bytes = "") -> Self:
        """Run the command in this process."""
        ended = app.test_cli_runner().invoke(args=["doctor", *words], input=pasted)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), repr(ended.exception)
        text = pasted if isinstance(pasted, str) else pasted.decode(errors="replace")
        return cls(ended.exit_code, ended.output, text)


def assert_prints_nothing_secret(output: str, pasted: str) -> None:
    """Assert that there is no secret, no password, no part of a token and no e-mail address in an output."""
    for secret in (SECRET, PREVIOUS_SECRET, PASSWORD, *_parts(pasted)):
        assert secret not in output
    assert not EMAIL.search(output)
    assert not PART_OF_A_TOKEN.search(output)


def _parts(pasted: str) -> Iterable[str]:
    """Return the parts of a token, or of what was pasted instead of one; short words are no secrets."""
    return (part for part in re.split(r'[.\s:"{}]+', pasted) if len(part) > 12)
