"""Install the command `todo` into the environment of the Python that runs this file, beside `flask` and gunicorn.

    .venv/bin/python deploy/install.py [FOLDER]

In that environment `flask` then reads no `.env` by itself. It would read the one of a folder above where the project
has none, and the server would not.

The command is `python -m todo` under a name of its own, so it works in the folder of the project. A build backend
would install it too, but the image has none that is pinned and needs none.
"""  # noqa: INP001 (run as a file)

import sys
import sysconfig
from pathlib import Path

SCRIPT = """\
import sys

# As with flask and gunicorn, the project is the current folder.
sys.path.insert(0, "")
try:
    from todo.__main__ import main
except ModuleNotFoundError as error:
    if error.name != "todo":
        raise
    sys.exit("todo: run this command in the folder of the project.")
main()
"""

# Python runs this line at its start. Flask looks for the file before it imports anything of the project.
STARTUP = 'import os; os.environ.setdefault("FLASK_SKIP_DOTENV", "1")\n'

# What the kernel takes as the path of an interpreter (Linux before 5.1).
SHEBANG_MAX = 127


def script(python: str) -> str:
    """Return the text of the command.

    Args:
        python: The absolute path of the interpreter. Where the kernel would not take it, because of its length or a
            space in it, the first lines are a shell script to sh and a string to Python, as pip writes them.

    """
    if " " not in python and len(python) < SHEBANG_MAX:
        return f"#!{python}\n{SCRIPT}"
    return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n{SCRIPT}"


def install(folder: Path) -> None:
    """Write the command into a folder, and the line for `flask` into the environment, replacing what is there."""
    (Path(sysconfig.get_path("purelib")) / "todo.pth").write_text(STARTUP)
    command = folder / "todo"
    command.write_text(script(sys.executable))
    command.chmod(0o755)


if __name__ == "__main__":
    install(Path(*sys.argv[1:2] or [Path(sys.executable).parent]))
