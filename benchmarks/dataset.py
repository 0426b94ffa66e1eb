"""Generated tasks: users of three sizes, with interleaved tasks. Each run generates the same ones."""

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any

import click

from todo.tasks import search
from todo.tasks.models import PRIORITIES

# The time of the newest task, and the current time of the queries: fixed, so that runs can be compared.
AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
YEARS_S = 3 * 365 * 86_400
DAY_S = 86_400

LARGEST_MAX = 200_000
LARGEST_PERCENT = 4
MEDIUM_TASKS = 1_000
SMALL_TASKS = 50

BATCH = 20_000
TEXTS = 100_000
VOCABULARIES = 500
VOCABULARY_TAGS = 60
SELECTIONS = 200
TAGS_MAX = 4

WORDS = 6_000
KNOWN_WORDS = ["Invoice", "meeting", "report", "call", "buy", "milk", "review", "Zürich"]
NULL = r"\N"

COLUMNS = (
    "user_id, title, description, folded_title, folded_description, tags, tag_keys, folded_tags, "
    "completed, created_at, updated_at, completed_at, priority, due_at, due_all_day, revision"
)
FIRST_COLUMNS = "user_id, title, description, completed, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Users:
    """The users of a table.

    Attributes:
        names: Their ids.
        owners: For each row, the index of its user.

    """

    names: list[str]
    owners: list[int]

    @property
    def largest(self) -> str:
        """The user with the most tasks."""
        return self.names[0]

    @property
    def medium(self) -> str:
        """A user with a thousand tasks."""
        return self.names[1]


def users_of(rows: int) -> Users:
    """Return the users of a table of this many rows."""
    chance = random.Random(rows)
    largest = min(LARGEST_MAX, rows * LARGEST_PERCENT // 100)
    medium = max(rows * LARGEST_PERCENT // 100 // MEDIUM_TASKS, 3)
    small = (rows - largest - medium * MEDIUM_TASKS) // SMALL_TASKS
    sizes = [largest] + [MEDIUM_TASKS] * medium + [SMALL_TASKS] * small
    sizes[-1] += rows - sum(sizes)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    names = ["".join(chance.choices(letters, k=32)) for _ in sizes]
    owners = [user for user, size in enumerate(sizes) for _ in range(size)]
    chance.shuffle(owners)
    return Users(names, owners)


class Words:
    """An endless text of generated words, of which a few are frequent and most are rare."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        generated = ["".join(self._syllable() for _ in range(chance.randint(1, 4))) for _ in range(WORDS)]
        self.words = KNOWN_WORDS[:-1] + generated
        weights = list(accumulate(1 / (place + 10) for place in range(len(self.words))))
        self._stream = (word for _ in iter(int, 1) for word in chance.choices(self.words, cum_weights=weights, k=9999))

    def _syllable(self) -> str:
        return self.chance.choice("bcdfghjklmnprstvwz") + self.chance.choice("aeiou") + self.chance.choice(["", "n"])

    def text(self, length: int, *, accented: bool) -> str:
        """Return a text of at most this length; an accented one has a few letters that are not ASCII."""
        text = next(self._stream)
        while len(text) < length:
            text += f" {next(self._stream)}"
        if accented:
            text = f"{KNOWN_WORDS[-1]} {text}".replace("e", "é", 2).replace("u", "ů", 1)
        return text[:length].strip()

    def task(self, accented: float) -> tuple[str, str | None]:
        """Return a title and, for every third task, a description."""
        is_accented = self.chance.random() < accented
        title = self.text(self.chance.randint(10, 60), accented=is_accented)
        if self.chance.randrange(3):
            return title, None
        return title, self.text(self.chance.randint(40, 300), accented=is_accented)


class Tasks:
    """The lines of tasks that COPY reads.

    Texts and tags are drawn from a limited supply, in ever new combinations.

    Args:
        users: The owners of the tasks.
        accented: The share of the tasks whose texts are not plain ASCII.

    """

    def __init__(self, users: Users, accented: float) -> None:
        self.users = users
        self.chance = chance = random.Random(len(users.owners))
        self.words = Words(chance)
        self.texts = [self.words.task(accented) for _ in range(TEXTS)]
        begin = AS_OF - timedelta(seconds=YEARS_S)
        self.days = [f"{begin + timedelta(days=day):%Y-%m-%d}" for day in range(YEARS_S // DAY_S + 200)]
        self.clock = [f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}+00" for s in range(DAY_S)]

    def first_version(self) -> Iterator[str]:
        """Yield the lines of a table of the first migration."""
        chance = self.chance
        for number, owner in enumerate(self.users.owners):
            title, description = self.texts[chance.randrange(TEXTS)]
            created, updated = self._times(number)
            yield (
                f"{self.users.names[owner]}\t{title}\t{description or NULL}\t{chance.choice('ft')}\t"
                f"{self._at(created)}\t{self._at(updated)}\n"
            )

    def current(self) -> Iterator[str]:
        """Yield the lines of a table of the latest migration."""
        chance, names = self.chance, self.users.names
        priorities = (*PRIORITIES, NULL, NULL, NULL)
        texts = [_copied(_text_columns(*text)) for text in self.texts]
        tags = [self._selections() for _ in range(VOCABULARIES)]
        revisions = [0] * len(names)
        for number, owner in enumerate(self.users.owners):
            created, updated = self._times(number)
            completed = chance.choice("ft")
            changed = self._at(updated)
            revisions[owner] += 1
            yield (
                f"{names[owner]}\t{texts[chance.randrange(TEXTS)]}\t"
                f"{tags[owner % VOCABULARIES][chance.randrange(SELECTIONS)]}\t{completed}\t{self._at(created)}\t"
                f"{changed}\t{changed if completed == 't' else NULL}\t"
                f"{chance.choice(priorities)}\t{self._due(created)}\t{revisions[owner]}\n"
            )

    def _times(self, number: int) -> tuple[int, int]:
        created = number * YEARS_S // len(self.users.owners)
        # Two of five tasks were never changed.
        later = self.chance.randrange(40 * DAY_S) if self.chance.randrange(5) > 1 else 0
        return created, created + later

    def _at(self, seconds: int) -> str:
        return f"{self.days[seconds // DAY_S]} {self.clock[seconds % DAY_S]}"

    def _due(self, created: int) -> str:
        """Return the due date of half of the tasks; half of these are dates without a time."""
        kind = self.chance.randrange(4)
        if kind > 1:
            return f"{NULL}\tf"
        due = created + self.chance.randrange(60 * DAY_S)
        return f"{self.days[due // DAY_S]} 23:59:59.999999+00\tt" if kind else f"{self._at(due)}\tf"

    def _selections(self) -> list[str]:
        """Return selections of a user's tags: 60 tags in all, the first ones frequent, half of them capitalised."""
        chance = self.chance
        names = [w.capitalize() if chance.randrange(2) else w for w in chance.sample(self.words.words, VOCABULARY_TAGS)]
        names[-1] = KNOWN_WORDS[-1]
        chosen = []
        for _ in range(SELECTIONS):
            picked = dict.fromkeys(
                names[int(VOCABULARY_TAGS * chance.random() ** 2)] for _ in range(chance.randint(0, TAGS_MAX))
            )
            columns = {"tags": list(picked)} | search.columns({"tags": list(picked)})
            chosen.append(_copied([columns["tags"], columns["tag_keys"], columns["folded_tags"]]))
        return chosen


def _text_columns(title: str, description: str | None) -> list[Any]:
    folded = search.columns({"title": title, "description": description})
    return [title, description, folded["folded_title"], folded["folded_description"]]


def _copied(values: Sequence[Any]) -> str:
    """Return values as COPY reads them. No generated word has a character that needs an escape."""
    written = []
    for value in values:
        if isinstance(value, list):
            written.append(f"{{{','.join(value)}}}")
        else:
            written.append(NULL if value is None else value.replace("\n", r"\n"))
    return "\t".join(written)


def create_lists(cursor: Any) -> None:
    """Create the list of each user of the tasks, at the revision of the last task."""
    cursor.execute(
        "INSERT INTO task_lists (user_id, revision) SELECT user_id, max(revision) FROM tasks GROUP BY user_id"
    )
    cursor.execute("VACUUM (ANALYZE) task_lists")


def fill(cursor: Any, columns: str, lines: Iterator[str], rows: int) -> None:
    """Copy the lines into the table, and vacuum and analyse it."""
    # No other session uses this table yet, and after a crash the benchmark fills it again.
    cursor.execute("SET synchronous_commit = off")
    with click.progressbar(length=rows, label=f"Filling {rows:,} rows") as bar:
        while batch := list(islice(lines, BATCH)):
            cursor.copy_expert(f"COPY tasks ({columns}) FROM STDIN", io.StringIO("".join(batch)), size=1 << 18)
            bar.update(len(batch))
    click.echo("Vacuuming and analysing ...")
    cursor.execute("VACUUM (ANALYZE) tasks")
