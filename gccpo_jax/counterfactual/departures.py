"""Where a branch leaves the trajectory that it goes on from.

    d_n(k) = min { t >= end_k : argmax_v( log pi(v | q, s_<t) + U[n, t](v) ) != s_t }

The law and the noise of a place do not depend on who asks. So under tape n a branch from boundary k
writes what its trajectory wrote up to d_n(k), which one pass over the trajectory finds for all
boundaries and tapes; only what follows is unknown. Branches of one tape that leave at one place
are the same branch, whatever boundary they go on from, and a branch that never leaves is the
trajectory. This is speculative decoding with the trajectory as the draft: nothing is approximated.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.counterfactual.needed_rows import where_needed
from gccpo_jax.policy.token_law import Rule, first_best, log_law
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.sites import Sites, enter
from gccpo_jax.types import Array, Params, Policy, Segment

CHUNK, AT_ONCE = 8, 32
"""Tokens of a trajectory that are read together as a piece, and pieces of one pass."""


@partial(jax.jit, static_argnames=("policy", "rule"))
def departures(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    segment: Segment,  # [L, B, G, K, T, D] what sampling left
    tokens: Array,  # [B, G, T]
    length: Array,  # [B, G]
    keys: Array,  # [B, G, N] of tapes
    ends: Array,  # [B, G, K']  tokens before each boundary, at least one
    where: Array,  # [B, G, K'] bool  boundaries that are asked for
    *,
    rule: Rule,
) -> Array:
    """d [B, G, K', N] int32: tokens of the trajectory before the branch's first own one.

    `length` where it leaves nowhere. Cost: the tokens after the first boundary, read on the cache
    in pieces, and at each of their places the noise of N tapes.
    """
    pieces = -(-tokens.shape[-1] // CHUNK)  # piece c has the places from c CHUNK + 1 on
    room = jnp.pad(tokens, ((0, 0), (0, 0), (0, pieces * CHUNK + 1 - tokens.shape[-1])))
    asked_length = jnp.sum(prompt.mask, axis=-1, dtype=jnp.int32)  # [B]
    kept = jnp.arange(pieces, dtype=jnp.int32) * CHUNK

    def is_needed(length: Array, ends: Array, where: Array) -> Array:  # [pieces] bool
        first = jnp.min(jnp.where(where, ends, length))
        return (kept + CHUNK >= first) & (kept + 1 < length)

    needed = jax.vmap(jax.vmap(is_needed))(length, ends, where)  # [B, G, pieces]

    def states(b: Array, g: Array, keep: Array, own: Array) -> Array:  # [CHUNK, M]
        asked = Segment(prompt.k[:, b], prompt.v[:, b], prompt.mask[b])
        prefix = Segment(segment.k[:, b, g], segment.v[:, b, g], segment.mask[b, g])
        site = Sites(keep, own, jnp.int32(CHUNK), keep + 1, jnp.bool_(True))
        return enter(policy, params, asked, asked_length[b], prefix, site)[0]

    def leaves(t: Array, law: Array, written: Array, key: Array) -> Array:  # [] bool
        return first_best(law + noise.gumbel(key, t, policy.vocab_size)) != written

    of_rows = jax.vmap(jax.vmap(leaves, in_axes=(None, None, None, 0)))

    def of_pieces(rows: Array) -> Array:  # [n, CHUNK, N] bool
        b, g, piece = jnp.unravel_index(rows, needed.shape)
        keep = kept[piece]
        slice_of = partial(jax.lax.dynamic_slice_in_dim, slice_size=CHUNK + 1)
        own = jax.vmap(slice_of)(room[b, g], keep)
        hidden = jax.vmap(states)(b, g, keep, own[:, :-1])

        def of_place(j: Array) -> Array:
            law = log_law(policy.logits(params, hidden[:, j]), rule)  # [n, V]
            return of_rows(keep + 1 + j, law, own[:, 1 + j], keys[b, g])

        return jnp.moveaxis(jax.lax.map(of_place, jnp.arange(CHUNK, dtype=jnp.int32)), 0, 1)

    left = where_needed(of_pieces, needed.reshape(-1), AT_ONCE)  # [B G pieces, CHUNK, N]
    place = 1 + jnp.arange(pieces * CHUNK, dtype=jnp.int32)

    def first_after(left: Array, length: Array, end: Array) -> Array:  # of a tape
        return jnp.min(jnp.where(left & (place >= end) & (place < length), place, length))

    of_tapes = jax.vmap(first_after, in_axes=(1, None, None))
    of_boundaries = jax.vmap(of_tapes, in_axes=(None, None, 0))
    left = left.reshape(*length.shape, pieces * CHUNK, -1)
    return jax.vmap(jax.vmap(of_boundaries))(left, length, ends)


@jax.jit
def sources(departure: Array, length: Array, where: Array) -> tuple[Array, Array]:
    """The boundary [B, G, K', N] whose branch each branch is, and which have to be decoded (bool).

    The first of those that leave at one place is decoded, unless it never leaves.

    Args: departure, d [B, G, K', N]; length [B, G]; where [B, G, K'], boundaries to branch from.
    Example: d (5, 5, 9, 12) of one tape, length 12: boundaries (0, 0, 2, 3), the first and the
      third are decoded.
    """
    count = departure.shape[2]
    same = (departure[:, :, :, None] == departure[:, :, None]) & where[:, :, None, :, None]
    first = jnp.argmax(same, axis=3).astype(jnp.int32)  # [B, G, K', N]
    own = first == jnp.arange(count)[None, None, :, None]
    return first, where[..., None] & own & (departure < length[..., None, None])
