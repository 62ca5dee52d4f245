"""Advantages and curation from step scores: numbers, oracles, laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax.advantage import baselines, paper
from gccpo_jax.advantage import process_supervision as process
from tests.helpers import oracles_advantages as oracle

G, E = 4, 3
SCORES = arrays(np.float32, (G, E), elements=st.integers(-4, 4).map(lambda n: n / 4))
COUNTS = arrays(np.int32, G, elements=st.integers(0, E))
supervise = jax.jit(process.process_supervision, static_argnames=("ddof", "epsilon"))
curate = jax.jit(process.curate, static_argnames="remove")
judged = jax.jit(jax.vmap(lambda p, m, r: process.consistency(p, m, r, jnp.float32(0.25), most=2)))


def test_process_supervision_numbers():
    score = jnp.array([[1.0, 0, 7], [0, 0, 1]])
    mask = jnp.array([[True, True, False], [True, True, True]])
    got = supervise(score, mask, ddof=0, epsilon=0.0)
    expected = [[0.408248, -0.816497, 0], [-0.408248, 0.408248, 1.224745]]
    np.testing.assert_allclose(got, expected, atol=1e-6)


@given(SCORES, COUNTS, st.integers(0, 1))
def test_process_supervision_is_the_oracle(score, count, ddof):
    mask = np.arange(E) < count[:, None]
    got = np.asarray(supervise(score, mask, ddof=ddof))
    rows = [row[:n].tolist() for row, n in zip(score, count, strict=True)]
    for i, row in enumerate(oracle.process_supervision(rows, ddof)):
        np.testing.assert_allclose(got[i], row + [0.0] * (E - len(row)), atol=1e-4)
    np.testing.assert_allclose(supervise(score[::-1], mask[::-1], ddof=ddof), got[::-1], atol=1e-4)


def test_one_step_a_trajectory_is_grpo_and_equal_scores_are_exactly_zero():
    score = jnp.array([[0.3, 5], [0.9, 5], [0.1, 5]])
    mask = jnp.array([[True, False]] * 3)
    expected = baselines.group_zscore(score[:, 0], jnp.ones(3, bool), ddof=1, epsilon=1e-4)
    np.testing.assert_allclose(supervise(score, mask)[:, 0], expected, atol=1e-6)
    equal = supervise(jnp.full((3, 2), 0.3), jnp.ones((3, 2), bool), epsilon=0.0)
    np.testing.assert_array_equal(equal, np.zeros((3, 2)))
    np.testing.assert_array_equal(supervise(score, mask & False), np.zeros((3, 2)))


def test_the_baseline_of_answering_at_once():
    yes = jnp.ones(2, bool)
    got = process.over_terminating(
        jnp.array([1.0, 0]), jnp.array([1.0, 0, 9]), yes, jnp.array([True, True, False])
    )
    np.testing.assert_allclose(got, [0.5, -0.5])
    none = process.over_terminating(jnp.array([1.0, 0]), jnp.zeros(2), yes, yes & False)
    np.testing.assert_array_equal(none, [0, 0])


def test_the_compression_penalty():
    g = jnp.array([1.0, -2, 0.5])
    theta, change = {"w": jnp.zeros(3)}, {"w": jnp.array([0.1, 0.1, 0.4])}
    found = process.compression(lambda p: jnp.sum(g * p["w"]), theta, change)
    assert found == pytest.approx(0.01, abs=1e-6)
    nothing = {"w": jnp.zeros(3)}
    assert process.compression(lambda p: jnp.sum(g * p["w"]), theta, nothing) == 0
    across = {"w": jnp.array([2.0, 1, 0])}
    assert process.compression(lambda p: jnp.sum(g * p["w"]), theta, across) == 0


def law(w):
    return jnp.sum(jax.nn.log_softmax(w)[jnp.array([0, 2])])


def test_the_compression_penalty_is_the_squared_product_with_the_gradient():
    w, change = jnp.array([0.3, -0.2, 0.5]), jnp.array([0.1, 0.4, -0.3])
    expected = float(jnp.sum(jax.grad(law)(w) * change)) ** 2
    assert process.compression(law, w, change) == pytest.approx(expected, rel=1e-5)


def test_learning_to_think_numbers():
    """Section 14's oracle from the dense reward to token advantages."""
    dense, mask = jnp.array([[0.2, 0.1], [-0.1, 0.05]]), jnp.ones((2, 2), bool)
    got = paper.token_advantages(
        dense, jnp.array([1.0, 0]), jnp.ones(2, bool),
        jnp.array([[-1.0, -3, -2, -2], [-1, -1, -1, 0]]),
        jnp.array([[0, 0, 1, 1], [0, 0, 1, 2]]),
        jnp.array([[True] * 4, [True] * 3 + [False]]), mask,
        alpha=0.8, truncation=0.0, ddof=0, epsilon=0.0, floor=1e-4, clip=5.0,
    )  # fmt: skip
    expected = [[0.532258, 1.596774, 0.935484, 0.935484], [-3, -3, 3, 0]]
    np.testing.assert_allclose(got, expected, atol=1e-4)


@given(SCORES, COUNTS, arrays(bool, G))
def test_consistency_is_the_oracle(score, count, right):
    mask = np.arange(E) < count[:, None]
    got = judged(score, mask, right)
    rows = zip(score, count, right, strict=True)
    expected = [oracle.consistency(p[:n].tolist(), r, 0.25, most=2) for p, n, r in rows]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    "count, kept", [(0, (0, 4)), (1, (1, 3)), (2, (2, 2)), (3, (2, 2)), (4, (2, 2)), (5, (2, 2)),
                    (6, (2, 2)), (7, (3, 1)), (8, (4, 0))],
)  # fmt: skip
def test_curation_balances_the_classes(count, kept):
    right = np.arange(8) < count
    stays = np.asarray(curate(jnp.zeros(8), right, jnp.ones(8, bool), remove=4))
    assert (stays[right].sum(), stays[~right].sum()) == kept
    assert oracle.curate([0.0] * 8, right.tolist(), 4) == np.flatnonzero(stays).tolist()


@given(
    arrays(np.float32, 6, elements=st.integers(-2, 2).map(float)),
    arrays(bool, 6), arrays(bool, 6), st.integers(0, 6),
)  # fmt: skip
def test_curation_is_the_oracle(score, right, where, remove):
    stays = np.asarray(curate(score, right, where, remove=remove))
    classes = [bool(r) if w else None for r, w in zip(right, where, strict=True)]
    assert np.flatnonzero(stays).tolist() == oracle.curate(score.tolist(), classes, remove)
    assert stays.sum() == min(6 - remove, where.sum())
