"""The output of the log: each line is written at once or not at all, and never waited for."""

import errno
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from blinker import Signal

# Lines of up to 4096 bytes (PIPE_BUF on Linux) are written whole into a pipe that several processes write to.
LINE_MAX = 4096

# A pipe holds 64 KiB by default, some 200 lines: a reader that pauses for a moment would cost lines. This is as much as
# Linux lets every process ask for.
PIPE_SIZE = 1024 * 1024

# How a system call fails that does not exist here, that does not apply to this descriptor, or that a sandbox forbids.
UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOENT}

# Writes to a descriptor, and returns how many bytes were written.
Write = Callable[[int, bytes], int]

# Sent for each line that is dropped. The sender is the LineWriter.
line_dropped = Signal()


class LineWriter:
    """Writes each line immediately, with one system call that does not wait.

    What cannot be written at once is dropped. A log whose reader has stopped or gone, or whose disk is full, loses
    lines, and never holds up a request or makes it fail. Each process counts the lines that it has dropped, and reports
    their number as soon as it can write again, before its next line.

    Args:
        descriptor: The file descriptor to write to.
        report: Returns the line that reports a number of dropped lines.

    """

    def __init__(self, descriptor: int, report: Callable[[int], bytes] = b"log lines dropped: %d".__mod__) -> None:
        self._descriptor = descriptor
        self._report = report
        self.reset()

    def reset(self) -> None:
        """Begin anew in a process that was forked: what its parent has dropped, the parent reports."""
        self.detect()
        self._dropped = 0
        # What is left of a line that was written in part, and comes before the next line. A pipe takes a line whole or
        # not at all; a terminal, a TCP connection or a disk that is almost full takes its beginning.
        self._rest = b""
        # It may be taken twice by one thread, because the handler of a signal may log.
        self._lock = threading.RLock()

    def detect(self) -> None:
        """Find out with the next line what the descriptor is, as it may have been redirected."""
        self._ways: Sequence[Write] = ()

    def msg(self, line: bytes) -> None:
        """Write a line of at most `LINE_MAX` bytes with its end, or drop it."""
        line += b"\n"
        with self._lock:
            is_dropped = not (self._resume(line) if self._dropped or self._rest else self._append(line))
            if is_dropped:
                self._dropped += 1
        if is_dropped:
            line_dropped.send(self)

    debug = info = warning = error = critical = msg

    def _resume(self, line: bytes) -> bool:
        """Write the rest of the last line, the report of dropped lines, and a line. Return whether it got that far.

        The report goes with the line, in one write. The space that is left in a pipe may be enough for a report alone,
        and then each line that is dropped would leave one behind.
        """
        if self._rest and (not self._append(self._rest) or self._rest):
            return False
        if not self._dropped:
            return self._append(line)
        report = self._report(self._dropped) + b"\n"
        is_together = len(report) + len(line) <= LINE_MAX
        if not self._append(report + line if is_together else report):
            return False
        self._dropped = 0
        return is_together or (not self._rest and self._append(line))

    def _append(self, data: bytes) -> bool:
        """Write all or the beginning of some lines, remember the rest, and return whether anything was written."""
        try:
            self._rest = data[self._write(data) :]
        except OSError:
            return False
        return True

    def _write(self, data: bytes) -> int:
        """Write in the first way that works for this descriptor here, and keep to it."""
        self._ways = self._ways or ways_to_write(self._descriptor)
        while True:
            try:
                return self._ways[0](self._descriptor, data)
            except OSError as error:
                if error.errno not in UNSUPPORTED or len(self._ways) == 1:
                    raise
                self._ways = self._ways[1:]


def ways_to_write(descriptor: int) -> Sequence[Write]:
    """Return the ways to write to a descriptor, the best one first. Only the last one, a plain write, may wait.

    It is the only one for a file on a disk, which makes nobody wait as long as the disk works. For the rest it is there
    for systems where the others fail, as with the terminal of another user: such a log is better than none.

    No way sets `O_NONBLOCK` on the descriptor. This is a property of the open file, which is shared with the shell or
    supervisor that started this server and with the other programs that it started: their writes would fail with an
    error that few programs expect. Nor is it enough to ask whether the descriptor is writable (`poll`) before a plain
    write, because another process can take the space between the two.
    """
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG or not hasattr(os, "RWF_NOWAIT"):
        return (os.write,)
    if kind == stat.S_IFIFO:
        # To enlarge a pipe hurts nobody who shares it. The system may refuse it to a user with many pipes.
        with suppress(OSError):
            if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) < PIPE_SIZE:
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    older = {stat.S_IFIFO: splice, stat.S_IFSOCK: send}
    return (write_without_waiting, older.get(kind, write_to_terminal), os.write)


def write_without_waiting(descriptor: int, data: bytes) -> int:
    """Write to a pipe (since Linux 6.4) or a socket (since 6.5), with a flag that applies to this call alone."""
    return os.pwritev(descriptor, [data], -1, os.RWF_NOWAIT)


def splice(descriptor: int, data: bytes) -> int:
    """Write to a pipe, by moving the data there from a pipe of their own.

    Each line takes a page of the pipe, so fewer of them fit than with a write.
    """
    source, sink = os.pipe()
    try:
        os.write(sink, data)
        return os.splice(source, descriptor, len(data), flags=os.SPLICE_F_NONBLOCK)
    finally:
        os.close(source)
        os.close(sink)


def send(descriptor: int, data: bytes) -> int:
    """Write to a socket."""
    connection = socket.socket(fileno=descriptor)
    try:
        return connection.send(data, socket.MSG_DONTWAIT)
    finally:
        # The descriptor stays open.
        connection.detach()


def write_to_terminal(descriptor: int, data: bytes) -> int:
    """Write to a terminal, by opening it once more: that open file is shared with nobody, so it may have the flag."""
    own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return os.write(own, data)
    finally:
        os.close(own)
