"""The exporter of metrics in one process."""

import os
import socket
import struct
import tempfile
from pathlib import Path

import pytest
from prometheus_client import values
from structlog.testing import capture_logs
from support import config_for

from todo import create_app
from todo.serving import exporter
from todo.serving.exporter import FOLDER, NAME, Exporter, make_folder, remove_folders_of_dead_servers


@pytest.fixture
def metrics_app(database_url, monkeypatch):
    """Return an application and its settings, with a free port for the metrics."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    # The exporter sets these for the whole process; the test restores them.
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv(FOLDER, "")
    config = config_for(database_url, METRICS_PORT=str(port))
    return create_app(config), config


@pytest.fixture
def metrics_port(metrics_app):
    """Yield the port on which the metrics of this process are served."""
    own = Exporter(*metrics_app)
    server = own.serve(0)
    yield metrics_app[1].metrics_port
    server.shutdown()
    own.close()


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


def test_folders_of_dead_servers_are_removed_and_no_others(tmp_path, monkeypatch):
    living, lock = make_folder(tmp_path)
    dead = [Path(tempfile.mkdtemp(prefix=NAME, dir=tmp_path)) for _ in range(3)]
    (dead[0] / "counter_0.db").write_bytes(b"x")
    others = [tmp_path / "todo-metrics-abcd1234", tmp_path / "elsewhere"]
    for folder in others:
        folder.mkdir()
    (others[1] / "kept").touch()
    (tmp_path / f"{NAME}link").symlink_to(others[1])
    (tmp_path / f"{NAME}file").touch()
    assert Path(living).stat().st_mode & 0o777 == 0o700

    remove_folders_of_dead_servers(tmp_path)

    assert not any(folder.exists() for folder in dead)
    kept = {Path(living).name, "todo-metrics-abcd1234", "elsewhere", f"{NAME}link", f"{NAME}file"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (others[1] / "kept").exists()

    os.close(lock)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_folders_of_dead_servers(tmp_path)
    assert Path(living).exists()
    monkeypatch.undo()
    remove_folders_of_dead_servers(tmp_path)
    assert not Path(living).exists()


def test_folder_is_where_temporary_files_are_on_a_machine_without_files_in_memory(tmp_path, monkeypatch, metrics_app):
    monkeypatch.setattr(exporter, "MEMORY", tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = Exporter(*metrics_app)
    assert Path(os.environ[FOLDER]).parent == tmp_path
    own.close()
    assert list(tmp_path.iterdir()) == []


def test_number_is_that_of_no_living_process(metrics_app):
    own = Exporter(*metrics_app)
    try:
        assert [own.claim() for _ in range(3)] == [0, 1, 2]
    finally:
        own.close()
