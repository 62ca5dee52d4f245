import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.objective.ratios import (
    CORRECTIONS,
    capped_weight,
    clip_is_active,
    clipped_surrogate,
    safe_ratio,
    sampler_correction,
    sequence_log_ratio,
    sequence_token_log_ratio,
)
from tests.helpers import oracles_objective as oracle

SIGNED = st.floats(-3, 3)
ROWS = st.lists(st.floats(-2, 2), min_size=1, max_size=6)
PAD = 6


def padded(row, fill=-7.0):
    """A row of up to six numbers and its mask."""
    values = jnp.asarray(list(row) + [fill] * (PAD - len(row)), jnp.float32)
    return values, jnp.arange(PAD) < len(row)


def test_dual_clip_number():
    assert clipped_surrogate(jnp.log(5.0), -1.0, 0.2, 0.2) == pytest.approx(-5)
    assert clipped_surrogate(jnp.log(5.0), -1.0, 0.2, 0.2, 3.0) == pytest.approx(-3)
    assert oracle.surrogate(5, -1, 0.2, 0.2, 3) == -3


@given(log_ratio=SIGNED, advantage=SIGNED, dual=st.sampled_from([1.5, 3.0, 4.0]))
def test_the_dual_clip_is_the_two_sided_clip(log_ratio, advantage, dual):
    got = clipped_surrogate(jnp.float32(log_ratio), jnp.float32(advantage), 0.2, 0.28, dual)
    for f in (oracle.surrogate, oracle.two_sided):
        expected = f(np.exp(log_ratio), advantage, 0.2, 0.28, dual)
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("ratio", [0.3, 0.79, 0.81, 1.0, 1.27, 1.29, 2.9, 3.1, 9.0])
@pytest.mark.parametrize("advantage", [-2.0, 1.0])
@pytest.mark.parametrize("dual", [0.0, 3.0])
def test_active_is_where_the_gradient_is_zero(ratio, advantage, dual):
    args = (jnp.log(ratio), advantage, 0.2, 0.28, dual)
    gradient = jax.grad(clipped_surrogate)(*args)
    assert bool(clip_is_active(*args)) == (gradient == 0)


def test_sequence_ratio_numbers():
    for row, expected in (([0.2, -0.1], 1.051271), ([-0.05, 0.01, 0.01], 0.990050)):
        x, mask = padded(row)
        for f in (sequence_log_ratio, sequence_token_log_ratio):
            np.testing.assert_allclose(jnp.exp(f(jnp.where(mask, x, 0.0), mask))[0], expected, 2e-6)
        assert oracle.sequence_ratio(row) == pytest.approx(expected, abs=1e-6)


@given(row=ROWS)
def test_a_token_with_ratio_s_leaves_s_alone(row):
    mean = sum(row) / len(row)
    before, after = (
        sequence_log_ratio(*padded(r))[0] for r in (row, row[:5] + [mean] * (len(row) < 6))
    )
    if len(row) < 6:
        assert after == pytest.approx(float(before), abs=1e-5)
    assert before == pytest.approx(np.log(oracle.sequence_ratio(row)), abs=1e-5)


def test_of_one_token_the_sequence_is_the_token():
    x, mask = padded([0.7])
    assert sequence_log_ratio(x, mask)[0] == pytest.approx(0.7)


def test_sequence_ratios_are_bounded_and_empty_rows_are_one():
    huge, mask = padded([1e30] * 6)
    assert sequence_log_ratio(huge, mask)[0] == 10
    assert sequence_log_ratio(-huge, mask)[0] == -20
    for f in (sequence_log_ratio, sequence_token_log_ratio):
        assert not np.any(f(jnp.zeros(PAD), jnp.zeros(PAD, bool)))


def test_capped_weight_numbers():
    log_ratio = jnp.array([-0.5, -2.0]) - jnp.array([-1.0, -1.0])
    np.testing.assert_allclose(safe_ratio(log_ratio), [1.648721, 0.367879], atol=1e-6)
    np.testing.assert_allclose(capped_weight(log_ratio, 1.28), [1.28, 0.367879], atol=1e-6)
    assert not np.any(jax.jacrev(lambda x: capped_weight(x, 1.28))(log_ratio))


def test_sampler_correction_numbers():
    trainer, sampler = jnp.array([-1.0, -1.0, -1.0]), jnp.array([-1.0, -2.0, -0.5])
    mask = jnp.ones(3, bool)
    for mode, low, high, expected in (
        ("token_truncate", 0.0, 2.0, [1, 2, 0.606531]),
        ("token_mask", 0.5, 2.0, [1, 0, 0.606531]),
        ("sequence_truncate", 0.0, 2.0, [1.648721] * 3),
        ("sequence_truncate", 0.0, 1.5, [1.5] * 3),
        ("sequence_mask", 0.0, 3.0, [1.648721] * 3),
        ("sequence_mask", 0.0, 1.5, [0] * 3),
        ("geometric_mask", 0.999, 1.001, [0] * 3),
        ("geometric_mask", 0.9, 1.2, [1] * 3),
    ):
        got = sampler_correction(trainer, sampler, mask, mode, high, low)
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("mode", CORRECTIONS)
@given(row=st.lists(st.tuples(SIGNED, SIGNED), min_size=1, max_size=6))
def test_sampler_correction_equals_the_oracle_without_gradient(mode, row):
    trainer, sampler = ([-abs(x[i]) - 0.1 for x in row] for i in (0, 1))
    (ours, mask), (theirs, _) = padded(trainer), padded(sampler, fill=-np.inf)
    low, high = 0.517, 1.933
    got = sampler_correction(ours, theirs, mask, mode, high, low)
    expected = oracle.sampler_weights(trainer, sampler, mode, low, high)
    np.testing.assert_allclose(got[: len(row)], expected, rtol=1e-4)
    assert not np.any(got[len(row) :])
    gradient = jax.grad(lambda x: sampler_correction(x, theirs, mask, mode, high, low).sum())(ours)
    assert not np.any(gradient)


@pytest.mark.parametrize("mode", CORRECTIONS)
def test_one_policy_needs_no_correction(mode):
    x, mask = padded([-0.3, -2.0])
    np.testing.assert_array_equal(sampler_correction(x, x, mask, mode, 2.0, 0.5), mask)


def test_truncated_weights_average_at_most_one():
    """E over the sampler of min(p / q, C) <= sum q p / q = 1."""
    for seed in range(20):
        p, q = np.random.default_rng(seed).dirichlet(np.ones(5), 2).astype(np.float32)
        weights = sampler_correction(
            jnp.log(p), jnp.log(q), jnp.ones(5, bool), "token_truncate", 2.0
        )
        assert (weights * q).sum() <= 1 + 1e-5


def test_an_unknown_correction_is_refused():
    with pytest.raises(ValueError, match="'token': choose one of token_truncate"):
        sampler_correction(jnp.zeros(1), jnp.zeros(1), jnp.ones(1, bool), "token", 2.0)
