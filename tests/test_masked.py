import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gccpo_jax.masked import (
    leave_one_out_mean,
    length_mask,
    masked_mean,
    masked_median,
    masked_sum,
    safe_divide,
)

VALUES = arrays(np.float32, 5, elements=st.floats(-8, 8, width=32))
MASKS = arrays(bool, 5)


@given(VALUES, MASKS)
def test_reductions_equal_those_of_the_selected_entries(x, where):
    kept = x[where].astype(np.float64)
    assert np.isclose(masked_sum(x, where), kept.sum(), atol=1e-5)
    assert np.isclose(masked_mean(x, where), kept.mean() if kept.size else 0, atol=1e-5)
    median = np.median(kept) if kept.size else -3
    assert np.isclose(masked_median(x, where, fallback=-3.0), median, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (4,), (2, 2)])
def test_first_selects_as_many_positions_as_it_is_told(shape):
    length = np.array([2, 0, 3, 5])[: int(np.prod(shape))].reshape(shape)
    got = length_mask(jnp.asarray(length), 3)
    assert got.shape == (*shape, 3) and got.dtype == bool
    np.testing.assert_array_equal(got.sum(-1), np.minimum(length, 3))
    assert not np.any(got[..., 1:] & ~got[..., :-1]), "the first, without gaps"


def test_axis_keeps_the_rest():
    x = jnp.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    where = jnp.array([[True, False, True], [False, False, False]])
    np.testing.assert_array_equal(masked_sum(x, where, axis=1), [5, 0])
    np.testing.assert_array_equal(masked_mean(x, where, axis=1), [2.5, 0])
    np.testing.assert_array_equal(masked_mean(x, where, axis=0), [1, 0, 4])


def test_leave_one_out_mean_excludes_itself():
    x = jnp.array([[1.0, 5.0], [2.0, 6.0], [6.0, 7.0]])
    where = jnp.array([[True, True], [True, False], [True, False]])
    expected = [[4, 0], [3.5, 5], [1.5, 5]]  # an unselected entry sees all selected ones
    np.testing.assert_allclose(leave_one_out_mean(x, where), expected, rtol=1e-6)


@pytest.mark.parametrize("reduce", [masked_sum, masked_mean])
@pytest.mark.parametrize("where", [[False] * 3, [True, False, False]])
def test_what_is_left_out_may_be_anything(reduce, where):
    x, where = jnp.array([2.0, jnp.nan, jnp.inf]), jnp.array(where)
    with jax.debug_nans(True):
        value, gradient = jax.value_and_grad(reduce)(x, where)
    expected = 2.0 if where[0] else 0.0
    assert value == expected
    np.testing.assert_array_equal(gradient, [1.0 if where[0] else 0.0, 0, 0])


def test_division_by_zero_is_zero_in_value_and_gradient():
    with jax.debug_nans(True):
        value, gradients = jax.value_and_grad(safe_divide, (0, 1))(3.0, 0.0)
    assert (value, *gradients) == (0, 0, 0)
    assert safe_divide(jnp.float32(3), jnp.float32(2)) == 1.5
