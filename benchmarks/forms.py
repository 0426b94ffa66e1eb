"""Other ways to ask the same: which form of a statement, and which way through the table, costs least."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from sqlalchemy import ColumnElement, Executable, and_, select, text

from benchmarks.filling import AS_OF, Crowd
from benchmarks.measuring import compare
from benchmarks.shapes import PAGE
from todo.extensions import db
from todo.tasks import listing
from todo.tasks.listing import KEYS, Filters, Listing, SortKey
from todo.tasks.rows import COLUMNS, tasks

ALONE = {"max_parallel_workers_per_gather": "0"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as PostgreSQL chooses": {},
    "without workers": ALONE,
    "index scan, without workers": ALONE | {"enable_bitmapscan": "off"},
    "bitmap scan, without workers": ALONE | {"enable_indexscan": "off", "enable_indexonlyscan": "off"},
}


def whole(caller: str, asked: Listing) -> Executable:
    """Read all columns of all that matches."""
    matching = select(*COLUMNS, *_labels(asked)).where(*listing.conditions(caller, asked))
    return matching.order_by(*_order(asked, matching.selected_columns)).limit(asked.limit + 1)


def ids_first(caller: str, asked: Listing) -> Executable:
    """Read the keys of all that matches, and only the tasks of the page whole."""
    return _joined(caller, asked, _narrow(caller, asked))


def in_key_order(caller: str, asked: Listing) -> Executable:
    """Read what matches in the order of the primary key, which makes a bitmap pay for a sort, and sort that."""
    inner = _narrow(caller, asked).order_by(tasks.c.id).offset(0).subquery("matching")
    return _joined(caller, asked, select(inner))


def _labels(asked: Listing) -> list[ColumnElement[Any]]:
    return [KEYS[key.name].label(key.label) for key in asked.sort if key.name != "id"]


def _narrow(caller: str, asked: Listing) -> Any:
    return select(tasks.c.id, *_labels(asked)).where(*listing.conditions(caller, asked))


def _joined(caller: str, asked: Listing, matching: Any) -> Executable:
    inner = matching.subquery("narrow")
    page = select(inner).order_by(*_order(asked, inner.c)).limit(asked.limit + 1).cte("page")
    return (
        select(*COLUMNS)
        .select_from(page.join(tasks, and_(tasks.c.user_id == caller, tasks.c.id == page.c.id)))
        .order_by(*_order(asked, page.c))
    )


def _order(asked: Listing, columns: Any) -> list[ColumnElement[Any]]:
    order = []
    for key in asked.sort:
        column = columns[key.label]
        order.append((column.desc() if key.descending else column.asc()).nulls_last())
    return [*order, columns.id]


FORMS: Mapping[str, Callable[[str, Listing], Executable]] = {
    "all columns": whole,
    "keys and ids first": ids_first,
    "keys and ids first, in key order": in_key_order,
}


# A function in FROM is called anew for each row and keeps its rows; one in the list of columns only gives them.
TAGS = """
    SELECT key, min(tag COLLATE "C") AS tag, count(*) AS uses FROM {used}
    GROUP BY key ORDER BY uses DESC, key COLLATE "C" LIMIT 50
"""
TAGS_NAME = "how often each tag is used"
TAG_FORMS: Mapping[str, Executable] = {
    "function in FROM": text(
        TAGS.format(
            used="(SELECT tag, key FROM tasks, unnest(tags, coalesce(tag_keys, tags)) AS one (tag, key) "
            "WHERE user_id = :caller) AS used"
        )
    ),
    "function in the list of columns": text(
        TAGS.format(
            used="(SELECT unnest(tags) AS tag, unnest(coalesce(tag_keys, tags)) AS key FROM tasks "
            "WHERE user_id = :caller) AS used"
        )
    ),
}


def questions() -> dict[str, Listing]:
    """Give the questions for which all rows of a user must be read."""

    def ask(sort: SortKey, **filters: Any) -> Listing:
        return Listing(filters=Filters(**filters), sort=(sort,), limit=PAGE, as_of=AS_OF)

    return {
        "sort -updated_at": ask(SortKey("updated_at", descending=True)),
        "sort title": ask(SortKey("title")),
        "completed=false, sort due_date": ask(SortKey("due_date"), completed=(False,)),
        "search one word, sort due_date": ask(SortKey("due_date"), words=("report",)),
        "search one word: none": ask(SortKey("id"), words=("nowherezz",)),
    }


def run(people: Crowd) -> dict[str, Any]:
    """Measure each form with each setting, for both users."""
    users = {"big": people.big, "small": people.middle}
    cases = [(way, who, name) for way in SETTINGS for who in users for name in (*questions(), TAGS_NAME)]
    measured: dict[str, Any] = {}
    with db.engine.connect() as connection, click.progressbar(cases, label="Trying other forms") as bar:
        for way, who, name in bar:
            for setting, value in SETTINGS[way].items():
                connection.execute(text(f"SET {setting} = {value}"))
            for form, found in compare(connection, forms_of(name, users[who]), {"caller": users[who]}).items():
                measured.setdefault(name, {}).setdefault(form, {}).setdefault(way, {})[who] = found.as_json()
            connection.execute(text("RESET ALL"))
    return {"forms": measured}


def forms_of(name: str, user: str) -> Mapping[str, Executable]:
    """Give a question in each of its forms."""
    if name == TAGS_NAME:
        return TAG_FORMS
    return {form: made(user, questions()[name]) for form, made in FORMS.items()}


def table(found: Mapping[str, Any]) -> list[str]:
    """Give the table as lines of Markdown: medians in milliseconds, for the big user and for the small one."""
    lines = [f"| question | form | {' | '.join(SETTINGS)} |", f"|---|---|{'--:|' * len(SETTINGS)}"]
    for name, forms in found["forms"].items():
        for form, ways in forms.items():
            cells = [f"{case['big']['median_ms']:.0f}, {case['small']['median_ms']:.2f}" for case in ways.values()]
            lines.append(f"| {name} | {form} | {' | '.join(cells)} |")
    return lines
