"""Variants of the statement for a page: which form of SQL, and which way through the table, costs least."""

from collections.abc import Mapping
from typing import Any

import click
from sqlalchemy import text

from benchmarks import markdown
from benchmarks.dataset import AS_OF, Users
from benchmarks.explain import compare
from benchmarks.list_queries import PAGE
from todo.database import statements
from todo.extensions import db
from todo.tasks import listing
from todo.tasks.listing import KEYS, Filters, Listing, SortKey
from todo.tasks.rows import COLUMNS

NO_WORKERS = {"max_parallel_workers_per_gather": "0"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "as PostgreSQL chooses": {},
    "without workers": NO_WORKERS,
    "index scan, without workers": NO_WORKERS | {"enable_bitmapscan": "off"},
    "bitmap scan, without workers": NO_WORKERS | {"enable_indexscan": "off", "enable_indexonlyscan": "off"},
}


# Read all columns of all matching tasks.
ALL_COLUMNS = "SELECT {columns}, {keys} FROM tasks WHERE {conditions} ORDER BY {order}, id LIMIT %(rows)s"

# Read the sort keys and ids of all matching tasks, and all columns of the page alone.
IDS_FIRST = """
    WITH page AS (SELECT * FROM {matching} AS matching ORDER BY {order}, page_id LIMIT %(rows)s)
    SELECT {columns} FROM page JOIN tasks ON user_id = %(caller)s AND id = page_id ORDER BY {order}, id
"""
NARROW = "(SELECT id AS page_id, {keys} FROM tasks WHERE {conditions})"

# Read the matching tasks in the order of the primary key, for which a bitmap scan needs a sort, and sort them.
IN_KEY_ORDER = "(SELECT id AS page_id, {keys} FROM tasks WHERE {conditions} ORDER BY id OFFSET 0)"

VARIANTS: Mapping[str, str] = {
    "all columns": ALL_COLUMNS,
    "keys and ids first": statements.fill(IDS_FIRST, matching=NARROW),
    "keys and ids first, in key order": statements.fill(IDS_FIRST, matching=IN_KEY_ORDER),
}


# A function in FROM is called for each row and materialises its result; one in the SELECT list does not.
TAGS = """
    SELECT key, min(tag COLLATE "C") AS tag, count(*) AS uses FROM {used}
    GROUP BY key ORDER BY uses DESC, key COLLATE "C" LIMIT 50
"""
TAG_USES = "how often each tag is used"
TAG_VARIANTS: Mapping[str, str] = {
    "function in FROM": TAGS.format(
        used="(SELECT tag, key FROM tasks, unnest(tags, coalesce(tag_keys, tags)) AS one (tag, key) "
        "WHERE user_id = %(caller)s) AS used"
    ),
    "function in the SELECT list": TAGS.format(
        used="(SELECT unnest(tags) AS tag, unnest(coalesce(tag_keys, tags)) AS key FROM tasks "
        "WHERE user_id = %(caller)s) AS used"
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
            variants, parameters = variants_of(name, callers[size])
            for setting, value in SETTINGS[settings].items():
                connection.execute(text(f"SET {setting} = {value}"))
            for variant, measurement in compare(connection, variants, parameters).items():
                by_settings = measured.setdefault(name, {}).setdefault(variant, {})
                by_settings.setdefault(settings, {})[size] = measurement.as_json()
            connection.execute(text("RESET ALL"))
    return {"variants": measured}


def variants_of(name: str, user: str) -> tuple[Mapping[str, str], dict[str, Any]]:
    """Return the variants of a statement, and their parameters."""
    if name == TAG_USES:
        return TAG_VARIANTS, {"caller": user}
    page = pages()[name]
    conditions, parameters = listing.conditions_of(page)
    fragments = {
        "columns": COLUMNS,
        "keys": ", ".join(f"{KEYS[key.name]} AS {key.column}" for key in page.sort),
        "conditions": " AND ".join(conditions),
        "order": ", ".join(f"{key.column}{' DESC' * key.descending} NULLS LAST" for key in page.sort),
    }
    variants = {variant: statements.fill(sql, **fragments) for variant, sql in VARIANTS.items()}
    return variants, {**parameters, "caller": user, "rows": page.limit + 1}


def table(results: Mapping[str, Any]) -> list[str]:
    """Return the table as lines of Markdown: medians in milliseconds, for the big user and for the small one."""
    rows = []
    for name, variants in results["variants"].items():
        for variant, measurements in variants.items():
            pairs = measurements.values()
            cells = [f"{pair['big']['median_ms']:.0f}, {pair['small']['median_ms']:.2f}" for pair in pairs]
            rows.append([name, variant, *cells])
    return markdown.table(f"ll{'r' * len(SETTINGS)}", ["query", "variant", *SETTINGS], rows)
