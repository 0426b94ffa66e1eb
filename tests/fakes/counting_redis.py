"""A stand-in for Redis that counts, as far as the rate limits use it."""

import socketserver
import threading
from collections import Counter


class CountingRedis(socketserver.ThreadingTCPServer):
    """A Redis that counts, and accepts every other command (RESP 2).

    Attributes:
        counts: The sum of the amounts by which the script raised each key.
        lifetimes: The lifetime of each key, in seconds.
        refuses: The commands that get an error.

    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Commands)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}"
        self.counts: Counter[str] = Counter()
        self.lifetimes: dict[str, int] = {}
        self.refuses: set[str] = set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class _Commands(socketserver.StreamRequestHandler):
    server: CountingRedis

    def handle(self) -> None:
        for line in self.rfile:
            words = [self._word() for _ in range(int(line[1:]))]
            match words:
                case [command, *_] if command in self.server.refuses:
                    answer = "-ERR not now"
                case ["EVALSHA", _, "1", key, seconds, hits]:
                    self.server.counts[key] = max(0, self.server.counts[key] + int(hits))
                    self.server.lifetimes[key] = int(seconds)
                    answer = f"*2\r\n:{self.server.counts[key]}\r\n:{seconds}000"
                case ["PING"]:
                    answer = "+PONG"
                case _:
                    answer = "+OK"
            self.wfile.write(f"{answer}\r\n".encode())

    def _word(self) -> str:
        length = int(self.rfile.readline()[1:])
        return self.rfile.read(length + 2).decode().removesuffix("\r\n")
