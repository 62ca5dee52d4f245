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

from gccpo_jax.policy.token_law import Rule, first_best, log_law
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.types import Array, Params, Policy, Segment


@partial(jax.jit, static_argnames=("policy", "rule"))
def departures(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    tokens: Array,  # [B, G, T]
    length: Array,  # [B, G]
    keys: Array,  # [B, G, N] of tapes
    ends: Array,  # [B, G, K']  tokens before each boundary, at least one
    *,
    rule: Rule,
) -> Array:
    """d [B, G, K', N] int32: tokens of the trajectory before the branch's first own one.

    `length` where it leaves nowhere. Cost: B G T tokens, read at once, and the laws of B G of them
    at a time.
    """
    at = jnp.sum(prompt.mask, axis=-1, dtype=jnp.int32)  # [B]
    place = jnp.arange(1, tokens.shape[-1])  # no branch goes on from before the first token

    def states(prompt: Segment, at: Array, tokens: Array, length: Array) -> Array:
        before = place - 1
        hidden, _ = policy.encode(params, tokens[:-1], at + before, before < length, (prompt,))
        return hidden  # [T - 1, M]

    of_group = jax.vmap(states, in_axes=(None, None, 0, 0))
    hidden = jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, 0, 0))(prompt, at, tokens, length)

    def leaves(given: tuple[Array, Array, Array]) -> Array:
        t, hidden, written = given  # [], [B, G, M], [B, G]
        law = log_law(policy.logits(params, hidden.reshape(-1, hidden.shape[-1])), rule)

        def other(law: Array, written: Array, key: Array) -> Array:
            return first_best(law + noise.gumbel(key, t, policy.vocab_size)) != written

        of_draws = jax.vmap(jax.vmap(other, in_axes=(None, None, 0)))
        rows = law, written.reshape(-1), keys.reshape(-1, keys.shape[-1])
        return of_draws(*rows).reshape(keys.shape)

    given = place, jnp.moveaxis(hidden, 2, 0), jnp.moveaxis(tokens[..., 1:], 2, 0)
    left = jnp.moveaxis(jax.lax.map(leaves, given), 0, -1)[:, :, None]  # [B, G, 1, N, T - 1]
    after = (place >= ends[..., None, None]) & (place < length[..., None, None, None])
    return jnp.min(jnp.where(left & after, place, length[..., None, None, None]), axis=-1)


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
    own = first == jnp.arange(count)[:, None]
    return first, where[..., None] & own & (departure < length[..., None, None])
