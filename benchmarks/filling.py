"""Tasks by the million: users of three sizes, interleaved as life does it, always the same ones."""

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

# What is overdue, and when the newest task was made: a moment that does not move, so that runs can be compared.
AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
YEARS_S = 3 * 365 * 86_400
DAY_S = 86_400

BIG_MAX = 200_000
BIG_PERCENT = 4
MIDDLE_TASKS = 1_000
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
OLD_COLUMNS = "user_id, title, description, completed, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Crowd:
    """The users of a table: their ids, and for each row whose it is."""

    names: list[str]
    owners: list[int]

    @property
    def big(self) -> str:
        """Give the user who has most tasks."""
        return self.names[0]

    @property
    def middle(self) -> str:
        """Give a user with a thousand tasks."""
        return self.names[1]


def crowd(rows: int) -> Crowd:
    """Make the users of so many rows."""
    chance = random.Random(rows)
    big = min(BIG_MAX, rows * BIG_PERCENT // 100)
    middle = max(rows * BIG_PERCENT // 100 // MIDDLE_TASKS, 3)
    small = (rows - big - middle * MIDDLE_TASKS) // SMALL_TASKS
    sizes = [big] + [MIDDLE_TASKS] * middle + [SMALL_TASKS] * small
    sizes[-1] += rows - sum(sizes)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    names = ["".join(chance.choices(letters, k=32)) for _ in sizes]
    owners = [user for user, size in enumerate(sizes) for _ in range(size)]
    chance.shuffle(owners)
    return Crowd(names, owners)


class Words:
    """An endless text of words, of which a few are frequent and most are rare."""

    def __init__(self, chance: random.Random) -> None:
        """Make up the words."""
        self.chance = chance
        made = ["".join(self._syllable() for _ in range(chance.randint(1, 4))) for _ in range(WORDS)]
        self.words = KNOWN_WORDS[:-1] + made
        weights = list(accumulate(1 / (place + 10) for place in range(len(self.words))))
        self._stream = (word for _ in iter(int, 1) for word in chance.choices(self.words, cum_weights=weights, k=9999))

    def _syllable(self) -> str:
        return self.chance.choice("bcdfghjklmnprstvwz") + self.chance.choice("aeiou") + self.chance.choice(["", "n"])

    def text(self, length: int, *, accented: bool) -> str:
        """Give a text of about this length; an accented one has a few letters that are not ASCII."""
        text = next(self._stream)
        while len(text) < length:
            text += f" {next(self._stream)}"
        if accented:
            text = f"{KNOWN_WORDS[-1]} {text}".replace("e", "é", 2).replace("u", "ů", 1)
        return text[:length].strip()

    def task(self, accented: float) -> tuple[str, str | None]:
        """Give a title and, for every third, a description."""
        marked = self.chance.random() < accented
        title = self.text(self.chance.randint(10, 60), accented=marked)
        if self.chance.randrange(3):
            return title, None
        return title, self.text(self.chance.randint(40, 300), accented=marked)


class Tasks:
    """The lines that COPY reads."""

    def __init__(self, people: Crowd, accented: float) -> None:
        """Prepare what the lines are made of: texts and tags come over and over, in ever new company."""
        self.people = people
        self.chance = chance = random.Random(len(people.owners))
        self.words = Words(chance)
        self.texts = [self.words.task(accented) for _ in range(TEXTS)]
        begin = AS_OF - timedelta(seconds=YEARS_S)
        self.days = [f"{begin + timedelta(days=day):%Y-%m-%d}" for day in range(YEARS_S // DAY_S + 200)]
        self.clock = [f"{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}+00" for s in range(DAY_S)]

    def old(self) -> Iterator[str]:
        """Give the lines of a table as the first migration made it."""
        chance = self.chance
        for number, owner in enumerate(self.people.owners):
            title, description = self.texts[chance.randrange(TEXTS)]
            created, updated = self._moments(number)
            yield (
                f"{self.people.names[owner]}\t{title}\t{description or NULL}\t{chance.choice('ft')}\t"
                f"{self._at(created)}\t{self._at(updated)}\n"
            )

    def new(self) -> Iterator[str]:
        """Give the lines of a table as it is now."""
        chance, names = self.chance, self.people.names
        priorities = (*PRIORITIES, NULL, NULL, NULL)
        texts = [_copied(_text_columns(*text)) for text in self.texts]
        tags = [self._selections() for _ in range(VOCABULARIES)]
        revisions = [0] * len(names)
        for number, owner in enumerate(self.people.owners):
            created, updated = self._moments(number)
            done = chance.choice("ft")
            changed = self._at(updated)
            revisions[owner] += 1
            yield (
                f"{names[owner]}\t{texts[chance.randrange(TEXTS)]}\t"
                f"{tags[owner % VOCABULARIES][chance.randrange(SELECTIONS)]}\t{done}\t{self._at(created)}\t"
                f"{changed}\t{changed if done == 't' else NULL}\t"
                f"{chance.choice(priorities)}\t{self._due(created)}\t{revisions[owner]}\n"
            )

    def _moments(self, number: int) -> tuple[int, int]:
        created = number * YEARS_S // len(self.people.owners)
        # Two of five were never changed.
        later = self.chance.randrange(40 * DAY_S) if self.chance.randrange(5) > 1 else 0
        return created, created + later

    def _at(self, seconds: int) -> str:
        return f"{self.days[seconds // DAY_S]} {self.clock[seconds % DAY_S]}"

    def _due(self, created: int) -> str:
        """Give the due date of half of the tasks; of these, half are days."""
        turn = self.chance.randrange(4)
        if turn > 1:
            return f"{NULL}\tf"
        due = created + self.chance.randrange(60 * DAY_S)
        return f"{self.days[due // DAY_S]} 23:59:59.999999+00\tt" if turn else f"{self._at(due)}\tf"

    def _selections(self) -> list[str]:
        """Choose tags as one user would: 60 in all, the first ones often, some with a capital."""
        chance = self.chance
        names = [w.capitalize() if chance.randrange(2) else w for w in chance.sample(self.words.words, VOCABULARY_TAGS)]
        names[-1] = KNOWN_WORDS[-1]
        chosen = []
        for _ in range(SELECTIONS):
            picked = dict.fromkeys(
                names[int(VOCABULARY_TAGS * chance.random() ** 2)] for _ in range(chance.randint(0, TAGS_MAX))
            )
            made = {"tags": list(picked)} | search.columns({"tags": list(picked)})
            chosen.append(_copied([made["tags"], made["tag_keys"], made["folded_tags"]]))
        return chosen


def _text_columns(title: str, description: str | None) -> list[Any]:
    folded = search.columns({"title": title, "description": description})
    return [title, description, folded["folded_title"], folded["folded_description"]]


def _copied(values: Sequence[Any]) -> str:
    """Write values as COPY reads them; no word of ours has a character that would have to be escaped."""
    written = []
    for value in values:
        if isinstance(value, list):
            written.append(f"{{{','.join(value)}}}")
        else:
            written.append(NULL if value is None else value.replace("\n", r"\n"))
    return "\t".join(written)


def number_lists(cursor: Any) -> None:
    """Give each user the list that goes with the tasks."""
    cursor.execute(
        "INSERT INTO task_lists (user_id, revision) SELECT user_id, max(revision) FROM tasks GROUP BY user_id"
    )
    cursor.execute("VACUUM (ANALYZE) task_lists")


def fill(cursor: Any, columns: str, lines: Iterator[str], rows: int) -> None:
    """Copy the lines into the table and make it ready to be read."""
    # Nobody else needs this table yet, and a crash would only mean to begin anew.
    cursor.execute("SET synchronous_commit = off")
    with click.progressbar(length=rows, label=f"Filling {rows:,} rows") as bar:
        while batch := list(islice(lines, BATCH)):
            cursor.copy_expert(f"COPY tasks ({columns}) FROM STDIN", io.StringIO("".join(batch)), size=1 << 18)
            bar.update(len(batch))
    click.echo("Vacuuming and analysing ...")
    cursor.execute("VACUUM (ANALYZE) tasks")
