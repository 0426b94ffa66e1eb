"""The result of a check: passed, failed or a warning, and what to do about it."""

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """The outcome of a check, as the mark at the beginning of its line. Only `FAILED` makes the command fail."""

    PASSED = "✓"
    FAILED = "✗"
    WARNING = "!"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check.

    Attributes:
        status: The outcome.
        subject: What was checked.
        text: What was found.
        remedy: What to do about it; empty where there is nothing to do.

    """

    status: Status
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the line, and a line below it for the remedy."""
        line = f"{self.status.value} {self.subject}: {self.text}"
        return f"{line}\n    {self.remedy}" if self.remedy else line


def passed(subject: str, text: str) -> Result:
    """Return the result of a check that passed."""
    return Result(Status.PASSED, subject, text)


def failed(subject: str, text: str, remedy: str) -> Result:
    """Return the result of a check that failed."""
    return Result(Status.FAILED, subject, text, remedy)


def warning(subject: str, text: str, remedy: str = "") -> Result:
    """Return the result for something that works and may still be unintended."""
    return Result(Status.WARNING, subject, text, remedy)
