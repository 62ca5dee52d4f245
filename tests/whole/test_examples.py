"""The examples run as they are written; those of one's own are under 40 lines, no other is long."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.paths import ROOT
from tests.helpers.processes import environment

FOLDER = ROOT / "examples"
SAID = {
    "own_task": "accuracy 0.",
    "own_verifier": "1.0 0.5 0.0",
    "own_step_scorer": "[1.0, 0.0, 0.0]",
    "own_intervention": "Ana 3 + 4 = 7 pens S ",
}
SLOW = ("own_intervention", "own_task")
PEERS = {
    "with_torch": ("torch", "robustness [1.0, 0.85"),
    "with_trl": ("trl", "rewards ["),
    "with_tunix": ("tunix", "rewards ["),
}


def test_each_is_run_here_and_they_are_short():
    files = sorted(FOLDER.glob("*.py"))
    assert [file.stem for file in files] == sorted({**SAID, **PEERS})
    lines = {file.stem: file.read_text().count("\n") for file in files}
    assert all(count < (60 if name in PEERS else 40) for name, count in lines.items()), lines


def ran(name):
    found = subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=FOLDER, env=environment(), text=True, capture_output=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize("name", sorted({*SAID} - {*SLOW}))
def test_an_example_runs(name):
    assert SAID[name] in ran(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_longer_example_runs(name):
    assert SAID[name] in ran(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PEERS))
def test_an_example_with_another_program_runs_where_that_is_installed(name):
    package, said = PEERS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    assert said in ran(name)


def test_the_intervention_changes_the_first_number(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from own_intervention import ten_more

    rng = np.random.default_rng(0)
    assert ten_more("Ana 3 + 4 = 7 pens", rng) == "Ana 13 + 4 = 7 pens"
    assert ten_more("So let us go on .", rng) is None
