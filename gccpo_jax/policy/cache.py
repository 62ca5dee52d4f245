"""Caches while tokens are decoded: a layer each, written in place.

A loop that updates one array of all layers, and reads a layer of it in between, makes
XLA copy the array for each token. Split, with every layer's new keys written before they are
read, the old array is dead at once and nothing is copied.

Texts that are read rather than decoded go a few tokens at a time, up to the length that they
have (`room`, `extend`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from gccpo_jax.types import Array, Context, Decoder, Params, Policy, Segment


def split(segment: Segment) -> Segment:
    """The layers of keys and values [L, ...] as tuples of L arrays."""
    return Segment(jnp.unstack(segment.k), jnp.unstack(segment.v), segment.mask)


def join(segment: Segment) -> Segment:
    """The inverse of `split`."""
    return Segment(jnp.stack(segment.k), jnp.stack(segment.v), segment.mask)


@custom_vmap
def put(cache: Array, new: Array, slot: Array) -> Array:
    """Writes keys or values [..., K, 1, D] of one token at `slot` of a layer's [..., K, T, D].

    Under `vmap` the slot must be the same for all rows: it stays one update in place, where
    JAX's own rule makes it a scatter, which XLA's CPU does by copying where an axis has one row.
    """
    return jax.lax.dynamic_update_slice_in_dim(cache, new, slot, axis=cache.ndim - 2)


@put.def_vmap
def _put_in_rows(
    rows: int, batched: Sequence[bool], cache: Array, new: Array, slot: Array
) -> tuple[Array, bool]:
    if batched[2]:
        raise ValueError("one token is written at one slot of all rows; slot differs between them")
    cache, new = (
        x if has_rows else jnp.broadcast_to(x, (rows, *x.shape))
        for x, has_rows in zip((cache, new), batched, strict=False)
    )
    return (put(cache[0], new[0], slot)[None] if rows == 1 else put(cache, new, slot)), True


def room(like: Segment, tokens: int) -> Segment:
    """An empty segment for `tokens` tokens, of the layers and heads of `like`, split or not."""

    def empty(x: Array) -> Array:
        return jnp.zeros((*x.shape[:-2], tokens, x.shape[-1]), x.dtype)

    k, v = jax.tree.map(empty, (like.k, like.v))
    return Segment(k, v, jnp.zeros((*like.mask.shape[:-1], tokens), bool))


def extend(known: Segment, new: Segment, at: Array) -> Segment:
    """`known` with the tokens of `new` from place `at` on; both with any axes in front."""

    def write(old: Array, x: Array, axis: int) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(old, x.astype(old.dtype), at, axis)

    return jax.tree.map(write, known, new, Segment(-2, -2, -1))


def decoder_of(policy: Policy) -> Decoder:
    """The policy's decoder, or `encode` of one token in that form."""
    return policy.decoder or Decoder(lambda params: params, _by_encode(policy))


def _by_encode(policy: Policy) -> Callable:
    def step(
        params: Params, token: Array, position: Array, past: Context, own: Segment, slot: Array
    ) -> tuple[Array, Segment]:
        before = Segment(own.k, own.v, own.mask.at[slot].set(False))
        context = tuple(join(segment) for segment in (*past, before))
        exists = own.mask[slot]
        hidden, new = policy.encode(params, token[None], position[None], exists[None], context)
        k, v = (
            tuple(put(old, x, slot) for old, x in zip(cache, added, strict=True))
            for cache, added in ((own.k, new.k), (own.v, new.v))
        )
        return hidden[0], Segment(k, v, own.mask)

    return step


def restrict(segment: Segment, start: Array, end: Array) -> Segment:
    """The same keys and values, seen only at positions in [start, end)."""
    position = jnp.arange(segment.mask.shape[0])
    return Segment(segment.k, segment.v, segment.mask & (position >= start) & (position < end))
