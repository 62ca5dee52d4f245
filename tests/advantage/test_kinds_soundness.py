"""Selectivity as step weights and as the soundness of a trajectory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax.advantage import step_advantages
from tests.helpers import oracles_credit as oracle

E = 4
COUNTS = arrays(np.int32, E, elements=st.integers(1, 30))
preserve = jax.jit(step_advantages.mass_preserving, static_argnames=("floor",))
token_mean = jax.jit(step_advantages.token_mean)
Q = arrays(np.float32, E, elements=st.floats(0, 1, width=32))


@given(Q, COUNTS, st.integers(0, E), st.sampled_from([0.0, 0.1]))
def test_step_weights_equal_the_oracle_and_keep_the_mass(q, tokens, count, floor):
    tokens[count:] = 0
    got = preserve(q, tokens, floor=floor)
    expected = oracle.step_weights(q[:count].astype(float), tokens[:count].tolist(), floor)
    np.testing.assert_allclose(got[:count], expected, rtol=1e-4, atol=1e-6)
    assert not np.asarray(got)[count:].any()
    if count:
        assert np.sum(got * tokens) == pytest.approx(np.sum(tokens), rel=1e-5)
    even = preserve(np.full(E, q[0]), tokens, floor=floor)
    np.testing.assert_allclose(even, tokens > 0, atol=1e-6)


def test_step_weights_of_the_docstring():
    got = preserve(jnp.array([0.3, 0.1]), jnp.array([10, 30]), floor=0.1)
    np.testing.assert_allclose(got, [1.6, 0.8], rtol=1e-6)


@given(Q, COUNTS, arrays(bool, E), st.integers(1, 29))
def test_soundness_equals_the_oracle_and_a_split_changes_nothing(q, tokens, where, first):
    tokens[2] = 30
    got, known = token_mean(q, tokens, where)
    ends = np.cumsum(tokens)
    row = {"steps": list(zip(ends - tokens, ends, strict=True))}
    expected = oracle.soundness(
        row, [float(x) if w else None for x, w in zip(q, where, strict=True)]
    )
    assert bool(known) == (expected is not None)
    assert got == pytest.approx(expected or 0.0, abs=1e-5)
    parts = np.insert(tokens, 2, first)
    parts[3] -= first
    split, _ = token_mean(np.insert(q, 2, q[2]), parts, np.insert(where, 2, where[2]))
    assert split == pytest.approx(float(got), abs=1e-5)


@pytest.mark.parametrize(
    "o, q, expected",
    [(0, 0.8, 0.4), (1, 0.2, 0.4), (1, 0.8, 0.85), (1, 1, 1), (1, 0, 0.25), (0, 1, 0.5), (0, 0, 0)],
)
def test_four_corner_numbers(o, q, expected):
    got = step_advantages.four_corner(jnp.float32(o), jnp.float32(q), a=0.25, b=0.5)
    assert got == pytest.approx(expected)
    assert oracle.four_corner_reward(o, q) == pytest.approx(expected)


@given(st.floats(0, 1), st.floats(0, 1))
def test_sound_but_wrong_beats_lucky_but_flawed_only_in_clear_cases(sound, flawed):
    pay = partial(step_advantages.four_corner, a=0.25, b=0.5)
    assert pay(1.0, flawed) >= 0.25  # a right answer always pays
    if abs(sound - (0.5 + 1.5 * flawed)) > 1e-9:
        assert (pay(0.0, sound) > pay(1.0, flawed)) == (sound > 0.5 + 1.5 * flawed)
