"""What the docs link to is there: files, and the functions that stand in them."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    for words, place in LINK.findall(page.read_text()):
        file = page.parent / place
        assert file.exists(), place
        code = re.fullmatch(r"`[\w.]+`", words)
        name = words.strip("`").split(".")[-1]
        if code and file.suffix == ".py" and not words.strip("`").endswith((".py", file.stem)):
            assert re.search(rf"\b(def|class) {name}\b|^{name}\b", file.read_text(), re.M), words
