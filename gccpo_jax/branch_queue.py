"""Branches from a queue: a row that ends gives its slot to the next one.

In a fixed batch the longest branch holds all rows, and sites that do not exist have rows
too. Here `slots` branches are decoded at a time, those with the shortest prefix first. A
branch's tokens and noise do not depend on the slot or the time it is written at, so the
result is that of `branches.continue_branches`, up to the order in which attention adds.

A slot holds a copy of its prompt's keys and values and a ring for prefix and branch, which
together are never longer than a response. All slots write at the same place of their rings,
so that one update serves them all: a prefix is copied to where the ring will go on. Keys
carry their positions (RoPE), so their order in the ring does not matter. Copying is what a
queue costs; slots are filled when a quarter of them is free, not one by one.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.branches import Branches
from gccpo_jax.intervention import restrict
from gccpo_jax.law import Rule
from gccpo_jax.noise import Tape
from gccpo_jax.sampling import SEGMENT_AXES, append, draw_token
from gccpo_jax.sites import Sites, enter, last_hidden, position_after
from gccpo_jax.types import Array, Params, Policy, Segment, record


@record
class Slot:
    """A place in the batch and the branch that is written in it."""

    row: Array  # [] int32   which branch; the number of branches: the slot is free
    length: Array  # [] int32  tokens that are written
    hidden: Array  # [M]  the state that the next token is read from
    prompt: Segment  # [L, K, S, D]
    ring: Segment  # [L, K, R, D]  keys and values of prefix and branch, in any order


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

    def load(t: Array, row: Array) -> tuple[Array, Segment, Segment]:
        """What a slot begins with if its branch's first token is written at place t."""
        b, i, k = q[row], g[row], e[row]
        asked = restrict(
            Segment(prompt.k[:, b], prompt.v[:, b], prompt.mask[b]),
            jnp.int32(0), prompts[b] + jnp.minimum(own.keep[row], 0),
        )  # fmt: skip
        n = (jnp.arange(size) - t + before[row]) % size  # token of the prefix at each place
        kept = jnp.maximum(own.keep[row], 0)

        def placed(prefix: Array, site: Array) -> Array:
            a = prefix[:, :, jnp.minimum(n, tokens - 1)]
            z = site[:, :, jnp.clip(n - kept, 0, width - 1)]
            return jnp.where((n < kept)[None, None, :, None], a, z)

        ring = Segment(
            k=placed(segment.k[:, b, i], begun.k[:, b, i, k]),
            v=placed(segment.v[:, b, i], begun.v[:, b, i, k]),
            mask=n < before[row],
        )
        return hidden[b, i, k], asked, ring

    def fill(t: Array, taken: Array, slot: Slot) -> tuple[Array, Slot]:
        """Gives free slots the next branches of the queue, while there are some."""
        free = slot.row == count
        turn = taken + jnp.cumsum(free) - 1
        row = jnp.where(turn < total, queue[jnp.minimum(turn, count)], count)
        new = Slot(row, jnp.zeros_like(slot.length), *jax.vmap(
            partial(load, t), out_axes=(0, SEGMENT_AXES, SEGMENT_AXES)
        )(row))  # fmt: skip

        def take(old: Array, new: Array, axis: int) -> Array:
            where = jnp.expand_dims(free, [a for a in range(new.ndim) if a != axis])
            return jnp.where(where, new, old)

        slot = jax.tree.map(take, slot, new, SLOT_AXES)
        return jnp.minimum(taken + jnp.sum(free), total).astype(jnp.int32), slot

    def write(slot: Slot) -> tuple[Array, Array, Segment]:
        at = Sites(*(x[slot.row] for x in vars(own).values()))
        drawn, state, new = draw_token(
            policy, params, rule, (slot.prompt, slot.ring),
            position_after(prompts[q[slot.row]], at) + slot.length,
            Tape(keys[slot.row], jnp.zeros((0, policy.vocab_size))), at.tape + slot.length,
            slot.hidden, slot.row < count,
        )  # fmt: skip
        return drawn.token, state, new

    of_slots = jax.vmap(write, in_axes=(SLOT_AXES,), out_axes=(0, 0, SEGMENT_AXES))

    def body(state: tuple[Array, Array, Slot, Branches]) -> tuple[Array, Array, Slot, Branches]:
        t, taken, slot, out = state
        free = jnp.sum(slot.row == count)
        due = (taken < total) & ((4 * free >= slots) | (free == slots))
        taken, slot = jax.lax.cond(due, partial(fill, t), lambda *same: same, taken, slot)
        token, hidden, new = of_slots(slot)
        length = slot.length + 1
        out = Branches(
            tokens=out.tokens.at[slot.row, slot.length].set(token, mode="drop"),
            length=out.length.at[slot.row].set(length, mode="drop"),
        )
        ended = stop[token] | (length == max_tokens)
        ended |= own.keep[slot.row] + own.length[slot.row] + length >= limit
        row = jnp.where(ended, count, slot.row)
        slot = Slot(row, length, hidden, slot.prompt, append(slot.ring, new, t % size))
        return t + 1, taken, slot, out

    def going(state: tuple[Array, Array, Slot, Branches]) -> Array:
        _, taken, slot, _ = state
        return (taken < total) | jnp.any(slot.row < count)

    nothing = jax.vmap(partial(load, jnp.int32(0)), out_axes=(0, SEGMENT_AXES, SEGMENT_AXES))
    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(nothing, jnp.zeros(slots, jnp.int32)),
    )
    slot = Slot(jnp.full(slots, count), jnp.zeros(slots, jnp.int32), *empty)
    out = Branches(jnp.zeros((count, max_tokens), jnp.int32), jnp.zeros(count, jnp.int32))
    state = (jnp.int32(0), jnp.int32(0), slot, out)
    out = jax.lax.while_loop(going, body, state)[-1]
    return Branches(out.tokens.reshape(*shape, max_tokens), out.length.reshape(shape))


SLOT_AXES = Slot(0, 0, 0, SEGMENT_AXES, SEGMENT_AXES)  # type: ignore[arg-type]


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
