"""Advantages of outcomes: numbers of the papers, oracles, and the laws they obey."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax.advantage import baselines
from gccpo_jax.config import CreditConfig
from tests.helpers import oracles_advantages as oracle

G = 6
REWARDS = arrays(np.float32, G, elements=st.integers(-4, 4).map(lambda n: n / 4))
MASKS = arrays(bool, G)
EVERY = ("zscore", "leave_one_out", "mean", "pass_at_k")

RULES = {name: CreditConfig(kind="outcome", baseline=name, pass_k=2) for name in EVERY}
outcome_advantage = jax.jit(baselines.outcome_advantage, static_argnames=("rule",))
pass_at_k = jax.jit(baselines.pass_at_k, static_argnames=("k", "epsilon"))
mean_only = jax.jit(baselines.mean_only)


def masked(values, where):
    return [x if w else None for x, w in zip(values, where, strict=True)]


def filled(values):
    return [0.0 if x is None else x for x in values]


def all_of(values):
    return jnp.ones(len(values), bool)


@pytest.mark.parametrize(
    "rewards, expected",
    [([1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]), ([1, 0, 0, 1], [0.5, -0.5, -0.5, 0.5])],
)
def test_dr_grpo_numbers(rewards, expected):
    np.testing.assert_allclose(mean_only(jnp.float32(rewards), all_of(rewards)), expected)


@given(REWARDS, MASKS)
def test_dr_grpo_is_the_oracle_and_a_share_of_leave_one_out(r, where):
    got = np.asarray(mean_only(r, where))
    np.testing.assert_allclose(got, filled(oracle.mean_only(masked(r, where))), atol=1e-6)
    count = where.sum()
    if count > 1:
        others = np.asarray(baselines.leave_one_out(r, where))
        np.testing.assert_allclose(got, others * (count - 1) / count, atol=1e-6)


@pytest.mark.parametrize(
    "count, correct, k, positive, negative",
    [
        (4, 2, 2, 0.447214, -0.447214),
        (4, 1, 2, 1.0, -1 / 3),
        (8, 2, 4, 0.522233, -0.174078),
        (4, 2, 1, 1.0, -1.0),
    ],
)
def test_pass_at_k_numbers(count, correct, k, positive, negative):
    right = np.arange(count) < correct
    got = pass_at_k(right, all_of(right), k=k, epsilon=0.0)
    np.testing.assert_allclose(got, np.where(right, positive, negative), atol=2e-6)


@given(MASKS, MASKS, st.integers(1, 4))
def test_pass_at_k_is_the_enumeration_of_all_subsets(right, where, k):
    got = np.asarray(pass_at_k(right, where, k=k, epsilon=0.0))
    expected = filled(oracle.pass_at_k(masked(right.astype(float), where), k))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.sum() == pytest.approx(0, abs=1e-5)


@given(MASKS, MASKS)
def test_pass_at_one_is_the_zscore(right, where):
    expected = baselines.group_zscore(right.astype(np.float32), where, ddof=0, epsilon=0.0)
    np.testing.assert_allclose(pass_at_k(right, where, k=1, epsilon=0.0), expected, atol=1e-5)


def test_pass_at_k_is_exactly_zero_where_every_subset_or_none_has_a_right_one():
    for right in ([0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]):
        got = pass_at_k(jnp.array(right) > 0, jnp.ones(4, bool), k=2, epsilon=0.0)
        np.testing.assert_array_equal(got, np.zeros(4))
    few = jnp.array([True, True, False, False])  # two scorable, no subset of four
    got = pass_at_k(jnp.array([True, False, True, False]), few, k=4, epsilon=0.0)
    np.testing.assert_array_equal(got, np.zeros(4))


def test_pass_at_k_does_not_overflow():
    right = np.arange(1024) < 3
    got = np.asarray(pass_at_k(right, all_of(right), k=256, epsilon=1e-6))
    assert np.isfinite(got).all() and got[0] > 0 > got[-1]
    assert 3 * got[0] + 1021 * got[-1] == pytest.approx(0, abs=1e-2)


@given(REWARDS, MASKS, st.permutations(range(G)))
def test_every_baseline_obeys_the_laws_of_a_group(r, where, order):
    order = np.array(order)
    for name in EVERY:
        got = np.asarray(outcome_advantage(r, where, rule=RULES[name]))
        assert np.isfinite(got).all() and not got[~where].any()
        again = outcome_advantage(r[order], where[order], rule=RULES[name])
        np.testing.assert_allclose(again, got[order], atol=1e-5)
        noise = np.where(where, r, np.float32(7))  # what is masked is not read
        np.testing.assert_allclose(
            outcome_advantage(noise, where, rule=RULES[name]), got, atol=1e-6
        )


@given(st.floats(-2, 2, width=32), MASKS)
def test_a_group_without_contrast_gets_exactly_zero(value, where):
    r = np.full(G, value, np.float32)
    for name in EVERY:
        got = outcome_advantage(r, where, rule=dataclasses.replace(RULES[name], epsilon=0.0))
        np.testing.assert_array_equal(got, np.zeros(G))


def test_jit_is_eager_and_vmap_is_a_loop():
    batch = np.random.default_rng(0).integers(0, 2, (3, G)).astype(np.float32)
    where = np.random.default_rng(1).random((3, G)) < 0.8
    for name in EVERY:

        def one(r, w, name=name):
            return baselines.outcome_advantage(r, w, rule=RULES[name])

        loop = np.stack([outcome_advantage(r, w, rule=RULES[name]) for r, w in zip(batch, where)])  # noqa: B905
        np.testing.assert_allclose(jax.vmap(one)(batch, where), loop, atol=1e-6)
        np.testing.assert_allclose(one(jnp.asarray(batch[0]), where[0]), loop[0], atol=1e-6)


def test_a_group_is_kept_if_not_all_its_outcomes_are_one():
    for right in itertools.product([0.0, 1.0], repeat=3):
        for where in itertools.product([False, True], repeat=3):
            count = sum(r * w for r, w in zip(right, where, strict=True))
            keep = 0 < count < sum(where)
            assert bool(baselines.has_contrast(jnp.array(right), jnp.array(where))) == keep


def test_the_causal_weight():
    z, replaced, integrated, centre = (1.0, 0), (0.6, 0.2), (0.4, 0.4), (0.5, 0.5)
    vectors = [jnp.array(v) for v in (z, replaced, integrated, centre)]
    got = baselines.causal_weight(*vectors, alpha=2.0)
    assert got == pytest.approx(1.838290, abs=1e-6)
    assert got / 2 == pytest.approx(0.919145, abs=1e-6)
    # Shared samples, n = 1: Zbar = Zbar', centre = z, cosine 1: GRPO with alpha 1.
    same = baselines.causal_weight(vectors[0], vectors[1], vectors[1], vectors[0], alpha=1.0)
    assert same == pytest.approx(1.0)
    nothing = jnp.zeros(2)
    assert baselines.causal_weight(nothing, *vectors[1:], alpha=2.0) == 0
    assert np.isfinite(jax.grad(baselines.causal_weight)(nothing, *vectors[1:], alpha=2.0)).all()


@given(arrays(np.float32, (4, 3), elements=st.integers(-8, 8).map(lambda n: n / 4)))
def test_the_causal_weight_is_the_oracle_and_bounded(vectors):
    got = float(baselines.causal_weight(*jnp.asarray(vectors), alpha=2.0))
    expected = oracle.causal_weight(*vectors.astype(float), 2.0)
    assert got == pytest.approx(expected, abs=1e-5)
    assert abs(got) <= 2 + 1e-5


@pytest.mark.parametrize(
    "rewards, expected",
    [([1, 0, 0, 0], [3, -1, -1, -1]), ([1, 0, 0, 1], [1, -1, -1, 1]), ([0] * 4, [0] * 4)],
)
def test_maxrl_numbers(rewards, expected):
    got = baselines.maxrl(jnp.float32(rewards), jnp.ones(4, bool))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    left_out = baselines.maxrl(jnp.float32([*rewards, 9]), jnp.array([1, 1, 1, 1, 0], bool))
    np.testing.assert_allclose(left_out, [*expected, 0], atol=1e-6)
