"""The site of these pages: `python -m sphinx -W -b html docs build/docs` (extra `docs`)."""

import os
import pathlib
import re
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # docstrings need no accelerator
sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]

import generate  # noqa: E402

import gccpo_jax  # noqa: E402

project = "gccpo_jax"
release = gccpo_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
default_role = "code"
smartquotes = False
html_theme = "furo"
html_title = project
autodoc_member_order = "bysource"
autodoc_typehints = "signature"


def setup(app):
    """Makes the generated pages, and the table of contents of the index's own lists of links."""
    generate.write()
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon


def read(app, page, source):
    """A page as the site reads it; `source` is a list of one text."""
    source[0] = generate.linked(page, source[0])
    if page == "index":
        source[0] += "\n" + generate.contents(source[0]) + "\n"


HEADER = re.compile(r"(Args|Returns|Raises|Example)\b")


def plain(app, what, name, thing, options, lines):
    """Docstrings are plain text: `code` is code, | and * are no markup, indentation is a block."""
    found = [""]
    for line in lines:
        before, depth = indentation(found[-1]), indentation(line)
        if line and found[-1]:
            after_paragraph = before == 0 < depth and found[-2]
            if depth < before or after_paragraph or HEADER.match(line):
                found.append("")
        parts = re.split(r"(`+[^`]+`+)", line)
        parts[::2] = [re.sub(r"([|*`])", r"\\\1", part) for part in parts[::2]]
        found.append("".join(parts))
    lines[:] = found[1:]


def indentation(line):
    """Spaces before the first word."""
    return len(line) - len(line.lstrip())
