"""A client's socket on which no thread ever waits, and how much all unsent responses of a process may take.

What a client has not received yet of its response is kept in memory, or in a temporary file where it is large. So the
thread, and with it the session of the database, is free as soon as the response is complete, however slowly the client
reads it.
"""

import errno
import io
import os
import socket
import tempfile
import threading
from typing import IO, Any

from gunicorn.http.errors import LimitRequestHeaders

from todo.events import Stream
from todo.telemetry.logs import log

# The unsent rest of a response stays in memory up to this size, and is kept in a file beyond it.
MEMORY_MAX_BYTES = 64 * 1024

# What all unsent responses of a process may take. Beyond it the connection that has been sending for longest is closed.
UNSENT_MEMORY_MAX_BYTES = 32 * 1024 * 1024
UNSENT_FILES_MAX_BYTES = 512 * 1024 * 1024

# gunicorn writes the header and the body of a response one after the other. A write up to this size waits for the next
# one, so that most responses take one system call and one packet.
HELD_MAX_BYTES = 4 * 1024

READ_BYTES = 64 * 1024

# How much one call hands to the kernel, which accepts no more than its own buffer.
SENDFILE_BYTES = 1024 * 1024


class Unsent:
    """The bytes of all responses of a process that wait for their clients.

    Attributes:
        memory: Those in memory.
        files: Those in temporary files.

    """

    def __init__(self) -> None:
        self.memory = 0
        self.files = 0
        self._lock = threading.Lock()

    def add(self, *, memory: int = 0, files: int = 0) -> None:
        """Count more bytes, or fewer where a number is negative."""
        with self._lock:
            self.memory += memory
            self.files += files

    @property
    def is_too_much(self) -> bool:
        """Whether the process holds more than it may."""
        return self.memory > UNSENT_MEMORY_MAX_BYTES or self.files > UNSENT_FILES_MAX_BYTES


class Client(socket.socket):
    """A client's socket on which a thread never waits: the request is read from memory, the response buffered there.

    Args:
        accepted: The socket, which this one replaces.
        all_unsent: Where the unsent bytes are counted.

    Attributes:
        request: The bytes of the request that a thread works on.
        is_too_large: Whether these are only the beginning of a header that is over the limit.
        is_exhausted: Whether the parser has read past the end of these bytes.
        stream: The stream of events that the response begins, if it does.

    """

    def __init__(self, accepted: socket.socket, all_unsent: Unsent) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        super().setblocking(False)
        self.request = io.BytesIO()
        self.is_too_large = False
        self.is_exhausted = False
        self.stream: Stream | None = None
        self._all_unsent = all_unsent
        self._held = b""
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None
        # The part of the file that is unsent.
        self._file_start = 0
        self._file_end = 0

    @property
    def unsent(self) -> int:
        """The number of bytes that the client has still to receive."""
        return len(self._buffer) + self._file_end - self._file_start

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 (as the socket has it)
        """Do nothing: the socket stays non-blocking where gunicorn would make it block."""

    def settimeout(self, value: float | None, /) -> None:
        """Do nothing, likewise."""

    def recv(self, size: int, _flags: int = 0, /) -> bytes:
        """Return the next bytes of the request in memory."""
        if data := self.request.read(size):
            return data
        if self.is_too_large:
            raise LimitRequestHeaders("limit request headers fields size")
        self.is_exhausted = True
        return b""

    def send(self, data: Any, _flags: int = 0, /) -> int:
        """Skip `100 Continue`, the only thing that gunicorn sends with this: the poller has sent it already."""
        return len(data)

    def sendall(self, data: Any, _flags: int = 0, /) -> None:
        """Send what the kernel accepts now, and keep the rest. What is small waits for what follows, or for `release`.

        Raises:
            OSError: the client has closed the connection, or the rest cannot be kept: the disk is full, the process has
                no file descriptor left, or holds too much already.

        """
        if self.stream is not None and self.stream.is_begun:
            # gunicorn ends the response, and the poller goes on with it.
            return
        if self._held:
            data, self._held = self._held + data, b""
        elif len(data) <= HELD_MAX_BYTES:
            self._held = bytes(data)
            return
        self._send(data)

    def release(self) -> None:
        """Send what waits for something to follow: nothing does. It raises as `sendall` does."""
        if self._held:
            data, self._held = self._held, b""
            self._send(data)

    def _send(self, data: Any) -> None:
        view = memoryview(data)
        if not self.unsent:
            view = view[self._send_now(view) :]
        if not view:
            return
        try:
            self._keep(view)
        except OSError as error:
            log.error("response dropped", reason=error.strerror, unsent=self._all_unsent.files)
            raise ConnectionResetError(errno.ECONNRESET, "the response cannot be kept") from error

    def hold(self, stream: Stream) -> None:
        """Leave the response to the poller, once the application has begun the stream. The application calls it."""
        self.stream = stream

    def push(self, data: bytes) -> bool:
        """Send something of a stream now, and return whether the kernel accepted all of it.

        Raises:
            OSError: the client has closed the connection.

        """
        return self._send_now(data) == len(data)

    def receive(self, size: int = READ_BYTES) -> bytes | None:
        """Return the bytes that have arrived: none when the client has closed, None when there is nothing to read."""
        try:
            return super().recv(size)
        except (BlockingIOError, InterruptedError):
            return None

    def flush(self) -> int:
        """Send what the kernel accepts now of the rest, and return how many bytes that was."""
        total = 0
        while self.unsent and (sent := self._send_file() if self._file else self._send_buffer()):
            total += sent
        return total

    def close(self) -> None:
        """Close the socket, and drop what is unsent."""
        super().close()
        self._all_unsent.add(memory=-len(self._buffer))
        self._buffer = bytearray()
        self._close_file()

    def _send_now(self, data: Any) -> int:
        try:
            return super().send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _send_buffer(self) -> int:
        sent = self._send_now(self._buffer)
        del self._buffer[:sent]
        self._all_unsent.add(memory=-sent)
        return sent

    def _send_file(self) -> int:
        assert self._file is not None  # noqa: S101 (for the type checker)  # nosec B101
        count = min(SENDFILE_BYTES, self._file_end - self._file_start)
        try:
            sent = os.sendfile(self.fileno(), self._file.fileno(), self._file_start, count)
        except (BlockingIOError, InterruptedError):
            return 0
        self._file_start += sent
        self._all_unsent.add(files=-sent)
        if self._file_start == self._file_end:
            self._close_file()
        return sent

    def _keep(self, data: memoryview) -> None:
        if self._file is None:
            if len(self._buffer) + len(data) <= MEMORY_MAX_BYTES:
                self._buffer += data
                self._all_unsent.add(memory=len(data))
                return
            # Without buffering: the poller sends from the file what the thread has written to it.
            self._file = tempfile.TemporaryFile(buffering=0, prefix="todo-response-")  # noqa: SIM115 (closed when sent)
            self._write(self._buffer)
            self._all_unsent.add(memory=-len(self._buffer))
            self._buffer = bytearray()
        self._write(data)

    def _write(self, data: Any) -> None:
        assert self._file is not None  # noqa: S101 (for the type checker)  # nosec B101
        # The poller closes connections beyond the limit. Threads may fill the disk faster than that, up to here.
        if self._all_unsent.files + len(data) > 2 * UNSENT_FILES_MAX_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = 0
        while written < len(data):
            written += self._file.write(data[written:])
        self._file_end += written
        self._all_unsent.add(files=written)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._all_unsent.add(files=self._file_start - self._file_end)
        self._file_start = self._file_end = 0
