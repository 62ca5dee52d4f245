from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.objective.kl import k3
from gccpo_jax.objective.losses import negative_log_likelihood, policy_loss
from gccpo_jax.objective.ratios import MAX_LOG_RATIO, clipped_surrogate
from gccpo_jax.objective.reductions import REDUCTIONS, reduce_tokens
from tests.helpers import oracles

N, T = 4, 6
LOSS = jax.jit(
    policy_loss, static_argnames=("clip_low", "clip_high", "beta", "reduction", "max_tokens")
)
PLAIN = dict(clip_low=0.2, clip_high=0.28, beta=0.0, reduction="token_mean", max_tokens=8)


@partial(jax.jit, static_argnames=tuple(PLAIN))
def value_and_gradient(logp, *rest, **options):
    def value(logp):
        loss = policy_loss(logp, *rest, **options)
        return loss.total / jnp.maximum(loss.denominator, 1)

    return jax.value_and_grad(value)(logp)


def measured(loss):
    """The fields of a loss that hold a number."""
    return {name: x for name, x in vars(loss).items() if x is not None}


def batch(seed=0, spread=0.4):
    """logp, behaviour, reference, advantage [N, T] and a ragged mask; row 2 is empty."""
    random = np.random.default_rng(seed)
    logp = -random.uniform(0.2, 2, (N, T))
    behaviour, reference = logp + random.normal(0, spread, (2, N, T))
    mask = np.arange(T) < np.array([6, 2, 0, 3])[:, None]
    floats = (logp, behaviour, reference, random.normal(size=(N, T)))
    return *(jnp.asarray(x, jnp.float32) for x in floats), jnp.asarray(mask)


@pytest.mark.parametrize(
    "ratio, advantage, high, expected",
    [
        (1.5, 1, 0.2, 1.2),
        (1.5, -1, 0.2, -1.5),
        (0.5, 1, 0.2, 0.5),
        (0.5, -1, 0.2, -0.8),
        (1.5, 1, 0.28, 1.28),
    ],
)
def test_clip_numbers(ratio, advantage, high, expected):
    got = clipped_surrogate(jnp.log(ratio), jnp.float32(advantage), 0.2, high)
    assert got == pytest.approx(expected, abs=1e-6)
    assert oracles.surrogate(ratio, advantage, 0.2, high) == pytest.approx(expected)


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("ratio", [0.5, 0.79, 0.81, 1.0, 1.27, 1.29, 3.0])
def test_the_gradient_is_zero_exactly_where_the_clip_is_active(ratio, advantage):
    gradient = jax.grad(clipped_surrogate)(jnp.log(ratio), advantage, 0.2, 0.28)
    active = (advantage > 0 and ratio > 1.28) or (advantage < 0 and ratio < 0.8)
    assert gradient == pytest.approx(0 if active else ratio * advantage, abs=1e-5)


def test_k3_numbers():
    """Two-way softmax (.5, .5) against the reference (.9, .1)."""
    d = jnp.log(jnp.array([0.9, 0.1])) - jnp.log(0.5)
    np.testing.assert_allclose(k3(d), [0.212213, 0.809438], atol=1e-6)
    assert k3(d).mean() == pytest.approx(0.510826, abs=1e-6)

    def expected(logits):
        """E_p[k3], the samples held fixed, as the loss differentiates it."""
        logp = jax.nn.log_softmax(logits)
        return jnp.sum(0.5 * k3(jnp.log(jnp.array([0.9, 0.1])) - logp))

    assert jax.grad(expected)(jnp.zeros(2))[0] == pytest.approx(-0.4, abs=1e-6)


def test_k3_is_zero_only_at_equality_and_bounded():
    d = jnp.array([0.0, -0.1, 0.1, 100.0, -100.0, -1e30])
    got = np.asarray(k3(d))
    assert got[0] == 0 and (got[1:] > 0).all() and (got <= 10).all()
    np.testing.assert_allclose(got[1:3], [oracles.k3(-0.1), oracles.k3(0.1)], atol=1e-6)


def test_one_batch_that_separates_the_reductions():
    """On-policy, A = (1, -1), lengths 2 and 4, limit 8."""
    mask = np.arange(4) < np.array([2, 4])[:, None]
    advantage = np.ones((2, 4)) * np.array([[1.0], [-1.0]])
    expected = {
        "seq_mean_token_mean": 0.0,
        "token_mean": 1 / 3,
        "seq_mean_token_sum": 1.0,
        "seq_mean_token_sum_norm": 0.125,
    }
    zeros = jnp.zeros((2, 4))
    assert set(expected) == set(REDUCTIONS)
    for reduction, value in expected.items():
        loss = LOSS(zeros, zeros, zeros, advantage, mask, **PLAIN | {"reduction": reduction})
        assert loss.total / loss.denominator == pytest.approx(value, abs=1e-6)
        assert oracles.reduce(-advantage, mask, reduction, 8) == pytest.approx(value)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_loss_and_gradient_equal_the_oracle(reduction):
    options = PLAIN | {"reduction": reduction, "beta": 0.04}
    arrays = batch()
    value, gradient = value_and_gradient(*arrays, **options)
    numbers = [np.asarray(x, np.float64) for x in arrays[:4]]
    mask = np.asarray(arrays[4])

    def oracle(logp):
        return oracles.policy_loss(logp, *numbers[1:], mask, 0.2, 0.28, 0.04, reduction, 8)

    assert value == pytest.approx(oracle(numbers[0]), abs=1e-6)
    for i, t in np.ndindex(N, T):
        step = np.zeros((N, T))
        step[i, t] = 1e-6
        slope = (oracle(numbers[0] + step) - oracle(numbers[0] - step)) / 2e-6
        assert gradient[i, t] == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_on_policy_gradient_is_that_of_reinforce(reduction):
    logp, _, _, advantage, mask = batch()

    def reinforce(logp):
        total, count = reduce_tokens(-advantage * logp, mask, reduction, 8)
        return total / count

    options = PLAIN | {"reduction": reduction}
    _, gradient = value_and_gradient(logp, logp, logp, advantage, mask, **options)
    np.testing.assert_allclose(gradient, jax.grad(reinforce)(logp), atol=1e-7)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("cut", [1, 3])
def test_micro_batches_add_up_to_the_whole(reduction, cut):
    arrays = batch()
    options = PLAIN | {"reduction": reduction, "beta": 0.04}
    whole = LOSS(*arrays, **options)
    parts = [LOSS(*(x[rows] for x in arrays), **options) for rows in (slice(cut), slice(cut, N))]
    added = jax.tree.map(jnp.add, *parts)
    for name, value in measured(whole).items():
        assert getattr(added, name) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_padding_changes_nothing(reduction):
    arrays = batch()
    options = PLAIN | {"reduction": reduction, "beta": 0.04}
    value, gradient = value_and_gradient(*arrays, **options)
    garbage = [jnp.pad(x, ((0, 1), (0, 2)), constant_values=-7.0) for x in arrays[:4]]
    mask = jnp.pad(arrays[4], ((0, 1), (0, 2)))
    padded, wide = value_and_gradient(*garbage, mask, **options)
    assert padded == pytest.approx(float(value), rel=1e-6)
    np.testing.assert_allclose(wide[:N, :T], gradient, rtol=1e-6)
    assert not wide[N:].any() and not wide[:, T:].any() and not wide[:N, :T][~arrays[4]].any()


def test_only_the_policy_has_a_gradient():
    arrays = batch()

    def value(*floats):
        return policy_loss(*floats, arrays[4], **PLAIN | {"beta": 0.04}).total

    gradients = jax.grad(value, argnums=(0, 1, 2, 3))(*arrays[:4])
    assert np.any(gradients[0])
    for gradient in gradients[1:]:
        assert not np.any(gradient)


def test_the_reference_is_not_read_without_a_penalty():
    logp, behaviour, _, advantage, mask = batch()
    nothing = jnp.full((N, T), jnp.nan)
    loss = LOSS(logp, behaviour, nothing, advantage, mask, **PLAIN)
    assert np.isfinite(loss.total) and loss.kl == 0


def test_what_is_logged():
    logp, behaviour, reference, advantage, mask = batch(spread=0.6)
    loss = LOSS(logp, behaviour, reference, advantage, mask, **PLAIN | {"beta": 0.04})
    at = np.argwhere(mask)
    ratio = [np.exp(float(logp[i, t] - behaviour[i, t])) for i, t in at]
    clipped = [
        (a > 0 and w > 1.28) or (a < 0 and w < 0.8)
        for w, a in zip(ratio, [float(advantage[i, t]) for i, t in at], strict=True)
    ]
    assert 0 < sum(clipped) < len(at)
    assert loss.tokens == len(at)
    assert loss.clipped == sum(clipped)
    assert loss.ratio == pytest.approx(sum(ratio), rel=1e-5)
    kl = sum(oracles.k3(float(reference[i, t] - logp[i, t])) for i, t in at)
    assert loss.kl == pytest.approx(kl, rel=1e-5)
    drift = sum(oracles.k3(np.log(w)) for w in ratio)
    assert loss.drift == pytest.approx(drift, rel=1e-5)
    assert {x.dtype for x in measured(loss).values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", ["empty", "padding is not finite", "extreme ratio", "no contrast"])
def test_value_and_gradient_are_finite_at_the_edges(reduction, case):
    logp, behaviour, reference, advantage, mask = batch()
    if case == "empty":
        mask = jnp.zeros_like(mask)
    if case == "padding is not finite":
        behaviour = jnp.where(mask, behaviour, -jnp.inf)
        advantage = jnp.where(mask, advantage, jnp.inf)
    if case == "extreme ratio":
        logp = logp.at[0, 0].set(-1e30)
        behaviour = behaviour.at[1, 0].set(-1e30)
    if case == "no contrast":
        advantage = jnp.zeros_like(advantage)
    options = PLAIN | {"reduction": reduction, "beta": 0.04}
    with jax.debug_nans(True):
        value, gradient = value_and_gradient(logp, behaviour, reference, advantage, mask, **options)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert not np.any(gradient[~mask])
    if case == "empty":
        assert value == 0


def test_the_clamp_alters_nothing_in_range():
    log_ratio = jnp.array([-MAX_LOG_RATIO + 1, -1.0, 0.0, 1.0, MAX_LOG_RATIO - 1])
    got = clipped_surrogate(log_ratio, -jnp.ones(5), 1.0, 1e30)
    np.testing.assert_allclose(got, -np.exp(np.asarray(log_ratio, np.float64)), rtol=1e-5)


def test_supervised_loss_is_the_token_mean():
    logp, *_, mask = batch()
    loss = negative_log_likelihood(logp, mask)
    expected = -np.asarray(logp)[np.asarray(mask)].mean()
    assert loss.total / loss.denominator == pytest.approx(expected, rel=1e-6)
    empty = negative_log_likelihood(logp, jnp.zeros_like(mask))
    assert (empty.total, empty.denominator) == (0, 0)


def test_jit_equals_plain():
    arrays = batch()
    options = PLAIN | {"beta": 0.04}
    plain, fast = policy_loss(*arrays, **options), LOSS(*arrays, **options)
    for name, value in measured(plain).items():
        assert getattr(fast, name) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("reduction, limit", [("mean", 8), ("seq_mean_token_sum_norm", None)])
def test_a_wrong_reduction_is_refused_with_its_name(reduction, limit):
    with pytest.raises(ValueError, match=reduction):
        reduce_tokens(jnp.zeros((1, 1)), jnp.ones((1, 1), bool), reduction, limit)
