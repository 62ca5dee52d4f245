"""Rollouts from a queue: a row that ends gives its slot to the next one.

In a fixed batch the longest rollout holds all rows. Here `slots` rows are decoded at a
time; the rollouts of all questions and groups wait in a queue, question by question,
and whoever ends makes room. A rollout's tokens, noise and law do not depend on the slot
or the time it is written at, so the result is that of `rollouts.sample`, up to the order
in which attention adds.

All slots write their cache at the same place of a ring of T tokens, so that one update
serves them all; which places belong to the slot's rollout is a mask. Keys carry their
positions (RoPE), so their order in the ring does not matter. Where a rollout ends, its ring
is turned to begin with its first token and copied to where results are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.policy.cache import decoder_of, join, split
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.sampling.rollouts import Draw, begin, draw_token, sample
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout, Segment, record


@record
class Slot:
    """A place in the batch and the rollout that is written in it; segments have split layers."""

    row: Array  # [] int32   question * G + trajectory; B * G: the slot is free
    length: Array  # [] int32  tokens that are written
    hidden: Array  # [M]  the state that the next token is read from
    start: Array  # [] int32   tokens of the prompt
    tape: Tape
    prompt: Segment  # [K, S, D] a layer
    ring: Segment  # [K, T, D] a layer: the rollout's own keys and values
    begun: Array  # [] int32   place of its first token in the ring
    ended: Array  # [] bool   it waits for being put away


State = tuple[Array, Array, Slot, Rollout]
"""The time, the next rollout of the queue, the slots and what is written."""


def sampler(slots: int) -> Callable[..., tuple[Segment, Rollout]]:
    """`sample` for 0 slots, else `sample_queue` with so many."""
    return partial(sample_queue, slots=slots) if slots else sample


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
    """`rollouts.sample`, the same arguments and result, with `slots` rows at a time.

    Every slot holds a copy of its prompt's keys and values.
    """
    prompt, hidden, start, tapes = begin(policy, params, prompts, question_keys, group, draw)
    questions, count = len(prompts.tokens), len(prompts.tokens) * group
    weights, asked = decoder_of(policy).unroll(params), split(prompt)
    keys = tapes.key.reshape(count)

    def load(row: Array, begun: Array, ring: Segment) -> Slot:
        """A slot with rollout `row`, of which nothing is written; free if there is none."""
        question = jnp.minimum(row // group, questions - 1)
        return Slot(
            row=row,
            length=jnp.int32(0),
            hidden=hidden[question],
            start=start[question],
            tape=Tape(keys[jnp.minimum(row, count - 1)], jnp.zeros((0, policy.vocab_size))),
            prompt=jax.tree.map(lambda x: x[question], asked),
            ring=Segment(ring.k, ring.v, jnp.zeros_like(ring.mask)),
            begun=begun,
            ended=jnp.bool_(False),
        )

    def write(t: Array, slot: Slot) -> tuple[Draw, Array, Segment]:
        return draw_token(
            policy, weights, rule, (slot.prompt,), slot.ring, t % max_tokens,
            slot.start + slot.length, slot.tape, slot.length, slot.hidden, slot.row < count,
        )  # fmt: skip

    def change(state: State) -> State:
        """Puts one rollout that has ended away and gives its slot to the next in the queue."""
        t, next_row, at_work, out = state
        at = jnp.argmax(at_work.ended)
        old = jax.tree.map(lambda x: x[at], at_work)
        new = load(next_row, t % max_tokens, old.ring)
        at_work = jax.tree.map(lambda x, one: x.at[at].set(one), at_work, new)
        return t, jnp.minimum(next_row + 1, count), at_work, _put_away(out, old)

    def body(state: State) -> State:
        t, next_row, at_work, out = state
        drawn, hidden, ring = jax.vmap(write, in_axes=(None, 0))(t, at_work)
        out = _record(out, at_work, drawn, stop)
        ended = stop[drawn.token] | (at_work.length + 1 == max_tokens)
        changes = {"hidden": hidden, "ring": ring, "length": at_work.length + 1}
        changes["ended"] = ended & (at_work.row < count)
        state = t + 1, next_row, Slot(**{**vars(at_work), **changes}), out
        return jax.lax.while_loop(lambda state: jnp.any(state[2].ended), change, state)

    def going(state: State) -> Array:
        return jnp.any(state[2].row < count)

    layer = jnp.zeros((asked.k[0].shape[1], max_tokens, asked.k[0].shape[3]), asked.k[0].dtype)
    ring = Segment((layer,) * len(asked.k), (layer,) * len(asked.v), jnp.zeros(max_tokens, bool))
    rows = jnp.minimum(jnp.arange(slots, dtype=jnp.int32), count)
    at_work = jax.vmap(load, in_axes=(0, None, None))(rows, jnp.int32(0), ring)
    state = (jnp.int32(0), jnp.int32(min(slots, count)), at_work, _blank(ring, count))
    out = jax.lax.while_loop(going, body, state)[-1]
    return prompt, _by_question(out, questions, group)


def _record(out: Rollout, slot: Slot, drawn: Draw, stop: Array) -> Rollout:
    """Writes one token of every slot to its row of `out` [R, T]; free slots write nowhere."""
    row, at = slot.row, slot.length

    def put(buffer: Array, value: Array) -> Array:
        return buffer.at[row, at].set(value, mode="drop")

    return Rollout(
        tokens=put(out.tokens, drawn.token),
        logp=put(out.logp, drawn.logp),
        entropy=put(out.entropy, drawn.entropy),
        length=out.length.at[row].set(at + 1, mode="drop"),
        stopped=out.stopped.at[row].set(stop[drawn.token], mode="drop"),
        segment=out.segment,
    )


def _put_away(out: Rollout, slot: Slot) -> Rollout:
    """Copies the keys and values of one slot's rollout to its row of `out`, in their order."""

    def copy(buffer: Array, ring: Array) -> Array:  # [R, K, T, D], [K, T, D]
        twice = jnp.concatenate([ring, ring], axis=1)
        turned = jax.lax.dynamic_slice_in_dim(twice, slot.begun, ring.shape[1], axis=1)
        return buffer.at[slot.row].set(turned)

    done, ring = out.segment, slot.ring
    mask = done.mask.at[slot.row].set(jnp.arange(done.mask.shape[1]) < slot.length)
    segment = Segment(*jax.tree.map(copy, (done.k, done.v), (ring.k, ring.v)), mask)
    return Rollout(**{**vars(out), "segment": segment})


def _blank(ring: Segment, count: int) -> Rollout:
    """`count` rollouts [R, T] of which nothing is written."""
    rows = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), ring)
    zeros = jnp.zeros(rows.mask.shape, jnp.float32)
    nothing = jnp.zeros(count, bool)
    return Rollout(zeros.astype(jnp.int32), zeros, zeros, jnp.int32(nothing), nothing, rows)


def _by_question(out: Rollout, questions: int, group: int) -> Rollout:
    """Rows [R, ...] with split layers as groups [B, G, ...] and a cache of all layers."""
    groups = jax.tree.map(lambda x: x.reshape(questions, group, *x.shape[1:]), out)
    return Rollout(**{**vars(groups), "segment": join(groups.segment)})
