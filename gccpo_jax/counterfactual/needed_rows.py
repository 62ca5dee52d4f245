"""Work on those rows of a batch that are needed, a few at a time.

Shapes are fixed and lengths vary: many sites of a batch do not exist, or are the site of
another row. Here a loop takes `size` needed rows after another and ends when none is left,
so that the others cost nothing and nothing is compiled anew when their number changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.types import Array


def where_needed(
    rows_of: Callable[[Array], Any], needed: Array, size: int, cost: Array | None = None
) -> Any:
    """`rows_of(indices [n]) -> [n, ...]` at the needed ones of N rows, 0 elsewhere: [N, ...].

    Args:
      rows_of: results (an array or a tree of them) of some rows, each of its index alone.
      needed: [N] bool. size: n >= 1, rows of one pass; the last one may hold others besides.
      cost: [N] of each row; rows that cost alike share a pass.
    """
    count = needed.shape[0]
    size = min(size, count)
    order = jnp.argsort(~needed, stable=True)
    if cost is not None:
        order = jnp.lexsort((cost, ~needed))
    order = jnp.concatenate([order, jnp.full(-count % size, count)]).astype(jnp.int32)
    shapes = jax.eval_shape(rows_of, order[:size])
    empty = jax.tree.map(lambda x: jnp.zeros((count, *x.shape[1:]), x.dtype), shapes)
    total = jnp.sum(needed, dtype=jnp.int32)

    def one_pass(state: tuple[Array, Any]) -> tuple[Array, Any]:
        done, out = state
        rows = jax.lax.dynamic_slice_in_dim(order, done, size)
        found = rows_of(jnp.minimum(rows, count - 1))
        put = lambda x, new: x.at[rows].set(new, mode="drop")  # noqa: E731
        return done + size, jax.tree.map(put, out, found)

    return jax.lax.while_loop(lambda state: state[0] < total, one_pass, (jnp.int32(0), empty))[1]


def filled(values: Array, needed: Array) -> Array:
    """Rows [E, ...] with those that were not needed [E] replaced by the last needed one before.

    A row before the first needed one stays as it is.
    """
    index = jnp.arange(needed.shape[0])
    source = jax.lax.cummax(jnp.where(needed, index, -1))
    return values[jnp.where(source < 0, index, source)]


def differs(ends: Array) -> Array:
    """[..., E] bool: places [..., E] that are not the one before them."""
    before = jnp.concatenate([jnp.full_like(ends[..., :1], -1), ends[..., :-1]], -1)
    return ends != before
