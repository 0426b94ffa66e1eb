"""The secret of a machine where nobody has set one."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path


def development_secret(path: Path) -> str:
    """Give the random secret that `path` keeps; make it on first use.

    Args:
        path: A file that only its owner can read. Several processes may ask at once: all get the same secret.

    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
            draft.write(secrets.token_urlsafe(32))
            draft.flush()
            # A link appears whole or not at all, and the first one stays.
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text()
