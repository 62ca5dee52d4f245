"""Trajectories in other words inside a step: randomised groups, and the do-update.

A randomised group is sampled under several surface rewrites of its question, so that a cue of
the wording predicts nothing inside it. The do-update trains on trajectories as they read in
other words: the off-policy policy gradient of the questions that were intervened on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.credit import spread_all
from gccpo_jax.config import CreditConfig
from gccpo_jax.counterfactual.transport import Transported, token_weights
from gccpo_jax.masked import length_mask
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.buckets import padded
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.tasks.base import Item
from gccpo_jax.types import Array, Prompts, Rollout, Spans, record

_SURFACES = 2
"""Keeps these rewrites apart from those that readings draw (`rewritten.STREAMS`)."""


def surfaces(
    solver: Solver, items: Sequence[Item], prompts: Prompts, count: int, seed: tuple[int, int]
) -> tuple[list[Item], Prompts]:
    """Each question in `count` wordings, B count rows; row b count + m.

    A wording depends on (seed, question id, m). Where the task has none, or it is longer than
    the prompts may be, the question stays as asked.
    """
    task, tokenizer = solver.task, solver.tokenizer
    tokens = np.repeat(to_host(prompts.tokens), count, axis=0)
    mask = np.repeat(to_host(prompts.mask), count, axis=0)
    found: list[Item] = []
    for row in range(len(items) * count):
        item, m = items[row // count], row % count
        rng = np.random.default_rng([*seed, item.id, m, _SURFACES])
        rewritten = task.surface(item, [], rng) if task.surface else None
        question = item if rewritten is None else rewritten[0]
        ids = tokenizer.render(task.prompt(question), task.system, task.chat)
        if len(ids) > tokens.shape[1]:
            question = item
        elif question is not item:
            tokens[row], mask[row] = 0, np.arange(tokens.shape[1]) < len(ids)
            tokens[row, : len(ids)] = ids
        found.append(question)
    ids = jnp.repeat(jnp.asarray(prompts.ids), count)
    place = lambda x: jnp.asarray(x) if count == 1 else jax.device_put(x, prompts.tokens.sharding)  # noqa: E731
    return found, Prompts(place(tokens), place(mask), ids)


def regroup(tree: Any, count: int) -> Any:
    """Arrays [B count, G, ...] of a tree as [B, count G, ...]: groups over all wordings."""

    def join(x: Array) -> Array:
        return x.reshape(x.shape[0] // count, count * x.shape[1], *x.shape[2:])

    return jax.tree.map(join, tree)


def ungroup(tree: Any, count: int) -> Any:
    """The inverse of `regroup`."""

    def split(x: Array) -> Array:
        return x.reshape(x.shape[0] * count, x.shape[1] // count, *x.shape[2:])

    return jax.tree.map(split, tree)


@record
class Trained:
    """What the update reads of a batch; G rows per question, more where branches train.

    T is one of `buckets.sizes` of the limit that holds every row.
    """

    prompts: Prompts  # [B, S]
    tokens: Array  # [B, G, T]
    logp: Array  # [B, G, T]  behaviour log-probabilities
    advantage: Array  # [B, G, T]
    mask: Array  # [B, G, T] bool  tokens that train
    context: Array | None = None  # [B, G, T] bool  that are read and do not; None: there are none

    def with_room(self, size: int) -> Trained:
        """The same rows with T at least `size`."""
        size = max(size, self.tokens.shape[-1])
        names = ("tokens", "logp", "advantage", "mask")
        return dataclasses.replace(self, **{k: padded(getattr(self, k), size) for k in names})


def do_update(
    asked: Trained,
    rollout: Rollout,
    spans: Spans,
    step_advantage: Array,  # [B, G, E]
    moved: Transported,
    keys: Array,  # [B] question keys of this step
    *,
    share: float,
    rule: CreditConfig,
) -> tuple[Trained, dict[str, float]]:
    """The batch with a share of its questions trained in other words.

        A_t min(1, pi(s^w_t | q^w, s^w_<t) / pi(s_t | q, s_<t)),   behaviour pi(s^w_t | q^w, ...)

    A coin per question and one rewrite w of it, both by key. A trajectory of such a question
    that has no rewrite does not train in this step; a question without any trains as asked.
    """
    coins = jax.vmap(lambda k: jax.random.fold_in(k, noise.DO))(keys)
    arm = jax.vmap(lambda k: jax.random.randint(k, (), 0, moved.arms))(coins)
    drawn = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1)))(coins) < share
    row = jnp.arange(len(arm)) * moved.arms + arm
    size = max(rollout.tokens.shape[-1], moved.seen.traces.tokens.shape[-1])
    asked = asked.with_room(size)
    exists = jnp.asarray(moved.exists)[row]  # [B, G]
    chosen = drawn & jnp.any(exists, axis=-1)
    there, traces = moved.seen.traces.rollout, moved.seen.traces
    spans_there = jax.tree.map(lambda x: x[row], moved.spans)
    written = Rollout(
        tokens=padded(jnp.asarray(traces.tokens)[row], size),
        logp=padded(there.logp[row], size),
        entropy=padded(there.entropy[row], size),
        length=there.length[row],
        stopped=there.stopped[row],
        segment=rollout.segment,
    )
    weight = token_weights(padded(rollout.logp, size), spans, written.logp, spans_there)
    spread = jax.vmap(lambda a, s, r: spread_all(a, s, r, rule))
    advantage = spread(step_advantage, spans_there, written) * weight
    inside = length_mask(written.length, written.tokens.shape[-1])
    mask = inside & exists[..., None] & asked.mask[..., :1]

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(chosen.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    prompts = Prompts(
        pick(traces.prompts.tokens[row], asked.prompts.tokens),
        pick(traces.prompts.mask[row], asked.prompts.mask),
        asked.prompts.ids,
    )
    trained = Trained(
        prompts=prompts,
        tokens=pick(written.tokens, asked.tokens),
        logp=pick(written.logp, asked.logp),
        advantage=pick(advantage, asked.advantage),
        mask=pick(mask, asked.mask),
    )
    trains = chosen[:, None, None] & mask
    metrics = {
        "do_share": float(chosen.mean()),
        "do_left_out": float(jnp.where(chosen[:, None], ~exists, False).mean()),
        "do_weight": float(jnp.where(trains, weight, 0).sum() / jnp.maximum(trains.sum(), 1)),
    }
    return trained, metrics
