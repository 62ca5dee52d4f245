"""Attention of new tokens over a context of shared segments plus themselves.

For query q at position s, keys k_j with values v_j from all segments together,

    o = sum_j w_j v_j,    w_j = exp(q.k_j / sqrt(D)) / sum_j' exp(q.k_j' / sqrt(D)),

where j runs over the unmasked tokens of the context and the unmasked tokens
s' <= s of the new ones. The context is never concatenated: every segment yields
its scores, the maximum and the denominator are joint, and the unnormalised
outputs add up. Under `vmap` a segment that is not batched stays one array that
all rows multiply with.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp

from gccpo_jax.policy.products import wide_product
from gccpo_jax.types import Array

_LOW = -1e30  # a score that loses against every real one, and whose differences stay finite

KeysValues = tuple[Array, Array, Array]
"""Of one layer and one segment: keys[K, S, D], values[K, S, D], mask[S]."""


QUERIES = 128
"""New tokens that attend together, so that their scores alone exist. At half as many, 512 tokens
are a tenth faster and compile twice as long."""

SPANS = 4
"""Parts of the new tokens, each of which is multiplied with the keys up to its end alone: five
eighths of all. More would save an eighth at most and compile longer."""


def attend(
    q: Array,
    k: Array,
    v: Array,
    mask: Array,
    past: tuple[KeysValues, ...],
    sequences: Array | None = None,
) -> Array:
    """Exact softmax attention over `past` and causally over the new tokens.

    Args:
      q: [S, H, D] queries; H is a multiple of K, consecutive heads share a key head.
      k, v: [K, S, D] keys and values of the new tokens.
      mask: [S] bool, True on new tokens that exist.
      past: per segment (keys, values, mask), any number, any lengths.
      sequences: [S] int32 of sequences laid end to end, each of which attends to `past` and to
        itself; None: the new tokens are one.

    Returns:
      [S, H, D]. A row that may attend to nothing is finite and meaningless.
    """
    if not past and sequences is None:
        k, v = k.swapaxes(0, 1), v.swapaxes(0, 1)
        return jax.nn.dot_product_attention(q, k, v, mask=mask[None, None, :], is_causal=True)
    size, place = mask.shape[0], jnp.arange(mask.shape[0])
    cached = tuple((k, v, seen[None, :]) for k, v, seen in past)

    # Going back, scores and weights [H, S, J] are made again: at length that is faster than to
    # write and read them, and they are most of what a layer would keep.
    @functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=1)
    def block(queries: tuple[Array, Array, Array | None], end: int) -> Array:
        q, at, sequence = queries
        visible = mask[None, :end] & (place[None, :end] <= at[:, None])
        if sequences is not None:
            visible &= sequences[None, :end] == sequence[:, None]
        return attend_to(q, (*cached, (k[:, :end], v[:, :end], visible)))

    def span(first: int, end: int) -> Array:
        queries = jax.tree.map(lambda x: x[first:end], (q, place, sequences))
        if end - first <= QUERIES:
            return block(queries, end)
        # One block after the other: side by side, XLA would make the scores of all at once.
        blocks = jax.tree.map(_in_blocks, queries)
        found = jax.lax.map(lambda queries: block(queries, end), blocks)
        return found.reshape(-1, *q.shape[1:])[: end - first]

    step = -(-size // (SPANS * QUERIES)) * QUERIES
    found = [span(first, min(first + step, size)) for first in range(0, size, step)]
    return jnp.concatenate(found) if len(found) > 1 else found[0]


def _in_blocks(x: Array) -> Array:
    """[S, ...] as [n, QUERIES, ...], with zeros behind."""
    more = -x.shape[0] % QUERIES
    return jnp.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, QUERIES, *x.shape[1:])


def attend_to(q: Array, parts: tuple[KeysValues, ...]) -> Array:
    """Exact softmax attention of queries [S, H, D] over parts, all of which are cached.

    Args:
      parts: (keys[K, J, D], values[K, J, D], visible[1 or S, J]) each; J may differ.
    """
    grouped = jnp.moveaxis(q.reshape(q.shape[0], len(parts[0][0]), -1, q.shape[2]), 0, 2)
    return jnp.moveaxis(_merge(grouped, parts), 2, 0).reshape(q.shape)


def _merge(q: Array, parts: tuple[KeysValues, ...]) -> Array:
    """Joint softmax of queries [K, R, S, D] over `parts`."""
    scores = [_scores(q, keys, visible) for keys, _, visible in parts]
    # The softmax does not depend on the shift, so no gradient needs to pass through it.
    peak = functools.reduce(jnp.maximum, [score.max(-1, keepdims=True) for score in scores])
    peak = jax.lax.stop_gradient(peak)
    weights = [
        jnp.where(visible[None, None], jnp.exp(score - peak), 0.0)
        for score, (_, _, visible) in zip(scores, parts, strict=True)
    ]  # [K, R, S, J] each
    total = functools.reduce(operator.add, [weight.sum(-1, keepdims=True) for weight in weights])
    total = jnp.where(total > 0, total, 1.0)  # [K, R, S, 1]
    mixed = [
        wide_product("krsj,kjd->krsd", weight.astype(values.dtype), values)
        for weight, (_, values, _) in zip(weights, parts, strict=True)
    ]
    return (functools.reduce(operator.add, mixed) / total).astype(q.dtype)


def _of_one_token(q: Array, keys: Array) -> Array:
    """float32 [K, R, 1, J] products of queries [K, R, 1, D] with keys [K, J, D].

    Keys on the left as they lie: on the right, XLA's CPU keeps a decoder's caches as [D, J] and
    writes each new key with strides.
    """
    return jnp.moveaxis(wide_product("kjd,krsd->kjrs", keys, q), 1, 3)


def _scores(q: Array, keys: Array, visible: Array) -> Array:
    """float32 [K, R, S, J] scaled products, `_LOW` where the key is not visible."""
    plain = functools.partial(wide_product, "krsd,kjd->krsj")
    if q.shape[2] == 1:
        products = jax.lax.platform_dependent(q, keys, cpu=_of_one_token, default=plain)
    else:
        products = plain(q, keys)
    return jnp.where(visible[None, None], products / q.shape[-1] ** 0.5, _LOW)
