"""An audit that failed is never reported as one without findings."""

import runpy

import pytest

CLEAN = {"name": "flask", "version": "3.1.3", "vulns": []}
ADVISORY = {"id": "CVE-2026-1", "fix_versions": ["3.9"], "aliases": [], "description": "x"}
AFFECTED = {
    "name": "jinja2",
    "version": "3.1.6",
    "vulns": [ADVISORY, ADVISORY | {"id": "CVE-2026-2", "fix_versions": []}],
}
SKIPPED = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (3.1.6)"}


@pytest.fixture(scope="module")
def judge(root):
    return runpy.run_path(str(root / ".ci" / "advisories.py"))["judge"]


@pytest.mark.parametrize(
    ("dependencies", "outcome"),
    [
        pytest.param([CLEAN, AFFECTED | {"vulns": []}], 0, id="clean"),
        pytest.param([CLEAN, AFFECTED], 1, id="affected"),
        pytest.param([AFFECTED], 1, id="affected-and-another-one-missing"),
        pytest.param([CLEAN, SKIPPED], 2, id="skipped"),
        pytest.param([CLEAN], 2, id="missing"),
        pytest.param([], 2, id="nothing"),
    ],
)
def test_judge_keeps_findings_failures_and_passes_apart(judge, dependencies, outcome):
    status, lines = judge(["flask", "jinja2"], {"dependencies": dependencies})

    report = "\n".join(lines)
    assert status == outcome
    assert ("No advisory is known" in report) == (outcome == 0)
    assert ("jinja2: CVE-2026-1, fixed in 3.9" in report) == (outcome == 1)
    assert ("jinja2: CVE-2026-2, fixed in no version yet" in report) == (outcome == 1)
    assert ("NOT AUDITED" in report) == (len([one for one in dependencies if "vulns" in one]) < 2)


def test_judge_of_an_audit_that_failed_names_every_package(judge):
    assert judge(["flask", "jinja2"], {}) == (
        2,
        ["NOT AUDITED  advisories could not be fetched for 2 of 2 packages:", "             flask, jinja2"],
    )
