"""Rollouts and branches from a queue: a row that ends gives its slot to the next one.

In a fixed batch the longest row holds all others, and sites that do not exist have rows too.
Here `slots` rows are decoded at a time and the rest wait in a queue: rollouts question by
question, branches with the shortest prefix first. Once the queue is empty and half of the slots
are free, the others go on in a batch of half the size. A row's tokens, noise and law do not
depend on the slot or the time it is written at, so the results are those of `rollouts.sample` and
`branches.continue_branches`, up to the order in which attention adds.

A slot holds a copy of its prompt's keys and values and a ring of R places for what follows
them: the copied prefix of a branch, then what is decoded. A rollout is a branch from the
prompt's end: its prefix is empty. At time t all slots write at place t mod R, so that one
update serves them all; a prefix of n tokens is therefore copied to the n places before. A row
has at most R tokens, so it ends before it would overwrite its first; which places are its own
is a mask. Keys carry their positions (RoPE), so their order in the ring does not matter. The
ring of a rollout is turned to begin with its first token where it is copied to the results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.policy.cache import decoder_of, join, restrict, room, split
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.branches import Branches, over_sites
from gccpo_jax.sampling.noise import Tape, keyed
from gccpo_jax.sampling.rollouts import (
    SEGMENT_AXES,
    Draw,
    as_long_as_needed,
    begin,
    draw_token,
    sample,
)
from gccpo_jax.sampling.sites import Sites, enter, last_hidden, position_after
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout, Segment, record


@record
class Slot:
    """A place in the batch and the row that is written in it; segments have split layers."""

    row: Array  # [] int32   row of the results; the number of rows: the slot is free
    position: Array  # [] int32   absolute position of its first decoded token
    tape: Tape
    offset: Array  # [] int32   tape position of that token
    limit: Array  # [] int32   tokens that it may have, at least one
    begun: Array  # [] int32   place of its first decoded token in the ring
    length: Array  # [] int32   tokens that are decoded
    hidden: Array  # [M]   the state that the next token is read from
    prompt: Segment  # [K, S, D] per layer
    ring: Segment  # [K, R, D] per layer: keys and values of prefix and decoded tokens
    ended: Array  # [] bool   it waits for being put away


def ring_queue(
    load: Callable[[Array, Array], Slot],
    draw: Callable[[Array, Slot], tuple[Any, Slot]],
    put_away: Callable[[Any, Slot], Any],
    written: Any,
    done: Any,
    *,
    count: int,
    slots: int,
) -> tuple[Any, Any]:
    """Decodes the `count` rows of a queue, `slots` at a time.

    Args:
      load: (n, place) -> a slot with row n of the queue, which writes its first token at
        `place`; its `row` is `count` where the queue has no row n.
      draw: (place, slot) -> what is kept of one more token, and the slot with it.
      put_away: (done, slot) -> `done` with what is kept of a row that has ended.
      written: buffers [count, T] for the tokens, of the tree that `draw` returns.
      done: what `put_away` adds to.
    Returns:
      `written` and `done` of all rows.
    """

    def change(state: tuple) -> tuple:
        """Puts one row that has ended away and gives its slot to the next in the queue."""
        t, taken, at_work, written, done = state
        at = jnp.argmax(at_work.ended)
        old = jax.tree.map(lambda x: x[at], at_work)
        new = load(taken, t % size)
        at_work = jax.tree.map(lambda x, one: x.at[at].set(one), at_work, new)
        return t, taken + 1, at_work, written, put_away(done, old)

    def body(state: tuple) -> tuple:
        t, taken, at_work, written, done = state
        at = at_work.row, at_work.length  # free slots write nowhere
        drawn, at_work = jax.vmap(draw, in_axes=(None, 0))(t % size, at_work)
        written = jax.tree.map(lambda x, new: x.at[at].set(new, mode="drop"), written, drawn)
        state = t + 1, taken, at_work, written, done
        return jax.lax.while_loop(lambda state: jnp.any(state[2].ended), change, state)

    def rows_are_more_than(few: int) -> Callable[[tuple], Array]:
        return lambda state: jnp.sum(state[2].row < count) > few

    def in_half_a_batch(state: tuple) -> tuple:
        t, taken, at_work, written, done = state
        half = jnp.argsort(at_work.row >= count)[: slots // 2]  # slots with a row come first
        return t, taken, jax.tree.map(lambda x: x[half], at_work), written, done

    zero = jnp.int32(0)
    first = jax.vmap(load, in_axes=(0, None))(jnp.arange(slots, dtype=jnp.int32), zero)
    size = first.ring.mask.shape[-1]
    state = zero, jnp.int32(slots), first, written, done
    if slots > 1:  # fewer rows than slots: the queue is empty
        state = jax.lax.while_loop(rows_are_more_than(slots // 2), body, state)
        state = in_half_a_batch(state)
    return jax.lax.while_loop(rows_are_more_than(0), body, state)[3:]


def _write(
    policy: Policy,
    weights: Params,  # unrolled
    rule: Rule,
    stop: Array,  # [V] bool
    count: int,
    place: Array,  # [] of the ring
    slot: Slot,
) -> tuple[Draw, Slot]:
    """Draws the next token of a slot's row; nothing of it counts if the slot is free."""
    drawn, hidden, ring = draw_token(
        policy,
        weights,
        rule,
        past=(slot.prompt,),
        own=slot.ring,
        slot=place,
        position=slot.position + slot.length,
        tape=slot.tape,
        t=slot.offset + slot.length,
        hidden=slot.hidden,
        active=slot.row < count,
    )
    length = slot.length + 1
    ended = (stop[drawn.token] | (length == slot.limit)) & (slot.row < count)
    return drawn, dataclasses.replace(slot, hidden=hidden, ring=ring, length=length, ended=ended)


def sampler(slots: int) -> Callable[..., tuple[Segment, Rollout]]:
    """`sample` for 0 slots; else the same by `sample_queue` with `slots` of them."""
    return partial(_sample_queued, slots=slots) if slots else sample


def _sample_queued(*given: Any, max_tokens: int, **how: Any) -> tuple[Segment, Rollout]:
    prompt, rollout = sample_queue(*given, max_tokens=max_tokens, **how)
    return prompt, as_long_as_needed(rollout, max_tokens)


@partial(jax.jit, static_argnames=("policy", "group", "rule", "max_tokens", "slots"))
def sample_queue(
    policy: Policy,
    params: Params,
    prompts: Prompts,
    question_keys: Array,  # [B] keys
    stop: Array,  # [V] bool
    *,
    group: int,
    rule: Rule,
    max_tokens: int,
    slots: int,
    draw: int | Array = 0,
) -> tuple[Segment, Rollout]:
    """`rollouts.sample_whole`, the same arguments and result, with `slots` rows at a time."""
    prompt, hidden, start, tapes = begin(policy, params, prompts, question_keys, group, draw)
    count, layers = len(start) * group, split(prompt)

    def load(n: Array, place: Array) -> Slot:
        row = jnp.minimum(n, count)
        question, trajectory = jnp.divmod(jnp.minimum(row, count - 1), group)
        own_prompt = jax.tree.map(lambda x: x[question], layers)
        return Slot(
            row=row,
            position=start[question],
            tape=jax.tree.map(lambda x: x[question, trajectory], tapes),
            offset=jnp.int32(0),
            limit=jnp.int32(max_tokens),
            begun=place,
            length=jnp.int32(0),
            hidden=hidden[question],
            prompt=own_prompt,
            ring=room(own_prompt, max_tokens),
            ended=jnp.bool_(False),
        )

    rows = jax.tree.map(lambda x: jnp.repeat(x, group, axis=0), room(layers, max_tokens))
    zeros = jnp.zeros((count, max_tokens), jnp.float32)
    write = partial(_write, policy, decoder_of(policy).unroll(params), rule, stop, count)
    written = Draw(zeros.astype(jnp.int32), zeros, zeros)
    done = jnp.zeros(count, jnp.int32), rows
    written, done = ring_queue(load, write, _put_away, written, done, count=count, slots=slots)
    length, segment = done
    last = jnp.take_along_axis(written.token, length[:, None] - 1, axis=1)[:, 0]
    out = Rollout(written.token, written.logp, written.entropy, length, stop[last], segment)
    out = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), out)
    return prompt, dataclasses.replace(out, segment=join(out.segment))


def _put_away(done: tuple[Array, Segment], slot: Slot) -> tuple[Array, Segment]:
    """Copies a rollout's length, and its keys and values in their order, to its row of `done`."""
    length, rows = done

    def copy(buffer: Array, ring: Array) -> Array:  # [count, K, T, D], [K, T, D]
        twice = jnp.concatenate([ring, ring], axis=1)
        turned = jax.lax.dynamic_slice_in_dim(twice, slot.begun, ring.shape[1], axis=1)
        return buffer.at[slot.row].set(turned)

    mask = rows.mask.at[slot.row].set(jnp.arange(rows.mask.shape[1]) < slot.length)
    k, v = jax.tree.map(copy, (rows.k, rows.v), (slot.ring.k, slot.ring.v))
    return length.at[slot.row].set(slot.length), Segment(k, v, mask)


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
    shape, count = keys.shape, keys.size
    tokens, width = segment.mask.shape[-1], sites.tokens.shape[-1]
    size = min(limit, tokens + width + max_tokens) + 1  # R: where nothing is kept, one more
    lengths = jnp.sum(prompt.mask, axis=-1, dtype=jnp.int32)  # [B]

    def end_of(prompt: Segment, length: Array, prefix: Segment, site: Sites) -> tuple:
        hidden, begun = enter(policy, params, prompt, length, prefix, site)
        return last_hidden(hidden, site), begun

    entering = over_sites(end_of, (0,), (0, SEGMENT_AXES), cache=SEGMENT_AXES)
    hidden, begun = entering(prompt, lengths, segment, sites)  # [B, G, E, M], [L, B, G, E, K, W, D]
    queue, total = _in_order(sites, stop, limit, shape)
    asked, written, entered = split(prompt), split(segment), split(begun)

    def load(n: Array, place: Array) -> Slot:
        row = jnp.where(n < total, queue[jnp.minimum(n, count - 1)], count)
        b, i, e, draw = jnp.unravel_index(jnp.minimum(row, count - 1), shape)
        site = jax.tree.map(lambda x: x[b, i, e], sites)
        kept = jnp.maximum(site.keep, 0)
        before = kept + site.length
        token = (jnp.arange(size) - place + before) % size  # of the prefix, at each place

        def placed(prefix: Array, new: Array) -> Array:  # [B, G, K, T, D], [B, G, E, K, W, D]
            a = prefix[b, i][:, jnp.minimum(token, tokens - 1)]
            z = new[b, i, e][:, jnp.clip(token - kept, 0, width - 1)]
            return jnp.where((token < kept)[None, :, None], a, z)

        k, v = jax.tree.map(placed, (written.k, written.v), (entered.k, entered.v))
        own_prompt = jax.tree.map(lambda x: x[b], asked)
        return Slot(
            row=row,
            position=position_after(lengths[b], site),
            tape=keyed(keys[b, i, e, draw], policy.vocab_size),
            offset=site.tape,
            limit=jnp.minimum(max_tokens, limit - site.keep - site.length),
            begun=place,
            length=jnp.int32(0),
            hidden=hidden[b, i, e],
            prompt=restrict(own_prompt, jnp.int32(0), lengths[b] + jnp.minimum(site.keep, 0)),
            ring=Segment(k, v, mask=token < before),
            ended=jnp.bool_(False),
        )

    write = partial(_write, policy, decoder_of(policy).unroll(params), rule, stop, count)

    def draw(place: Array, slot: Slot) -> tuple[tuple[Array, Array], Slot]:
        drawn, slot = write(place, slot)
        return (drawn.token, drawn.logp), slot

    def put_away(length: Array, slot: Slot) -> Array:
        return length.at[slot.row].set(slot.length)

    zeros = jnp.zeros((count, max_tokens), jnp.float32)
    blank, none = (zeros.astype(jnp.int32), zeros), jnp.zeros(count, jnp.int32)
    out, length = ring_queue(load, draw, put_away, blank, none, count=count, slots=slots)
    tokens, logp = (x.reshape(*shape, max_tokens) for x in out)
    return Branches(tokens, logp, length.reshape(shape))


def _in_order(sites: Sites, stop: Array, limit: int, shape: tuple) -> tuple[Array, Array]:
    """Rows of branches [B G E N], those that go on first, by the length of their prefix; how many.

    The others are empty: their site does not exist, has ended, or is as long as a response may be.
    """
    last = jnp.take_along_axis(sites.tokens, sites.length[..., None] - 1, axis=-1)[..., 0]
    ended = stop[last] & (sites.keep >= 0)
    alive = sites.exists & ~ended & (sites.keep + sites.length < limit)
    before = jnp.maximum(sites.keep, 0) + sites.length
    alive, before = (jnp.broadcast_to(x[..., None], shape).ravel() for x in (alive, before))
    return jnp.lexsort((before, ~alive)), jnp.sum(alive, dtype=jnp.int32)
