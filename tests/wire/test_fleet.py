"""Commands that run at the same time, take long, or are killed."""

import os
import signal
import uuid
from contextlib import closing

import psycopg2
import pytest
from support import new_database
from wire.server import DEADLINE_S, query, run, start, titles, wait_until

UPGRADE = ("flask", "db", "upgrade")
THIS = "SELECT oid FROM pg_database WHERE datname = current_database()"


@pytest.fixture
def empty_url(postgres):
    """Return the URL of an empty database."""
    return new_database(postgres, f"fleet_{uuid.uuid4().hex}")


@pytest.fixture(scope="module")
def migrated_url(postgres, migrated_template):
    """Return the URL of a migrated database that only the tests of this module use."""
    return new_database(postgres, f"fleet_{uuid.uuid4().hex}", migrated_template)


def test_upgrade_by_four_replicas_at_once_migrates_once(empty_url, root):
    replicas = [start(*UPGRADE, DATABASE_URL=empty_url) for _ in range(4)]

    ended = [(*replica.communicate(timeout=DEADLINE_S), replica.returncode) for replica in replicas]

    migrations = sorted(migration.stem for migration in (root / "migrations" / "versions").glob("*.py"))
    applied = "".join(f"Applied {migration}.\n" for migration in migrations)
    assert sorted(ended) == [("", "", 0)] * 3 + [(applied, "", 0)]
    assert query(empty_url, "SELECT version_num FROM alembic_version") == [(migrations[-1],)]
    assert query(empty_url, "SELECT count(*) FROM tasks") == [(0,)]


def test_upgrade_waits_for_another_one_that_is_under_way(empty_url):
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        " AND query LIKE '%%pg_try_advisory_xact_lock%%' AND pid <> %s"
    )
    with closing(psycopg2.connect(empty_url)) as first:
        first.cursor().execute("SELECT pg_advisory_xact_lock(7239562310011904)")
        replica = start(*UPGRADE, DATABASE_URL=empty_url)
        wait_until(lambda: query(empty_url, waiting, first.info.backend_pid), "waiting")
        assert query(empty_url, "SELECT to_regclass('tasks'), to_regclass('alembic_version')") == [(None, None)]

    stdout, stderr = replica.communicate(timeout=DEADLINE_S)
    assert (stdout.startswith("Applied "), stderr, replica.returncode) == (True, "", 0)
    assert query(empty_url, "SELECT count(*) FROM alembic_version") == [(1,)]


@pytest.mark.slow
def test_seed_of_100_000_tasks_is_exact_and_a_second_run_adds_nothing(migrated_url, user):
    seed = ("flask", "seed", "--count", "100000", "--user", user)

    first = run(*seed, DATABASE_URL=migrated_url)
    second = run(*seed, DATABASE_URL=migrated_url)

    assert (first.returncode, first.stderr) == (0, "")
    assert f"Added 100000 tasks for {user}." in first.stdout
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == f"{user} has 100000 tasks or more already: nothing added.\n"
    counted = "SELECT count(*), count(DISTINCT title) FROM tasks WHERE user_id = %s"
    assert query(migrated_url, counted, user) == [(100_000, 100_000)]


def test_seed_by_two_processes_at_once_adds_no_more_than_asked(migrated_url, user):
    seeds = [start("flask", "seed", "--count", "5000", "--user", user, DATABASE_URL=migrated_url) for _ in range(2)]

    outputs = [seed.communicate(timeout=DEADLINE_S) for seed in seeds]

    assert [seed.returncode for seed in seeds] == [0, 0]
    assert sum("nothing added" in stdout for stdout, _ in outputs) == 1
    assert len(titles(migrated_url, user)) == 5000


@pytest.mark.parametrize("killed_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_seed_that_is_killed_midway_leaves_nothing(migrated_url, user, killed_by):
    # A sequence advances outside all transactions, so it shows progress that no other session can see yet.
    ids = "SELECT coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public'"
    ((before,),) = query(migrated_url, ids)
    seed = start("flask", "seed", "--count", "5000000", "--user", user, DATABASE_URL=migrated_url)
    wait_until(lambda: query(migrated_url, ids) > [(before + 10_000,)], "midway")

    os.kill(seed.pid, killed_by)
    _, stderr = seed.communicate(timeout=DEADLINE_S)

    others = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    wait_until(lambda: not query(migrated_url, others), "its session has ended")
    assert titles(migrated_url, user) == []
    assert "Traceback" not in stderr
    assert seed.returncode == (1 if killed_by == signal.SIGINT else -killed_by)
