"""What the ledger says of edits, so that a run in which one is lost cannot pass."""

import json
from collections import Counter

import pytest
from convergence.ledger import REMEMBER, Edit, History, Ledger
from support import new_database, new_user
from wire.server import query

NAME = "phone 1"


@pytest.fixture
def history(postgres, migrated_template, user):
    """Return a function that returns the history of a task from its revisions and whether it was completed in each."""
    url = new_database(postgres, new_user(), migrated_template)
    query(url, REMEMBER)

    def remembered(*states):
        for number, (revision, completed) in enumerate(states):
            task = {
                "id": 7,
                "user_id": user,
                "revision": revision,
                "title": "x",
                "tags": [NAME],
                "completed": completed,
            }
            op = "UPDATE" if number else "INSERT"
            query(url, "INSERT INTO history (op, task) VALUES (%s, %s)", op, json.dumps(task))
        return History(url, user)

    return remembered


def toggle(completed, revision=5):
    """Return an edit that completes or reopens the task."""
    return Edit("phone", "update", NAME, revision, 1, {"completed": not completed}, {"completed": completed})


def sent(completed, rounds=1):
    """Return the report of a device that sends such an edit."""
    operation = {"op": "update", "id": 7, "if_revision": 5, "task": {"completed": completed}}
    return {"event": "sent", "rounds": rounds, "operations": [operation]}


CONFLICT = {"event": "conflict", "op": "update", "name": NAME, "task": {"completed": True}}


@pytest.mark.parametrize(
    ("states", "edits", "events", "outcomes"),
    [
        pytest.param([(5, False), (6, True)], [toggle(True)], [sent(True)], ["stored"], id="stored"),
        pytest.param([(5, False)], [toggle(True)], [], ["lost"], id="never stored"),
        pytest.param([(3, True), (5, False)], [toggle(True)], [sent(True)], ["lost"], id="stored before it was made"),
        pytest.param([(5, False)], [toggle(True)], [CONFLICT], ["reported"], id="reported"),
        pytest.param(
            [(5, False)], [toggle(True), toggle(False)], [], ["folded", "folded"], id="taken back before it was sent"
        ),
        pytest.param(
            [(5, False), (6, True)],
            [toggle(True), toggle(False)],
            [],
            ["stored", "folded"],
            id="taken back, and made by another",
        ),
        pytest.param(
            [(5, False), (6, True)],
            [toggle(True), toggle(False)],
            [sent(True, rounds=2)],
            ["stored", "folded"],
            id="taken back, and made again later",
        ),
        pytest.param(
            [(5, False), (6, True)],
            [toggle(True), toggle(False)],
            [sent(True)],
            ["stored", "lost"],
            id="taken back after it was stored",
        ),
        pytest.param(
            [(5, False)],
            [toggle(True), toggle(False)],
            [sent(True)],
            ["folded", "folded"],
            id="taken back after it was sent in vain",
        ),
        pytest.param(
            [(5, False)],
            [toggle(True), toggle(False), toggle(True)],
            [],
            ["folded", "folded", "lost"],
            id="made again and never stored",
        ),
        pytest.param(
            [(5, False), (6, True)],
            [toggle(True), toggle(False, 6), toggle(True, 6)],
            [sent(True)],
            ["stored", "folded", "folded"],
            id="taken back to what was stored",
        ),
        pytest.param(
            [(5, False)],
            [Edit("phone", "update", NAME, 5, 1, {"title": "x"}, {"title": "y"}), toggle(True), toggle(False)],
            [],
            ["lost", "folded", "folded"],
            id="beside another member",
        ),
    ],
)
def test_ledger_says_what_became_of_each_edit(history, states, edits, events, outcomes):
    ledger = Ledger(edits, {"phone": events}, history(*states))

    assert ledger.outcomes["phone"] == Counter(outcomes)
    lost = [edit for edit, outcome in zip(edits, outcomes, strict=True) if outcome == "lost"]
    assert [id(edit) for edit in ledger.lost] == [id(edit) for edit in lost]
