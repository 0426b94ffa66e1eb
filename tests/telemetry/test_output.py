"""The output of the log: a line that cannot be written at once is dropped and counted, whatever it is written to."""

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
import tty
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from todo.telemetry import output
from todo.telemetry.output import LINE_MAX, PIPE_SIZE, LineWriter, line_dropped, ways_to_write

LINE = b"x" * 299
REPORT = b"log lines dropped: "


class Reader:
    """The other end of a log.

    Args:
        descriptor: Where to read.

    """

    def __init__(self, descriptor):
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def take(self, size=-1):
        """Return what was written, or its first bytes."""
        taken = b""
        with suppress(BlockingIOError):
            while size != 0 and (data := os.read(self._descriptor, size if size > 0 else 65536)):
                taken += data
                size -= len(data) if size > 0 else 0
        return taken


@pytest.fixture
def older_linux(monkeypatch):
    """Make the system one that cannot write without waiting, as Linux before 6.4."""

    def pwritev(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "pwritev", pwritev)


@pytest.fixture(params=["this-linux", "older-linux"])
def linux(request):
    """Run a test on this system, and as on an older one."""
    if request.param == "older-linux":
        request.getfixturevalue("older_linux")


@pytest.fixture
def pipe():
    """Return both ends of a pipe."""
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


@pytest.fixture
def terminal():
    """Return both ends of a terminal, which passes lines on as they are."""
    read, write = os.openpty()
    tty.setraw(write)
    yield read, write
    os.close(read)
    os.close(write)


@pytest.fixture
def tcp():
    """Return both ends of a connection with small buffers, which takes the beginning of a line that does not fit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        receiver, _ = listener.accept()
    with sender, receiver:
        yield receiver.fileno(), sender.fileno()


@pytest.fixture
def journal():
    """Return both ends of a stream, as to the journal of systemd."""
    sender, receiver = socket.socketpair()
    with sender, receiver:
        yield receiver.fileno(), sender.fileno()


@pytest.fixture(params=["pipe", "terminal", "tcp", "journal"])
def log(request):
    """Return a writer, the reader of what it writes, and its descriptor, for all that a log is written to."""
    read, write = request.getfixturevalue(request.param)
    return LineWriter(write), Reader(read), write


def fill(writer, drop=1, line=LINE):
    """Write lines until so many of them are dropped. Return how many were not."""
    dropped = []

    def count(_writer):
        dropped.append(1)

    written = 0
    with line_dropped.connected_to(count, sender=writer):
        while len(dropped) < drop:
            writer.msg(line)
            written += 1
    return written - drop


def test_log_that_nobody_reads_drops_lines_and_reports_their_number(log, linux):
    writer, reader, descriptor = log
    kept = fill(writer, drop=7)
    assert kept > 10

    taken = reader.take()
    # What was written in part is completed first, and only then comes the report.
    writer.msg(b"after")
    writer.msg(b"the end")

    lines = (taken + reader.take()).splitlines()
    assert lines == [LINE] * kept + [REPORT + b"7", b"after", b"the end"]
    assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_NONBLOCK


def test_log_that_is_read_too_slowly_loses_no_line_uncounted(log, linux):
    writer, reader, _ = log
    received = b""
    written = 0
    for _ in range(30):
        written += fill(writer, drop=3, line=b"y" * 1000) + 3
        received += reader.take(5000)
    while writer._dropped or writer._rest:
        received += reader.take()
        writer.msg(b"y" * 1000)
        written += 1
    received += reader.take()

    lines = received.splitlines()
    dropped = sum(int(line.removeprefix(REPORT)) for line in lines if line.startswith(REPORT))
    assert lines.count(b"y" * 1000) + dropped == written
    assert {len(line) for line in lines if not line.startswith(REPORT)} == {1000}


def test_processes_that_share_a_pipe_write_whole_lines_and_never_wait(pipe, linux):
    """Each writer has a lock of its own, as those of several processes, so they compete for the last space."""
    read, write = pipe
    writers = [LineWriter(write) for _ in range(4)]
    each = 3000
    done = threading.Event()
    received = bytearray()

    def read_now_and_then():
        reader = Reader(read)
        while not done.wait(0.001):
            received.extend(reader.take(65536))
        received.extend(reader.take())

    def write_lines(writer):
        for _ in range(each):
            writer.msg(b"z" * 4000)

    reading = threading.Thread(target=read_now_and_then)
    reading.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_lines, writers))
    done.set()
    reading.join()
    for writer in writers:
        writer.msg(b"z" * 4000)
    received += Reader(read).take()

    lines = bytes(received).splitlines()
    dropped = sum(int(line.removeprefix(REPORT)) for line in lines if line.startswith(REPORT))
    assert lines.count(b"z" * 4000) + dropped == 4 * (each + 1)
    assert {len(line) for line in lines if not line.startswith(REPORT)} == {4000}


def test_line_of_the_greatest_length_is_whole_in_a_pipe_or_not_there(pipe, linux):
    read, write = pipe
    writer, reader = LineWriter(write), Reader(read)
    line = b"x" * (LINE_MAX - 1)
    kept = fill(writer, line=line)
    reader.take(LINE_MAX - 1)
    assert fill(writer, line=line) in (0, 1)
    assert {len(part) for part in reader.take().splitlines()[1:] if not part.startswith(REPORT)} <= {LINE_MAX - 1}
    assert kept >= 16


@pytest.mark.parametrize("refuses", [False, True], ids=["allowed", "refused"])
def test_pipe_is_enlarged_where_the_system_allows_it(pipe, monkeypatch, refuses):
    read, write = pipe
    before = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    if refuses:
        # A user with many pipes may not enlarge any more of them.
        def refuse(*_):
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(fcntl, "fcntl", refuse)
    writer = LineWriter(write)
    writer.msg(b"a line")
    monkeypatch.undo()
    assert fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) == (before if refuses else PIPE_SIZE)
    assert os.read(read, 100) == b"a line\n"


def test_pipe_that_is_larger_keeps_its_size(pipe, monkeypatch):
    _, write = pipe
    monkeypatch.setattr(output, "PIPE_SIZE", 4096)
    before = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    LineWriter(write).msg(b"a line")
    assert fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) == before


def test_terminal_of_another_user_is_written_to(terminal, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    read, write = terminal
    monkeypatch.setattr(os, "open", refuse)
    writer = LineWriter(write)
    writer.msg(b"one")
    writer.msg(b"two")
    assert Reader(read).take() == b"one\ntwo\n"


def test_file_has_no_other_way_than_a_write(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        assert ways_to_write(file.fileno()) == (os.write,)
        LineWriter(file.fileno()).msg(b"a line")
    assert (tmp_path / "log").read_bytes() == b"a line\n"


def test_system_without_the_flag_writes(pipe, monkeypatch):
    monkeypatch.delattr(os, "RWF_NOWAIT")
    assert ways_to_write(pipe[1]) == (os.write,)


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_device_takes_all_lines_or_none(device):
    descriptor = os.open(device, os.O_WRONLY)
    try:
        writer = LineWriter(descriptor)
        for _ in range(3):
            writer.msg(LINE)
        assert writer._dropped == (3 if device == "/dev/full" else 0)
    finally:
        os.close(descriptor)


def test_log_without_a_reader_and_log_that_is_closed_count_what_they_drop(linux):
    read, write = os.pipe()
    os.close(read)
    writer = LineWriter(write)
    writer.msg(b"lost")
    os.close(write)
    writer.msg(b"lost too")
    never_open = LineWriter(write)
    never_open.msg(b"lost as well")
    assert (writer._dropped, never_open._dropped) == (2, 1)


def test_log_that_is_redirected_is_found_out_about(pipe, tmp_path):
    _, write = pipe
    writer = LineWriter(write)
    writer.msg(b"into the pipe")
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), write)
    writer.detect()
    writer.msg(b"into the file")
    assert (tmp_path / "log").read_bytes() == b"into the file\n"


def test_dropped_lines_are_counted_once_by_several_threads(pipe):
    read, write = pipe
    writer = LineWriter(write)
    fill(writer)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: writer.msg(LINE), range(800)))
    reader = Reader(read)
    reader.take()
    writer.msg(b"after")
    assert reader.take() == REPORT + b"801\nafter\n"


def test_descriptors_that_are_needed_for_one_line_are_closed(log, older_linux):
    writer, _, descriptor = log
    writer.msg(LINE)
    before = sorted(Path("/proc/self/fd").iterdir())
    fill(writer, drop=5)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert stat.S_IFMT(os.fstat(descriptor).st_mode)


@pytest.mark.process
def test_process_that_is_forked_does_not_report_what_its_parent_has_dropped(root):
    script = """
import os
from config import Config
from todo.telemetry import logs
from todo.telemetry.output import line_dropped

read, write = os.pipe()
os.dup2(write, 1)
logs.configure(Config(better_auth_secret="x", log_format="json"))
dropped = []
count = lambda _: dropped.append(1)
line_dropped.connect(count)
while len(dropped) < 5:
    logs.log.info("x" * 300)
if os.fork() == 0:
    logs.log.info("x" * 300)
    os._exit(logs.STDOUT._dropped)
print(os.waitstatus_to_exitcode(os.wait()[1]), logs.STDOUT._dropped, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys{script}"], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stderr == "1 5\n"
