"""The exporter of metrics in one process."""

import socket
import struct

import pytest
from prometheus_client import values
from structlog.testing import capture_logs
from support import config_for

from todo import create_app
from todo.serving.exporter import FOLDER, Exporter, listen


@pytest.fixture
def metrics_port(database_url, monkeypatch):
    """Yield the port on which the metrics of this process are served."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    # The exporter sets these for the whole process; the test restores them.
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv(FOLDER, "")
    config = config_for(database_url, METRICS_PORT=str(port))
    exporter = Exporter(create_app(config), config)
    server = exporter.serve(0)
    yield port
    server.shutdown()
    exporter.close()


def test_scraper_that_hangs_up_is_one_log_line_and_the_next_one_is_served(metrics_port):
    with capture_logs() as logs:
        with socket.create_connection(("127.0.0.1", metrics_port)) as aborting:
            aborting.sendall(b"GET /metr")
            aborting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(("127.0.0.1", metrics_port), timeout=10) as complete:
            complete.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            response = b"".join(iter(lambda: complete.recv(65536), b""))
    assert [entry["event"] for entry in logs] == ["scrape aborted"]
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Python" not in head
    assert b"database_pool_connections_in_use 0.0\n" in body


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_in_use_ends_the_start_and_names_the_setting(host):
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SystemExit) as refused:
            listen(host, port)
    assert str(refused.value) == f"todo cannot start: METRICS_PORT {port} cannot be bound: Address already in use."
