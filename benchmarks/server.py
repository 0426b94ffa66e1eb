"""The PostgreSQL that is measured: a server of its own, with settings as an operator would have them."""

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

# What a server has when nobody says anything, and how much memory it shares for each of its buffers, roughly.
BUFFERS = "128MB"
SHARED_PER_BUFFERS = 1.1
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
MEMORY = Path("/proc/meminfo")

# A row takes some 400 bytes in the table, 80 in its key, and for a while as much again in the log of changes.
ROW_BYTES = 1000
SPARE_BYTES = 3 * 1024 * MIB

# Tokens are made and verified on this machine alone, and only while the benchmark runs.
SECRET = "only-for-benchmarks-on-this-machine-0123456789"  # noqa: S105 (it guards nothing)


def operator_settings() -> dict[str, str]:
    """Give what an operator sets on a machine of this size: a quarter of its memory, for disks that do not spin."""
    quarter = psutil.virtual_memory().total // 4 // MIB
    return {
        "shared_buffers": f"{min(quarter, SHARED_BUFFERS_MAX_MIB)}MB",
        "random_page_cost": "1.1",
        "jit": "off",
    }


@contextmanager
def lent_huge_pages(settings: Mapping[str, str]) -> Iterator[None]:
    """Ask Linux for the huge pages of memory that the shared buffers of a server need; give them back in the end."""
    buffers = int(settings.get("shared_buffers", BUFFERS).removesuffix("MB"))
    try:
        before = HUGE_PAGES.read_text()
        page = int(re.search(r"Hugepagesize: +(\d+) kB", MEMORY.read_text())[1]) / 1024
        HUGE_PAGES.write_text(str(int(before) + math.ceil(buffers * SHARED_PER_BUFFERS / page)))
    except (OSError, TypeError):
        raise click.ClickException("nobody lends huge pages here: --huge-pages is for root, on Linux.") from None
    try:
        yield
    finally:
        HUGE_PAGES.write_text(before)


def start(data: Path, settings: Mapping[str, str], rows: int) -> Any:
    """Start the server of a folder with these settings and no others."""
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
            raise click.ClickException(f"another process is using the server in {data}: let it end first.")
    return server


def _check_folder(data: Path, rows: int) -> None:
    if data.is_dir() and any(data.iterdir()) and not (data / "PG_VERSION").exists():
        raise click.ClickException(f"{data} holds something else than a database: give another folder with --data.")
    there = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    needed = rows * ROW_BYTES + SPARE_BYTES
    if not (data / "PG_VERSION").exists() and free < needed:
        raise click.ClickException(
            f"{rows} rows need about {needed // MIB} MiB, and {there} has {free // MIB} MiB free: "
            "give another folder with --data, or fewer --rows."
        )


def _configure(server: Any, settings: Mapping[str, str]) -> tuple[Any, Any]:
    """Write the settings down for the next start; give the server, and when it was started."""
    with administration(server) as cursor:
        cursor.execute("ALTER SYSTEM RESET ALL")
        for name, value in settings.items():
            cursor.execute(f"ALTER SYSTEM SET {name} = %s", (value,))
        # Whatever is written now need not be written while the server is waited for.
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_postmaster_start_time()")
        return server, cursor.fetchone()[0]


@contextmanager
def administration(server: Any, database: str = "postgres") -> Iterator[Any]:
    """Give a cursor of the driver alone, in autocommit mode."""
    with closing(psycopg2.connect(server.get_uri(database=database))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def url(server: Any, database: str) -> str:
    """Give the URL of a database as the settings take it."""
    return str(server.get_uri(database=database, driver="psycopg2"))


@contextmanager
def application(server: Any, database: str) -> Iterator[Flask]:
    """Give the application on a database, in its context."""
    app = create_app(
        Config(database_url=url(server, database), better_auth_secret=SECRET, log_level="WARNING", environment="test")
    )
    with app.app_context():
        try:
            yield app
        finally:
            db.engine.dispose()


def kept(server: Any, database: str, content: str) -> bool:
    """Tell whether a database is there and was filled to its end with this content."""
    with administration(server) as cursor:
        cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,))
        found = cursor.fetchone()
    return found is not None and found[0] == content


def new(server: Any, database: str) -> None:
    """Make a database, in the place of the one that has its name."""
    with administration(server) as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{database}"')


def keep(server: Any, database: str, content: str) -> None:
    """Note that a database was filled to its end."""
    with administration(server) as cursor:
        cursor.execute(f'COMMENT ON DATABASE "{database}" IS %s', (content,))
        cursor.execute("CHECKPOINT")


def drop(server: Any, database: str) -> None:
    """Remove a database."""
    with administration(server) as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def version(server: Any) -> str:
    """Give the version of PostgreSQL."""
    with administration(server) as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def huge_pages(server: Any) -> bool:
    """Tell whether the server's shared buffers lie on huge pages of memory, as it tries to have them."""
    with administration(server) as cursor:
        cursor.execute("SHOW huge_pages_status")
        return bool(cursor.fetchone()[0] == "on")
