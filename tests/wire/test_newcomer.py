"""What the README and the quickstart promise to a newcomer: `flask dev`, and every call, pasted and run."""

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


def block(document: str, heading: str) -> str:
    """Return the first shell block under a heading, with the commands of this Python in it."""
    section = document.split(f"\n## {heading}\n")[1]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1].replace(".venv/bin/", f"{Path(sys.executable).parent}/")


def words(text: str) -> str:
    """Return a text without its line breaks, its tokens and its ports."""
    return " ".join(re.sub(r"eyJ[\w.…-]+", "TOKEN", re.sub(r":\d{4,5}\b", ":PORT", text)).split())


def run_calls(calls: str, port: int, root: Path, settings: dict[str, str]) -> None:
    """Paste a block of calls, and compare the status of each response with the one in its comment."""
    calls = calls.replace(":8000", f":{port}")
    # The address in the middle is wanted as it is, not its status.
    script = SHELL + calls.replace("$(curl ", "$(command curl ")
    ran = subprocess.run(["bash", "-c", script], cwd=root, env=settings, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert ran.stdout.split() == re.findall(r"^# .*: (\d{3})$", calls, re.MULTILINE)
    assert "\ncurl" not in re.sub(r"# .*: \d{3}\ncurl", "", calls)


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


def test_newcomer_pastes_the_printed_call_and_those_of_the_documents(dev, root):
    url, port, log, settings = dev
    (pasted,) = re.findall(r"^curl .*$", log.read_text(), re.MULTILINE)
    listed = subprocess.run(
        ["bash", "-c", f"{pasted} --silent --show-error"], env=settings, capture_output=True, text=True, check=True
    )
    assert listed.stdout.count('"title"') == 12
    assert query(url, "SELECT count(*) FROM tasks") == [(12,)]

    readme, quickstart = ((root / name).read_text() for name in ("README.md", "docs/quickstart.md"))
    shown = re.search(r"```text\n(.*?)```", readme, re.DOTALL)
    assert shown
    assert words(shown[1]) in words(log.read_text())

    run_calls(block(readme, "Six calls"), port, root, settings)
    # The one that was created is deleted again.
    assert query(url, "SELECT count(*) FROM tasks") == [(12,)]

    run_calls(block(quickstart, "Make every call"), port, root, settings)
    # Three of those that were created are left.
    left = query(url, "SELECT title FROM tasks ORDER BY id DESC LIMIT 3")
    assert left == [("Buy salt",), ("Call grandma",), ("Buy oat milk",)]

    examples = block(quickstart, "Example data and tokens")
    subprocess.run(["bash", "-c", SHELL + examples], cwd=root, env=settings, capture_output=True, check=True)
    assert query(url, "SELECT count(*) FROM tasks") == [(100,)]
