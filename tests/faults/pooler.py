"""PgBouncer as Debian packages it, in transaction mode, as providers share few sessions between many clients."""

import socket
import subprocess
from pathlib import Path
from typing import Any

from wire.server import DEADLINE_S, free_port, wait_until

POOL_SIZE = 2

# It is told to ignore nothing of what it refuses. After a failed login it tries again sooner than it would by itself,
# for the sake of those who wait for these tests.
SETTINGS = """
[databases]
* = host={socket_folder}

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 100
server_login_retry = 1
logfile = {log}
"""


class Pooler:
    """A running PgBouncer.

    Args:
        folder: Where it may write.
        postgres: The server behind it, of which it uses two sessions at most.
        address: Where it listens.
        within: The command that runs it elsewhere, such as in a network of its own.

    """

    def __init__(self, folder: Path, postgres: Any, address: str = "127.0.0.1", within: tuple[str, ...] = ()) -> None:
        self.address = address
        self.port = free_port()
        self.log = folder / "pgbouncer.log"
        users = folder / "users.txt"
        users.write_text('"postgres" ""\n')
        settings = folder / "pgbouncer.ini"
        socket_folder = postgres.get_postmaster_info().socket_dir
        settings.write_text(
            SETTINGS.format(
                socket_folder=socket_folder,
                address=address,
                port=self.port,
                users=users,
                pool_size=POOL_SIZE,
                log=self.log,
            )
        )
        # PgBouncer refuses to be root, as PostgreSQL does.
        folder.chmod(0o777)
        self._command = [*within, "pgbouncer", "--quiet", "--user", postgres.system_user, str(settings)]
        self.start()

    def url(self, database: str) -> str:
        """Return the URL of a database behind it."""
        return f"postgresql://postgres@{self.address}:{self.port}/{database}"

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

        def listens() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                socket.create_connection((self.address, self.port), timeout=1).close()
            except OSError:
                return False
            return True

        wait_until(listens, "listening")

    def kill(self) -> None:
        """Kill the process at once."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
