"""One line of the doctor: good, bad or worth a thought, and what to do about it."""

from dataclasses import dataclass
from enum import Enum


class Mark(Enum):
    """How things are. Only `BAD` is a failure."""

    GOOD = "✓"
    BAD = "✗"
    ADVICE = "!"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, what was seen, and the remedy where one is needed."""

    mark: Mark
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """Give the line, and a line below it for the remedy."""
        line = f"{self.mark.value} {self.subject}: {self.text}"
        return f"{line}\n    {self.remedy}" if self.remedy else line


def good(subject: str, text: str) -> Diagnosis:
    """Say that something is as it must be."""
    return Diagnosis(Mark.GOOD, subject, text)


def bad(subject: str, text: str, remedy: str) -> Diagnosis:
    """Say that something does not work, and what to do."""
    return Diagnosis(Mark.BAD, subject, text, remedy)


def advice(subject: str, text: str, remedy: str = "") -> Diagnosis:
    """Say that something works and may still not be what was meant."""
    return Diagnosis(Mark.ADVICE, subject, text, remedy)
