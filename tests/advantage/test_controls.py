"""Control arms: numbers worked out by hand, degenerate groups, and credit on the wrong steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.advantage import controls
from gccpo_jax.advantage.controls import inverted, permuted
from gccpo_jax.advantage.step_advantages import discounted_effects, recentre, token_mean
from gccpo_jax.config import CreditConfig
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, fresh_tapes, independent_tapes
from tests.helpers.groups import credit_one, group

YES = jnp.bool_(True)
KEYS = jax.random.split(jax.random.key(5), 4)
PAIR = jnp.array([[[0.7, 0.2, 0.1]], [[0.5, 0.3, 0.2]]])  # [G = 2, E = 1, A = 3]
SEEN = jnp.ones((2, 1), bool)


def test_siblings_stand_where_perturbations_do_in_the_method():
    robust, defined = controls.sibling_robustness(PAIR, SEEN)
    np.testing.assert_allclose(robust, [[1 - 0.0315967], [1 - 0.0315967]], atol=1e-6)
    assert defined.all()
    alone, defined = controls.sibling_robustness(PAIR, jnp.array([[True], [False]]))
    assert not defined.any() and not alone.any()


def test_the_value_of_a_step_is_the_outcome_of_those_whose_law_is_alike():
    laws = jnp.array([[[1.0, 0, 0]], [[1.0, 0, 0]], [[0, 1.0, 0]]])
    found = controls.sibling_value(laws, jnp.array([0.0, 1.0, 0.0]), jnp.ones((3, 1), bool))
    np.testing.assert_allclose(found[:2, 0], [1.0, 0.0])  # the third weighs nothing
    assert np.isnan(found[2, 0])  # nobody is like it
    same = jnp.broadcast_to(PAIR[:1], (3, 1, 3))
    equal = controls.sibling_value(same, jnp.array([0.0, 1.0, 1.0]), jnp.ones((3, 1), bool))
    np.testing.assert_allclose(equal[:, 0], [1.0, 0.5, 0.5])  # the leave-one-out mean


def test_variance_and_entropy():
    laws = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    variance, defined = controls.sibling_variance(laws, SEEN)
    np.testing.assert_allclose(variance, 0.5)
    assert defined.all()
    np.testing.assert_array_equal(controls.sibling_variance(PAIR[:1], SEEN[:1])[1], [[False]])
    np.testing.assert_allclose(controls.entropy(laws), 0.0)
    np.testing.assert_allclose(controls.entropy(jnp.full((4,), 0.25)), 1.0, rtol=1e-6)
    assert np.isfinite(jax.grad(controls.entropy)(jnp.array([1.0, 0.0]))).all()


def test_unsigned_terms_keep_the_outcome_on_the_last_step():
    score = jnp.array([[0.9, 0.8, 0.7], [0.5, 0.4, 9.0], [9.0, 9.0, 9.0]])
    mask = jnp.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], bool)
    scorable = jnp.array([True, True, False])
    got = controls.with_outcome(score, jnp.array([1.0, 0.0, 7.0]), scorable, mask)
    np.testing.assert_allclose(got, [[0.9, 0.8, 0.5], [0.5, -0.5, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    "term", ["observational", "non_causal", "robustness", "effect_size", "selectivity"]
)
def test_a_control_logs_the_scores_of_the_method_and_trains_on_another(term):
    data = group(1)
    method = credit_one(*data, YES, rule=CreditConfig())
    other = credit_one(*data, YES, rule=CreditConfig(step_term=term))
    for name in ("effect", "robustness", "gated", "sensitivity"):
        np.testing.assert_array_equal(getattr(method, name), getattr(other, name), err_msg=name)
    assert np.abs(np.asarray(method.advantage - other.advantage)).max() > 0.01


def test_observed_arms_do_not_read_what_was_intervened_on():
    reading, spans, rollout = group(2)
    nothing = jax.tree.map(lambda x: jnp.zeros_like(x), (reading.nuisance, reading.content))
    without = type(reading)(
        **vars(reading) | {"nuisance": nothing[0], "content": nothing[1],
                           "value": jnp.full_like(reading.value, jnp.nan)}
    )  # fmt: skip
    for term in ("observational", "non_causal"):
        rule = CreditConfig(step_term=term)
        np.testing.assert_array_equal(
            credit_one(reading, spans, rollout, YES, rule=rule).advantage,
            credit_one(without, spans, rollout, YES, rule=rule).advantage,
        )


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 5))
def test_a_permutation_keeps_a_trajectory_s_credit(seed, count):
    values = jnp.arange(1.0, 6.0)
    mask = jnp.arange(5) < count
    got = np.asarray(permuted(jax.random.key(seed), values, mask))
    assert sorted(got[:count]) == list(values[:count]) and not got[count:].any()


def test_permutations_are_uniform():
    keys = jax.random.split(jax.random.key(0), 3000)
    orders = jax.vmap(lambda key: permuted(key, jnp.arange(3.0), jnp.ones(3, bool)))(keys)
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 400


def test_an_inversion_keeps_the_mean_over_tokens():
    got = inverted(jnp.array([0.3, -0.1, 5.0]), jnp.array([10, 30, 0]), jnp.array([1, 1, 0], bool))
    np.testing.assert_allclose(got, [-0.3, 0.1, 0.0], atol=1e-7)
    values, tokens = jnp.array([0.5, -0.25]), jnp.array([10, 30])
    twice = inverted(inverted(values, tokens, SEEN[:, 0]), tokens, SEEN[:, 0])
    np.testing.assert_allclose(twice, values, atol=1e-6)


@pytest.mark.parametrize("control", ["permuted", "inverted"])
def test_controlled_credit_is_on_other_steps_of_the_same_trajectories(control):
    reading, spans, rollout = group(3, counts=[3, 3, 2, 3])
    credit = credit_one(reading, spans, rollout, YES, rule=CreditConfig())
    found = credit_one(reading, spans, rollout, YES, KEYS, rule=CreditConfig(control=control))
    assert (np.asarray(found.step_advantage) != np.asarray(credit.step_advantage)).any()
    np.testing.assert_array_equal(found.step_score, credit.step_score)  # measured as it was
    np.testing.assert_array_equal(found.gated, credit.gated)
    tokens = np.asarray(jnp.where(spans.mask, spans.end - spans.start, 0))
    spread = np.asarray(found.step_advantage * tokens).sum(1)
    np.testing.assert_allclose(np.asarray(found.advantage).sum(1), spread, atol=1e-5)
    if control == "inverted":
        mean = jax.vmap(lambda a, n, m: token_mean(a, n, m)[0])
        np.testing.assert_allclose(
            *(mean(x.step_advantage, tokens, spans.mask) for x in (found, credit)), atol=1e-6
        )


def test_effects_are_permuted_before_they_are_discounted():
    """Discounted first, neighbours are alike, and another order is hardly another credit."""
    reading, spans, rollout = group(3, counts=[3, 3, 2, 3])
    for lam in (0.0, 0.95):
        rule = CreditConfig(control="permuted", lam=lam)
        found = credit_one(reading, spans, rollout, YES, KEYS, rule=rule)
        moved = jax.vmap(permuted)(KEYS, found.gated, spans.mask)
        tokens = jnp.where(spans.mask, spans.end - spans.start, 0)
        discount = partial(discounted_effects, lam=lam, tokens_per_unit=rule.tokens_per_unit)
        wanted = recentre(jax.vmap(discount)(moved, tokens), spans.mask)
        np.testing.assert_allclose(found.step_advantage, wanted, atol=1e-6)


def test_independent_noise_is_another_tape_at_every_site():
    keys = noise.question_keys(jax.random.key(0), 1, jnp.array([3, 9], jnp.uint32))
    shared = at_sites(noise.keyed(fresh_tapes(keys, 2, 2), 5), 3)
    apart = at_sites(noise.keyed(independent_tapes(keys, 2, 3, 2), 5), 3)
    assert shared.key.shape == apart.key.shape == (2, 2, 3, 2)
    assert shared.recorded.shape == apart.recorded.shape
    data = np.asarray(jax.random.key_data(apart.key)).reshape(2, 2, 6, -1)
    for row in data.reshape(4, 6, -1):
        assert len(np.unique(row, axis=0)) == 6
    np.testing.assert_array_equal(
        jax.random.key_data(apart.key[:, :, 0]), jax.random.key_data(shared.key[:, :, 0])
    )
    again = independent_tapes(keys, 2, 5, 2)  # more sites: the first keep their tapes
    np.testing.assert_array_equal(
        jax.random.key_data(again[:, :, :3]), jax.random.key_data(apart.key)
    )
