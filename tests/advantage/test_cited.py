"""Rewards and step scores of cited systems: numbers, oracles, known hazards."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.advantage import process_supervision as process
from gccpo_jax.advantage import shaping
from gccpo_jax.config import CreditConfig
from tests.helpers import oracles_cited as oracle
from tests.helpers.groups import change, credit_one, group

G, E, T = 4, 5, 12
YES = jnp.bool_(True)


def scores(seed):
    """[G, E] scores of 0 to E steps; what is masked holds nonsense."""
    random = np.random.default_rng(seed)
    mask = np.arange(E) < random.integers(0, E + 1, (G, 1))
    score = random.integers(-4, 5, (G, E)) / 4
    return np.where(mask, score, np.nan).astype(np.float32), mask


def test_the_least_remaining_score_and_its_zscore_are_the_oracles():
    least = partial(process.least_remaining, temperature=0.1)
    got = least(jnp.array([1.0, 0.0, 0.5]), jnp.ones(3, bool))
    np.testing.assert_allclose(got, oracle.least_remaining([1.0, 0.0, 0.5], 0.1), atol=1e-6)
    np.testing.assert_allclose(got, [0.0033919, 0.0033464, 0.5], atol=1e-6)
    supervise = jax.jit(process.min_supervision)
    for seed in range(8):
        score, mask = scores(seed)
        rows = [row[seen].tolist() for row, seen in zip(score, mask, strict=True)]
        expected = oracle.min_supervision(rows, 0.1)
        for a, row in zip(supervise(score, mask), expected, strict=True):
            np.testing.assert_allclose(a, row + [0.0] * (E - len(row)), atol=2e-5)


def test_the_hazard_of_the_empty_response():
    """A response of one step that says nothing wrong beats one that did the work."""
    score = jnp.array([[1.0, 0, 0], [1.0, 0.8, 1.0]])
    mask = jnp.array([[True, False, False], [True, True, True]])
    empty, worked = process.min_supervision(score, mask)
    assert empty[0] > 0 > worked[0]
    summed = process.process_supervision(score, mask)
    assert summed[0, 0] < 1  # the sum of z-scores does not praise it so


def test_the_released_gain_weighs_by_length_and_forgets_the_first_step():
    tokens = np.random.default_rng(1).integers(1, 30, (G, E))
    gain = jax.jit(jax.vmap(process.token_gain))
    assert process.token_gain(
        jnp.array([0.2, 0.5, 0.4]), jnp.array([9, 10, 20]), jnp.ones(3, bool)
    ) == pytest.approx(1.0)
    for seed in range(4):
        score, mask = scores(seed)
        rows = [row[seen].tolist() for row, seen in zip(score, mask, strict=True)]
        expected = [oracle.token_gain(row, n) for row, n in zip(rows, tokens.tolist(), strict=True)]
        np.testing.assert_allclose(gain(score, tokens, mask), expected, atol=1e-5)


def test_rewards_of_length():
    length = jnp.array([0, 50, 100, 0, 50, 100, 100])
    outcome, done = jnp.array([1.0, 1, 1, 0, 0, 0, 1]), jnp.arange(7) < 6
    got = shaping.cosine_length(outcome, length, done, limit=100)
    np.testing.assert_allclose(got, [2, 1.5, 1, -10, -5, 0, -10], atol=1e-5)
    for n in (1, 33, 99):
        for right in (1.0, 0.0):
            given = jnp.array([right]), jnp.array([n]), jnp.array([True])
            expected = oracle.cosine_length(right, n, True, 100)
            np.testing.assert_allclose(
                shaping.cosine_length(*given, limit=100), expected, atol=1e-5
            )
    got = shaping.explored(jnp.array([1.0, 0.0]), jnp.array([50, 300]), limit=100, share=0.2)
    np.testing.assert_allclose(got, [0.9, 0.2], atol=1e-6)


@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_repeated_tokens_are_the_oracles(ngram):
    random = np.random.default_rng(ngram)
    marks = jax.jit(partial(shaping.repeated, ngram=ngram))
    for length in (T, T - 3, 1):
        tokens = random.integers(0, 3, T)
        expected = oracle.repeated(tokens[:length].tolist(), ngram) + [False] * (T - length)
        np.testing.assert_array_equal(marks(tokens, jnp.int32(length)), expected)


def test_the_compression_penalty_is_taken_from_the_progress():
    reading, spans, rollout = group(3, unscorable=(1,))
    penalty = jnp.asarray(np.random.default_rng(0).random(reading.value.shape), jnp.float32)
    rule = CreditConfig(kind="l2t", compression=0.6)
    credit = jax.jit(partial(credit_one, rule=rule))
    taken = credit(change(reading, penalty=penalty), spans, rollout, YES)
    exists = spans.mask & reading.scorable[:, None]
    expected = np.where(exists, taken.effect - 0.6 * penalty, 0)
    np.testing.assert_allclose(taken.step_score, expected, atol=1e-6)
    assert np.abs(np.asarray(taken.advantage)).max() > 0.01
