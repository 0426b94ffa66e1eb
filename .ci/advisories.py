"""Ask whether anything is known against the packages that the service runs on, and say honestly what came back.

pip-audit takes a package that its source knows nothing of for one without a fault, and calls a failure of the network
a failure of the audit. Here the three outcomes are told apart:

    0   nothing is known against any of them
    1   something is known: update, or say in SECURITY.md why it does not matter
    2   nobody could be asked about some, or all; with --may-be-away this is a loud 0
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CLEAN, KNOWN, UNANSWERED = 0, 1, 2

PIN = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
AUDIT = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner=off", "--format=json"]


def judge(pinned: Sequence[str], report: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Give the outcome and the lines that say it.

    Args:
        pinned: The names of the packages that an answer is wanted about.
        report: What pip-audit wrote, or nothing, when it failed.

    """
    answered = {one["name"]: one["vulns"] for one in report.get("dependencies", ()) if "vulns" in one}
    known = [
        f"{name}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version yet'}"
        for name, faults in answered.items()
        for fault in faults
    ]
    missing = [name for name in pinned if name not in answered]
    lines = [f"KNOWN  {line}" for line in known]
    if missing:
        lines.append(f"NOT AUDITED  advisories could not be fetched for {len(missing)} of {len(pinned)} packages:")
        lines.append("             " + ", ".join(missing))
    if known:
        return KNOWN, lines
    if missing:
        return UNANSWERED, lines
    return CLEAN, [f"Nothing is known against any of the {len(pinned)} packages."]


def main(arguments: Sequence[str]) -> int:
    """Audit requirements.txt; further arguments are those of pip-audit."""
    requirements = Path(__file__).parents[1] / "requirements.txt"
    further = [argument for argument in arguments if argument != "--may-be-away"]
    done = subprocess.run(  # noqa: S603
        [*AUDIT, f"--requirement={requirements}", *further], capture_output=True, text=True, check=False
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = {}
        sys.stderr.write(done.stderr.strip().rpartition("\n")[2] + "\n")
    outcome, lines = judge(PIN.findall(requirements.read_text()), report)
    sys.stdout.write("\n".join(lines) + "\n")
    return CLEAN if outcome == UNANSWERED and "--may-be-away" in arguments else outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
