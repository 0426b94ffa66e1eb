"""The PostgreSQL server of the benchmarks: separate from any other, with the settings of an operator."""

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg2
from flask import Flask

from config import Config
from todo import create_app
from todo.database import embedded
from todo.extensions import db

MIB = 1024 * 1024
SHARED_BUFFERS_MAX_MIB = 4096

# The default of shared_buffers, and the shared memory of a server as a multiple of them, roughly.
BUFFERS = "128MB"
SHARED_PER_BUFFERS = 1.1
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
MEMORY = Path("/proc/meminfo")

# A row takes some 400 bytes in the table, 80 in the index of its key, and for a while as much again in the WAL.
ROW_BYTES = 1000
SPARE_BYTES = 3 * 1024 * MIB

# Tokens are signed and verified on this machine alone, and only while a benchmark runs.
SECRET = "only-for-benchmarks-on-this-machine-0123456789"  # noqa: S105 (it protects nothing)


def operator_settings() -> dict[str, str]:
    """Return the settings for a machine of this size with solid-state disks: a quarter of the memory is shared."""
    quarter = psutil.virtual_memory().total // 4 // MIB
    return {
        "shared_buffers": f"{min(quarter, SHARED_BUFFERS_MAX_MIB)}MB",
        "random_page_cost": "1.1",
        "jit": "off",
    }


@contextmanager
def huge_pages_reserved(settings: Mapping[str, str]) -> Iterator[None]:
    """Reserve the huge pages of memory that the shared buffers of a server need, and release them at the end."""
    buffers = int(settings.get("shared_buffers", BUFFERS).removesuffix("MB"))
    try:
        before = HUGE_PAGES.read_text()
        page = int(re.search(r"Hugepagesize: +(\d+) kB", MEMORY.read_text())[1]) / 1024
        HUGE_PAGES.write_text(str(int(before) + math.ceil(buffers * SHARED_PER_BUFFERS / page)))
    except (OSError, TypeError):
        raise click.ClickException("Huge pages cannot be reserved: --huge-pages needs Linux and root.") from None
    try:
        yield
    finally:
        HUGE_PAGES.write_text(before)


def start(data: Path, settings: Mapping[str, str], rows: int) -> Any:
    """Start the server of a folder with these settings and no others.

    Raises:
        ClickException: The folder holds other files, has too little space, or is used by another process.

    """
    _check_folder(data, rows)
    try:
        before, started = _configure(embedded.start(data), settings)
        before.cleanup()
        server = embedded.start(data)
    except embedded.EmbeddedUnavailable as error:
        raise click.ClickException(str(error)) from error
    with administration(server) as cursor:
        cursor.execute("SELECT pg_postmaster_start_time()")
        if cursor.fetchone()[0] == started:
            raise click.ClickException(f"Another process uses the server in {data}: wait for its end.")
    return server


def _check_folder(data: Path, rows: int) -> None:
    if data.is_dir() and any(data.iterdir()) and not (data / "PG_VERSION").exists():
        raise click.ClickException(f"{data} is not the folder of a database: choose another one with --data.")
    parent = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    needed = rows * ROW_BYTES + SPARE_BYTES
    if not (data / "PG_VERSION").exists() and free < needed:
        raise click.ClickException(
            f"{rows} rows need about {needed // MIB} MiB, and {parent} has {free // MIB} MiB free: "
            "choose another folder with --data, or fewer --rows."
        )


def _configure(server: Any, settings: Mapping[str, str]) -> tuple[Any, Any]:
    """Store the settings for the next start, and return the server and the time of its start."""
    with administration(server) as cursor:
        cursor.execute("ALTER SYSTEM RESET ALL")
        for name, value in settings.items():
            cursor.execute(f"ALTER SYSTEM SET {name} = %s", (value,))
        # A checkpoint now makes the shutdown short.
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_postmaster_start_time()")
        return server, cursor.fetchone()[0]


@contextmanager
def administration(server: Any, database: str = "postgres") -> Iterator[Any]:
    """Yield a cursor of psycopg2 in autocommit mode."""
    with closing(psycopg2.connect(server.get_uri(database=database))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def url(server: Any, database: str) -> str:
    """Return the URL of a database, as `DATABASE_URL` has it."""
    return str(server.get_uri(database=database))


@contextmanager
def application(server: Any, database: str) -> Iterator[Flask]:
    """Yield the application on a database, in its context."""
    app = create_app(
        Config(database_url=url(server, database), better_auth_secret=SECRET, log_level="WARNING", environment="test")
    )
    with app.app_context():
        try:
            yield app
        finally:
            db.engine.dispose()


def is_filled(server: Any, database: str, content: str) -> bool:
    """Return whether a database exists and was completely filled with this content."""
    with administration(server) as cursor:
        cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,))
        row = cursor.fetchone()
    return row is not None and row[0] == content


def create(server: Any, database: str) -> None:
    """Create a database, and drop an earlier one with its name."""
    with administration(server) as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{database}"')


def mark_filled(server: Any, database: str, content: str) -> None:
    """Record that a database was completely filled with this content."""
    with administration(server) as cursor:
        cursor.execute(f'COMMENT ON DATABASE "{database}" IS %s', (content,))
        cursor.execute("CHECKPOINT")


def drop(server: Any, database: str) -> None:
    """Drop a database."""
    with administration(server) as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def version(server: Any) -> str:
    """Return the version of PostgreSQL."""
    with administration(server) as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def uses_huge_pages(server: Any) -> bool:
    """Return whether the server's shared buffers are on huge pages of memory."""
    with administration(server) as cursor:
        cursor.execute("SHOW huge_pages_status")
        return bool(cursor.fetchone()[0] == "on")
