from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.advantage import discounted_effects
from gccpo_jax.reward import effects
from gccpo_jax.steps import find_steps, merge_steps, read_boundaries, step_of_token
from gccpo_jax.types import Spans
from tests.helpers import oracles

T, E = 12, 5
BOUNDARIES = st.lists(st.booleans(), min_size=T, max_size=T)
LENGTHS = st.integers(0, T)

find = jax.jit(find_steps, static_argnames=("max_steps", "min_tokens", "max_tokens"))
merge = jax.jit(merge_steps, static_argnums=2)
draw = jax.jit(read_boundaries, static_argnums=2)


def pairs(spans: Spans) -> list[tuple[int, int]]:
    mask = np.asarray(spans.mask)
    count = int(mask.sum())
    assert mask[:count].all(), "the steps that exist come first"
    return list(zip(np.asarray(spans.start)[:count], np.asarray(spans.end)[:count], strict=True))


@pytest.mark.parametrize(
    "steps, shortest, longest", [(5, 1, 0), (3, 1, 0), (5, 3, 0), (12, 2, 4), (2, 2, 3), (1, 1, 1)]
)
def test_steps_equal_the_reference_and_partition_the_response(steps, shortest, longest):
    @given(BOUNDARIES, LENGTHS)
    def check(boundary, length):
        spans = find(
            jnp.array(boundary), length, max_steps=steps, min_tokens=shortest, max_tokens=longest
        )
        got = pairs(spans)
        assert got == oracles.find_steps(boundary, length, steps, shortest, longest)
        assert [t for start, end in got for t in range(start, end)] == list(range(length))
        padding = ~np.asarray(spans.mask)
        assert (np.asarray(spans.start)[padding] == length).all()
        assert (np.asarray(spans.end)[padding] == length).all()

    check()


def test_minimum_and_maximum_by_hand():
    boundary = jnp.zeros(T, bool).at[jnp.array([0, 3, 10])].set(True)
    found = find(boundary, 12, max_steps=E, min_tokens=2, max_tokens=5)
    # token 0 closes nothing (too short); 4..8 is split by force; 9..10 closes at a boundary;
    # the rest, one token, joins the step before it
    assert pairs(found) == [(0, 4), (4, 9), (9, 12)]


@given(BOUNDARIES, LENGTHS)
def test_every_token_knows_its_step(boundary, length):
    spans = find(jnp.array(boundary), length, max_steps=E)
    steps = np.full(T, E)
    for k, (start, end) in enumerate(pairs(spans)):
        steps[start:end] = k
    np.testing.assert_array_equal(step_of_token(spans, T), steps)


def spans_of(count: int) -> Spans:
    """`count` steps of two tokens each."""
    end = jnp.minimum(2 * (jnp.arange(E) + 1), 2 * count)
    return Spans(jnp.minimum(2 * jnp.arange(E), 2 * count), end, jnp.arange(E) < count)


@pytest.mark.parametrize("steps", range(E + 1))
@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_boundaries_read(steps, count):
    """The end always; before it the first ones, or those that a coin gives."""
    keep = np.asarray(draw(jax.random.key(0), spans_of(steps), count, 1.0))
    expected = (np.arange(E) < count) | (np.arange(E) == steps - 1)
    np.testing.assert_array_equal(keep, expected & (np.arange(E) < steps))
    drawn = np.zeros(E, int)
    for seed in range(12):
        keep = np.asarray(draw(jax.random.key(seed), spans_of(steps), count, 0.5))
        assert keep.sum() <= min(steps, count + 1) and not keep[steps:].any()
        assert steps == 0 or keep[steps - 1]
        drawn += keep
    if count == 2 and steps == E:
        assert (drawn[: E - 1] > 0).all() and (drawn[: E - 1] < 12).all()


def test_boundaries_do_not_depend_on_padding():
    longer = Spans(*(jnp.pad(x, (0, 3)) for x in vars(spans_of(4)).values()))
    key = jax.random.key(5)
    found = read_boundaries(key, longer, 2, 0.5)[:E]
    np.testing.assert_array_equal(found, draw(key, spans_of(4), 2, 0.5))


@given(BOUNDARIES, LENGTHS, st.lists(st.booleans(), min_size=E, max_size=E))
def test_macro_steps_run_to_the_next_kept_end(boundary, length, keep):
    spans = find(jnp.array(boundary), length, max_steps=E)
    steps = pairs(spans)
    keep = [kept or k == len(steps) - 1 for k, kept in enumerate(keep)]
    merged = merge(spans, jnp.array(keep), E)
    assert pairs(merged) == oracles.merge_steps(steps, keep)
    assert (np.asarray(merged.end)[~np.asarray(merged.mask)] == length).all()


@pytest.mark.parametrize("size", [3, E + 2])
def test_macro_steps_have_the_size_asked_for(size):
    keep = jnp.array([False, True, False, True, True])
    merged = merge_steps(spans_of(5), keep, size)
    assert merged.mask.shape == merged.start.shape == merged.end.shape == (size,)
    assert pairs(merged) == [(0, 4), (4, 8), (8, 10)]


def test_without_a_bound_on_tokens_steps_may_be_any_length():
    found = partial(find, max_steps=E)(jnp.zeros(T, bool), 9)
    assert pairs(found) == [(0, 9)]


def value_of_one_more_step(rule, value, keys):
    """Mean gradient of answering now against going on, where going on changes nothing.

    One token a step, four steps at most; after each the policy answers with chance 1/2. The
    state is `value`, whatever is written; Phi is a mean of two draws, the outcome one draw.
    """

    def trajectory(key):
        stop, outcome, draws, coins = jax.random.split(key, 4)
        stops = jax.random.bernoulli(stop, 0.5, (3,))
        count = jnp.where(stops.any(), jnp.argmax(stops) + 1, 4)
        index = jnp.arange(4)
        steps = Spans(index, index + 1, index < count)
        macro = merge_steps(steps, rule(coins, steps), 4)
        phi = jax.random.bernoulli(draws, value, (4, 2)).mean(-1)
        before = jnp.concatenate([jnp.array([0.5]), phi])[:-1]
        effect = effects(before, jax.random.bernoulli(outcome, value).astype(float), macro.mask)
        tokens = jnp.where(macro.mask, macro.end - macro.start, 0)
        returns = discounted_effects(effect, tokens, lam=0.3, tokens_per_unit=0.0)
        advantage = returns[jnp.minimum(step_of_token(macro, 4), 3)]
        chose = index < jnp.minimum(count, 3)  # the fourth step has no choice
        score = jnp.where(index == count - 1, 0.5, -0.5)
        return jnp.sum(jnp.where(chose, advantage * score, 0.0))

    return jax.vmap(trajectory)(keys)


def ahead(key, steps):
    """The rule that is not used: one boundary by key, and always the last before the answer."""
    last = jnp.sum(steps.mask) - 1
    index = jnp.arange(4)
    noise = jnp.where(index < last - 1, jax.random.uniform(key, (4,)), jnp.inf)
    return (index == jnp.argmin(noise)) & (index < last - 1) | (index >= last - 1) & steps.mask


@pytest.mark.parametrize("value", [0.9, 0.1])
def test_a_coin_per_boundary_does_not_bias_the_gradient_and_looking_ahead_does(value):
    keys = jax.random.split(jax.random.key(0), 200_000)

    def mean(rule):
        found = jax.jit(lambda k: value_of_one_more_step(rule, value, k))(keys)
        return float(found.mean()), float(found.std()) / len(keys) ** 0.5

    for share in (0.5, 1.0):
        got, error = mean(lambda k, s, p=share: read_boundaries(k, s, 2, p))
        assert abs(got) < 4 * error
    biased, error = mean(ahead)
    assert abs(biased) > 10 * error


def test_boundaries_are_chosen_from_the_past_only():
    """Whatever comes after a step, it is read or not."""
    for seed in range(20):
        key = jax.random.key(seed)
        kept = [np.asarray(draw(key, spans_of(n), 2, 0.6)) for n in (3, 4, 5)]
        for shorter, longer in ((kept[0], kept[1]), (kept[1], kept[2])):
            n = int(np.flatnonzero(shorter).max())  # the last step of the shorter one
            np.testing.assert_array_equal(shorter[:n], longer[:n])
            assert shorter[:n].sum() <= 2
