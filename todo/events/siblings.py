"""The other processes of the same server, which tell each other what they write.

There is a pair of datagram sockets for each worker, by its number. They are made before the processes are forked, so
that a worker that replaces another one takes over its place. Nobody waits: what does not fit into a socket is dropped,
because the beat finds it a little later.
"""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

KEY_BYTES = 8
REVISION_BYTES = 8

# Each process holds a socket for each other one. Workers beyond so many are told nothing.
SIBLINGS_MAX = 64

# How many messages are read at once, before the clients have their turn again.
READ_MAX = 256


class Siblings:
    """The processes of a server.

    Args:
        number: How many they are.

    """

    def __init__(self, number: int) -> None:
        # Nobody outside can find two users with one key.
        self._secret = os.urandom(16)
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(min(number, SIBLINGS_MAX))]
        for end in (end for pair in self._pairs for end in pair):
            end.setblocking(False)
        self._others: list[socket.socket] = []
        self.ear: socket.socket | None = None

    def join(self, number: int) -> None:
        """Take the place of a worker, in its process. One beyond the places tells the others, and is told nothing."""
        for place, (ear, mouth) in enumerate(self._pairs):
            if place == number:
                self.ear = ear
                mouth.close()
            else:
                self._others.append(mouth)
                ear.close()

    def key(self, user: str) -> bytes:
        """Return what stands for a user in the messages."""
        return hashlib.blake2b(user.encode(), digest_size=KEY_BYTES, key=self._secret).digest()

    def tell(self, key: bytes, revision: int) -> None:
        """Tell all others of the revision of a list."""
        message = key + revision.to_bytes(REVISION_BYTES)
        for other in self._others:
            with suppress(OSError):
                other.send(message)

    def listen(self) -> Iterator[tuple[bytes, int]]:
        """Yield the keys and revisions that others have told."""
        if self.ear is None:
            return
        with suppress(BlockingIOError, InterruptedError):
            for _ in range(READ_MAX):
                message = self.ear.recv(KEY_BYTES + REVISION_BYTES)
                yield message[:KEY_BYTES], int.from_bytes(message[KEY_BYTES:])

    def close(self) -> None:
        """Close all sockets of this process."""
        for end in (end for pair in self._pairs for end in pair):
            end.close()
