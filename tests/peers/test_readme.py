"""The table of what works unchanged: each row names tests that exist and run."""
import ast
import re

import pytest

from world import HERE, ROOT


def rows():
    page = (ROOT / "docs" / "en" / "clients.md").read_text()
    lines = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def written():
    """The names of all tests here, and of those that may be skipped, by their own mark or by one of their file."""
    found, skipped = set(), set()
    for file in HERE.glob("test_*.py"):
        tree = ast.parse(file.read_text())
        whole = any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark" for node in tree.body)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
                if whole or re.search("skip|needs", "".join(map(ast.unparse, node.decorator_list))):
                    skipped.add(node.name)
    return found, skipped


def test_the_table_is_there():
    assert len(rows()) >= 15


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_says_what_changes_and_names_tests_that_are_run(row):
    found, skipped = written()
    client, change, held_by = row
    named = re.findall(r"`(\w+)`", held_by)
    assert client and change and named and re.fullmatch(r"`\w+`(, `\w+`)*", held_by), row
    assert set(named) <= found, f"no such tests: {set(named) - found}"
    assert not set(named) & skipped, f"may be skipped: {set(named) & skipped}"
