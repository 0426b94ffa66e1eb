"""Variants of the statement for a page: which form of SQL, and which way through the table, costs least."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from sqlalchemy import ColumnElement, Executable, and_, select, text

from benchmarks import markdown
from benchmarks.dataset import AS_OF, Users
from benchmarks.explain import compare
from benchmarks.list_queries import PAGE
from todo.extensions import db
from todo.tasks import listing
from todo.tasks.listing import KEYS, Filters, Listing, SortKey
from todo.tasks.rows import COLUMNS, tasks

NO_WORKERS = {"max_parallel_workers_per_gather": "0"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as PostgreSQL chooses": {},
    "without workers": NO_WORKERS,
    "index scan, without workers": NO_WORKERS | {"enable_bitmapscan": "off"},
    "bitmap scan, without workers": NO_WORKERS | {"enable_indexscan": "off", "enable_indexonlyscan": "off"},
}


def all_columns(caller: str, page: Listing) -> Executable:
    """Read all columns of all matching tasks."""
    matching = select(*COLUMNS, *_labels(page)).where(*listing.conditions(caller, page))
    return matching.order_by(*_order(page, matching.selected_columns)).limit(page.limit + 1)


def ids_first(caller: str, page: Listing) -> Executable:
    """Read the sort keys and ids of all matching tasks, and all columns of the page alone."""
    return _joined(caller, page, _narrow(caller, page))


def in_key_order(caller: str, page: Listing) -> Executable:
    """Read the matching tasks in the order of the primary key, for which a bitmap scan needs a sort, and sort them."""
    inner = _narrow(caller, page).order_by(tasks.c.id).offset(0).subquery("matching")
    return _joined(caller, page, select(inner))


def _labels(page: Listing) -> list[ColumnElement[Any]]:
    return [KEYS[key.name].label(key.label) for key in page.sort if key.name != "id"]


def _narrow(caller: str, page: Listing) -> Any:
    return select(tasks.c.id, *_labels(page)).where(*listing.conditions(caller, page))


def _joined(caller: str, page: Listing, matching: Any) -> Executable:
    inner = matching.subquery("narrow")
    selected = select(inner).order_by(*_order(page, inner.c)).limit(page.limit + 1).cte("page")
    return (
        select(*COLUMNS)
        .select_from(selected.join(tasks, and_(tasks.c.user_id == caller, tasks.c.id == selected.c.id)))
        .order_by(*_order(page, selected.c))
    )


def _order(page: Listing, columns: Any) -> list[ColumnElement[Any]]:
    order = []
    for key in page.sort:
        column = columns[key.label]
        order.append((column.desc() if key.descending else column.asc()).nulls_last())
    return [*order, columns.id]


VARIANTS: Mapping[str, Callable[[str, Listing], Executable]] = {
    "all columns": all_columns,
    "keys and ids first": ids_first,
    "keys and ids first, in key order": in_key_order,
}


# A function in FROM is called for each row and materialises its result; one in the SELECT list does not.
TAGS = """
    SELECT key, min(tag COLLATE "C") AS tag, count(*) AS uses FROM {used}
    GROUP BY key ORDER BY uses DESC, key COLLATE "C" LIMIT 50
"""
TAG_USES = "how often each tag is used"
TAG_VARIANTS: Mapping[str, Executable] = {
    "function in FROM": text(
        TAGS.format(
            used="(SELECT tag, key FROM tasks, unnest(tags, coalesce(tag_keys, tags)) AS one (tag, key) "
            "WHERE user_id = :caller) AS used"
        )
    ),
    "function in the SELECT list": text(
        TAGS.format(
            used="(SELECT unnest(tags) AS tag, unnest(coalesce(tag_keys, tags)) AS key FROM tasks "
            "WHERE user_id = :caller) AS used"
        )
    ),
}


def pages() -> dict[str, Listing]:
    """Return the pages for which all rows of a user must be read."""

    def page(sort: SortKey, **filters: Any) -> Listing:
        return Listing(filters=Filters(**filters), sort=(sort,), limit=PAGE, as_of=AS_OF)

    return {
        "sort -updated_at": page(SortKey("updated_at", descending=True)),
        "sort title": page(SortKey("title")),
        "completed=false, sort due_date": page(SortKey("due_date"), completed=(False,)),
        "search one word, sort due_date": page(SortKey("due_date"), words=("report",)),
        "search one word: none": page(SortKey("id"), words=("nowherezz",)),
    }


def run(users: Users) -> dict[str, Any]:
    """Measure each variant with each setting, for both users."""
    callers = {"big": users.largest, "small": users.medium}
    cases = [(settings, size, name) for settings in SETTINGS for size in callers for name in (*pages(), TAG_USES)]
    measured: dict[str, Any] = {}
    with db.engine.connect() as connection, click.progressbar(cases, label="Measuring variants") as bar:
        for settings, size, name in bar:
            parameters = {"caller": callers[size]}
            for setting, value in SETTINGS[settings].items():
                connection.execute(text(f"SET {setting} = {value}"))
            for variant, measurement in compare(connection, variants_of(name, callers[size]), parameters).items():
                by_settings = measured.setdefault(name, {}).setdefault(variant, {})
                by_settings.setdefault(settings, {})[size] = measurement.as_json()
            connection.execute(text("RESET ALL"))
    return {"variants": measured}


def variants_of(name: str, user: str) -> Mapping[str, Executable]:
    """Return the variants of a statement."""
    if name == TAG_USES:
        return TAG_VARIANTS
    return {variant: statement(user, pages()[name]) for variant, statement in VARIANTS.items()}


def table(results: Mapping[str, Any]) -> list[str]:
    """Return the table as lines of Markdown: medians in milliseconds, for the big user and for the small one."""
    rows = []
    for name, variants in results["variants"].items():
        for variant, measurements in variants.items():
            pairs = measurements.values()
            cells = [f"{pair['big']['median_ms']:.0f}, {pair['small']['median_ms']:.2f}" for pair in pairs]
            rows.append([name, variant, *cells])
    return markdown.table(f"ll{'r' * len(SETTINGS)}", ["query", "variant", *SETTINGS], rows)
