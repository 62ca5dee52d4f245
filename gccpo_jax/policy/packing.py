"""Responses of a question's group laid end to end, so that the update computes less padding.

Rows of T tokens of which most are shorter become fewer rows of T, each of which holds several
responses whole. One array says everything:

    index [R, T]    slot s of row r holds token t of response g:  index = g T + t;  G T: nothing

Each response still attends to the prompt and to itself alone, at its own positions
(`sequences` of `Policy.encode`), so log-probabilities are those of a row of its own.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from gccpo_jax.types import Array

LEAST = 128
"""Length of rows below which laying responses end to end was measured and did not pay."""


def rows(group: int) -> tuple[int, ...]:
    """The numbers of rows that a group of G may be laid into, the fewest first: G, 3/4 G, 1/2 G,
    3/8 G, ... 1; each is a program of its own."""
    halves = [-(-group // 2**n) for n in range(group.bit_length() + 1)]
    between = [-(-3 * group // 2 ** (n + 2)) for n in range(group.bit_length() + 1)]
    return tuple(sorted({*halves, *between}))


def laid(lengths: np.ndarray, size: int) -> np.ndarray | None:
    """Where the responses of a batch are laid; None if they are best left in rows of their own.

    The longest response of a question goes first, each to the first row with room for it (first
    fit decreasing, which takes at most 11/9 of the least rows, and one more).

    Args:
      lengths: [B, G] tokens of each response, at most `size`.
      size: T, tokens of a row.
    Returns:
      index [B, R, T] int32, R one of `rows(G)` below G.
    """
    count, group = lengths.shape
    if size < LEAST or group < 2:
        return None
    index = np.full((count, group, size), group * size, np.int32)
    used = np.zeros((count, group), int)
    for b, own in enumerate(lengths):
        for g in np.argsort(-own, kind="stable"):
            length = int(own[g])
            row = int(np.argmax(used[b] + length <= size))
            start = used[b, row]
            index[b, row, start : start + length] = g * size + np.arange(length)
            used[b, row] += length
    needed = int((used > 0).sum(1).max())
    fitting = next(n for n in rows(group) if n >= needed)
    return index[:, :fitting] if fitting < group else None


def pack(x: Array, index: Array) -> Array:
    """[G, T, ...] as [R, T, ...] in the places that `index` [R, T] names; 0 where nothing lies."""
    flat = x.reshape(-1, *x.shape[2:])
    return flat.at[index].get(mode="fill", fill_value=0)


def unpack(x: Array, index: Array, group: int) -> Array:
    """[R, T, ...] as [G, T, ...]: each value where its token came from, 0 where none did."""
    size, rest = x.shape[1], x.shape[2:]
    flat = jnp.zeros((group * size, *rest), x.dtype).at[index].set(x, mode="drop")
    return flat.reshape(group, size, *rest)
