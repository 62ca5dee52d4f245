"""Branches that are the trajectory's rest count by its chance: by hand, and the mean kept."""

import dataclasses
import math

import numpy as np
import pytest

from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import read
from gccpo_jax.counterfactual.known_rest import chance_of_rest, counted, repeats
from gccpo_jax.counterfactual.places import places_of
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.traces import Seen, sample_traces
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from tests.helpers import oracles, toy

GOOD, LIMIT = 4, 3


def of_first(score, again, chance, *outcomes):
    """What branches of the first of a group's trajectories count as."""
    group = lambda x: np.array([[[x]] * len(outcomes)])  # noqa: E731
    return counted(group(score), group(again), group(chance)[..., 0], np.array([outcomes]))[0, 0, 0]


def test_a_rest_counts_by_its_chance():
    def found(score, again, *outcomes):
        return of_first(score, again, [0.6], *outcomes).tolist()

    score, again, nan = [1.0, 1.0, 0.0], [True, False, False], math.nan
    assert found(score, again, 1.0, 0.0) == pytest.approx([0.6, 1.6, 0.6])
    assert found(score, again, 1.0, 0.0, 1.0) == pytest.approx([0.7, 1.45, 0.45])
    assert found(score, again, 0.0, 1.0, nan) == pytest.approx([1.2, 0.7, -0.3])
    assert found(score, again, 0.0, 0.0) == score
    assert found(score, again, nan, 1.0) == found(score, again, 1.0, nan) == score
    assert math.isnan(found([nan, 1.0, 1.0], again, 1.0, 0.0)[0])


def test_which_branches_are_the_rest_and_its_chance():
    tokens, lengths = np.array([[[7, 8, 9, 5, 0, 0]]]), np.array([[4]])
    ends = np.array([[[1, 3, 4]]])
    branches = {
        0: [[8, 9, 5], [8, 9, 5, 5], [8, 9], [9, 9, 5]],
        1: [[5], [9], [5, 0], []],
        2: [[], [0], [], [5]],
    }
    written, count = np.zeros((1, 1, 3, 4, 6), int), np.zeros((1, 1, 3, 4), int)
    for k, rows in branches.items():
        for n, row in enumerate(rows):
            written[0, 0, k, n, : len(row)], count[0, 0, k, n] = row, len(row)
    found = repeats(tokens, lengths, ends, written, count)[0, 0]
    assert found.tolist() == [
        [True, False, False, False], [True, False, False, False], [True, False, True, False]
    ]  # fmt: skip
    logp = np.log([[[0.5, 0.5, 0.8, 1.0, 1.0, 1.0]]])
    np.testing.assert_allclose(chance_of_rest(logp, lengths, ends, 3)[0, 0], [0.4, 1.0, 1.0])
    assert chance_of_rest(logp, lengths, ends, 2)[0, 0, 0] == 0  # no branch is so long


@pytest.mark.parametrize("outcome", [0.0, 1.0])
@pytest.mark.parametrize("others", [0.3, 1.0])
def test_the_mean_is_the_value_whatever_the_trajectory_wrote(outcome, others):
    """A branch for each text that the policy may write, weighted by its chance."""
    law = lambda text: oracles.law(toy.next_logits(text))  # noqa: E731
    chance = oracles.continuations(law, [*toy.PROMPTS[2], 2, 1], toy.STOP, LIMIT)
    texts, weights = list(chance), np.array(list(chance.values()))
    score = np.array([float(GOOD in text) for text in texts])
    rest = np.argmax(np.where(score == outcome, weights, 0))  # the likeliest right or wrong one
    again, value = np.arange(len(texts)) == rest, score @ weights
    found = of_first(score, again, [weights[rest]], outcome, others)
    assert found @ weights == pytest.approx(value, abs=1e-6)
    assert np.ptp(found - score) > 0.1
    # A weight that looks at the branch it is of is biased.
    looks = [
        of_first([o], [a], [weights[rest]], outcome, o)[0]
        for o, a in zip(score, again, strict=True)
    ]
    assert abs(looks @ weights - value) > 0.005


def test_a_reading_has_less_noise_and_the_same_mean():
    """Phi of the tiny policy by 2 draws beside that by 32, with and without."""
    task = chain(ChainConfig(train=4, id=8, ood=4, max_operations=2, seed=3))
    model = open_model("tiny", task)
    items = task.splits["id"]
    sampled = sample_traces(
        model.solver, model.params, items, prompts_of(model.solver, items),
        group=4, rule=Rule(1.0), max_tokens=32, seed=(0, 0), watch=Stopwatch(),
    )  # fmt: skip
    seen = Seen(model.solver, model.params, sampled)
    spans = places_of(seen, SegmentationConfig(), 2).spans
    section = CounterfactualConfig(draws=32)
    plain = read.begin_values(seen, spans, section)()
    known = read.begin_values(seen, spans, dataclasses.replace(section, known_rest=True))()
    np.testing.assert_array_equal(known.written.score, plain.written.score)
    counts, score = known.written.counted, plain.written.score
    exists = np.isfinite(plain.value)
    assert (np.isfinite(known.value) == exists).all()
    noise = score.var(-1, ddof=1)[exists[..., :-1]], counts.var(-1, ddof=1)[exists[..., :-1]]
    assert noise[1].mean() < 0.8 * noise[0].mean()
    apart = (known.value - plain.value)[exists]
    assert abs(apart).max() > 0.01 and abs(apart.mean()) < 3 * apart.std() / np.sqrt(apart.size)
