"""What the README shows in Python does what it says, and what SECURITY.md points at is there."""

import json
import re
import textwrap

import pytest
from support import bearer

from benchmarks.ratios import short, spread


def example(readme, language):
    """Give the one example in a language that makes a checksum."""
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```$", readme, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if "checksum" in block]
    return textwrap.dedent(found)


def test_checksum_in_python_is_that_of_the_feed(client, user, root):
    shown = {}
    exec(example((root / "README.md").read_text(), "python"), shown)
    for tasks in range(3):
        feed = client.get("/api/me/tasks/changes", headers=bearer(user)).json
        assert feed["count"] == tasks
        assert shown["checksum"](feed["tasks"]) == feed["checksum"]
        assert shown["checksum"](feed["tasks"][::-1]) == feed["checksum"]
        client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    assert shown["checksum"](feed["tasks"][:1]) != feed["checksum"]


def test_every_test_that_security_md_relies_on_is_there(root):
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", (root / "SECURITY.md").read_text())

    assert named
    for path, test in named:
        assert re.search(rf"^def {test or 'test_[a-z0-9_]+'}\(", (root / path).read_text(), re.MULTILINE), (path, test)


@pytest.mark.parametrize("file", ["README.md", "benchmarks/README.md"])
def test_speeds_that_are_quoted_are_those_that_were_measured(root, file):
    found = json.loads((root / "benchmarks" / "results" / "peers.json").read_text())
    measured = {row["work"]: row["numbers"] for row in found["rows"] if row["measure"] == "requests/s"}
    table = (root / file).read_text().partition("| against FastAPI |")[2].partition("\n\n")[0]
    quoted = re.findall(r"^\| (.*? conn\..*?) \| (.*) \|$", table, re.MULTILINE)

    assert quoted
    for work, cells in quoted:
        ratios = [measured[work][key] for key in ("django_ninja", "fastify", "gunicorn", "granian")]
        assert cells.split(" | ") == [f"{short(of['middle'])}{spread(of['least'], of['greatest'])}" for of in ratios]
