"""Audit the packages that the service runs on for published advisories.

pip-audit reports a package that its source does not know as one without advisories, and a failure of the network as a
failure of the audit. This script keeps the three outcomes apart in its exit status:

    0   no advisory against any package
    1   an advisory: update the package, or explain in SECURITY.md why it does not matter
    2   some or all packages could not be audited; with --may-be-away the status is 0, and the output says so
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CLEAN, AFFECTED, UNAUDITED = 0, 1, 2

PIN = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
AUDIT = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner=off", "--format=json"]


def judge(pinned: Sequence[str], report: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return the exit status and the lines of the report.

    Args:
        pinned: The names of the packages to audit.
        report: The JSON report of pip-audit; empty if it failed.

    """
    audited = {one["name"]: one["vulns"] for one in report.get("dependencies", ()) if "vulns" in one}
    findings = [
        f"{name}: {advisory['id']}, fixed in {', '.join(advisory['fix_versions']) or 'no version yet'}"
        for name, advisories in audited.items()
        for advisory in advisories
    ]
    missing = [name for name in pinned if name not in audited]
    lines = [f"KNOWN  {finding}" for finding in findings]
    if missing:
        lines.append(f"NOT AUDITED  advisories could not be fetched for {len(missing)} of {len(pinned)} packages:")
        lines.append("             " + ", ".join(missing))
    if findings:
        return AFFECTED, lines
    if missing:
        return UNAUDITED, lines
    return CLEAN, [f"No advisory is known against any of the {len(pinned)} packages."]


def main(arguments: Sequence[str]) -> int:
    """Audit requirements.txt, print the report, and return the exit status; further arguments go to pip-audit."""
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
    return CLEAN if outcome == UNAUDITED and "--may-be-away" in arguments else outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
