"""Scores that compare two arms: agreement, flips and their bounds, effects against resamples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax import reward
from tests.helpers import oracles_credit as oracle

P0, P1 = (0.7, 0.2, 0.1), (0.5, 0.3, 0.2)
A, P, E, N = 4, 3, 5, 4
MASSES = arrays(np.float32, (P + 1, A), elements=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0, 3.0]))
USABLE = arrays(bool, P)
normalise = jax.jit(reward.normalise_law)
agree, flips, bounds = map(jax.jit, (reward.agreement, reward.flip_rate, reward.flip_bounds))
against, variation = jax.jit(reward.counterfactual_effect), jax.jit(reward.law_variation)

ANSWERS = arrays(np.int32, (P + 1, N), elements=st.integers(-1, 2))


@given(ANSWERS, USABLE)
def test_agreement_and_flips_equal_the_oracle(answers, usable):
    got, defined = agree(answers[0], answers[1:], usable)
    arms = [row if use else None for row, use in zip(answers[1:], usable, strict=True)]
    expected = oracle.agreement(answers[0], arms)
    assert bool(defined) == (expected is not None)
    assert got == pytest.approx(expected or 0.0, abs=1e-6)
    same = oracle.agreement(answers[0], answers[1:2])
    rate, known = flips(answers[0], answers[1])
    assert bool(known) == (same is not None)
    assert rate == pytest.approx(0.0 if same is None else 1 - same, abs=1e-6)
    assert agree(answers[0], answers[[0] * P], usable)[0] in (0.0, 1.0)  # with itself: exactly


def test_agreement_leaves_out_what_could_not_be_scored():
    score, defined = agree(jnp.array([0, 1, 1, -1]), jnp.array([[0, 1, 0, 0]]), jnp.ones(1, bool))
    assert score == pytest.approx(2 / 3) and defined
    score, defined = reward.agreement(jnp.array([0]), jnp.zeros((0, 1), int), jnp.zeros(0, bool))
    assert score == 0 and not defined


def test_flip_bounds_of_the_method_and_of_equal_laws():
    np.testing.assert_allclose(bounds(jnp.array(P0), jnp.array(P1)), [0.2, 0.8], atol=1e-6)
    assert oracle.flip_bounds(P0, P1) == pytest.approx((0.2, 0.8))
    lower, upper = bounds(jnp.array(P0), jnp.array(P0))
    assert lower == 0 and upper == pytest.approx(0.6, abs=1e-6)


@given(MASSES, st.integers(0, 2**20))
def test_flip_rates_of_couplings_lie_within_the_bounds(masses, seed):
    """Three couplings of two laws: independent, by one uniform, by one Gumbel tape."""
    p, q = np.asarray(normalise(masses))[:2].astype(np.float64)
    lower, upper = np.asarray(bounds(p, q), np.float64)
    assert (lower, upper) == pytest.approx(oracle.flip_bounds(p, q), abs=1e-6)
    assert 0 <= lower <= upper <= 1
    p, q = p / p.sum(), q / q.sum()
    independent = 1 - np.sum(p * q)
    ends = np.unique(np.r_[0.0, np.cumsum(p), np.cumsum(q), 1.0].clip(0, 1))
    pick = lambda law, u: np.minimum(np.searchsorted(np.cumsum(law), u, side="right"), A - 1)  # noqa: E731
    middle = (ends[1:] + ends[:-1]) / 2
    by_inverse = np.sum(np.diff(ends) * (pick(p, middle) != pick(q, middle)))
    tape = np.random.default_rng(seed).gumbel(size=(2000, A))
    with np.errstate(divide="ignore"):
        by_gumbel = np.mean(np.argmax(np.log(p) + tape, 1) != np.argmax(np.log(q) + tape, 1))
    for rate, room in [(independent, 1e-6), (by_inverse, 1e-6), (by_gumbel, 0.06)]:
        assert lower - room <= rate <= upper + room


VALUES = arrays(np.float32, P, elements=st.floats(0, 1, width=32))


@given(st.floats(0, 1, width=32), VALUES, USABLE)
def test_counterfactual_effect_equals_the_oracle(value, values, usable):
    got, defined = against(jnp.float32(value), np.where(usable, values, np.nan), usable)
    listed = [float(v) if u else None for v, u in zip(values, usable, strict=True)]
    expected = oracle.counterfactual_effect(value, listed)
    assert bool(defined) == (expected is not None)
    assert got == pytest.approx(expected or 0.0, abs=1e-6)
    same, _ = against(jnp.float32(value), np.full(P, value, np.float32), usable)
    assert same == 0  # bitwise, also where a mean of equal numbers would round


def test_equivariance_reads_the_new_gold_answer():
    laws = jnp.array([[0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.5, 0.4, 0.1]])
    score, defined = reward.equivariance(laws, jnp.array([1, -1, 2]))
    np.testing.assert_allclose(score, [0.6, 0, 0], atol=1e-7)
    np.testing.assert_array_equal(defined, [True, False, False])  # 2 is `other`: no answer


@given(MASSES, arrays(bool, P + 1))
def test_law_variation_equals_the_oracle(masses, where):
    laws = np.asarray(normalise(masses))
    got = variation(np.where(where[:, None], laws, np.nan), where)
    chosen = [law.astype(float) for law, w in zip(laws, where, strict=True) if w]
    assert got == pytest.approx(oracle.law_variation(chosen), abs=2e-6)


def test_law_variation_exposes_a_constant_reader():
    """Constant laws are perfectly robust; only their lack of variation tells."""
    constant = jnp.broadcast_to(jnp.array(P0), (2, E, 3))
    score, _ = reward.robustness(constant, constant[:, :, None], jnp.ones((2, E, 1), bool))
    np.testing.assert_array_equal(score, 1)
    everywhere = jnp.ones((2, E), bool)
    assert variation(constant, everywhere) == pytest.approx(0, abs=1e-6)
    assert variation(jnp.eye(2), jnp.ones(2, bool)) == pytest.approx(0.3112781, abs=1e-6)
