"""What users did, what the table of tasks went through, and what became of each edit."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from wire.server import query

# Every state of every task, written in the transaction that makes it.
REMEMBER = """
CREATE TABLE history (step bigint GENERATED ALWAYS AS IDENTITY, op text, task jsonb);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO history (op, task) VALUES (TG_OP, to_jsonb(coalesce(NEW, OLD))); RETURN NULL; END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION remember();
"""
STATES = """
SELECT op, (task ->> 'id')::bigint, (task ->> 'revision')::bigint, task ->> 'title', task ->> 'description',
    (task ->> 'completed')::boolean, task -> 'tags'
FROM history WHERE task ->> 'user_id' = %s ORDER BY step
"""

# Members whose values are different in each edit.
TEXTS = ("title", "description", "tag")


@dataclass(frozen=True)
class Edit:
    """What a user did with one task.

    Attributes:
        by: The device, or the assistant.
        op: add, update, remove or undo.
        name: The name of the task: the first of its tags, which it always keeps.
        revision: The revision in which the user saw the task; 0 if it was not stored yet.
        round: How often the device had sent everything before. Edits of one round may be folded.
        before: The members as the user saw them.
        after: The members as the user wants them.
        is_refused: Whether the answer said that nothing was done.

    """

    by: str
    op: str
    name: str
    revision: int = 0
    round: int = 0
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    is_refused: bool = False


@dataclass(frozen=True)
class State:
    """A task as the table had it, from a creation, a restore or an update on, or when it was deleted."""

    op: str
    id: int
    revision: int
    members: Mapping[str, Any]


class History:
    """Every state of every task of a user, by name, in the order in which they were committed."""

    def __init__(self, url: str, user: str) -> None:
        self.states: dict[str, list[State]] = defaultdict(list)
        self.names: dict[int, str] = {}
        for op, number, revision, title, description, completed, tags in query(url, STATES, user):
            members = {"title": title, "description": description, "completed": completed, "tag": second(tags)}
            self.states[tags[0]].append(State(op, number, revision, members))
            self.names[number] = tags[0]

    def duplicates(self) -> list[str]:
        """Return the names of tasks that were created more than once."""
        return [name for name, states in self.states.items() if len({state.id for state in states}) > 1]

    def had(self, name: str, member: str, value: Any, after: int) -> bool:
        """Check whether a task had this value later than in this revision."""
        states = self.states.get(name, ())
        return any(state.revision > after and state.members[member] == value for state in states)

    def changes(self) -> Iterator[tuple[str, str, Any, Any]]:
        """Yield the name, the member, the old and the new value of each change of a text."""
        for name, states in self.states.items():
            for old, new in pairwise(states):
                for member in TEXTS:
                    if new.op == "UPDATE" and new.members[member] != old.members[member]:
                        yield name, member, old.members[member], new.members[member]


def second(tags: list[str]) -> str | None:
    """Return the second tag, which edits change."""
    return tags[1] if len(tags) > 1 else None


class Ledger:
    """What became of each edit.

    Attributes:
        outcomes: How many edits of each actor had each outcome: `stored`; `folded` into a later one before they were
            sent, or taken back by it; `reported`, as a conflict, as dropped, or in the answer; or `lost`.
        lost: The edits without any of these outcomes.
        blind: The edits that replaced a text which their user had not seen.

    """

    def __init__(self, edits: Iterable[Edit], events: Mapping[str, list[dict[str, Any]]], history: History) -> None:
        self._history = history
        self._of_task: dict[tuple[str, str, int], list[Edit]] = defaultdict(list)
        self._conflicts: set[tuple[str, str]] = set()
        self._restores: set[tuple[str, str]] = set()
        self._reported: set[tuple[str, str, Any]] = set()
        # The members of each task that a device has tried to send in a round.
        self._sent: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
        for by, reports in events.items():
            for report in reports:
                self._note(by, report)
        listed = list(edits)
        for edit in listed:
            self._of_task[edit.by, edit.name, edit.round].append(edit)
        self._undone = {(edit.by, edit.name) for edit in listed if edit.op == "undo"}
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.lost: list[Edit] = []
        for edit in listed:
            outcome = self._outcome(edit)
            self.outcomes[edit.by][outcome] += 1
            if outcome == "lost":
                self.lost.append(edit)
        self.blind = self._blind(listed)

    def _note(self, by: str, report: dict[str, Any]) -> None:
        """Note what a device reported."""
        for operation in report.get("operations", ()):
            members = operation.get("task") or {}
            name = self._history.names.get(operation.get("id")) or next(iter(members.get("tags", ())), "")
            self._sent[by, name, report["rounds"]].append(members)
        if report["event"] == "conflict" and report["op"] == "delete":
            self._conflicts.add((by, report["name"]))
        if report["event"] == "dropped" and report["op"] == "restore":
            self._restores.add((by, self._history.names.get(int(report["key"]), "")))
        for member, value in (report.get("task") or {}).items():
            if member == "tags":
                self._reported.add((by, "tag", second(value)))
            elif member in {*TEXTS, "completed"}:
                self._reported.add((by, member, value))

    def _outcome(self, edit: Edit) -> str:
        """Return what became of an edit."""
        together = self._of_task[edit.by, edit.name, edit.round]
        # By identity, because who completes and reopens a task again and again makes equal edits.
        place = next(number for number, other in enumerate(together) if other is edit)
        earlier, later = together[:place], together[place + 1 :]
        if edit.op == "update":
            outcomes = {self._outcome_of(edit, member, earlier, later) for member in edit.after}
            return next(outcome for outcome in ("lost", "reported", "folded", "stored") if outcome in outcomes)
        states = self._history.states.get(edit.name, [])
        match edit.op:
            case "add":
                is_stored = bool(states)
                is_folded = any(other.op == "remove" for other in later)
                is_reported = (edit.by, "title", edit.after["title"]) in self._reported
            case "remove":
                is_stored = any(state.op == "DELETE" and state.revision >= edit.revision for state in states)
                # With its creation, which an undo may send later.
                is_never_sent = edit.revision == 0 and (edit.by, edit.name) in self._undone
                is_folded = not states or is_never_sent or any(other.op == "undo" for other in later)
                is_reported = (edit.by, edit.name) in self._conflicts
            case _:
                is_stored = any(state.op == "INSERT" and state.revision > edit.revision for state in states)
                is_folded = any(other.op == "remove" for other in together)
                is_reported = (edit.by, edit.name) in self._conflicts | self._restores
        if is_stored or is_folded:
            return "stored" if is_stored else "folded"
        return "reported" if is_reported or edit.is_refused else "lost"

    def _outcome_of(self, edit: Edit, member: str, earlier: list[Edit], later: list[Edit]) -> str:
        """Return what became of one member of an update."""
        if self._is_stored(edit, member):
            return "stored"
        is_replaced = any(other.op == "remove" or member in other.after for other in later)
        if is_replaced or self._takes_back(edit, member, earlier):
            return "folded"
        is_reported = edit.is_refused or (edit.by, member, edit.after[member]) in self._reported
        return "reported" if is_reported else "lost"

    def _takes_back(self, edit: Edit, member: str, earlier: list[Edit]) -> bool:
        """Check whether an edit took back others before they were stored, so that all of them are nothing.

        That another actor wrote the same value does not mean that they were stored. What the edit goes back to is what
        the user saw first, or an edit that was stored.
        """
        edits = [other for other in earlier if member in other.after]
        for place, other in reversed(list(enumerate(edits))):
            if self._is_stored_by_its_device(other, member):
                return False
            if other.before[member] == edit.after[member]:
                *before, last = edits[:place] or [None]
                return last is None or self._is_stored(last, member) or self._takes_back(last, member, before)
        return False

    def _is_stored(self, edit: Edit, member: str) -> bool:
        return self._history.had(edit.name, member, edit.after[member], edit.revision)

    def _is_stored_by_its_device(self, edit: Edit, member: str) -> bool:
        sent = self._sent[edit.by, edit.name, edit.round]
        is_sent = any(members.get(member) == edit.after[member] for members in sent)
        return is_sent and self._is_stored(edit, member)

    def _blind(self, edits: list[Edit]) -> list[tuple[str, str, Any, Any]]:
        """Return the changes of texts that replaced what the user who made them had not seen."""
        makers = {(edit.name, member, edit.after[member]): edit for edit in edits for member in edit.after}
        blind = []
        for name, member, old, new in self._history.changes():
            edit = makers.get((name, member, new))
            together = self._of_task[edit.by, name, edit.round] if edit else []
            if old not in {other.before[member] for other in together if member in other.before}:
                blind.append((name, member, old, new))
        return blind
