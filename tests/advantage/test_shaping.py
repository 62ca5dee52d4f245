"""Rewards shaped by length and entropy: numbers, oracles, laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax.advantage import baselines, shaping
from tests.helpers import oracles_advantages as oracle

G, T = 4, 5
MASKS = arrays(bool, G)
ENTROPY = arrays(np.float32, (G, T), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 3.0]))
LENGTHS = arrays(np.int32, G, elements=st.integers(1, T))
OPTIONS = {"base": 1.0, "bonus": 0.1, "floor": 1e-6}

gtpo_rewards = jax.jit(shaping.gtpo_rewards, static_argnames=("base", "bonus", "floor"))
STATIC = ("base", "bonus", "floor", "ddof", "epsilon")
SCALED = OPTIONS | {"ddof": 1, "epsilon": 1e-4}
gtpo = partial(jax.jit(shaping.gtpo, static_argnames=STATIC), **SCALED)
grpo_s = partial(jax.jit(shaping.grpo_s, static_argnames=STATIC), **SCALED)
penalised = jax.jit(shaping.length_penalised, static_argnames="alpha")


@pytest.mark.parametrize(
    "length, limit, buffer, expected",
    [
        (16384, 20480, 4096, 0.0),
        (18432, 20480, 4096, -0.5),
        (20480, 20480, 4096, -1.0),
        (20481, 20480, 4096, -1.0),
        (90, 100, 20, -0.5),
        (1, 100, 20, 0.0),
    ],
)
def test_soft_overlong_numbers(length, limit, buffer, expected):
    got = shaping.soft_overlong(jnp.int32(length), limit=limit, buffer=buffer)
    assert got == expected == oracle.soft_overlong(length, limit, buffer)


@given(st.integers(0, 300), st.integers(1, 200), st.integers(0, 100))
def test_soft_overlong_is_the_oracle(length, buffer, room):
    got = shaping.soft_overlong(jnp.int32(length), limit=buffer + room, buffer=buffer)
    assert got == pytest.approx(oracle.soft_overlong(length, buffer + room, buffer), abs=1e-6)


def test_length_penalty_numbers():
    outcome, length = jnp.array([1.0, 1, 1, 0]), jnp.array([100, 200, 300, 50])
    yes = jnp.ones(4, bool)
    got = penalised(outcome, length, yes, yes, alpha=0.1)
    np.testing.assert_allclose(got, [0.977290, 0.95, 0.922710, 0], atol=1e-6)
    rloo = baselines.leave_one_out(got, yes)
    np.testing.assert_allclose(rloo, [0.353053, 0.316667, 0.280280, -0.95], atol=1e-6)
    single = penalised(jnp.array([1.0, 0, 0, 0]), length, yes, yes, alpha=0.1)
    np.testing.assert_allclose(single, [0.95, 0, 0, 0], atol=1e-7)


@given(MASKS, LENGTHS, MASKS, MASKS)
def test_length_penalty_is_the_oracle_and_keeps_right_above_wrong(right, length, finished, where):
    got = np.asarray(penalised(right.astype(np.float32), length, finished, where, alpha=0.4))
    rows = [
        (float(r), int(n), bool(d)) if w else None
        for r, n, d, w in zip(right, length, finished, where, strict=True)
    ]
    expected = [0.0 if x is None else x for x in oracle.length_penalised(rows, 0.4)]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    paid = right & finished & where
    assert (got[paid] > 0.5).all() and not got[~paid].any()
    plain = np.asarray(penalised(right.astype(np.float32), length, finished, where, alpha=0.0))
    np.testing.assert_array_equal(plain, paid)


def group(*rows):
    """Entropy [G, T] and mask of lists of numbers; padding holds nonsense."""
    size = max(map(len, rows))
    entropy = np.full((len(rows), size), 9.0, np.float32)
    inside = np.zeros(entropy.shape, bool)
    for i, row in enumerate(rows):
        entropy[i, : len(row)] = row
        inside[i, : len(row)] = True
    return jnp.asarray(entropy), jnp.asarray(inside)


def test_gtpo_numbers():
    entropy, inside = group([1, 2], [3], [0.5, 1])
    right = jnp.array([True, True, False])
    got = gtpo_rewards(right, entropy, inside, **OPTIONS)
    np.testing.assert_allclose(got, [[1.05, 1.1], [1.15, 0], [-1.1, -1.1]], atol=1e-6)
    scaled = gtpo(right, entropy, inside, ddof=0, epsilon=0.0)
    np.testing.assert_allclose(scaled[:2], [[0.722470, 0.815094], [0.907719, 0]], atol=1e-5)
    entropy, inside = group([0.5], [2])
    got = gtpo_rewards(jnp.array([False, False]), entropy, inside, **OPTIONS)
    np.testing.assert_allclose(got[:, 0], [-1.16, -1.04], atol=1e-6)


def test_grpo_s_numbers():
    entropy, inside = group([0.5, 1.5], [3])
    yes = jnp.ones(2, bool)
    got = shaping.grpo_s_rewards(yes, entropy, inside, yes, **OPTIONS)
    np.testing.assert_allclose(got, [1.05, 1.15], atol=1e-6)


@given(MASKS, ENTROPY, LENGTHS, MASKS)
def test_gtpo_is_the_oracle_and_sums_to_its_share_at_every_token(right, entropy, length, where):
    inside = (np.arange(T) < length[:, None]) & where[:, None]
    rows = [h[:n].tolist() if w else None for h, n, w in zip(entropy, length, where, strict=True)]
    got = np.asarray(gtpo_rewards(right, entropy, inside, **OPTIONS))
    scaled = np.asarray(gtpo(right, entropy, inside))
    for i, (row, z) in enumerate(
        zip(oracle.gtpo_rewards(right, rows), oracle.gtpo(right, rows), strict=True)
    ):
        size = 0 if row is None else len(row)
        np.testing.assert_allclose(got[i, :size], row or [], rtol=1e-5)
        np.testing.assert_allclose(scaled[i, :size], z or [], atol=2e-3)
        assert not got[i, size:].any() and not scaled[i, size:].any()
    for t in range(T):
        for side, sign in ((right, 1), (~right, -1)):
            total = got[side & inside[:, t], t].sum()
            assert total == pytest.approx(sign * 1.1 * (side & inside[:, t]).sum(), rel=1e-4)


@given(MASKS, ENTROPY, LENGTHS, MASKS)
def test_grpo_s_is_the_oracle(right, entropy, length, where):
    inside = (np.arange(T) < length[:, None]) & where[:, None]
    means = [
        float(np.mean(h[:n].astype(float))) if w else None
        for h, n, w in zip(entropy, length, where, strict=True)
    ]
    rewards = oracle.grpo_s_rewards(right, means)
    got = np.asarray(shaping.grpo_s_rewards(right, entropy, inside, where, **OPTIONS))
    np.testing.assert_allclose(got, [0 if r is None else r for r in rewards], rtol=1e-5)
    count = (right & where).sum()
    assert got[right & where].sum() == pytest.approx(1.1 * count, rel=1e-5)
    rounded = [None if r is None else round(r, 9) for r in rewards]
    expected = [0 if a is None else a for a in oracle.zscore(rounded)]
    np.testing.assert_allclose(grpo_s(right, entropy, inside, where), expected, atol=2e-3)


@pytest.mark.parametrize("right", [[1, 1, 1, 1], [0, 0, 0, 0]])
def test_equal_entropies_in_a_unanimous_group_give_exactly_zero(right):
    """Though float32 sums of different numbers of equal entropies round differently."""
    right = jnp.array(right) > 0
    inside = jnp.arange(7)[None] < jnp.array([7, 6, 5, 3])[:, None]
    yes = jnp.ones(G, bool)
    for value in (0.3, 0.7, 1.1, 2.3, 0.013):
        entropy = jnp.full((G, 7), value)
        assert not np.asarray(gtpo(right, entropy, inside, bonus=3.0, epsilon=0.0)).any()
        found = grpo_s(right, entropy, inside, yes, bonus=3.0, epsilon=0.0)
        assert not np.asarray(found).any()


def test_without_entropy_the_signs_are_those_of_the_outcomes():
    right = jnp.array([True, False, False, True])
    entropy = jnp.asarray(np.random.default_rng(0).exponential(1, (G, 3)), jnp.float32)
    got = np.asarray(gtpo(right, entropy, jnp.ones((G, 3), bool), bonus=0.0))
    assert (got[[0, 3]] > 0).all() and (got[[1, 2]] < 0).all()


def test_padding_order_and_masked_rows_change_nothing():
    random = np.random.default_rng(3)
    entropy = random.exponential(1, (G, T)).astype(np.float32)
    inside = np.arange(T) < np.array([5, 2, 3, 4])[:, None]
    right = np.array([True, False, True, False])
    got = np.asarray(gtpo(right, entropy, inside))
    wider = shaping.gtpo(
        jnp.asarray(right),
        jnp.pad(jnp.asarray(entropy), ((0, 0), (0, 3)), constant_values=jnp.nan),
        jnp.pad(jnp.asarray(inside), ((0, 0), (0, 3))),
        **SCALED,
    )
    np.testing.assert_allclose(wider[:, :T], got, atol=1e-5)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        gtpo(right[order], entropy[order], inside[order]), got[order], atol=1e-5
    )
    assert not np.asarray(gtpo(right, entropy, inside & False)).any()
