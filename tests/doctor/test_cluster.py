"""`todo doctor` of a Citus cluster, with a stand-in for it."""

import pytest
from doctor.examination import Report
from wire.server import query

DISTRIBUTED = "INSERT INTO pg_dist_partition VALUES ('task_lists', 'h', 1), ('tasks', 'h', 1), ('trash', 'h', 1)"


RAISING = " RETURNS SETOF moves LANGUAGE plpgsql AS 'BEGIN RAISE SQLSTATE ''08006''; END'"


@pytest.fixture
def examine(make_app, standin_url):
    """Return a function that changes the cluster, and runs the doctor on it."""

    def examine(*changes, **settings):
        for change in changes:
            query(standin_url, change)
        return Report.of_app(make_app(url=standin_url, **settings))

    return examine


def test_doctor_of_a_good_cluster_names_its_nodes(examine):
    report = examine(DISTRIBUTED)
    assert report.status == 0
    assert report.of("coordinator").text == "127.0.0.1:5432 answers, and DATABASE_URL leads there"
    assert [line.text for line in report.lines if line.subject == "worker"] == [
        "127.0.0.1:5433 answers",
        "127.0.0.1:5434 answers",
    ]
    assert report.of("tables").text == "are distributed by user"
    assert report.of("balance").text == "each node has its share"


@pytest.mark.parametrize(
    ("changes", "mark", "subject", "said"),
    [
        pytest.param([], "!", "tables", "are on the coordinator alone", id="nothing distributed"),
        pytest.param(
            ["INSERT INTO pg_dist_partition VALUES ('task_lists', 'h', 1), ('tasks', 'n', 0)"],
            "✗",
            "tables",
            "tasks, trash: not distributed, as the others are",
            id="half distributed",
        ),
        pytest.param(
            [DISTRIBUTED, "UPDATE pg_dist_partition SET colocationid = 2 WHERE logicalrelid = 'trash'::regclass"],
            "✗",
            "tables",
            "are distributed in different ways, so that the rows of a user are apart",
            id="apart",
        ),
        pytest.param(
            [DISTRIBUTED, "INSERT INTO moves VALUES (1), (2)"],
            "!",
            "balance",
            "2 pieces of tables should be on other nodes",
            id="unbalanced",
        ),
        pytest.param(
            [DISTRIBUTED, "UPDATE pg_dist_node SET answers = false WHERE nodeid = 2"],
            "✗",
            "worker",
            "127.0.0.1:5433 does not answer",
            id="dead worker",
        ),
        pytest.param(
            [
                DISTRIBUTED,
                "CREATE OR REPLACE FUNCTION get_rebalance_table_shards_plan(relation regclass DEFAULT NULL)" + RAISING,
            ],
            "✗",
            "cluster",
            "cannot be examined: 08006: 08006",
            id="cannot be examined",
        ),
    ],
)
def test_doctor_of_a_cluster_finds_what_is_wrong(examine, changes, mark, subject, said):
    report = examine(*changes)
    found = [line for line in report.lines if line.mark == mark and line.subject == subject]
    assert [line.text for line in found] == [said]
    assert found[0].remedy


def test_doctor_of_a_cluster_with_a_dead_worker_asks_for_no_balance(examine):
    report = examine(DISTRIBUTED, "UPDATE pg_dist_node SET answers = false WHERE nodeid = 2")
    assert "balance" not in [line.subject for line in report.lines]


def test_doctor_of_a_cluster_wants_a_lock_timeout_of_the_role(examine, standin_url):
    report = examine(DISTRIBUTED)
    assert report.of("lock_timeout").mark == "!"
    assert "SET lock_timeout = '3s'" in report.of("lock_timeout").remedy
    database = query(standin_url, "SELECT current_database()")[0][0]
    report = examine(f"ALTER DATABASE {database} SET lock_timeout = '3s'")
    assert "lock_timeout" not in [line.subject for line in report.lines]


def test_doctor_fails_where_the_role_lacks_the_time_outs_that_are_not_sent(examine, standin_url):
    report = examine(DATABASE_ROLE_LIMITS="true")
    assert set(report.faults) == {"lock_timeout", "statement_timeout"}
    database = query(standin_url, "SELECT current_database()")[0][0]
    report = examine(
        DISTRIBUTED,
        f"ALTER DATABASE {database} SET lock_timeout = '3s'",
        f"ALTER DATABASE {database} SET statement_timeout = '5s'",
        DATABASE_ROLE_LIMITS="true",
    )
    assert report.faults == {}
