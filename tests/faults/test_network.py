"""The network between the service and its database loses every packet: no FIN and no RST arrives."""

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from support import assert_problem, bearer
from wire.server import Load, Server, assert_kept, log_from_now, query, titles, wait_until

PATIENCE_S = 20


def ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True)


class Network:
    """A network namespace with one virtual cable to this one."""

    def __init__(self) -> None:
        self.name = f"todo-{os.getpid()}"
        # From the range for tests of networks (RFC 2544), so as to meet nobody's.
        block = f"198.18.{os.getpid() % 256}"
        self.address = f"{block}.2"
        ip("netns", "add", self.name)
        ours, self._theirs = f"todo{os.getpid()}a", f"todo{os.getpid()}b"
        ip("link", "add", ours, "type", "veth", "peer", "name", self._theirs, "netns", self.name)
        ip("address", "add", f"{block}.1/24", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", self._theirs)
        self.mend()

    def cut(self) -> None:
        """Lose every packet from now on."""
        ip("-n", self.name, "link", "set", self._theirs, "down")

    def mend(self) -> None:
        ip("-n", self.name, "link", "set", self._theirs, "up")

    def close(self) -> None:
        ip("netns", "delete", self.name)


@pytest.fixture(scope="module")
def module_network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def network(module_network: Network) -> Iterator[Network]:
    """Return the network, and repair it afterwards."""
    yield module_network
    module_network.mend()


@pytest.fixture(scope="module")
def far_server(module_network, make_pooler, postgres, direct_url, start_server) -> Server:
    """Return a server whose database is in the other network, where it reaches PgBouncer alone."""
    within = ("ip", "netns", "exec", module_network.name)
    pooler = make_pooler(postgres, module_network.address, within)
    return start_server(DATABASE_URL=pooler.url("todo_pooled"), WEB_CONCURRENCY="1", WEB_THREADS="4")


def created(server, user, title="x"):
    return server.call("POST", "/api/me/tasks", bearer(user), {"title": title})


def test_network_that_falls_silent_while_an_answer_is_awaited_frees_the_thread(far_server, network, direct_url, user):
    """Every sent packet was acknowledged, so only a keepalive probe can detect the fault."""
    assert created(far_server, user).status_code == 201
    logged = log_from_now(far_server.log)
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    with ThreadPoolExecutor(1) as clients, closing(psycopg2.connect(direct_url)) as other:
        other.cursor().execute("SELECT FROM task_lists WHERE user_id = %s FOR UPDATE", [user])
        started = time.monotonic()
        lost = clients.submit(created, far_server, user, "lost")
        wait_until(lambda: query(direct_url, waiting, f"%{user}%"), "waiting")
        network.cut()

        assert_problem(lost.result(), 503)
        assert time.monotonic() - started < PATIENCE_S

    # The kernel reports the fault: by the silence after its probes, or because it has forgotten the other's address.
    assert any(reason in logged() for reason in ("timed out", "No route to host"))
    assert "no answer within" not in logged()
    network.mend()
    wait_until(lambda: created(far_server, user, "y").status_code == 201, "in service again", deadline_s=10)
    assert titles(direct_url, user) == ["x", "y"]


def test_network_that_falls_silent_under_load_is_503_soon_and_loses_nothing(far_server, network, direct_url, user):
    def timed_read(_: int) -> float:
        started = time.monotonic()
        assert_problem(far_server.call("GET", "/api/me/tasks", bearer(user)), 503)
        return time.monotonic() - started

    with Load(far_server, user, clients=4) as load:
        wait_until(lambda: len(load.acknowledged) > 50, "under load")
        network.cut()
        wait_until(lambda: 503 in load.statuses[-4:], "unavailable")
        assert far_server.call("GET", "/health").status_code == 200
        with ThreadPoolExecutor(4) as clients:
            assert max(clients.map(timed_read, range(4))) < PATIENCE_S
        network.mend()
        acknowledged = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > acknowledged + 50, "in service again", deadline_s=PATIENCE_S)

    assert set(load.statuses) <= {200, 201, 503}
    assert_kept(direct_url, user, load)
