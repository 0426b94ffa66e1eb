"""Events behind PgBouncer in transaction mode, where LISTEN would not work."""

from support import bearer, call_as, config_for, new_user
from wire.listener import Listener
from wire.server import query, wait_until

from todo import create_app


def test_changes_of_this_server_and_of_others_reach_a_listener_behind_pgbouncer(pooled_server, direct_url):
    user = new_user()
    with Listener(pooled_server.port, user) as listener:
        assert listener.next().data == {"revision": 0}
        assert pooled_server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).status_code == 201
        assert listener.next().data == {"revision": 1}
        other = call_as(create_app(config_for(direct_url)).test_client(), user)
        assert other("POST", "/tasks", title="y").status_code == 201
        assert listener.next().data == {"revision": 2}


def test_listener_outlasts_the_end_of_all_sessions(pooled_server, direct_url):
    user = new_user()
    with Listener(pooled_server.port, user) as listener:
        listener.next()
        sessions = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        query(direct_url, f"SELECT pg_terminate_backend(pid) {sessions}")
        wait_until(
            lambda: pooled_server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).status_code == 201,
            "in service again",
        )
        assert listener.next().data["revision"] >= 1
