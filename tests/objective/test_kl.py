import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.objective.kl import ESTIMATORS, corrected, estimate, k3
from tests.helpers import oracles_objective as oracle

REFERENCE = jnp.log(jnp.array([0.9, 0.1]))
TRUE = -0.549306  # d KL / d logit_0 at logits 0


def mean_gradient(value_of, logits, sampler=None):
    """d/dlogits of the sum over tokens of (fixed probability) x value: what a loss sees on average.

    `value_of(logp)` gives a value a token [V].
    """
    probs = jax.lax.stop_gradient(jax.nn.softmax(logits)) if sampler is None else sampler
    return jax.grad(lambda x: jnp.sum(probs * value_of(jax.nn.log_softmax(x))))(logits)


@pytest.mark.parametrize(
    "estimator, values, mean, gradient",
    [
        ("k1", (-0.587787, 1.609438), 0.510826, 0.0),
        ("k2", (0.172747, 1.295145), 0.733946, TRUE),
        ("k3", (0.212213, 0.809438), 0.510826, -0.4),
        ("k3_k2", (0.212213, 0.809438), 0.510826, TRUE),
    ],
)
def test_numbers(estimator, values, mean, gradient):
    """Policy (.5, .5), reference (.9, .1); KL is .510826."""
    got = estimate(REFERENCE - jnp.log(0.5), estimator)
    np.testing.assert_allclose(got, values, atol=1e-6)
    assert got.mean() == pytest.approx(mean, abs=1e-6)
    slope = mean_gradient(lambda logp: estimate(REFERENCE - logp, estimator), jnp.zeros(2))
    assert slope[0] == pytest.approx(gradient, abs=1e-6)


@given(d=st.floats(-2.3, 2.3), estimator=st.sampled_from(ESTIMATORS))
def test_values_are_the_oracles_and_k2_k3_are_not_negative(d, estimator):
    got = estimate(jnp.float32(d), estimator)
    assert got == pytest.approx(oracle.kl_value(d, estimator), rel=1e-4, abs=1e-6)
    assert estimator == "k1" or got >= -1e-6


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bounded_with_finite_gradients(estimator):
    d = jnp.array([-1e30, -100.0, 0.0, 100.0, 1e30])
    value, gradient = jax.vmap(jax.value_and_grad(lambda x: estimate(x, estimator)))(d)
    assert np.abs(value).max() <= 200 and np.isfinite(gradient).all() and value[2] == 0
    assert not np.any(gradient[jnp.array([0, 1, 3, 4])])


@pytest.mark.parametrize("estimator", ["k1", "k3", "k3_k2"])
def test_corrected_values_average_to_kl_under_another_sampler(estimator):
    for seed in range(5):
        p, q, sampler = np.random.default_rng(seed).dirichlet(np.full(4, 3.0), 3)
        logp = jnp.log(jnp.asarray(p, jnp.float32))
        value = corrected(np.log(q) - logp, logp - np.log(sampler), estimator)
        assert (sampler * value).sum() == pytest.approx((p * np.log(p / q)).sum(), abs=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_corrected_gradients_are_those_of_kl_under_another_sampler(estimator):
    for seed in range(5):
        random = np.random.default_rng(seed)
        q, sampler = (jnp.asarray(x, jnp.float32) for x in random.dirichlet(np.full(4, 3.0), 2))
        logits = jnp.asarray(random.normal(0, 0.5, 4), jnp.float32)

        def kl(logits, q=q):
            logp = jax.nn.log_softmax(logits)
            return jnp.sum(jnp.exp(logp) * (logp - jnp.log(q)))

        def value(logp, q=q, sampler=sampler):
            return corrected(jnp.log(q) - logp, logp - jnp.log(sampler), estimator)

        got = mean_gradient(value, logits, sampler)
        np.testing.assert_allclose(got, jax.grad(kl)(logits), atol=1e-5)


def test_k3_is_corrected_like_the_others_on_policy():
    """With w = 1 in value, differentiating w alone turns -.4 into KL's -.549306."""
    behaviour = jnp.log(jnp.array([0.5, 0.5]))
    slope = mean_gradient(
        lambda logp: corrected(REFERENCE - logp, logp - behaviour, "k3"), jnp.zeros(2)
    )
    assert slope[0] == pytest.approx(TRUE, abs=1e-6)


def test_the_clamps_alter_nothing_in_range():
    d = jnp.array([-9.0, -1.0, 0.5, 2.3])
    np.testing.assert_allclose(k3(d), np.exp(np.asarray(d, float)) - np.asarray(d) - 1, rtol=1e-5)
    np.testing.assert_allclose(estimate(d * 2, "k1"), -2 * d)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="KL estimator 'k4': choose one of k3, k3_k2, k2, k1"):
        estimate(jnp.zeros(1), "k4")
