"""Every block of the README and the docs is run, or could be, or says why it is not.

Python blocks are run, page by page (what they ask of `analyse` is measured in the notebook
`analyse_your_model` and the examples). Every command of this project, in shell blocks and in the
text, is parsed by its own parser, and the cheap ones are run. Sybil finds the blocks and the
comments that leave one out (`<!-- skip: next "reason" -->`): it knows Markdown, and it leaves to us
what running a line of shell means, which plugins for Python blocks alone do not.
"""

import inspect
import re
from unittest import SkipTest

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.evaluators.skip import Skipper
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from gccpo_jax import analysis
from gccpo_jax.errors import UserError
from tests.helpers import commands
from tests.helpers.analysed import rows, step, trajectory, write_analysis
from tests.helpers.paths import ROOT
from tests.helpers.recorded import group, write_run

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("CONTRIBUTING.md",)
"""Pages whose Python blocks `test_contributing.py` runs, with what they are about."""

PLAIN = ("ruff ", "cd ", "[ -e ")
"""What else a line of shell may begin with."""

RUN = ("cost", "plan", "report")
"""Commands that are run as the pages show them, in a folder with a few recorded runs."""

RUNS = ("quickstart-20260101-120000", "first", "gccpo", "grpo")


def check_shell(example):
    for line in commands.lines(example.parsed):
        found = list(commands.ours(line))
        assert found or line.startswith(PLAIN), f"nobody checks {line!r}: run it or skip it"
        for words in found:
            commands.check(words)


def evaluate(page, python=lambda example: None, bash=lambda example: None):
    """Runs the blocks of a page in order, but for those that say why they are not run."""
    parsers = [CodeBlockParser("python", python), CodeBlockParser("bash", bash), SkipParser()]
    for example in Sybil(parsers=parsers).parse(page).examples():
        if isinstance(example.region.evaluator, Skipper):
            assert (example.parsed[1] or "").count(" ") > 1, f"{page}: say why it is not run"
        try:
            example.evaluate()
        except SkipTest:
            pass


def names(paths):
    return [path.name for path in paths]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder as the pages suppose it: the repository's files and some finished runs."""
    for name in ("configs", "benchmarks", "examples", "gccpo_jax"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in RUNS:
        write_run(tmp_path / "runs" / name, group())
    write_analysis(tmp_path / "analysis", rows())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_python(pages):
    return [p for p in pages if "```python" in p.read_text() and p.name not in ELSEWHERE]


@pytest.fixture
def short_analysis(monkeypatch):
    """`analyse` takes what it takes and says what it says, but measures nothing (a minute)."""
    asked = inspect.signature(analysis.analyse)

    def said(*args, **kwargs):
        given = asked.bind(*args, **kwargs).arguments
        return trajectory(steps=[step(text) for text in given["trajectory"]])

    monkeypatch.setattr(analysis, "analyse", said)


@pytest.mark.parametrize("page", with_python(PAGES), ids=names(with_python(PAGES)))
def test_python_blocks_run(page, workplace, short_analysis):
    evaluate(page, python=PythonEvaluator())


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_shell_blocks_could_be_typed(page, workplace):
    evaluate(page, bash=check_shell)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_in_the_text_could_be_typed(page, workplace):
    for line in re.findall(r"(?<!`)`(python -m gccpo_jax\.[a-z]+ [^`]+)`(?!`)", page.read_text()):
        for words in commands.ours(line.replace("\n", " ")):
            commands.check(words)


def shell_lines(page):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    return [line for block in blocks for line in commands.lines(block)]


def cheap():
    """{the arguments: (command, arguments)} of every command of `RUN` in a shell block."""
    lines = [line for page in PAGES for line in shell_lines(page)]
    found = [words for line in lines for words in commands.ours(line)]
    modules = {f"gccpo_jax.{name}": name for name in RUN}
    named = {" ".join(words[2:]): words for words in found if modules.keys() & {*words}}
    return {
        line: (modules[words[2]], words[3:])
        for line, words in named.items()
        if "DIRECTORY" not in line
    }


def each_cheap():
    slow = {"plan": pytest.mark.slow}
    return [
        pytest.param(name, argv, id=line, marks=slow.get(name, ()))
        for line, (name, argv) in cheap().items()
    ]


@pytest.mark.parametrize("name, argv", each_cheap())
def test_cheap_commands_run(name, argv, workplace, capsys):
    assert commands.module_of(name).main(argv) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


BROKEN = (
    "python -m gccpo_jax.train --config configs/quickstart.py --config.optim.rate=1",
    "python -m gccpo_jax.train --config configs/quickstart.py:A99",
    "python -m gccpo_jax.evaluate --model tiny --task chain --out x --many 3",
    "python -m pip install -e '.[everything]'",
    "python -m pytest tests/nowhere",
    "python benchmarks/step.py --shapes tiny",
    "srun python -m gccpo_jax.train --config configs/quickstart.py --processes 2",
    "curl example.org",
)


@pytest.mark.parametrize("line", BROKEN)
def test_what_could_not_be_typed_fails(line, workplace):
    page = workplace / "page.md"
    page.write_text(f"```bash\n{line}\n```\n")
    with pytest.raises((AssertionError, UserError)):
        evaluate(page, bash=check_shell)


def test_a_block_is_left_out_with_a_reason_only(tmp_path):
    page = tmp_path / "page.md"
    page.write_text('<!-- skip: next "needs a cluster here" -->\n\n```bash\ncurl x\n```\n')
    evaluate(page, bash=check_shell)
    page.write_text("<!-- skip: next -->\n\n```bash\ncurl x\n```\n")
    with pytest.raises(AssertionError, match="say why"):
        evaluate(page, bash=check_shell)
