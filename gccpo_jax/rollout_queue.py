"""Rollouts from a queue: a row that ends gives its slot to the next one.

In a fixed batch the longest rollout holds all rows. Here `slots` rows are decoded at a
time; the rollouts of all questions and groups wait in a queue, question by question,
and whoever ends makes room. A rollout's tokens, noise and law do not depend on the slot
or the time it is written at, so the result is that of `sampling.sample`, up to the order
in which attention adds.

All slots write their cache at the same place of a ring of T tokens, so that one update
serves them all; which places belong to the slot's rollout is a mask. Keys carry their
positions (RoPE), so their order in the ring does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.law import Rule
from gccpo_jax.noise import Tape
from gccpo_jax.sampling import SEGMENT_AXES, Draw, append, begin, draw_token, sample
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout, Segment, record


@record
class Slot:
    """A place in the batch and the rollout that is written in it."""

    row: Array  # [] int32   question * G + trajectory; B * G: the slot is free
    length: Array  # [] int32  tokens that are written
    hidden: Array  # [M]  the state that the next token is read from
    start: Array  # [] int32   tokens of the prompt
    tape: Tape
    prompt: Segment  # [L, K, S, D]
    ring: Segment  # [L, K, T, D]  the rollout's own keys and values, in any order


SLOT_AXES = Slot(0, 0, 0, 0, 0, SEGMENT_AXES, SEGMENT_AXES)  # type: ignore[arg-type]


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
    """`sampling.sample`, the same arguments and result, with `slots` rows at a time.

    Every slot holds a copy of its prompt's keys and values.
    """
    prompt, hidden, start, tapes = begin(policy, params, prompts, question_keys, group, draw)
    questions, count = len(prompts.tokens), len(prompts.tokens) * group
    keys = tapes.key.reshape(count)

    def fill(next_row: Array, slot: Slot) -> tuple[Array, Slot]:
        """Gives each free slot the next row of the queue, while there are some."""
        free = slot.row == count
        row = jnp.minimum(jnp.where(free, next_row + jnp.cumsum(free) - 1, slot.row), count)
        row = row.astype(jnp.int32)
        question = jnp.minimum(row // group, questions - 1)

        def take(old: Array, new: Array, axis: int = 0) -> Array:
            where = jnp.expand_dims(free, [a for a in range(new.ndim) if a != axis])
            return jnp.where(where, new, old)

        filled = Slot(
            row=row,
            length=take(slot.length, jnp.zeros_like(slot.length)),
            hidden=take(slot.hidden, hidden[question]),
            start=take(slot.start, start[question]),
            tape=Tape(keys[jnp.minimum(row, count - 1)], slot.tape.recorded),
            prompt=Segment(
                k=take(slot.prompt.k, prompt.k[:, question], 1),
                v=take(slot.prompt.v, prompt.v[:, question], 1),
                mask=take(slot.prompt.mask, prompt.mask[question]),
            ),
            ring=Segment(slot.ring.k, slot.ring.v, slot.ring.mask & ~free[:, None]),
        )
        return jnp.minimum(next_row + jnp.sum(free), count).astype(jnp.int32), filled

    def write(slot: Slot) -> tuple[Draw, Array, Segment]:
        return draw_token(
            policy, params, rule, (slot.prompt, slot.ring), slot.start + slot.length, slot.tape,
            slot.length, slot.hidden, slot.row < count,
        )  # fmt: skip

    of_slots = jax.vmap(write, in_axes=(SLOT_AXES,), out_axes=(0, 0, SEGMENT_AXES))

    def body(state: tuple[Array, Array, Slot, Rollout]) -> tuple[Array, Array, Slot, Rollout]:
        t, next_row, slot, out = state
        waiting = jnp.any(slot.row == count) & (next_row < count)
        next_row, slot = jax.lax.cond(waiting, fill, lambda *same: same, next_row, slot)
        drawn, hidden, new = of_slots(slot)
        out = record_tokens(out, slot, drawn, new, stop)
        ended = stop[drawn.token] | (slot.length + 1 == max_tokens)
        slot = Slot(
            row=jnp.where(ended, count, slot.row),
            length=slot.length + 1,
            hidden=hidden,
            start=slot.start,
            tape=slot.tape,
            prompt=slot.prompt,
            ring=append(slot.ring, new, t % max_tokens),
        )
        return t + 1, next_row, slot, out

    def going(state: tuple[Array, Array, Slot, Rollout]) -> Array:
        _, next_row, slot, _ = state
        return (next_row < count) | jnp.any(slot.row < count)

    empty = _free(slots, count, prompt, hidden, tapes, max_tokens)
    state = (jnp.int32(0), jnp.int32(0), empty, _blank(prompt, count, max_tokens))
    out = jax.lax.while_loop(going, body, state)[-1]
    return prompt, _by_question(out, questions, group)


def record_tokens(out: Rollout, slot: Slot, drawn: Draw, new: Segment, stop: Array) -> Rollout:
    """Writes one token of every slot to its row of `out` [R, T]; free slots write nowhere."""
    row, at = slot.row, slot.length

    def put(buffer: Array, value: Array) -> Array:
        return buffer.at[row, at].set(value, mode="drop")

    def cache(buffer: Array, value: Array) -> Array:  # [L, R, K, T, D], [L, n, K, 1, D]
        return buffer.at[:, row, :, at].set(jnp.moveaxis(value[..., 0, :], 1, 0), mode="drop")

    return Rollout(
        tokens=put(out.tokens, drawn.token),
        logp=put(out.logp, drawn.logp),
        entropy=put(out.entropy, drawn.entropy),
        length=out.length.at[row].set(at + 1, mode="drop"),
        stopped=out.stopped.at[row].set(stop[drawn.token], mode="drop"),
        segment=Segment(
            k=cache(out.segment.k, new.k),
            v=cache(out.segment.v, new.v),
            mask=put(out.segment.mask, jnp.ones(len(row), bool)),
        ),
    )


def _free(
    slots: int, count: int, prompt: Segment, hidden: Array, tapes: Tape, max_tokens: int
) -> Slot:
    """`slots` slots without a rollout."""
    zeros = jnp.zeros(slots, jnp.int32)
    layers, _, heads, width, size = prompt.k.shape
    of_prompt = jnp.zeros((layers, slots, heads, width, size), prompt.k.dtype)
    ring = jnp.zeros((layers, slots, heads, max_tokens, size), prompt.k.dtype)
    vocab_size = tapes.recorded.shape[-1]
    return Slot(
        row=zeros + count,
        length=zeros,
        hidden=jnp.zeros((slots, hidden.shape[-1]), hidden.dtype),
        start=zeros,
        tape=Tape(
            jnp.broadcast_to(tapes.key.reshape(-1)[:1], slots), jnp.zeros((slots, 0, vocab_size))
        ),
        prompt=Segment(of_prompt, of_prompt, jnp.zeros((slots, width), bool)),
        ring=Segment(ring, ring, jnp.zeros((slots, max_tokens), bool)),
    )


def _blank(prompt: Segment, count: int, max_tokens: int) -> Rollout:
    """`count` rollouts [R, T] of which nothing is written."""
    layers, _, heads, _, size = prompt.k.shape
    cache = jnp.zeros((layers, count, heads, max_tokens, size), prompt.k.dtype)
    zeros = jnp.zeros((count, max_tokens), jnp.float32)
    return Rollout(
        tokens=zeros.astype(jnp.int32),
        logp=zeros,
        entropy=zeros,
        length=jnp.zeros(count, jnp.int32),
        stopped=jnp.zeros(count, bool),
        segment=Segment(cache, cache, jnp.zeros((count, max_tokens), bool)),
    )


def _by_question(out: Rollout, questions: int, group: int) -> Rollout:
    """Rows [R, ...] as groups [B, G, ...]; the cache's layers stay in front."""
    rows = lambda x: x.reshape(questions, group, *x.shape[1:])  # noqa: E731
    layers = lambda x: x.reshape(x.shape[0], questions, group, *x.shape[2:])  # noqa: E731
    segment = out.segment
    return Rollout(
        **{name: rows(x) for name, x in vars(out).items() if name != "segment"},
        segment=Segment(layers(segment.k), layers(segment.v), rows(segment.mask)),
    )
