"""GVPO against its oracle, its closed-form gradient and its solution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.objective.losses import gvpo_loss
from tests.helpers import oracles_objective as oracle

T = 6
# Sums of log-probabilities of three responses, now and before.
SUMS, OLD, REWARD = [-3.0, -4.0, -5.0], [-3.5, -4.0, -4.5], [1.0, 0.0, 0.0]


def group(sums):
    """[1, G, 2], half a token's log-probability each."""
    return jnp.broadcast_to(jnp.asarray(sums, jnp.float32)[None, :, None] / 2, (1, len(sums), 2))


@jax.jit
def gvpo(logp, old, reward, mask):
    def value(logp):
        loss = gvpo_loss(logp, old, reward, mask, scale=0.1)
        return loss.total / jnp.maximum(loss.denominator, 1), loss

    (value, loss), gradient = jax.value_and_grad(value, has_aux=True)(logp)
    return value, gradient, loss


def test_gvpo_number():
    mask = jnp.ones((1, 3, 2), bool)
    value, gradient, loss = gvpo(group(SUMS), group(OLD), jnp.array([REWARD]), mask)
    slope = [-0.030833, 0.016667, 0.014167]
    assert value == pytest.approx(0.142917, abs=1e-6) and loss.denominator == 1
    np.testing.assert_allclose(gradient[0], np.repeat(np.array(slope)[:, None], 2, 1), atol=1e-6)
    assert oracle.gvpo(SUMS, OLD, REWARD, 0.1) == pytest.approx(0.142917, abs=1e-6)
    np.testing.assert_allclose(oracle.gvpo_slope(SUMS, OLD, REWARD, 0.1), slope, atol=1e-6)


def gvpo_batch():
    """Three questions, four rollouts: whole, one row empty, and one row left (no group)."""
    random = np.random.default_rng(3)
    logp = jnp.asarray(-random.uniform(0.2, 2, (3, 4, T)), jnp.float32)
    old = jnp.asarray(logp + random.normal(0, 0.4, logp.shape), jnp.float32)
    reward = jnp.asarray(random.normal(size=(3, 4)), jnp.float32)
    lengths = np.array([[6, 2, 3, 1], [4, 0, 5, 6], [0, 0, 3, 0]])
    return logp, old, reward, jnp.asarray(np.arange(T) < lengths[..., None])


def test_gvpo_equals_the_oracle_over_the_rows_that_train():
    logp, old, reward, mask = gvpo_batch()
    value, gradient, loss = gvpo(logp, old, reward, mask)
    sums = [np.where(mask, x, 0).astype(np.float64).sum(-1) for x in (logp, old)]
    expected = 0.0
    for b in (0, 1):
        kept = np.asarray(mask[b].any(-1))
        args = (sums[0][b][kept], sums[1][b][kept], np.asarray(reward[b], np.float64)[kept], 0.1)
        expected += oracle.gvpo(*args) / 2
        slope = np.repeat(np.array(oracle.gvpo_slope(*args))[:, None] / 2, T, 1)
        np.testing.assert_allclose(gradient[b][kept], np.where(mask[b][kept], slope, 0), atol=1e-6)
    assert loss.denominator == 2 and value == pytest.approx(expected, rel=1e-5)
    assert not np.any(gradient[2]) and not np.any(gradient[~mask])


def test_gvpo_is_zero_exactly_at_its_solution_and_blind_to_a_constant_reward():
    _, old, reward, mask = gvpo_batch()
    solution = old + jnp.where(mask, ((reward + 3) / 0.1 / mask.sum(-1).clip(1))[..., None], 0.0)
    value, gradient, _ = gvpo(solution, old, reward, mask)
    assert value == pytest.approx(0, abs=1e-8) and np.abs(gradient).max() < 1e-5
    logp = gvpo_batch()[0]
    for a, b in zip(gvpo(logp, old, reward, mask), gvpo(logp, old, reward + 2, mask), strict=True):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), a, b)
    equal = jnp.zeros_like(reward)
    assert np.any(gvpo(logp, old, equal, mask)[1])  # equal rewards still pull ratios together


def test_gvpo_on_policy_is_reinforce_and_edges_are_finite():
    logp, old, reward, mask = gvpo_batch()
    _, gradient, _ = gvpo(logp, logp, reward, mask)
    centred = np.asarray(reward[0] - reward[0].mean())
    expected = np.where(mask[0], -0.1 / 3 * centred[:, None] / 2, 0)
    np.testing.assert_allclose(gradient[0], expected, atol=1e-7)
    for some in (jnp.zeros_like(mask), mask):
        value, gradient, _ = gvpo(
            jnp.where(some, logp, -jnp.inf),
            jnp.where(some, old, jnp.nan),
            jnp.where(some.any(-1), reward, jnp.nan),  # as of a response that could not be scored
            some,
        )
        assert np.isfinite(value) and np.isfinite(gradient).all()
    order = np.array([2, 0, 3, 1])
    moved, _, _ = gvpo(*(x[:, order] for x in (logp, old, reward, mask)))
    assert moved == pytest.approx(float(value), rel=1e-5)


def test_a_token_that_left_the_nucleus_leaves_the_others_their_gradient():
    """Log-probability -1e30 under the policy that is updated: e^-100 instead, no gradient."""
    logp, old, reward, mask = gvpo_batch()
    gone = logp.at[0, 0, 0].set(-1e30)
    value, gradient, _ = gvpo(gone, old, reward, mask)
    bounded, wanted, _ = gvpo(gone.at[0, 0, 0].set(-100.0 + 1e-5), old, reward, mask)
    assert value == pytest.approx(float(bounded), rel=1e-5) and value < 100
    assert gradient[0, 0, 0] == 0 and wanted[0, 0, 0] != 0
    np.testing.assert_allclose(gradient.at[0, 0, 0].set(wanted[0, 0, 0]), wanted, rtol=1e-5)
