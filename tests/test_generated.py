"""The generated pages and `.env.example` match the declarations in the code."""

import re

import pytest

from docs import generate
from todo import __main__ as command

PAGES = generate.pages()


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_generated_file_is_up_to_date(root, path):
    assert (root / path).read_text() == PAGES[path], "run `python -m docs.generate`"


def test_page_of_the_commands_has_a_section_for_each():
    page = generate.cli_page()
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    groups = {"db": ["db restored"], "user": ["user erase", "user export", "user import"]}
    names = [found for name in command.todo.commands for found in groups.get(name, [name])]
    assert headings == [f"todo {name}" for name in names]
    assert page.count("**Exit status**") == page.count("**Examples**") == len(headings)
