"""Kept pages of several processes: what is written through one of them is what the others send."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from random import Random

import pytest
from support import bearer, new_user
from wire.revisions import TASKS
from wire.server import DEADLINE_S, Line, free_port, scrape

ROUNDS = 60
CLIENTS = 6


@pytest.fixture(scope="module")
def processes(database_url, start_server):
    """Return two servers of one process each, and the ports of their metrics."""
    ports = [free_port(), free_port()]
    servers = [
        start_server(DATABASE_URL=database_url, METRICS_PORT=str(port), WEB_CONCURRENCY="1", WEB_THREADS="4")
        for port in ports
    ]
    return servers, ports


def revision_of(page):
    return int(page.headers["ETag"].strip('"').partition("-")[0])


def write_and_read(servers, seed, shared):
    """Change tasks of two users through any process, one of them shared, and read both lists through all processes."""
    random, users = Random(seed), [new_user(), shared]
    with ExitStack() as stack:
        lines = [stack.enter_context(Line(server.port)) for server in servers]
        ids = {user: lines[0].call("POST", TASKS, bearer(user), {"title": "x"}).get_json()["id"] for user in users}
        for number in range(ROUNDS):
            user = random.choice(users)
            changed = {"title": f"{seed} {number}"}
            written = random.choice(lines).call("PATCH", f"{TASKS}/{ids[user]}", bearer(user), changed).get_json()
            for line in random.choices(lines, k=4):
                page = line.call("GET", TASKS, bearer(user))
                tasks = {task["id"]: task for task in page.get_json()}
                assert tasks[ids[user]] == written
                assert revision_of(page) == max(task["revision"] for task in tasks.values()) >= written["revision"]


def test_write_through_one_process_is_seen_through_the_others_at_once(processes):
    servers, ports = processes
    shared = new_user()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(write_and_read, servers, seed, shared) for seed in range(CLIENTS)]
        for client in clients:
            client.result(4 * DEADLINE_S)

    for port in ports:
        counted = scrape(port)
        assert counted["list_pages_total", "kept"] > ROUNDS
        assert counted["list_pages_total", "database"] > ROUNDS
        assert counted["kept_pages_bytes",] > 0
