from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax import reward
from gccpo_jax.advantage import baselines, step_advantages
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Spans
from tests.helpers import oracles

G, E, T = 5, 4, 10
REWARDS = arrays(np.float32, G, elements=st.floats(-2, 2, width=32))
MASKS = arrays(bool, G)

rloo = jax.jit(baselines.leave_one_out)
zscore = jax.jit(baselines.group_zscore, static_argnames=("ddof", "epsilon"))
discount = jax.jit(step_advantages.discounted_effects, static_argnames=("lam", "tokens_per_unit"))
recentre = jax.jit(step_advantages.recentre)
steps_of = jax.jit(step_of_token, static_argnums=1)
surprise = jax.jit(step_advantages.surprise_weights, static_argnums=3)

ALL = jnp.ones(4, bool)


@pytest.mark.parametrize(
    "rewards, expected",
    [([1, 0, 0, 1], [2 / 3, -2 / 3, -2 / 3, 2 / 3]), ([1, 0, 0, 0], [1, -1 / 3, -1 / 3, -1 / 3])],
)
def test_rloo_numbers(rewards, expected):
    np.testing.assert_allclose(rloo(jnp.float32(rewards), ALL), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "rewards, ddof, epsilon, expected",
    [
        ([1, 0, 0, 1], 0, 0.0, [1, -1, -1, 1]),
        ([1, 0, 0, 1], 1, 0.0, [0.866025, -0.866025, -0.866025, 0.866025]),
        ([1, 0, 0, 1], 1, 1e-4, [0.865875, -0.865875, -0.865875, 0.865875]),
        ([1, 0, 0, 0], 0, 0.0, [1.732051, -0.57735, -0.57735, -0.57735]),
        ([1, 0, 0, 0], 1, 0.0, [1.5, -0.5, -0.5, -0.5]),
        ([1, 1, 1, 1], 1, 0.0, [0, 0, 0, 0]),
    ],
)
def test_zscore_numbers(rewards, ddof, epsilon, expected):
    got = zscore(jnp.float32(rewards), ALL, ddof=ddof, epsilon=epsilon)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@given(REWARDS, MASKS)
def test_rloo_equals_the_oracle_and_sums_to_zero(r, where):
    got = np.asarray(rloo(r, where))
    np.testing.assert_allclose(got, oracles.leave_one_out(r, where), atol=1e-5)
    assert got.sum() == pytest.approx(0, abs=1e-5)
    order = np.roll(np.arange(G), 2)
    np.testing.assert_allclose(rloo(r[order], where[order]), got[order], atol=1e-5)


def test_the_rloo_baseline_does_not_depend_on_its_own_reward():
    jacobian = jax.jacobian(rloo)(jnp.arange(4.0), ALL)
    np.testing.assert_allclose(jacobian, np.eye(4) * 4 / 3 - 1 / 3, rtol=1e-6)


COARSE = arrays(np.float32, G, elements=st.integers(-4, 4).map(lambda n: n / 4))


@given(COARSE, MASKS, st.integers(0, 1))
def test_zscore_equals_the_oracle(r, where, ddof):
    got = np.asarray(zscore(r, where, ddof=ddof, epsilon=1e-4))
    np.testing.assert_allclose(got, oracles.zscore(r, where, ddof, 1e-4), atol=1e-4)
    order = np.roll(np.arange(G), 2)
    again = zscore(r[order], where[order], ddof=ddof, epsilon=1e-4)
    np.testing.assert_allclose(again, got[order], atol=1e-5)


@given(st.floats(-2, 2, width=32), MASKS)
def test_a_group_without_contrast_gets_exactly_zero(value, where):
    """Even where the mean of equal numbers rounds to another number."""
    r = np.full(G, value, np.float32)
    np.testing.assert_array_equal(zscore(r, where, ddof=1, epsilon=0.0), np.zeros(G))


def test_zscore_does_not_see_scale_and_shift():
    r = jnp.array([0.1, 0.7, 0.3, 0.2])
    got = zscore(5 * r - 1, ALL, ddof=0, epsilon=0.0)
    np.testing.assert_allclose(got, zscore(r, ALL, ddof=0, epsilon=0.0), atol=1e-5)
    assert np.mean(np.square(got)) == pytest.approx(1, abs=1e-5)


PHI, TOKENS = jnp.array([0.1, 0.3, 0.25]), jnp.array([10, 20, 10])
ROBUST, STEPS = jnp.array([0.5, 0.8, 0.4]), jnp.ones(3, bool)


@pytest.mark.parametrize(
    "outcome, gate, lam, expected",
    [
        (1, True, 1.0, [0.80, 0.70, 0.75]),
        (1, True, 0.9, [0.60625, 0.625, 0.75]),
        (1, True, 0.0, [0.1, -0.05, 0.75]),
        (1, False, 1.0, [0.9, 0.7, 0.75]),
        (0, True, 0.9, [-0.12275, -0.275, -0.25]),
    ],
)
def test_numbers_of_the_method(outcome, gate, lam, expected):
    effect = reward.effects(PHI, outcome, STEPS)
    gated = reward.gated_effects(effect, ROBUST, STEPS, gate=gate, gate_answer=False)
    got = discount(gated, TOKENS, lam=lam, tokens_per_unit=10.0)
    np.testing.assert_allclose(got, expected, atol=1e-6)


EFFECTS = arrays(np.float32, E, elements=st.floats(-1, 1, width=32))
COUNTS = arrays(np.int32, E, elements=st.integers(1, 30))


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_discounted_effects_equal_the_double_sum(lam):
    @given(EFFECTS, COUNTS)
    def check(effect, tokens):
        got = discount(effect, tokens, lam=lam, tokens_per_unit=8.0)
        np.testing.assert_allclose(got, oracles.discounted(effect, tokens, lam, 8), atol=1e-5)

    check()


@given(EFFECTS, COUNTS, st.integers(1, 29))
def test_splitting_a_step_changes_nothing_before_it(effect, tokens, first):
    """A part without effect carries tokens only, and the decay is per token."""
    tokens[2] = 30
    whole = discount(effect, tokens, lam=0.9, tokens_per_unit=8.0)
    parts = np.insert(effect, 2, 0.0), np.insert(tokens, 2, first)
    parts[1][3] -= first
    split = discount(*parts, lam=0.9, tokens_per_unit=8.0)
    np.testing.assert_allclose(split[:2], whole[:2], atol=1e-5)
    np.testing.assert_allclose(split[3:], whole[2:], atol=1e-5)


def test_splitting_a_step_whose_parts_have_effects_moves_what_is_before():
    """Docstring example: the promise is about parts without effect only."""
    whole, parts = ([0.1, 0.5], [10, 20]), ([0.1, 0.25, 0.25], [10, 10, 10])
    for (effect, tokens), lam, first in (
        (whole, 0.5, 0.225),
        (parts, 0.5, 0.2875),
        (whole, 1.0, 0.6),
        (parts, 1.0, 0.6),
    ):
        got = discount(np.float32(effect), np.array(tokens), lam=lam, tokens_per_unit=10.0)
        assert float(got[0]) == pytest.approx(first)


@given(EFFECTS, COUNTS)
def test_padding_steps_change_nothing(effect, tokens):
    padded = discount(np.pad(effect, (0, 2)), np.pad(tokens, (0, 2)), lam=0.5, tokens_per_unit=8.0)
    np.testing.assert_array_equal(
        padded[:E], discount(effect, tokens, lam=0.5, tokens_per_unit=8.0)
    )
    np.testing.assert_array_equal(padded[E:], 0)


@given(
    arrays(np.float32, (G, E), elements=st.floats(-1, 1, width=32)),
    st.lists(st.integers(0, E), min_size=G, max_size=G),
)
def test_recentring_equals_the_oracle(advantages, counts):
    mask = np.arange(E) < np.array(counts)[:, None]
    got = np.asarray(recentre(advantages, mask))
    np.testing.assert_allclose(got, oracles.recentre(advantages, mask), atol=1e-5)
    order = np.roll(np.arange(G), 2)
    np.testing.assert_allclose(recentre(advantages[order], mask[order]), got[order], atol=1e-6)


def test_a_group_without_effects_stays_exactly_zero():
    mask = jnp.arange(E)[None] < jnp.array([4, 2, 3])[:, None]
    zero = recentre(jnp.zeros((3, E)), mask)
    np.testing.assert_array_equal(zero, np.zeros((3, E)))


@jax.jit
def ungated(outcomes, phi):
    """Credit [4, E] without gate and discount, every value equal to `phi`."""
    mask = jnp.ones((4, E), bool)
    effect = jax.vmap(reward.effects)(jnp.full((4, E), phi), outcomes, mask)
    gated = jax.vmap(partial(reward.gated_effects, gate=False, gate_answer=True))(
        effect, jnp.zeros((4, E)), mask
    )
    tokens = jnp.full((4, E), 3)
    discounted = partial(step_advantages.discounted_effects, lam=1.0, tokens_per_unit=8.0)
    return step_advantages.recentre(jax.vmap(discounted)(gated, tokens), mask)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=4, max_size=4), st.floats(0, 1, width=32))
def test_without_gate_and_discount_a_constant_value_is_rloo(outcomes, phi):
    outcomes = jnp.array(outcomes)
    expected = np.broadcast_to(rloo(outcomes, ALL)[:, None], (4, E))
    np.testing.assert_allclose(ungated(outcomes, phi), expected, atol=1e-6)


def spans_of(lengths):
    end = np.cumsum(lengths)
    pad = E - len(lengths)
    start = np.r_[0, end[:-1], np.full(pad, end[-1])]
    mask = np.arange(E) < len(lengths)
    return Spans(jnp.asarray(start), jnp.asarray(np.pad(end, (0, pad), mode="edge")), mask)


def test_surprise_weights_of_the_method():
    logp, step = jnp.array([-1.0, -3.0, -2.0, -2.0]), jnp.array([0, 0, 1, 1])
    np.testing.assert_allclose(surprise(logp, step, ALL, 2), [0.5, 1.5, 1, 1])


@given(arrays(np.float32, T, elements=st.floats(-9, 0, width=32)), st.integers(0, 3))
def test_surprise_weights_equal_the_oracle_and_have_mean_one(logp, shape):
    lengths = [[3, 1, 4, 2], [2, 5], [1], [4, 4, 1]][shape]
    spans = spans_of(lengths)
    pairs = [(int(a), int(b)) for a, b in zip(spans.start, spans.end, strict=True) if b > a]
    logp[pairs[-1][0] : pairs[-1][1]] = 0.0  # deterministic tokens: uniform
    mask = np.arange(T) < sum(lengths)
    got = surprise(logp, steps_of(spans, T), mask, E)
    np.testing.assert_allclose(got, oracles.surprise_weights(logp, pairs, T), atol=2e-5)
    for start, end in pairs:
        assert np.mean(got[start:end]) == pytest.approx(1, abs=1e-5)


def test_steps_are_spread_over_their_tokens():
    got = step_advantages.to_tokens(jnp.array([5.0, 6.0, 7.0, 8.0]), spans_of([3, 1, 2]), T)
    np.testing.assert_array_equal(got, [5, 5, 5, 6, 7, 7, 0, 0, 0, 0])


def test_steps_are_averaged_over_their_tokens():
    spans, per_step = spans_of([3, 1, 2]), jnp.array([5.0, 6.0, 7.0, 8.0])
    back = step_advantages.to_steps(step_advantages.to_tokens(per_step, spans, T), spans)
    np.testing.assert_allclose(back, [5, 6, 7, 0])
    np.testing.assert_allclose(step_advantages.to_steps(jnp.arange(10.0), spans), [1, 3, 4.5, 0])


@jax.jit
@jax.value_and_grad
def everything(x, where):
    step = jnp.zeros(3, jnp.int32)
    return (
        baselines.leave_one_out(x, where).sum()
        + baselines.group_zscore(x, where, ddof=1, epsilon=0.0).sum()
        + step_advantages.recentre(x[:, None], where[:, None]).sum()
        + step_advantages.surprise_weights(x, step, where, 2)[0]
        + step_advantages.discounted_effects(x, 0 * step, lam=0.0, tokens_per_unit=1.0).sum()
        + step_advantages.mass_preserving(x**2, where.astype(int), floor=0.0).sum()
        + step_advantages.token_mean(x, where.astype(int), where)[0]
    )


@pytest.mark.parametrize("where", [[False] * 3, [True, False, False], [True] * 3])
@pytest.mark.parametrize("values", [[0.0] * 3, [-0.1] * 3, [-1e-6, 0.0, 0.0]])
def test_value_and_gradient_are_finite_at_the_edges(where, values):
    with jax.debug_nans(True):
        value, gradient = everything(jnp.array(values), jnp.array(where))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "function", [baselines.leave_one_out, partial(baselines.group_zscore, ddof=1, epsilon=1e-4)]
)
def test_vmap_equals_a_loop_and_jit_equals_plain(function):
    random = np.random.default_rng(1)
    rewards = jnp.asarray(random.normal(size=(2, G)), jnp.float32)
    where = jnp.asarray(random.random((2, G)) < 0.7)
    loop = np.stack([function(r, w) for r, w in zip(rewards, where, strict=True)])
    np.testing.assert_allclose(jax.vmap(function)(rewards, where), loop, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(rewards, where), loop, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.7, 0.9])
def test_equal_advantages_of_a_step_become_exactly_zero(value):
    """Their mean is rounded, and an optimizer would scale up the rest."""
    same = jnp.full((8, 2), value, jnp.float32)
    mask = jnp.ones((8, 2), bool).at[1:, 1].set(False)  # nobody else has the second step
    got = np.asarray(step_advantages.recentre(same, mask))
    assert not np.asarray(baselines.leave_one_out(same[:, 0], mask[:, 0])).any()
    np.testing.assert_array_equal(got[:, 0], 0)
    np.testing.assert_array_equal(got[:, 1], [np.float32(value)] + [0] * 7)


def test_a_step_is_one_unit_where_none_is_given():
    effects, tokens = jnp.array([0.2, -0.05, 0.75, 0.0]), jnp.array([10, 1, 300, 0])
    got = discount(effects, tokens, lam=0.5, tokens_per_unit=0.0)
    last = 0.75
    np.testing.assert_allclose(got[:3], [0.2 + 0.5 * (-0.05 + 0.5 * last), 0.325, last], atol=1e-6)


def test_a_pooled_return_counts_the_outcome_as_one_more_draw():
    before, mask = jnp.array([0.1, 0.3, 0.25, 0.0]), jnp.array([1, 1, 1, 0], bool)
    got = step_advantages.pooled_effects(before, jnp.float32(1.0), mask, draws=3)
    np.testing.assert_allclose(got, [1.9 / 4 - 0.1, 1.75 / 4 - 0.3, 0.75, 0.0], atol=1e-6)


def test_a_baseline_of_few_draws_is_pulled_to_the_others_mean():
    before, reward = jnp.array([[0.5], [0.5]]), jnp.array([0.0, 1.0])
    mask, where = jnp.ones((2, 1), bool), jnp.ones(2, bool)
    got = step_advantages.shrunk_baseline(before, reward, mask, where, draws=2, weight=0.5)
    np.testing.assert_allclose(got[:, 0], [-0.1, 0.1], atol=1e-6)  # b = (2 x .5 + .5 m)/2.5


def test_unsure_tokens_carry_all_of_a_step():
    logp = jnp.log(jnp.array([0.95, 0.5, 0.99, 0.2]))
    step, mask = jnp.array([0, 0, 1, E]), jnp.array([1, 1, 1, 0], bool)
    np.testing.assert_array_equal(
        step_advantages.unsure_weights(logp, step, mask, E), [0.0, 1.0, 0.0, 0.0]
    )
