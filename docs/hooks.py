"""Puts SECURITY.md and ARCHITECTURE.md, which stay at the tree's top, into the site."""
import pathlib
import re

TREE = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r"<!-- include: (\w+\.md) -->")


def on_page_markdown(markdown, **_):
    """A page that begins with the line `<!-- include: NAME.md -->` is that file of the tree's top."""
    found = INCLUDE.match(markdown)
    return (TREE / found[1]).read_text() if found else markdown
