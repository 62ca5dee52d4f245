"""The command that trains a process reward model: what it refuses, and what it leaves."""

import json

import numpy as np
import pytest

from gccpo_jax import prm
from gccpo_jax.analysis.step_values import agree
from gccpo_jax.policy.step_scorer import open_scorer


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--draws", "0"], "--draws 0: expected at least 1"),
        (["--group", "1"], "--group 1: expected at least 2"),
        (["--questions", "9000000"], "training questions; ask for fewer"),
        (["--lr", "nan"], "--lr nan: expected at least"),
        (["--invariance", "inf"], "--invariance inf: expected a number below"),
        (["--judge", "nope"], "expected 'package.module:function'"),
    ],
)
def test_mistakes_are_named(arguments, words, tmp_path, capsys):
    assert prm.main(["--out", str(tmp_path / "prm"), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1


def test_the_consensus_is_about_the_first_wrong_step():
    value = np.array([0.5, 0.0, 0.5])
    assert agree(value, [0.9, 0.1, 0.1]) and not agree(value, [0.1, 0.1, 0.9])
    assert agree(np.array([1.0, np.nan]), [0.9, 0.8]) and not agree(value, [1.0, 1.0, 1.0])


@pytest.mark.slow
def test_a_trained_scorer_is_a_model_like_any_other(tmp_path, capsys):
    out = tmp_path / "prm"
    sizes = "--questions 8 --held-out 8 --batch 8 --group 2 --draws 2 --updates 20 --debias"
    assert prm.main(["--out", str(out), *sizes.split()]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["branch_tokens"] > 0 and set(summary) >= {"auc_prm", "auc_phi", "correlation"}
    assert json.loads((out / "prm.json").read_text())["length_slope"] != 0
    scores = open_scorer(str(out))("Ana has 3 pens .", ["Ana 3 + 4 = 7 pens\n", "#### 7"])
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()
