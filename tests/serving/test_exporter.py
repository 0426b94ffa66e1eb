"""The server of the metrics in one process."""

import socket
import struct

import pytest
from prometheus_client import values
from structlog.testing import capture_logs
from support import config_for

from todo import create_app
from todo.serving.exporter import FOLDER, Scraping, listen


@pytest.fixture
def scraping(database_url, monkeypatch):
    """Give the metrics of this process, on a port of their own."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    # What it sets for a whole process ends with the test.
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv(FOLDER, "")
    config = config_for(database_url, METRICS_PORT=str(port))
    made = Scraping(create_app(config), config)
    server = made.serve(0)
    yield port
    server.shutdown()
    made.close()


def test_scraper_that_hangs_up_is_one_line_and_others_are_served(scraping):
    with capture_logs() as logs:
        with socket.create_connection(("127.0.0.1", scraping)) as rude:
            rude.sendall(b"GET /metr")
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(("127.0.0.1", scraping), timeout=10) as polite:
            polite.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: polite.recv(65536), b""))
    assert [entry["event"] for entry in logs] == ["metrics not taken"]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Python" not in head
    assert b"database_pool_connections_in_use 0.0\n" in body


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_that_is_taken_ends_the_start_and_names_the_setting(host):
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SystemExit) as refused:
            listen(host, port)
    assert str(refused.value) == f"todo cannot start: METRICS_PORT {port} cannot be had: Address already in use."
