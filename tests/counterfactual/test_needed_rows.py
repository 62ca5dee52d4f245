"""Only rows that are needed are computed, and each of them once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.counterfactual.needed_rows import differs, filled, where_needed

NEEDED = np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 1], bool)


@pytest.mark.parametrize("size", [1, 3, 4, 10, 99])
@pytest.mark.parametrize("needed", [NEEDED, NEEDED & False, NEEDED | True])
def test_needed_rows_have_their_value_and_others_are_zero_or_theirs(size, needed):
    passes = []

    def rows_of(rows):
        jax.debug.callback(lambda x: passes.append(np.asarray(x)), rows)
        return {"a": rows * 2.0 + 1, "b": jnp.stack([rows, -rows], -1)}

    found = jax.jit(lambda n: where_needed(rows_of, n, size))(jnp.asarray(needed))
    jax.effects_barrier()
    index = np.arange(10)
    np.testing.assert_array_equal(np.asarray(found["a"])[needed], (index * 2.0 + 1)[needed])
    np.testing.assert_array_equal(np.asarray(found["b"])[needed, 1], -index[needed])
    assert len(passes) == -(-needed.sum() // min(size, 10)), "as few passes as there can be"
    if passes:
        seen = np.concatenate(passes)
        assert set(index[needed]) <= set(seen)


def test_rows_of_equal_cost_share_a_pass():
    cost = jnp.array([5, 1, 9, 1, 1, 8, 2, 9, 1, 3])
    largest = lambda rows: jnp.full(len(rows), cost[rows].max())  # noqa: E731
    found = where_needed(largest, jnp.asarray(NEEDED), 3, cost)
    np.testing.assert_array_equal(found[NEEDED], [3, 9, 9, 3, 9, 3])


def test_blocks_are_loops_of_their_own():
    """Under `vmap`, as on a mesh: the loop goes on until every block has what it needs."""
    needed = jnp.asarray([NEEDED, ~NEEDED, NEEDED & False])
    found = jax.vmap(lambda n: where_needed(lambda rows: rows + 1, n, 2))(needed)
    np.testing.assert_array_equal(np.asarray(found)[needed], np.tile(np.arange(1, 11), 3)[
        np.asarray(needed).ravel()
    ])  # fmt: skip


def test_a_row_that_was_not_needed_is_the_last_needed_one_before_it():
    values = jnp.arange(10.0)[:, None]
    found = filled(values, jnp.asarray(NEEDED))[:, 0]
    np.testing.assert_array_equal(found, [0, 1, 2, 2, 2, 5, 6, 7, 7, 9])


def test_places_that_are_not_the_one_before():
    ends = jnp.array([[0, 0, 3, 3, 5], [2, 2, 2, 4, 1]])
    np.testing.assert_array_equal(differs(ends), [[1, 0, 1, 0, 1], [1, 0, 0, 1, 1]])
