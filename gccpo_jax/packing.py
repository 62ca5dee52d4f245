"""Responses of different lengths end to end in rows, so that their padding is not computed.

The responses of a question are laid into rows of one response's greatest length, the longest
first, each into the first row that has room (first fit decreasing: at most 11/9 of the fewest
rows and one more). A token attends to the prompt and to its own response. Rows are read a few
at a time, and a pass without a token of any question is skipped while the program runs: shapes
stay, so nothing is compiled anew when lengths change.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.types import Array, record


@record
class Rows:
    """One question's responses [G, W] laid into G rows of W tokens; later rows may be empty."""

    source: Array  # [G, W] int32  g W + j of the token that lies here; -1: none
    place: Array  # [G, W] int32   where token j of response g lies, row W + column; G W: nowhere

    @property
    def response(self) -> Array:
        """[..., G, W] int32 g + 1 of the response that a token belongs to; 0: no token."""
        return self.source // self.source.shape[-1] + 1

    def lay(self, x: Array) -> Array:
        """Values [G, W, ...] of tokens at their places; anything where there is no token."""
        return x.reshape(-1, *x.shape[2:])[self.source]

    def take(self, x: Array) -> Array:
        """The inverse of `lay`; 0 for tokens that lie nowhere."""
        return jnp.take(x.reshape(-1), self.place, mode="fill", fill_value=0)


def into_rows(length: Array, width: int) -> Rows:
    """Responses of `length` [G] tokens, each at most `width`, in rows of `width` tokens."""
    group = length.shape[0]
    order = jnp.argsort(-length, stable=True)

    def put(used: Array, size: Array) -> tuple[Array, tuple[Array, Array]]:
        row = jnp.argmax(used + size <= width)  # the first with room; an empty one always has
        return used.at[row].add(size), (row, used[row])

    _, found = jax.lax.scan(put, jnp.zeros_like(length), length[order])
    row, start = (jnp.zeros_like(length).at[order].set(x) for x in found)
    column = jnp.arange(width)[None]
    place = jnp.where(
        column < length[:, None], (row * width + start)[:, None] + column, group * width
    )
    source = (
        jnp.full(group * width, -1)
        .at[place]
        .set(jnp.arange(group * width).reshape(group, width), mode="drop")
    )
    return Rows(source.reshape(group, width).astype(jnp.int32), place.astype(jnp.int32))
