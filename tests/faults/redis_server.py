"""Redis, as Debian packages it: it keeps nothing, and tests do with it what they like."""

import signal
import subprocess

import redis
from wire.server import free_port, wait_until

TIMEOUT_S = 5


class RedisServer:
    """A running Redis."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = redis.from_url(self.url, socket_timeout=TIMEOUT_S)
        self.start()

    def start(self) -> None:
        """Start it empty, and wait until it answers."""
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )

        def answers() -> bool:
            assert self.process.poll() is None
            try:
                return bool(self.client.ping())
            except redis.RedisError:
                return False

        wait_until(answers, "Redis answers")

    def hang(self) -> None:
        """Let it take connections and answer nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Let it end at once, and with it all that it knew."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()
