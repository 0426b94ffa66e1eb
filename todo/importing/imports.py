"""An import: a file is read as a whole, judged as a whole, and then written once, however often it is sent."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from todo.http.problems import ContentTooLarge, Fault
from todo.importing import fitting, queries
from todo.importing.fitting import NewTask
from todo.importing.formats import FORMATS, detected
from todo.importing.records import Place, Record, Remark, Unreadable, decoded

# How many tasks a request may bring, and how many the command writes at once.
TASKS_MAX = 5_000
SAMPLE = 5

SKIP, FAIL = "skip", "fail"

COMMAND = "An operator can import it with `todo user import`."


@dataclass(slots=True)
class Contents:
    """What a file holds.

    Attributes:
        format: The name of its format.
        read: How many records it has.
        tasks: The tasks, in the order of their creation.
        skipped: What is left out although nothing is wrong with it.
        warnings: What is kept elsewhere, or partly left out.
        faults: What breaks a rule.

    """

    format: str
    read: int = 0
    tasks: list[NewTask] = field(default_factory=list)
    skipped: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What became of the tasks of a file: how many were created or known, and the first ones that are new."""

    created: int = 0
    known: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)


def read(data: bytes, format_name: str | None, zone: ZoneInfo, most: int | None = None) -> Contents:
    """Read a file.

    Args:
        data: Its content.
        format_name: The name of its format; by default it is found from the content.
        zone: The zone of times without one.
        most: The greatest number of records.

    Raises:
        Unreadable: It is not of the format as a whole, or of no known one.
        ContentTooLarge: It has more records than `most`.

    """
    text = decoded(data)
    if not text.strip():
        raise Unreadable("The file is empty.")
    module = FORMATS[format_name] if format_name else detected(text)
    contents = Contents(module.NAME)
    keys = _Keys(module.NAME)
    now = datetime.now(UTC)
    for item in module.read(text, zone):
        if isinstance(item, Remark):
            contents.warnings.append(_entry(item.place, item.detail))
            continue
        contents.read += 1
        if most is not None and contents.read > most:
            raise ContentTooLarge(f"The file has more than {most:,} tasks. {COMMAND}")
        _sort(contents, item, keys, now)
    # Those that were created at one time stay in the order of the file.
    contents.tasks.sort(key=lambda task: task.columns["created_at"])
    return contents


def _sort(contents: Contents, record: Record, keys: "_Keys", now: datetime) -> None:
    """Add a record to the tasks of a file, or to what is no task."""
    task = None
    # A record that could not be read has no members to judge.
    if not record.skipped and (record.members or not record.faults):
        key, first = keys.key(record)
        if first is None:
            task = fitting.fit(record, key, now)
        else:
            where = f"on line {first['line']}" if "line" in first else f"at {first['pointer']}"
            record.skipped = f"It is the same task as {where}."
    if record.skipped:
        contents.skipped.append(_entry(record.place, record.skipped))
    contents.faults += [_entry(record.place, fault) for fault in record.faults]
    if task is not None:
        contents.warnings += [_entry(record.place, warning) for warning in record.warnings]
        contents.tasks.append(task)


class _Keys:
    """The idempotency keys of the tasks of a file.

    They depend on what the source says alone, so that a file that is imported again has the same ones. Without an id, a
    task is what is said of it and how many equal ones came before: two rows "milk" are two tasks. With an id, its time
    and title count too, because the small numbers of two servers must not meet.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._equal: Counter[bytes] = Counter()
        self._first: dict[str, Place] = {}

    def key(self, record: Record) -> tuple[str, Place | None]:
        """Return the key of a record, and where a record with the same id came before, if one did."""
        if record.source_id:
            created = record.created_at.isoformat() if record.created_at else None
            identity = _bytes([record.source_id, created, record.members.get("title")])
        else:
            content = _bytes(record.content)
            identity = _bytes([content.decode(), self._equal[content]])
            self._equal[content] += 1
        digest = hashlib.sha256(identity).hexdigest()
        first = self._first.setdefault(digest, record.place)
        return f"import:{self._name}:{digest}", None if first is record.place else first


def _bytes(document: Any) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # More is read than can be written.
        return b"nested too deeply"


def _entry(place: Place, detail: str) -> Fault:
    entry: Fault = {**place, "detail": detail}  # type: ignore[typeddict-item]
    return entry


def accept(contents: Contents) -> None:
    """Skip what breaks a rule, for a caller who asks for that."""
    contents.skipped += contents.faults
    contents.faults = []


def write(user: str, tasks: Sequence[NewTask], *, dry_run: bool) -> Outcome:
    """Add those tasks to a user's list that it does not know, all of them or, with `dry_run`, none.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    known = (queries.find_known if dry_run else queries.create_tasks)(user, [task.columns for task in tasks])
    new = [task.sample for number, task in enumerate(tasks) if number not in known]
    return Outcome(len(new), len(known), new[:SAMPLE])


def write_in_pieces(user: str, tasks: Sequence[NewTask], outcome: Outcome, *, dry_run: bool) -> Iterator[int]:
    """Do the same in pieces that are committed one by one; add each to the outcome, and yield its size.

    An interrupted import keeps what it has done. When it is run again, that is known.
    """
    for begin in range(0, len(tasks), TASKS_MAX):
        piece = tasks[begin : begin + TASKS_MAX]
        written = write(user, piece, dry_run=dry_run)
        outcome.created += written.created
        outcome.known += written.known
        yield len(piece)
