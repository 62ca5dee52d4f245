"""What a scorer pays for length: found by saying a step twice, and taken off."""

import dataclasses

import numpy as np
import pytest

from gccpo_jax.policy.length_bias import debiased, length_bias
from gccpo_jax.policy.step_scorer import open_scorer
from tests.helpers.paths import ROOT

SOLUTIONS = [("q", ["a b c\n", "a b\n"]), ("q2", ["x\n", "x y z w\n", "x y z w v\n"])]


def wordy(asked):
    """Pays .03 a word, beside what the first word is worth."""
    worth = {"a": 0.4, "x": 0.3}
    return [np.array([worth[s.split()[0]] + 0.03 * len(s.split()) for s in steps])
            for _, steps in asked]  # fmt: skip


def test_the_price_of_a_word_is_found_and_taken_off():
    slope, usual = length_bias(wordy, SOLUTIONS)
    assert slope == pytest.approx(0.03) and usual == 3.0
    scores = [debiased(x, steps, slope=slope, usual=usual)
              for x, (_, steps) in zip(wordy(SOLUTIONS), SOLUTIONS, strict=True)]  # fmt: skip
    np.testing.assert_allclose(scores[0], 0.4 + 0.09, atol=1e-9)
    np.testing.assert_allclose(scores[1], 0.3 + 0.09, atol=1e-9)
    assert np.isnan(debiased(np.array([np.nan]), ["a"], slope=1.0, usual=0.0)).all()


def test_an_opened_scorer_takes_it_off():
    scorer = open_scorer(str(ROOT / "tests" / "golden_scorers" / "prm_tokens"))
    steps = ["1 + 2 = 3", "so it is 3 , I think"]
    layout = dataclasses.replace(scorer.layout, length_slope=0.01, usual_length=5.0)
    found = dataclasses.replace(scorer, layout=layout)("q", steps)
    expected = np.clip(scorer("q", steps) - 0.01 * (np.array([5, 7]) - 5), 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
