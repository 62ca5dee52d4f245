"""Masked reductions, safe in value and in gradient when nothing is selected; what is finite.

`where` selects; what it leaves out may hold anything finite or not, since it is
replaced *before* the arithmetic (a NaN times a zero mask would still be NaN, and
so would its gradient).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def length_mask(length: Array, size: int) -> Array:
    """[..., size] bool, True at the first `length` [...] positions."""
    position = jnp.arange(size).reshape((1,) * jnp.ndim(length) + (size,))
    return position < length[..., None]


def masked_sum(x: Array, where: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Sum of the selected entries; 0 where none is."""
    return jnp.sum(jnp.where(where, x, 0), axis=axis)


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, and 0 (value and gradient) where the denominator is 0."""
    zero = denominator == 0
    return jnp.where(zero, 0.0, numerator / jnp.where(zero, 1.0, denominator))


def masked_mean(x: Array, where: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Mean of the selected entries; 0 where none is."""
    count = jnp.sum(where, axis=axis, dtype=jnp.float32)
    return safe_divide(masked_sum(x, where, axis), count)


def leave_one_out_mean(x: Array, where: Array, axis: int = 0) -> Array:
    """For each entry the mean of the *other* selected entries along `axis`; 0 if there is none.

    With x of shape [G] and all selected: (sum x - x_i) / (G - 1), the RLOO baseline
    (Kool et al. 2019; arXiv 2402.14740).
    """
    kept = jnp.where(where, x, 0)
    count = where.astype(jnp.float32)
    others = jnp.sum(kept, axis=axis, keepdims=True) - kept
    return safe_divide(others, jnp.sum(count, axis=axis, keepdims=True) - count)


def masked_median(x: Array, where: Array, fallback: float) -> Array:
    """Median of the selected entries of the whole array; `fallback` where none is selected.

    The mean of the two middle values for an even count, as numpy's.
    """
    order = jnp.sort(jnp.where(where, x, jnp.inf), axis=None)
    count = jnp.sum(where)
    low = jnp.clip((count - 1) // 2, 0, order.size - 1)
    high = jnp.clip(count // 2, 0, order.size - 1)
    safe = jnp.where(jnp.isfinite(order), order, 0.0)
    return jnp.where(count > 0, 0.5 * (safe[low] + safe[high]), fallback)


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether every number of every leaf is finite: [] bool."""
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
