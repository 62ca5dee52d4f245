"""What the site of the docs is made of: every page in the contents, every field in words.

The site itself is built by the project's checks, with warnings as errors.
"""

import dataclasses
import pathlib
import re

import pytest

from gccpo_jax.config import Config, sections
from tests.helpers.paths import ROOT

DOCS = ROOT / "docs"


@pytest.fixture
def generate(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import generate

    return generate


def test_the_contents_have_every_page_once(generate):
    text = generate.linked("index", (DOCS / "index.md").read_text(encoding="utf-8"))
    trees = generate.contents(text)
    listed = [line for line in trees.splitlines() if re.fullmatch(r"[\w/]+", line)]
    pages = [*DOCS.glob("*.md"), *DOCS.glob("results/**/*.md")]
    here = {str(page.relative_to(DOCS).with_suffix("")) for page in pages} - {"index"}
    made = {page.removesuffix(".md") for page in generate.MADE_OF.values()}
    assert sorted(listed) == sorted(here | made)


def test_links_lead_to_the_pages_that_are_made_of_files(generate):
    text = "[a](../CONTRIBUTING.md) [b](../gccpo_jax/config/sections.py) [c](../gccpo_jax/cost.py)"
    assert generate.linked("faq", text) == (
        "[a](reference/contributing.md) [b](reference/config.md) [c](../gccpo_jax/cost.py)"
    )
    deeper = generate.linked("results/study", "[a](../../CONTRIBUTING.md#a-task)")
    assert deeper == "[a](../reference/contributing.md)"


def test_every_field_of_the_config_is_in_its_page_in_words(generate):
    comments = generate.field_comments(pathlib.Path(sections.__file__).read_text(encoding="utf-8"))
    page = generate.config_page()
    for path, cls in generate.config_sections(Config, "config"):
        assert f"## `{path}`" in page
        for field in dataclasses.fields(cls):
            if not generate.is_section(field):
                assert comments[cls.__name__, field.name], f"{path}.{field.name} has no comment"
                assert f"| `{field.name}` | {field.type} |" in page


def test_a_comment_is_above_its_field_or_beside_it(generate):
    source = "class A:\n    # Above,\n    # twice.\n    x: int = f(\n        1,  # inside\n    )\n"
    source += "    y: int = 1  # beside\n    z: int = 2\n"
    found = {("A", "x"): "Above, twice. inside", ("A", "y"): "beside", ("A", "z"): ""}
    assert generate.field_comments(source) == found
