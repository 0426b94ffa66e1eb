"""The binding of ports."""

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from support import UNKNOWN_HOST

from todo.serving import listening
from todo.serving.listening import listen


@pytest.fixture
def pause_by(monkeypatch):
    """Return a function that replaces the pause between attempts. Other threads of this process pause as ever."""

    def pause_by(sleep):
        monkeypatch.setattr(listening, "time", SimpleNamespace(sleep=sleep))

    return pause_by


@pytest.fixture
def pauses(pause_by):
    """Return the pauses between attempts, which take no time here."""
    pauses = []
    pause_by(pauses.append)
    return pauses


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_in_use_ends_the_start_after_some_attempts_and_names_the_setting(host, pauses):
    with listen("PORT", host, 0) as listener:
        port = listener.getsockname()[1]
        with capture_logs() as logs, pytest.raises(SystemExit) as refused:
            listen("PORT", host, port)
    assert str(refused.value) == f"todo cannot start: PORT {port} cannot be bound: Address already in use."
    assert pauses == [1.0] * 4
    assert [(entry["event"], entry["setting"], entry["port"]) for entry in logs] == [("port in use", "PORT", port)] * 4


def test_port_that_becomes_free_is_bound(pause_by):
    taken = listen("PORT", "127.0.0.1", 0)
    port = taken.getsockname()[1]
    pause_by(lambda _: taken.close())
    with listen("PORT", "127.0.0.1", port) as listener:
        assert listener.getsockname()[1] == port


def test_address_of_another_machine_ends_the_start_at_once(pauses):
    with pytest.raises(SystemExit, match="cannot be bound: Cannot assign requested address"):
        listen("PORT", "192.0.2.1", 0)
    assert pauses == []


def test_host_that_nobody_knows_ends_the_start_at_once(pauses):
    with pytest.raises(SystemExit) as refused:
        listen("PORT", UNKNOWN_HOST, 0)
    assert str(refused.value) == f"todo cannot start: PORT 0 cannot be bound: there is no host {UNKNOWN_HOST}."
    assert pauses == []
