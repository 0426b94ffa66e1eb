"""The statements of the benchmarks are valid, variants of a query are equivalent, and the page shows the results."""

import json

import pytest
from support import new_user

from benchmarks import page, ratios, under_attack
from benchmarks.compare import draw_chart
from benchmarks.list_queries import PAGE, QueriedUser, queries_of
from benchmarks.query_variants import TAG_USES, pages, variants_of
from todo.database import statements
from todo.extensions import db
from todo.tasks.seeds import planting

TASKS = 240


@pytest.fixture(scope="module")
def seeded_user(app):
    """Return a user with this many example tasks."""
    user = new_user()
    with app.app_context(), planting(user, TASKS) as (_, batches):
        assert sum(batches) == TASKS
    return user


def test_list_queries_are_valid(app, seeded_user):
    with app.app_context():
        queries = queries_of(QueriedUser(seeded_user))
        results = {query.name: statements.read(query.statement, query.parameters) for query in queries}

    assert len(results["first page, limit 50"]) == PAGE + 1
    assert len(results["first page, limit 1000"]) == TASKS
    assert len(results["get one"]) == 1


@pytest.mark.parametrize("name", [*pages(), TAG_USES])
def test_variants_of_a_query_have_the_same_result(app, seeded_user, name):
    with app.app_context(), db.engine.connect() as connection:
        variants, parameters = variants_of(name, seeded_user)
        results = {
            variant: [tuple(row[:3]) for row in connection.exec_driver_sql(sql, parameters)]
            for variant, sql in variants.items()
        }

    first, *others = results.values()
    assert others
    assert all(other == first for other in others), results


@pytest.mark.parametrize("path", page.PAGES, ids=lambda path: path.name)
def test_page_is_generated_from_the_committed_results(path):
    # If this fails, run `python -m benchmarks.page`, and commit the pages with the results.
    text = path.read_text()
    assert page.render(text) == text


def test_every_table_stands_on_a_page_and_the_chart_beside_them():
    texts = [path.read_text() for path in page.PAGES]
    assert {match[2] for text in texts for match in page.BLOCK.finditer(text)} == set(page.BLOCKS)
    assert page.CHART.read_text() == (page.RESULTS / "peers.svg").read_text()


def test_attacks_that_the_document_of_overload_quotes_are_those_that_were_measured():
    rows = json.loads((page.RESULTS / "under-attack.json").read_text())["rows"]
    text = (page.ROOT / "docs" / "operate" / "overload.md").read_text()
    quoted = [line for line in text.splitlines() if line.startswith("| ") and "MiB" in line]

    assert quoted
    assert set(quoted) <= set(under_attack.table(rows))


def test_rows_and_chart_of_the_comparison_are_generated_from_the_committed_results():
    content = json.loads((page.RESULTS / "peers.json").read_text())
    rows = [*ratios.rows(content["measured"]), *ratios.round_trip_rows(content["round_trips"])]

    assert [row.as_json() for row in rows] == content["rows"]
    assert draw_chart(content) == (page.RESULTS / "peers.svg").read_text()
