"""pass@k against enumeration; votes and choices on tables small enough to read."""

import itertools
import operator

import numpy as np
import pytest

from gccpo_jax.evaluation.votes import best, majority, pass_at_k, voted


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_all_choices_with_a_right_one(n):
    for right in range(n + 1):
        outcome = np.array([1.0] * right + [0.0] * (n - right))
        for k in range(1, n + 1):
            every = [max(chosen) for chosen in itertools.combinations(outcome, k)]
            assert pass_at_k(outcome, k) == pytest.approx(np.mean(every), abs=1e-12)


def test_pass_at_k_is_unbiased():
    rng, p = np.random.default_rng(0), 0.3
    found = [pass_at_k((rng.random(6) < p).astype(float), 4) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(1 - (1 - p) ** 4, abs=4 * np.std(found) / 4000**0.5)


def test_what_could_not_be_scored_is_not_drawn():
    outcome = np.array([np.nan, 1.0, 0.0])
    assert pass_at_k(outcome, 1) == 0.5 and pass_at_k(outcome, 2) == 1.0
    assert np.isnan(pass_at_k(outcome, 3))


@pytest.mark.parametrize(
    "answers, place",
    [
        (["1", "2", "2"], 1),
        (["2", "1", "1", "2"], 0),  # as many: the first
        ([None, None, "3"], 2),  # no answer has no vote
        ([None, None], 0),
    ],
)
def test_the_most_frequent_answer_wins(answers, place):
    assert majority(answers, operator.eq) == place


def test_answers_that_are_the_same_vote_together():
    assert majority(["3", "1/2", "0.5"], lambda a, b: {a, b} == {"1/2", "0.5"}) == 1


def test_weights_are_votes():
    answers, weights = ["1", "2", "2"], np.array([0.9, 0.2, 0.3])
    assert majority(answers, operator.eq) == 1 and majority(answers, operator.eq, weights) == 0
    assert voted(np.array([1.0, 0.0, 0.0]), answers, 3, operator.eq, weights) == 1.0


def test_votes_and_choices_are_means_over_disjoint_blocks():
    outcome = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    answers = ["7", "8", "8", "7", "7"]
    assert voted(outcome, answers, 1, operator.eq) == pytest.approx(0.6)
    assert voted(outcome, answers, 2, operator.eq) == 0.5  # 7, then 8; the fifth is left over
    assert voted(outcome, answers, 5, operator.eq) == 1.0
    scores = np.array([-3.0, -1.0, -2.0, -1.0, 0.0])
    assert best(outcome, scores, 2) == 0.5 and best(outcome, scores, 5) == 1.0
    assert best(np.array([np.nan, 0.0]), scores[:2], 1) == 0.0
