"""Dynamic sampling: groups without contrast make room for the next questions (DAPO).

A group whose outcomes are all equal has no advantage. It is dropped, and its row
takes the group of a later question of the stream, for a limited number of rounds. Noise is
keyed by (step, question), so what a question samples does not depend on the round
it comes in, and the position of the stream after a step says all that was consumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.baselines import has_contrast
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.buckets import padded
from gccpo_jax.sampling.rollouts import ROLLOUT_AXES, SEGMENT_AXES, resized
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Array

AXES = (0, 0, SEGMENT_AXES, ROLLOUT_AXES)
"""The question axis of prompts, keys, the prompts' caches and the rollouts."""

_contrast = jax.jit(jax.vmap(has_contrast))


def refill(
    sampled: Traces, more: Callable[[], Traces], rounds: int
) -> tuple[Traces, dict[str, float]]:
    """The batch with every group that lacks contrast replaced.

    Args:
      sampled: the first round. more: samples the next batch of questions at the same
        step. rounds: most calls of `more`.
    Returns:
      The batch, and for the log how many rounds and questions it took and their tokens. A
      question that comes again within the step is passed over: its noise is the same.
    Raises:
      UserError: after `rounds` there are still groups without contrast.
    """
    open_rows = ~contrast(sampled)
    seen = {item.id for item in sampled.items}
    asked, tokens, done = len(sampled.items), float(sampled.lengths.sum()), 0
    while open_rows.any() and done < rounds:
        fresh, done = more(), done + 1
        asked, tokens = asked + len(fresh.items), tokens + float(fresh.lengths.sum())
        new = np.array([item.id not in seen for item in fresh.items])
        seen |= {item.id for item in fresh.items}
        takes = np.flatnonzero(contrast(fresh) & new)
        rows = np.flatnonzero(open_rows)[: len(takes)]
        source = np.full(len(open_rows), -1)
        source[rows] = takes[: len(rows)]
        sampled = replace_rows(sampled, fresh, source)
        open_rows[rows] = False
    if open_rows.any():
        raise UserError(
            f"config.sampling.dynamic = {rounds}: after {rounds} more rounds {open_rows.sum()} of "
            f"{len(open_rows)} questions still have outcomes that are all equal ({asked} questions "
            "were sampled); allow more rounds, take a larger group_size or a lower batch_size, or "
            "questions that the policy solves sometimes; 0 trains on every group"
        )
    return sampled, {"refills": float(done), "sampled_questions": float(asked), "tokens": tokens}


def contrast(traces: Traces) -> np.ndarray:
    """[B] bool: groups whose scorable outcomes are not all equal."""
    outcome = np.nan_to_num(traces.outcome)
    return to_host(_contrast(jnp.asarray(outcome), jnp.asarray(traces.scorable)))


def replace_rows(old: Traces, new: Traces, source: np.ndarray) -> Traces:
    """`old` with row b taken from row source[b] of `new` where that is not negative.

    Both are of one step; the shorter T becomes the longer. source: [B] int.
    """
    size = max(old.tokens.shape[-1], new.tokens.shape[-1])
    old, new = (_as_long(traces, size) for traces in (old, new))
    takes = source >= 0
    index = np.where(takes, source, 0)

    def host(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = a.copy()
        out[takes] = b[index[takes]]
        return out

    prompts, keys, prompt, rollout = _replace(
        (old.prompts, old.keys, old.prompt, old.rollout),
        (new.prompts, new.keys, new.prompt, new.rollout),
        jnp.asarray(index),
        jnp.asarray(takes),
    )
    items = [
        new.items[i] if take else item
        for item, i, take in zip(old.items, index, takes, strict=True)
    ]
    return dataclasses.replace(
        old,
        items=items,
        prompts=prompts,
        keys=keys,
        prompt=prompt,
        rollout=rollout,
        tokens=host(old.tokens, new.tokens),
        lengths=host(old.lengths, new.lengths),
        texts=host(old.texts, new.texts),
        outcome=host(old.outcome, new.outcome),
    )


def _as_long(traces: Traces, size: int) -> Traces:
    """The same with room for `size` tokens in each trajectory."""
    if traces.tokens.shape[-1] == size:
        return traces
    rollout, tokens = resized(traces.rollout, size), padded(traces.tokens, size)
    return dataclasses.replace(traces, rollout=rollout, tokens=tokens)


@jax.jit
def _replace(old: tuple, new: tuple, index: Array, takes: Array) -> tuple:
    def taken(axis: int, tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.take(x, index, axis=axis), tree)

    def one(old: tuple, new: tuple, take: Array) -> tuple:
        return jax.tree.map(lambda a, b: jnp.where(take, b, a), old, new)

    chosen = jax.tree.map(taken, AXES, new)
    return jax.vmap(one, in_axes=(AXES, AXES, 0), out_axes=AXES)(old, chosen, takes)
