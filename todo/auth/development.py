"""The shared secret of a development machine whose settings name none."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path


def development_secret(path: Path) -> str:
    """Return the random secret that a file holds; create the file on first use.

    Args:
        path: A file that only its owner can read. Processes that create it at the same time get the same secret.

    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
            draft.write(secrets.token_urlsafe(32))
            draft.flush()
            # A link is created whole or not at all, and the first one stays.
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text()
