import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy.token_law import EXCLUDED, Rule, entropy, first_best, log_law
from tests.helpers import oracles

RULES = [
    Rule(),
    Rule(temperature=0.5),
    Rule(temperature=2.0, top_k=3),
    Rule(top_k=1),
    Rule(top_k=99),
    Rule(top_p=0.6),
    Rule(top_p=1e-6),
    Rule(temperature=1.5, top_k=5, top_p=0.8),
    Rule(temperature=0.0, top_k=2, top_p=0.5),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_law_and_entropy_equal_the_oracle(rule):
    logits = np.random.default_rng(0).normal(0, 2, (6, 8)).astype(np.float32)
    expected = np.array(
        [oracles.law(row, rule.temperature, rule.top_k, rule.top_p) for row in logits]
    )
    got = log_law(jnp.asarray(logits), rule)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(np.exp(got), expected, atol=2e-6)
    np.testing.assert_array_equal(np.exp(got) == 0, expected == 0)
    np.testing.assert_allclose(entropy(got), [oracles.entropy(p) for p in expected], atol=2e-6)


@pytest.mark.parametrize("rule", [Rule(top_k=2), Rule(top_p=0.6)], ids=str)
def test_ties_at_the_threshold_are_kept(rule):
    law = np.exp(log_law(jnp.array([2.0, 1.0, 1.0, 0.0]), rule))
    np.testing.assert_allclose(law, [*oracles.law([2, 1, 1]), 0], atol=1e-6)


def test_the_nucleus_is_the_smallest_set_that_reaches_p():
    logits = jnp.log(jnp.array([0.5, 0.25, 0.125, 0.125]))
    reached = [int(np.sum(np.exp(log_law(logits, Rule(top_p=p))) > 0)) for p in (0.5, 0.51, 0.75)]
    assert reached == [1, 2, 2]
    tied = np.exp(log_law(logits, Rule(top_p=0.8)))
    np.testing.assert_allclose(tied, [0.5, 0.25, 0.125, 0.125], atol=1e-6)


def test_temperature_zero_is_a_point_mass_at_the_first_argmax():
    law = log_law(jnp.array([[1.0, 3.0, 3.0], [5.0, -2.0, 0.0]]), Rule(temperature=0.0))
    np.testing.assert_array_equal(
        law, np.float32([[EXCLUDED, 0, EXCLUDED], [0, EXCLUDED, EXCLUDED]])
    )
    np.testing.assert_array_equal(entropy(law), [0, 0])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_value_and_gradient_are_finite_for_extreme_logits(rule):
    def chosen(logits):
        law = log_law(logits, rule)
        return law[0] + entropy(law)

    logits = jnp.array([80.0, -1e4, 0.0, 3.0, 3.0, -jnp.float32(1e20)])
    with jax.debug_nans(True):
        value, gradient = jax.value_and_grad(chosen)(logits)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))


def test_gradient_is_that_of_the_masked_law():
    """d log p(a) / d logits = (1[v = a] - p(v)) / temperature on the kept tokens, 0 elsewhere."""
    logits = jnp.array([0.3, 2.0, 1.2, -1.0])
    gradient = jax.grad(lambda x: log_law(x, Rule(temperature=0.5, top_k=2))[2])(logits)
    p = oracles.law(logits, 0.5, 2)
    np.testing.assert_allclose(gradient, (np.eye(4)[2] - p) / 0.5, atol=1e-5)


def test_half_precision_logits_give_a_float32_law():
    law = log_law(jnp.array([1.0, 2.0, 3.0], jnp.bfloat16), Rule())
    np.testing.assert_allclose(np.exp(law), oracles.law([1, 2, 3]), atol=1e-6)


INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    "scores, best",
    [
        ([1.0, 3.0, 2.0], 1),
        ([1.0, 3.0, 3.0, 3.0], 1),  # ties: the first
        ([-2.0, -2.0], 0),
        ([-INF, EXCLUDED, -INF], 1),
        ([-INF, -INF], 0),
        ([0.0, INF, INF], 1),
        ([0.0, NAN, 1.0], 2),  # nothing equals NaN: a token that exists, the last
        ([NAN, NAN], 1),
    ],
    ids=str,
)
def test_the_best_is_the_first_of_equal_ones_and_always_a_token(scores, best):
    got = jax.jit(first_best)(jnp.array(scores))
    assert got.dtype == jnp.int32 and got == best
    if not np.any(np.isnan(scores)):
        assert got == np.argmax(scores)
