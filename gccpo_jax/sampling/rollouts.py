"""Rollouts and branches: one device loop that writes tokens, log-probabilities and cache.

    X_t = argmax_v( log pi(v | q, X_<t) + U_t(v) )          (Gumbel-max)

with pi the tempered, masked law of `token_law.py` and U the keyed tape of `noise.py`.
The prompt is read once per question; the G rows of its group attend to that one
segment. A row's loop state is written for one row; `vmap` adds the group and the
batch *inside* the loop, so that the loop ends as soon as every row has stopped.

Nothing is laid out for the limit: `sample` begins in a short buffer and asks, where that is full,
whether a row still goes on; the next program takes over what is written, in a longer one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.policy.cache import decoder_of, join, split
from gccpo_jax.policy.logprobs import read_prompt
from gccpo_jax.policy.token_law import Rule, entropy, first_best, log_law
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.buckets import fitting, sizes
from gccpo_jax.sampling.noise import Tape
from gccpo_jax.types import Array, Context, Params, Policy, Prompts, Rollout, Segment, record

SEGMENT_AXES = Segment(k=1, v=1, mask=0)  # type: ignore[arg-type]
"""`vmap` axes of a batched segment: layers stay in front, [L, B, G, K, S, D], so that
the scan over layers slices the cache without transposing it."""

ROLLOUT_AXES = Rollout(0, 0, 0, 0, 0, SEGMENT_AXES)  # type: ignore[arg-type]


@record
class Row:
    """The loop state of one row: what is written, and the state the next token is read from."""

    hidden: Array  # [M]        last hidden state
    rollout: Rollout  # [T]     buffers; `length` tokens are written; `segment.mask` = written
    # Of branches that write a number of steps: steps left, tokens since the last one ended.
    left: Array | None = None  # [] int32
    since: Array | None = None  # [] int32


GROWTH = 4
"""How much longer each buffer is that decoding goes on in."""

ROW_AXES = Row(0, ROLLOUT_AXES)  # type: ignore[arg-type]
"""`vmap` axes of rows before the loop; inside, layers are apart and every axis is 0."""


def open_row(begun: Segment, hidden: Array, max_tokens: int) -> Row:
    """A row whose next token is read from `hidden`, with room for `max_tokens` of them.

    Its keys and values begin with those of `begun` [L, K, W, D] (W may be 0): tokens that
    are the row's own and are not decoded.
    """
    layers, heads, _, size = begun.k.shape
    buffer = jnp.zeros((layers, heads, max_tokens, size), begun.k.dtype)
    zeros = jnp.zeros(max_tokens, jnp.float32)
    rollout = Rollout(
        tokens=jnp.zeros(max_tokens, jnp.int32),
        logp=zeros,
        entropy=zeros,
        length=jnp.int32(0),
        stopped=jnp.bool_(False),
        segment=Segment(
            k=jnp.concatenate([begun.k, buffer], axis=2),
            v=jnp.concatenate([begun.v, buffer], axis=2),
            mask=jnp.concatenate([begun.mask, jnp.zeros(max_tokens, bool)]),
        ),
    )
    return Row(hidden, rollout)


def stop_row(row: Row, when: Array) -> Row:
    """The row, stopped where `when`."""
    stopped = row.rollout.stopped | when
    rollout = Rollout(**{**vars(row.rollout), "stopped": stopped})
    return dataclasses.replace(row, rollout=rollout)


@record
class Draw:
    """One token that was drawn."""

    token: Array  # [] int32
    logp: Array  # [] f32     its log-probability under the law that was sampled
    entropy: Array  # [] f32  of that law, in nats


def draw_token(
    policy: Policy,
    weights: Params,  # unrolled
    rule: Rule,
    past: Context,  # what precedes the row's own tokens; layers split
    own: Segment,  # the row's own tokens, layers split
    slot: Array,  # []     where the new one is written, the same for all rows
    position: Array,  # []     its absolute position
    tape: Tape,
    t: Array,  # []     its position on the tape
    hidden: Array,  # [M]    the state that it is read from
    active: Array,  # [] bool  whether it counts
) -> tuple[Draw, Array, Segment]:
    """Draws a token and reads it: the token, the state behind it, the row's own segment."""
    law = log_law(policy.logits(weights, hidden), rule)
    token = first_best(law + noise.at(tape, t, policy.vocab_size))
    own = Segment(own.k, own.v, own.mask.at[slot].set(active))
    hidden, own = decoder_of(policy).step(weights, token, position, past, own, slot)
    return Draw(token, law[token], entropy(law)), hidden, own


def write_token(
    policy: Policy,
    weights: Params,  # unrolled
    rule: Rule,
    stop: Array,  # [V] bool  tokens that end a response
    t: Array,  # []     loop counter, the same for all rows
    past: Context,  # what precedes the row's own tokens; layers split
    start: Array,  # []     absolute position of the row's first token
    tape: Tape,
    tape_start: Array,  # []     tape position of the row's first token
    row: Row,  # layers split
) -> Row:
    """Draws token t of one row and reads it; a stopped row stays as it is."""
    out = row.rollout
    active = ~out.stopped
    begun = out.segment.mask.shape[0] - out.tokens.shape[0]  # tokens that the row began with
    drawn, hidden, segment = draw_token(
        policy,
        weights,
        rule,
        past,
        out.segment,
        begun + t,
        start + t,
        tape,
        tape_start + t,
        row.hidden,
        active,
    )

    def put(buffer: Array, value: Array) -> Array:
        return buffer.at[t].set(jnp.where(active, value, 0).astype(buffer.dtype))

    rollout = Rollout(
        tokens=put(out.tokens, drawn.token),
        logp=put(out.logp, drawn.logp),
        entropy=put(out.entropy, drawn.entropy),
        length=out.length + active,
        stopped=out.stopped | stop[drawn.token],
        segment=segment,
    )
    return dataclasses.replace(row, hidden=hidden, rollout=rollout)


def run(step: Callable[[Array, Row], Row], rows: Row, max_tokens: int, written: int = 0) -> Row:
    """Applies a batched `step(t, rows)` until every row has stopped or holds `max_tokens`.

    Inside, the layers of the rows' segments are split (`policy/cache.py`), and buffers grow
    fourfold from about `buckets.LEAST` tokens, so that early tokens attend to short ones.
    Axes of one row are left out of what the loop carries: with them XLA's CPU reads a cache in
    another shape than it is written in, and copies it for each token.
    `written`: tokens that the rows which go on hold already.
    """
    single = [axis for axis, count in enumerate(rows.rollout.length.shape) if count == 1]

    def step_without(t: Array, rows: Row) -> Row:
        whole = jax.tree.map(lambda x: jnp.expand_dims(x, single), rows)
        return jax.tree.map(lambda x: jnp.squeeze(x, single), step(t, whole))

    def with_segment(row: Row, segment: Segment) -> Row:
        rollout = Rollout(**{**vars(row.rollout), "segment": segment})
        return dataclasses.replace(row, rollout=rollout)

    def going(size: int, state: tuple[Array, Row]) -> Array:
        t, rows = state
        return (t < size) & ~jnp.all(rows.rollout.stopped)

    def body(state: tuple[Array, Row]) -> tuple[Array, Row]:
        t, rows = state
        return t + 1, step_without(t, rows)

    rows = with_segment(rows, split(rows.rollout.segment))
    state = jnp.int32(written), jax.tree.map(lambda x: jnp.squeeze(x, single), rows)
    for size in (size for size in sizes(max_tokens, GROWTH) if size > written):
        t, rows = state
        rows = dataclasses.replace(rows, rollout=resized(rows.rollout, size))
        state = jax.lax.while_loop(partial(going, size), body, (t, rows))
    rows = state[1]
    rows = dataclasses.replace(rows, rollout=resized(rows.rollout, max_tokens))
    rows = jax.tree.map(lambda x: jnp.expand_dims(x, single), rows)
    return with_segment(rows, join(rows.rollout.segment))


@partial(jax.jit, static_argnames="size")
def resized(rollout: Rollout, size: int) -> Rollout:
    """Rollouts [..., T] as such of `size` tokens: cut, or empty behind T; layers split or not."""
    more = size - rollout.tokens.shape[-1]

    def fit(x: Array, axis: int) -> Array:
        if more < 0:
            return jax.lax.slice_in_dim(x, 0, x.shape[axis] + more, axis=axis)
        pads = [(0, 0)] * x.ndim
        pads[axis] = (0, more)
        return jnp.pad(x, pads)

    if not more:
        return rollout
    segment = rollout.segment
    k, v = jax.tree.map(lambda x: fit(x, x.ndim - 2), (segment.k, segment.v))
    last = lambda x: fit(x, x.ndim - 1)  # noqa: E731
    return dataclasses.replace(
        rollout,
        tokens=last(rollout.tokens),
        logp=last(rollout.logp),
        entropy=last(rollout.entropy),
        segment=Segment(k, v, last(segment.mask)),
    )


def begin(
    policy: Policy,
    params: Params,
    prompts: Prompts,
    question_keys: Array,
    group: int,
    draw: int | Array,
) -> tuple[Segment, Array, Array, Tape]:
    """What the rollouts of B questions start from.

    Returns the prompts' segments [L, B, K, S, D], their last hidden states [B, M], their
    lengths [B] and the tapes [B, G] of the groups.
    """
    read = partial(read_prompt, policy, params)
    hidden, segment, length = jax.vmap(read, out_axes=(0, SEGMENT_AXES, 0))(
        prompts.tokens, prompts.mask
    )
    return segment, hidden, length, tapes_of(policy, question_keys, group, draw)


def tapes_of(policy: Policy, question_keys: Array, group: int, draw: int | Array) -> Tape:
    """The tapes [B, G] of one draw of each trajectory."""
    trajectory_keys = jax.vmap(lambda key: noise.stream_keys(key, noise.TAPE, group))(question_keys)
    keys = jax.vmap(jax.vmap(lambda key: noise.tape(key, draw)))(trajectory_keys)
    return noise.keyed(keys, policy.vocab_size)


def sample(
    policy: Policy,
    params: Params,
    prompts: Prompts,
    question_keys: Array,  # [B] keys, see `noise.question_keys`
    stop: Array,  # [V] bool
    *,
    group: int,
    rule: Rule,
    max_tokens: int,
    draw: int | Array = 0,
) -> tuple[Segment, Rollout]:
    """Samples a group of `group` trajectories for each question.

    Args:
      prompts: B questions; the prompt is encoded once and shared by the group.
      question_keys: keys [B]; trajectory i of a question draws from `tape(key_i, draw)`.
      stop: token ids that end a response (the stop token itself is part of it).
      group: G. rule: the law sampled; temperature 0 is greedy decoding.
      max_tokens: the token limit. draw: which tape; 0 is the factual one.
    Returns:
      The prompts' segments [L, B, K, S, D] and the rollouts [B, G, T] with the cache
      that sampling left, segments [L, B, G, K, T, D]. T is the shortest of
      `buckets.sizes(max_tokens)` that holds every response.
    """
    first, *later = sizes(max_tokens, GROWTH)
    given = (policy, params, prompts, question_keys, stop)
    prompt, rows = _begun(*given, group=group, rule=rule, max_tokens=first, draw=draw)
    for size in later:
        if to_host(rows.rollout.stopped).all():
            break
        rows = _longer(*given, prompt, rows, rule=rule, max_tokens=size, draw=draw)
    return prompt, as_long_as_needed(rows.rollout, max_tokens)


def as_long_as_needed(rollout: Rollout, limit: int) -> Rollout:
    """The rollouts [..., T] in the shortest of `buckets.sizes(limit)` that holds them all."""
    if len(sizes(limit)) == 1:
        return rollout
    size = fitting(limit, int(to_host(rollout.length).max()))
    return rollout if size == rollout.tokens.shape[-1] else resized(rollout, size)


def sample_whole(*given: Any, draw: int | Array = 0, **how: Any) -> tuple[Segment, Rollout]:
    """`sample` as one program, with what it returns laid out for the limit: T is `max_tokens`."""
    prompt, rows = _begun(*given, draw=draw, **how)
    return prompt, rows.rollout


@partial(jax.jit, static_argnames=("policy", "group", "rule", "max_tokens"))
def _begun(
    policy: Policy,
    params: Params,
    prompts: Prompts,
    question_keys: Array,  # [B] keys
    stop: Array,  # [V] bool
    *,
    group: int,
    rule: Rule,
    max_tokens: int,
    draw: int | Array,
) -> tuple[Segment, Row]:
    """The prompts' segments, and rows [B, G] that have stopped or hold `max_tokens`."""
    segment, hidden, length, tapes = begin(policy, params, prompts, question_keys, group, draw)

    def start_row(segment: Segment, hidden: Array, _: Array) -> Row:
        nothing = Segment(segment.k[:, :, :0], segment.v[:, :, :0], segment.mask[:0])
        return open_row(nothing, hidden, max_tokens)

    of_group = jax.vmap(start_row, in_axes=(None, None, 0), out_axes=ROW_AXES)
    of_batch = jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, None), out_axes=ROW_AXES)
    rows = of_batch(segment, hidden, jnp.arange(group))
    step = _step(policy, params, rule, stop, segment, length, tapes)
    return segment, run(step, rows, max_tokens)


@partial(jax.jit, static_argnames=("policy", "rule", "max_tokens"))
def _longer(
    policy: Policy,
    params: Params,
    prompts: Prompts,
    question_keys: Array,  # [B] keys
    stop: Array,  # [V] bool
    segment: Segment,  # [L, B, K, S, D] of the prompts
    rows: Row,  # [B, G] with T tokens
    *,
    rule: Rule,
    max_tokens: int,
    draw: int | Array,
) -> Row:
    """Rows that have stopped or hold T tokens as such that have stopped or hold `max_tokens`."""
    group, written = rows.rollout.tokens.shape[1:]
    length = jnp.sum(prompts.mask, axis=-1, dtype=jnp.int32)
    tapes = tapes_of(policy, question_keys, group, draw)
    step = _step(policy, params, rule, stop, segment, length, tapes)
    return run(step, rows, max_tokens, written)


def _step(
    policy: Policy,
    params: Params,
    rule: Rule,
    stop: Array,  # [V] bool
    prompt: Segment,  # [L, B, K, S, D]
    length: Array,  # [B]  of the prompts
    tapes: Tape,  # [B, G]
) -> Callable[[Array, Row], Row]:
    """One more token of every row [B, G], for `run`."""
    weights, layers = decoder_of(policy).unroll(params), split(prompt)

    def one(t: Array, segment: Segment, start: Array, tape: Tape, row: Row) -> Row:
        zero = jnp.int32(0)
        return write_token(policy, weights, rule, stop, t, (segment,), start, tape, zero, row)

    of_group = jax.vmap(one, in_axes=(None, None, None, 0, 0))
    of_batch = jax.vmap(of_group, in_axes=(None, 0, 0, 0, 0))
    return lambda t, rows: of_batch(t, layers, length, tapes, rows)
