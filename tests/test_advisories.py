"""An audit that could not be made is never taken for one that found nothing."""

import runpy

import pytest

CLEAN = {"name": "flask", "version": "3.1.3", "vulns": []}
FAULT = {"id": "CVE-2026-1", "fix_versions": ["3.9"], "aliases": [], "description": "x"}
KNOWN = {"name": "jinja2", "version": "3.1.6", "vulns": [FAULT, FAULT | {"id": "CVE-2026-2", "fix_versions": []}]}
SKIPPED = {"name": "jinja2", "skip_reason": "Dependency not found on PyPI and could not be audited: jinja2 (3.1.6)"}


@pytest.fixture(scope="module")
def judge(root):
    return runpy.run_path(str(root / ".ci" / "advisories.py"))["judge"]


@pytest.mark.parametrize(
    ("dependencies", "outcome"),
    [
        pytest.param([CLEAN, KNOWN | {"vulns": []}], 0, id="clean"),
        pytest.param([CLEAN, KNOWN], 1, id="known"),
        pytest.param([KNOWN], 1, id="known-and-another-one-missing"),
        pytest.param([CLEAN, SKIPPED], 2, id="skipped"),
        pytest.param([CLEAN], 2, id="missing"),
        pytest.param([], 2, id="nothing"),
    ],
)
def test_judge_tells_a_finding_from_silence_and_silence_from_a_pass(judge, dependencies, outcome):
    found, lines = judge(["flask", "jinja2"], {"dependencies": dependencies})

    said = "\n".join(lines)
    assert found == outcome
    assert ("Nothing is known" in said) == (outcome == 0)
    assert ("jinja2: CVE-2026-1, mended in 3.9" in said) == (outcome == 1)
    assert ("jinja2: CVE-2026-2, mended in no version yet" in said) == (outcome == 1)
    assert ("NOT AUDITED" in said) == (len([one for one in dependencies if "vulns" in one]) < 2)


def test_judge_of_an_audit_that_failed_names_every_package(judge):
    assert judge(["flask", "jinja2"], {}) == (
        2,
        ["NOT AUDITED  advisories could not be fetched for 2 of 2 packages:", "             flask, jinja2"],
    )
