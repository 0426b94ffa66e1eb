"""Writing where an operator says: a file as a whole or not at all, and into what is not a regular file."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

# Here a process finds its own open files by their numbers; /dev/stdout is a link into it.
DESCRIPTORS = "/dev/fd"

# How many links Linux follows in a path.
LINKS_MAX = 40


def write(path: str, pieces: Iterable[bytes]) -> None:
    """Write to a path.

    A regular file is replaced by a new one once everything is written, and left alone when anything fails. The new file
    has the permissions of the old one, and its owner where this process may set it; where there was none, nobody but
    the owner may read it. Anything else, such as a named pipe, a device or an open file under /dev/fd, is written into.

    Args:
        path: The path; symbolic links are followed.
        pieces: What to write.

    Raises:
        OSError: It cannot be written.

    """
    if (descriptor := _descriptor(path)) is not None:
        _write_into(os.dup(descriptor), pieces)
        return
    target = os.path.realpath(path)
    try:
        # Not the target: an endless chain of links has none.
        present = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        if not os.path.basename(path):  # noqa: PTH119
            raise
        present = None
    if present is not None and not stat.S_ISREG(present.st_mode):
        _write_into(os.open(target, os.O_WRONLY), pieces)
    else:
        _replace(target, present, pieces)


def _descriptor(path: str) -> int | None:
    """Return the number of the open file that a path stands for, as /dev/stdout does; None for any other path.

    To open such a path again would begin at the start of a file that the shell has opened to append to.
    """
    folder = os.path.realpath(DESCRIPTORS)
    for _ in range(LINKS_MAX):
        parent, name = os.path.split(path)
        if name.isdecimal() and os.path.realpath(parent) == folder:
            return int(name)
        if not os.path.islink(path):  # noqa: PTH114
            break
        path = os.path.join(parent, os.readlink(path))  # noqa: PTH115, PTH118
    return None


def _write_into(descriptor: int, pieces: Iterable[bytes]) -> None:
    with open(descriptor, "wb") as output:
        output.writelines(pieces)


def _replace(target: str, present: os.stat_result | None, pieces: Iterable[bytes]) -> None:
    """Replace a regular file, or create it, once everything is written."""
    if present is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    # The name is new, and the file has mode 0600 from its beginning.
    descriptor, name = tempfile.mkstemp(prefix=".todo-export-", dir=Path(target).parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        with unfinished.open("wb") as output:
            output.writelines(pieces)
            output.flush()
            if present is not None:
                _adopt(output.fileno(), present)
            # Otherwise a crash of the machine could leave the new name with an empty file.
            os.fsync(output.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _adopt(descriptor: int, present: os.stat_result) -> None:
    """Give a file the owner and the permissions of another one.

    Where the owner or the group cannot be set, the permissions of the group and of others would be those of other
    people, so only the owner gets any.
    """
    mode = stat.S_IMODE(present.st_mode)
    try:
        os.fchown(descriptor, present.st_uid, present.st_gid)
    except OSError:
        mode &= stat.S_IRWXU
    os.fchmod(descriptor, mode & 0o777)
