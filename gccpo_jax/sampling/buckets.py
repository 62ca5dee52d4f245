"""A bounded number of buffer lengths, so that cost follows what was written and not the limit.

Each length is a program of its own; they halve (or go down by another factor) from the limit to
`LEAST`, so a limit of T has at most 1 + log2(T / LEAST) of them, and one below 2 `LEAST` has one.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from gccpo_jax.types import Array

LEAST = 32
"""Tokens below which a shorter buffer saves less than a program costs."""


def sizes(limit: int, factor: int = 2) -> tuple[int, ...]:
    """Buffer lengths for responses of up to `limit` tokens, the shortest first."""
    found = [limit]
    while found[-1] >= factor * LEAST:
        found.append(-(-found[-1] // factor))
    return tuple(reversed(found))


def fitting(limit: int, longest: int) -> int:
    """The shortest of `sizes(limit)` that holds `longest` tokens; `limit` if none does."""
    return next((size for size in sizes(limit) if size >= longest), limit)


def padded(x: np.ndarray | Array, size: int) -> np.ndarray | Array:
    """[..., T] as [..., size] with zeros behind, `size` at least T; NumPy stays NumPy."""
    more = size - x.shape[-1]
    pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
    return pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)]) if more else x
