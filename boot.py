"""What every server process does before it imports the application; see gunicorn.conf.py and granian.conf.py."""

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress

from config import Config, misspelt

# In seconds. Browsers and proxies reuse a connection for a while; opening one costs more than keeping it.
KEEP_ALIVE_S = 30

# After SIGTERM, requests in progress have this many seconds to end. Orchestrators usually kill after 30 s.
SHUTDOWN_S = 25

# Connections that no process has accepted yet; the kernel may shorten this (net.core.somaxconn).
BACKLOG = 4096

# Each connection is a file descriptor.
FILES_MAX = 16384
CONNECTIONS_MAX = 8192

# What a process keeps for itself: sockets of the database, of the issuer and of Redis, logs, libraries. The least limit
# leaves as many for clients; with none for them the server would listen and answer nobody.
RESERVED_FILES = 256
FILES_MIN = 512

# Of mallopt(3).
M_ARENA_MAX = -8


def prepare(server: str) -> Config:
    """Prepare this process for the application, and return the settings.

    Args:
        server: The server that this process is, whatever WEB_SERVER says.

    Raises:
        InvalidSettings: Some settings are missing or wrong.
        ClosedOutput: There is no stdout.

    """
    os.environ["WEB_SERVER"] = server
    settings = Config.from_environment()

    # PyJWT imports cryptography where it is installed, which takes 5 MiB of each process. Only an issuer's keys need
    # it, so with a shared secret its import fails on purpose.
    if settings.jwks_url is None:
        sys.modules["cryptography"] = None  # type: ignore[assignment]

    # With glibc each thread allocates from a heap of its own and returns nothing to the system. The threads of a
    # process take turns anyway, so they share one heap.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

    # Imported only now, because this imports the application.
    from todo import commands  # noqa: PLC0415
    from todo.telemetry import logs  # noqa: PLC0415

    # Without one, a socket would take its number, and receive the log.
    commands.require_stdout()

    # The server's lines have the form of the application's and go to the same place.
    logs.configure(settings)
    return settings


def report_misspelt(warn: Callable[[str], None]) -> None:
    """Report the variables that were probably meant to be settings, each with one line."""
    for name, likely in misspelt().items():
        warn(f"{name} is not a setting of this service: did you mean {likely}?")


def raise_file_limit() -> int:
    """Let this process open as many files as it may need, and return how many clients that leaves room for.

    A soft limit below the hard one dates from select(), which nothing here uses.

    Raises:
        SystemExit: It may open too few.

    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if files < FILES_MIN:
        raise SystemExit(
            f"todo cannot start: a process may open {files} files (ulimit -Hn), and at least {FILES_MIN} are needed: "
            "raise the hard limit, as with LimitNOFILE= in systemd or ulimits in Docker."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return min(CONNECTIONS_MAX, files - RESERVED_FILES)
