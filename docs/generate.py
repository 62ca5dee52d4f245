"""The pages that are made of the code when the site is built: `reference/` (not committed).

A link to one of `MADE_OF` in a page leads to the code where the page is read as a file, and to
the page that is made of it where it is read on the site (`linked`).
"""

from __future__ import annotations

import ast
import dataclasses
import io
import pathlib
import re
import tokenize
from collections.abc import Iterator
from typing import Any

from gccpo_jax.config import Config, sections
from gccpo_jax.config.unread import NEEDS

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
MADE_OF = {
    "../CONTRIBUTING.md": "reference/contributing.md",
    "../CITATION.cff": "reference/citation.md",
    "../benchmarks/NOTES.md": "reference/notes.md",
    "../examples": "reference/examples.md",
    "../gccpo_jax/__init__.py": "reference/api.md",
    "../gccpo_jax/config/sections.py": "reference/config.md",
}
"""{what a page links to, as a file: the page that is made of it}"""

API = (
    "reward",
    "advantage",
    "objective",
    "analysis",
    "report",
    "config",
    "tasks",
    "tasks.base",
    "policy.weights",
    "policy.tokenizer",
    "training.rollout_record",
    "types",
)
"""Modules of which the API reference has what they export."""


def write(docs: pathlib.Path = DOCS) -> None:
    """Writes every generated page under `docs/reference`."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    pages = {
        "config": config_page(),
        "api": api_page(),
        "examples": examples_page(),
        "contributing": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        "notes": (ROOT / "benchmarks" / "NOTES.md").read_text(encoding="utf-8"),
        "citation": citation_page(),
    }
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def linked(page: str, text: str) -> str:
    """The text of a page with links to what pages are made of leading to those pages."""
    up = "../" * page.count("/")
    for file, made in MADE_OF.items():
        text = re.sub(rf"\]\({re.escape(up + file)}(#[^)]*)?\)", f"]({up}{made})", text)
    return text


def contents(text: str) -> str:
    """The table of contents that an index says in lists of links under headings."""
    trees = []
    for heading, body in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.S | re.M):
        pages = re.findall(r"^- \[[^]]+\]\(([\w/]+)\.md\)", body, re.M)
        if pages:
            trees.append(
                "\n".join(["```{toctree}", ":hidden:", f":caption: {heading}", "", *pages])
            )
    return "\n\n".join(f"{tree}\n```" for tree in trees)


def config_page() -> str:
    """Every field with its type, default, what is valid and what its comment says."""
    comments = field_comments(pathlib.Path(sections.__file__).read_text(encoding="utf-8"))
    lines = [
        "# Config reference",
        "",
        "Fields of a config file and of the command line (`--config.optim.lr=1e-4`), made of",
        "`gccpo_jax/config/sections.py`. A field that nothing reads under the others is refused.",
    ]
    for path, cls in config_sections(Config, "config"):
        lines += ["", f"## `{path}`", ""]
        if about := cls.__dict__.get("__doc__") or "":
            if not about.startswith(cls.__name__ + "("):
                lines += [about.strip(), ""]
        lines += ["| field | type | default | valid | what |", "| --- | --- | --- | --- | --- |"]
        for field in dataclasses.fields(cls):
            if not is_section(field):
                lines.append(_row(field, comments[cls.__name__, field.name]))
    return "\n".join(lines) + "\n"


def config_sections(cls: type, path: str) -> Iterator[tuple[str, type]]:
    """A section and those inside it, with their dotted names."""
    yield path, cls
    for field in dataclasses.fields(cls):
        if is_section(field):
            yield from config_sections(field.default_factory, f"{path}.{field.name}")


def is_section(field: dataclasses.Field) -> bool:
    """Whether a field is a section with fields of its own."""
    return dataclasses.is_dataclass(field.default_factory)


def _row(field: dataclasses.Field, comment: str) -> str:
    default: Any = {} if field.default is dataclasses.MISSING else field.default
    said = [comment.rstrip(".")] if comment else []
    said += [_condition(*condition) for condition in field.metadata.get("only_if", ())]
    valid = field.metadata.get("expected", "")
    cells = [f"`{field.name}`", str(field.type), f"`{default!r}`", valid, ". ".join(said)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _condition(other: str, values: tuple) -> str:
    if values:
        return f"Where `{other}` is {', '.join(f'`{value!r}`' for value in values)}"
    return f"With {NEEDS.get(other, f'`{other}`')}"


def field_comments(source: str) -> dict[tuple[str, str], str]:
    """{(class, field): its comments}: those on the lines above it and on its own lines."""
    alone, beside = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            whole = token.line.strip().startswith("#")
            (alone if whole else beside)[token.start[0]] = token.string.lstrip("# ")
    found = {}
    for cls in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for node in cls.body:
            if isinstance(node, ast.AnnAssign):
                above = node.lineno - 1
                while above in alone:
                    above -= 1
                texts = [alone[line] for line in range(above + 1, node.lineno)]
                inside = range(node.lineno, node.end_lineno + 1)
                texts += [beside[line] for line in inside if line in beside]
                found[cls.name, node.target.id] = " ".join(texts)
    return found


def api_page() -> str:
    """What the modules of `API` export, by their docstrings."""
    parts = ["# API reference", "", "Made of the docstrings; axes are those of `gccpo_jax.types`."]
    for name in API:
        module = f"gccpo_jax.{name}"
        parts += ["", f"## `{module}`", "", "```{eval-rst}", f".. automodule:: {module}"]
        parts += ["   :members:", "   :imported-members:" * _exports(name), "```"]
    return "\n".join(parts) + "\n"


def _exports(name: str) -> bool:
    """Whether a module gathers names of others under `__all__`."""
    return (ROOT / "gccpo_jax" / name.replace(".", "/") / "__init__.py").is_file()


def examples_page() -> str:
    """The programs of `examples/` as they stand there."""
    parts = ["# Examples", "", "Each is a file of `examples/` that runs as it stands."]
    for file in sorted((ROOT / "examples").glob("*.py")):
        parts += ["", f"## {file.stem.replace('_', ' ')}", "", "```python"]
        parts += [file.read_text(encoding="utf-8").rstrip(), "```"]
    return "\n".join(parts) + "\n"


def citation_page() -> str:
    """`CITATION.cff`, as text."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    about = "Code hosts and reference managers read `CITATION.cff`:"
    return f"# Citation\n\n{about}\n\n```yaml\n{text}```\n"
