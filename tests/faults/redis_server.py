"""Redis as Debian packages it, without persistence, for tests to break."""

import signal
import subprocess
from pathlib import Path

import redis
from wire.server import free_port, wait_until

TIMEOUT_S = 5


class RedisServer:
    """A running Redis.

    Args:
        certificate: The file with the certificate and the key for TLS; without one the port is plain TCP.

    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.port = free_port()
        self._listen = ["--port", str(self.port)]
        self.url = f"redis://127.0.0.1:{self.port}"
        if certificate is not None:
            files = [word for kind in ("cert", "key", "ca-cert") for word in (f"--tls-{kind}-file", str(certificate))]
            self._listen = ["--port", "0", "--tls-port", str(self.port), *files, "--tls-auth-clients", "no"]
            self.url = f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={certificate}"
        self.client = redis.from_url(self.url, socket_timeout=TIMEOUT_S)
        self.start()

    def start(self) -> None:
        """Start an empty Redis, and wait until it responds."""
        self.process = subprocess.Popen(
            ["redis-server", *self._listen, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )

        def responds() -> bool:
            assert self.process.poll() is None
            try:
                return bool(self.client.ping())
            except redis.RedisError:
                return False

        wait_until(responds, "Redis responds")

    def hang(self) -> None:
        """Let Redis accept connections and respond to none."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill Redis at once; it loses all counts."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()
