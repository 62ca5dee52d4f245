"""Branches from a queue: a row that ends gives its slot to the next one.

In a fixed batch the longest branch holds all rows, and sites that do not exist have rows
too. Here `slots` branches are decoded at a time, those with the shortest prefix first. A
branch's tokens and noise do not depend on the slot or the time it is written at, so the
result is that of `branches.continue_branches`, up to the order in which attention adds.

A slot holds a copy of its prompt's keys and values and a ring for prefix and branch, which
together are never longer than a response. All slots write at the same place of their rings,
so that one update serves them all: a prefix is copied to where the ring will go on. Keys
carry their positions (RoPE), so their order in the ring does not matter.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.policy.cache import decoder_of, restrict, split
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.branches import Branches
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.rollouts import SEGMENT_AXES, draw_token
from gccpo_jax.sampling.sites import Sites, enter, last_hidden, position_after
from gccpo_jax.types import Array, Params, Policy, Segment, record


@record
class Slot:
    """A place in the batch and the branch that is written in it; segments have split layers."""

    row: Array  # [] int32   which branch; the number of branches: the slot is free
    length: Array  # [] int32  tokens that are written
    hidden: Array  # [M]  the state that the next token is read from
    prompt: Segment  # [K, S, D] a layer
    ring: Segment  # [K, R, D] a layer: keys and values of prefix and branch, in any order


State = tuple[Array, Array, Slot, Branches]
"""The time, how many of the queue were taken, the slots and what is written."""


@partial(jax.jit, static_argnames=("policy", "rule", "max_tokens", "limit", "slots"))
def queue_branches(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    segment: Segment,  # [L, B, G, K, T, D] what sampling left
    sites: Sites,  # [B, G, E, W]
    keys: Array,  # [B, G, E, N] keys of tapes, nothing recorded
    stop: Array,  # [V] bool  tokens that end a response
    *,
    rule: Rule,
    max_tokens: int,
    limit: int,
    slots: int,
) -> Branches:
    """`branches.continue_branches` with `slots` rows at a time, the same arguments and result.

    Tapes are given as their keys; there is no `boundary`, branches end as responses do.
    """
    shape, width = keys.shape, sites.tokens.shape[-1]
    count, tokens = keys.size, segment.mask.shape[-1]
    size = min(limit, tokens + width + max_tokens) + 1  # R: where nothing is kept, one more
    prompts = jnp.sum(prompt.mask, axis=-1, dtype=jnp.int32)  # [B]
    hidden, begun = _enter_all(policy, params, prompt, prompts, segment, sites)
    q, g, e, _ = jnp.unravel_index(
        jnp.minimum(jnp.arange(count + 1), count - 1), shape
    )  # of a branch; one for none
    own = Sites(*(x[q, g, e] for x in vars(sites).values()))
    keys = keys.reshape(-1)[jnp.minimum(jnp.arange(count + 1), count - 1)]
    before = jnp.maximum(own.keep, 0) + own.length  # tokens of the ring that are not decoded
    ended = stop[jnp.take_along_axis(own.tokens, own.length[:, None] - 1, axis=1)[:, 0]]
    alive = own.exists & ~(ended & (own.keep >= 0)) & (own.keep + own.length < limit)
    alive &= jnp.arange(count + 1) < count
    queue = jnp.lexsort((before, ~alive))  # rows that go on; the longest may be first
    total = jnp.sum(alive, dtype=jnp.int32)

    weights = decoder_of(policy).unroll(params)
    asked, written, entered = split(prompt), split(segment), split(begun)

    def load(t: Array, row: Array) -> Slot:
        """A slot with a branch whose first token is written at place t."""
        b, i, k = q[row], g[row], e[row]
        n = (jnp.arange(size) - t + before[row]) % size  # token of the prefix at each place
        kept = jnp.maximum(own.keep[row], 0)

        def placed(prefix: Array, site: Array) -> Array:  # [B, G, K, T, D], [B, G, E, K, W, D]
            a = prefix[b, i][:, jnp.minimum(n, tokens - 1)]
            z = site[b, i, k][:, jnp.clip(n - kept, 0, width - 1)]
            return jnp.where((n < kept)[None, :, None], a, z)

        own_prompt = jax.tree.map(lambda x: x[b], asked)
        ring = jax.tree.map(placed, (written.k, written.v), (entered.k, entered.v))
        return Slot(
            row=row.astype(jnp.int32),
            length=jnp.int32(0),
            hidden=hidden[b, i, k],
            prompt=restrict(own_prompt, jnp.int32(0), prompts[b] + jnp.minimum(own.keep[row], 0)),
            ring=Segment(*ring, mask=n < before[row]),
        )

    def write(t: Array, slot: Slot) -> tuple[Array, Array, Segment]:
        site = Sites(*(x[slot.row] for x in vars(own).values()))
        drawn, state, ring = draw_token(
            policy, weights, rule, (slot.prompt,), slot.ring, t % size,
            position_after(prompts[q[slot.row]], site) + slot.length,
            Tape(keys[slot.row], jnp.zeros((0, policy.vocab_size))), site.tape + slot.length,
            slot.hidden, slot.row < count,
        )  # fmt: skip
        return drawn.token, state, ring

    def waiting(state: State) -> Array:
        _, taken, slot, _ = state
        return (taken < total) & jnp.any(slot.row == count)

    def change(state: State) -> State:
        """Gives one free slot the next branch of the queue."""
        t, taken, slot, out = state
        at = jnp.argmax(slot.row == count)
        slot = jax.tree.map(lambda x, one: x.at[at].set(one), slot, load(t, queue[taken]))
        return t, taken + 1, slot, out

    def body(state: State) -> State:
        t, taken, slot, out = jax.lax.while_loop(waiting, change, state)
        token, hidden, ring = jax.vmap(write, in_axes=(None, 0))(t, slot)
        length = slot.length + 1
        out = Branches(
            tokens=out.tokens.at[slot.row, slot.length].set(token, mode="drop"),
            length=out.length.at[slot.row].set(length, mode="drop"),
        )
        ended = stop[token] | (length == max_tokens)
        ended |= own.keep[slot.row] + own.length[slot.row] + length >= limit
        row = jnp.where(ended, count, slot.row)
        return t + 1, taken, Slot(row, length, hidden, slot.prompt, ring), out

    def going(state: State) -> Array:
        _, taken, slot, _ = state
        return (taken < total) | jnp.any(slot.row < count)

    none = jax.vmap(load, in_axes=(None, 0))(jnp.int32(0), jnp.full(slots, count))
    out = Branches(jnp.zeros((count, max_tokens), jnp.int32), jnp.zeros(count, jnp.int32))
    out = jax.lax.while_loop(going, body, (jnp.int32(0), jnp.int32(0), none, out))[-1]
    return Branches(out.tokens.reshape(*shape, max_tokens), out.length.reshape(shape))


def _enter_all(
    policy: Policy, params: Params, prompt: Segment, lengths: Array, segment: Segment, sites: Sites
) -> tuple[Array, Segment]:
    """States [B, G, E, M] behind the sites, and segments [L, B, G, E, K, W, D] of their tokens."""

    def one(prompt: Segment, length: Array, prefix: Segment, site: Sites) -> tuple[Array, Segment]:
        hidden, begun = enter(policy, params, prompt, length, prefix, site)
        return last_hidden(hidden, site), begun

    out = (0, SEGMENT_AXES)
    of_sites = jax.vmap(one, in_axes=(None, None, None, 0), out_axes=out)
    of_group = jax.vmap(of_sites, in_axes=(None, None, SEGMENT_AXES, 0), out_axes=out)
    of_batch = jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, SEGMENT_AXES, 0), out_axes=out)
    return of_batch(prompt, lengths, segment, sites)
