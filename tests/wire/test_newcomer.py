"""The promises of the README to a newcomer: `flask dev`, and every printed call, pasted and run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import new_database
from wire.server import environment, free_port, query, wait_until

# The shell of the reader. A reader sees the responses; the test needs the statuses alone.
SHELL = """
set -eu
curl() { command curl --silent --show-error --output /dev/null --write-out '%{http_code}\\n' "$@"; }
"""


def block(readme: str, heading: str) -> str:
    """Return the first shell block under a heading."""
    section = readme.split(f"\n## {heading}\n")[1]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def dev(postgres, tmp_path, root):
    """Start `flask dev` on an empty database, and stop it as Ctrl-C does."""
    url = new_database(postgres, "todo_newcomer")
    port = free_port()
    settings = environment(
        DATABASE_URL=url, ENVIRONMENT="development", PORT=str(port), PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin"
    )
    log = tmp_path / "dev.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "dev"],
            cwd=root,
            env=settings,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(lambda: "Ctrl-C stops everything." in log.read_text() or process.poll() is not None, "greeting")
            yield url, port, log, settings
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) == 0
            assert "Traceback" not in log.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_newcomer_pastes_the_printed_call_and_those_of_the_readme(dev, root):
    url, port, log, settings = dev
    (pasted,) = re.findall(r"^curl .*$", log.read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["bash", "-c", f"{pasted} --silent --show-error"], env=settings, capture_output=True, text=True, check=True
    )
    assert shown.stdout.count('"title"') == 12
    assert query(url, "SELECT count(*) FROM tasks") == [(12,)]

    readme = (root / "README.md").read_text()
    calls = block(readme, "The calls").replace(".venv/bin/", f"{sys.executable} -m ").replace(":8000", f":{port}")
    # The nested request has to print its response, not its status.
    calls = calls.replace("$(curl ", "$(command curl ")
    ran = subprocess.run(
        ["bash", "-c", SHELL + calls], cwd=root, env=settings, capture_output=True, text=True, check=False
    )
    assert ran.stderr == ""
    assert ran.stdout.split() == re.findall(r"^# .*: (\d{3})$", calls, re.MULTILINE)
    assert "\ncurl" not in re.sub(r"# .*: \d{3}\ncurl", "", calls)
    # Two of the created tasks are left.
    left = query(url, "SELECT title FROM tasks ORDER BY id DESC LIMIT 2")
    assert left == [("Call grandma",), ("Buy oat milk",)]

    examples = block(readme, "Example data and tokens").replace(".venv/bin/", f"{sys.executable} -m ")
    subprocess.run(["bash", "-c", SHELL + examples], cwd=root, env=settings, capture_output=True, check=True)
    assert query(url, "SELECT count(*) FROM tasks") == [(100,)]
