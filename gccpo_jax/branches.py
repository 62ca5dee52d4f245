"""Continued branches: the policy goes on from a step's end (total effect, TE).

A branch is a short suffix that attends to the trajectory's cached prefix, which
is a mask over the one segment that sampling left: nothing is copied or encoded
again, whatever the step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax import noise
from gccpo_jax.intervention import restrict
from gccpo_jax.law import Rule
from gccpo_jax.sampling import ROW_AXES, SEGMENT_AXES, Row, empty_row, run, write_token
from gccpo_jax.types import Array, Params, Policy, Rollout, Segment, record

_PREFIX = Segment(k=None, v=None, mask=0)  # type: ignore[arg-type]  one cache, many prefixes


@record
class Branches:
    """Continuations of one trajectory from its read boundaries."""

    tokens: Array  # [E, N, T] int32
    length: Array  # [E, N] int32   0 where the boundary does not exist


@partial(jax.jit, static_argnames=("policy", "draws", "rule", "max_tokens"))
def continue_branches(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    rollout: Rollout,  # [B, G, T]
    ends: Array,  # [B, G, E] int32  branch after this many response tokens, >= 1
    where: Array,  # [B, G, E] bool   boundaries that exist
    question_keys: Array,  # [B] keys: the ones the rollout was sampled with
    stop: Array,  # [V] bool
    tape_starts: Array | None = None,  # [B, G, E] int32  where the tape is read; None: at `ends`
    *,
    draws: int,
    rule: Rule,
    max_tokens: int,
) -> Branches:
    """Lets the policy go on from each boundary, `draws` times (the continued reader).

    Draw n in 1..N reads tape n of the trajectory at position `tape_start` + offset,
    independent of the factual tape 0. Arms are aligned by the offset *after* the step:
    where a step was replaced by one of another length, pass the factual step's end as
    `tape_start`, and the arms share their noise. The mean of the verified
    outcomes over draws is Phi at the boundary, unbiased for the policy's value under
    the rollout's own limit: prefix and branch together hold at most T tokens (so a
    smaller `max_tokens` biases Phi wherever branches are cut by it).

    Cost: B G E N (1 + h) decoded tokens, h the mean branch length.
    """
    group = rollout.length.shape[1]
    tape_starts = ends if tape_starts is None else tape_starts
    tape_keys = jax.vmap(
        lambda key: jax.vmap(
            lambda trajectory: jax.vmap(lambda n: noise.tape(trajectory, n))(jnp.arange(draws) + 1)
        )(noise.stream_keys(key, noise.TAPE, group))
    )(question_keys)  # [B, G, N]
    lengths = jnp.sum(prompt.mask, axis=-1, dtype=jnp.int32)  # [B]
    limit = rollout.tokens.shape[-1]
    position = jnp.arange(limit)
    before = position[None, None, None] < ends[..., None]
    prefix_mask = rollout.segment.mask[:, :, None] & before  # [B, G, E, T]
    prefixes = Segment(rollout.segment.k, rollout.segment.v, prefix_mask)

    def open_row(
        prompt: Segment, length: Array, prefix: Segment, tokens: Array, end: Array, exists: Array
    ) -> Row:
        # The last token of the prefix is read once more to recover its hidden state.
        context = (prompt, restrict(prefix, jnp.int32(0), end - 1))
        last = tokens[end - 1]
        hidden, _ = policy.encode(
            params, last[None], (length + end - 1)[None], jnp.ones(1, bool), context
        )
        row = empty_row(prefix, hidden[0], max_tokens)
        return _stop(row, ~exists | (end >= limit))

    def open_draws(
        prompt: Segment, length: Array, prefix: Segment, tokens: Array, end: Array, exists: Array
    ) -> Row:
        row = open_row(prompt, length, prefix, tokens, end, exists)
        return jax.vmap(lambda _: row, out_axes=ROW_AXES)(jnp.arange(draws))

    rows = _over_boundaries(open_draws, (None, None, _PREFIX, None, 0, 0))(
        prompt, lengths, prefixes, rollout.tokens, ends, where
    )

    def one(
        t: Array,
        prompt: Segment,
        length: Array,
        prefix: Segment,
        end: Array,
        tape_start: Array,
        tape: Array,
        row: Row,
    ) -> Row:
        at, context = length + end, (prompt, prefix)
        row = write_token(policy, params, rule, stop, t, context, at, tape, tape_start, row)
        return _stop(row, end + row.rollout.length >= limit)

    def of_draws(
        prompt: Segment,
        length: Array,
        prefix: Segment,
        end: Array,
        tape_start: Array,
        tapes: Array,
        row: Row,
        t: Array,
    ) -> Row:
        axes = (None, None, None, None, None, None, 0, ROW_AXES)
        mapped = jax.vmap(one, in_axes=axes, out_axes=ROW_AXES)
        return mapped(t, prompt, length, prefix, end, tape_start, tapes, row)

    def step(t: Array, rows: Row) -> Row:
        axes = (None, None, _PREFIX, 0, 0, None, ROW_AXES)
        mapped = _over_boundaries(partial(of_draws, t=t), axes)
        return mapped(prompt, lengths, prefixes, ends, tape_starts, tape_keys, rows)

    result = run(step, rows, max_tokens)
    return Branches(tokens=result.tokens, length=result.length)


def _stop(row: Row, when: Array) -> Row:
    stopped = row.rollout.stopped | when
    return Row(row.hidden, Rollout(**{**vars(row.rollout), "stopped": stopped}))


def _over_boundaries(one: Callable[..., Row], axes: tuple[Any, ...]) -> Callable[..., Row]:
    """Maps a function of (prompt, length, prefix, *rest) over E, then G, then B.

    `axes` are its axes over the boundaries of one trajectory. Above them the prompt
    and its length are shared by the group; everything else has a row a trajectory.
    """
    rest = [ROW_AXES if axis is ROW_AXES else 0 for axis in axes[3:]]
    of_steps = jax.vmap(one, in_axes=axes, out_axes=ROW_AXES)
    of_group = jax.vmap(of_steps, in_axes=(None, None, SEGMENT_AXES, *rest), out_axes=ROW_AXES)
    return jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, SEGMENT_AXES, *rest), out_axes=ROW_AXES)
