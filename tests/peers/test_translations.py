"""A Chinese page says the same as its English original: a change of only one of them fails here."""
import pytest

from pages import DOCS, pages, shape, twins
from world import ROOT

ENGLISH_ALONE = {"architecture.md", "command-reference.md", "performance.md", "security.md"}
ORIGINAL = """# Page

## Run `it`

```sh
claviger serve    # serves
```

In 10 s, `serve` is [ready](ready.md).

| key | meaning |
| --- | --- |
| `a` | b |
"""
TRANSLATED = """# 页面

## 运行 `it` { #run-it }

```sh
claviger serve    # 服务
```

10 s 后，[就绪](ready.md)的是 `serve`。

| 键 | 含义 |
| --- | --- |
| `a` | b |
"""


def name(page):
    return str(page.relative_to(ROOT))


def differences(original, translated):
    """The differing parts of the shape. A translation may have more numbers, for example for words."""
    lacking = [english - chinese for english, chinese in zip(original.numbers, translated.numbers)]
    differing = [part for part in original._fields[:-1] if getattr(original, part) != getattr(translated, part)]
    return differing + (["numbers"] if any(lacking) else [])


def detail(original, translated):
    for part in differences(original, translated):
        for english, chinese in zip(getattr(original, part), getattr(translated, part)):
            if english - chinese if part == "numbers" else english != chinese:
                yield f"{part}: {english} in English, {chinese} in Chinese"


@pytest.mark.parametrize("original, translated", twins(), ids=name)
def test_a_page_and_its_translation_have_the_same_shape(original, translated):
    english, chinese = shape(original.read_text()), shape(translated.read_text())
    if original.name == "README.md":
        # GitHub makes the anchors of these two. Each links to the other, and to pages in its own language.
        pairs = {name(one): name(other) for one, other in twins()} | {"README.zh.md": "README.md"}
        english = english._replace(anchors=[], links=[sorted(pairs.get(link, link) for link in links) for links in english.links])
        chinese = chinese._replace(anchors=[])
    assert not differences(english, chinese), "\n".join(detail(english, chinese))


def test_every_page_is_translated_but_those_that_are_known():
    both = {str(page.relative_to(DOCS / "zh")) for page in pages("zh")}
    assert {str(page.relative_to(DOCS / "en")) for page in pages()} - both == ENGLISH_ALONE


def test_a_translation_may_differ_in_words_and_comments():
    assert not differences(shape(ORIGINAL), shape(TRANSLATED))


@pytest.mark.parametrize("said, instead, part", [
    ("## Run", "### Run", "headings"),
    ("## Run `it`", "", "headings"),
    ("Run `it`", "Walk", "anchors"),
    ("claviger serve", "claviger check", "blocks"),
    ("```sh", "<!-- norun: a reason that is long enough -->\n```sh", "blocks"),
    ("| `a` | b |\n", "", "tables"),
    ("`a`", "`c`", "tables"),
    ("`serve`", "`check`", "code"),
    ("ready.md", "later.md", "links"),
    ("10 s", "20 s", "numbers"),
    ("# Page", "<!-- after: start/custodian.md -->\n# Page", "after"),
])
def test_what_one_language_changes_alone_is_found(said, instead, part):
    assert said in ORIGINAL
    assert part in differences(shape(ORIGINAL.replace(said, instead)), shape(TRANSLATED))
