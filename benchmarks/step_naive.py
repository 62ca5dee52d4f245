"""The naive way of the readings of a step: every branch and every candidate is a new prompt.

A branch is a rollout of the prompt and its prefix as one text. The law after a step is one text a
candidate: prompt, prefix, cue, candidate. The texts of one step of one question's group are timed
and multiplied with questions, steps, arms and cues (an arm of latent noise costs such a program
another pass over the whole text). Only time is measured here, not what comes out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual.places import cut
from gccpo_jax.policy.token_law import Rule, behaviour_rule, log_law
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.traces import Traces, sample_traces
from gccpo_jax.types import Prompts


def read(
    solver: Any, config: Any, params: Any, items: Any, prompts: Prompts, step: int, watch: Any
):
    """Samples as a step does, then reads naively: stages `branches` and `readout` of `watch`."""
    rule, c = behaviour_rule(config.sampling), config.counterfactual
    traces = sample_traces(
        solver, params, items, prompts, group=config.group_size, rule=rule,
        max_tokens=config.sampling.max_tokens, seed=(config.seed, step), watch=watch,
    )  # fmt: skip
    s = config.segmentation
    _, spans = cut(
        solver.boundary, traces.rollout.tokens, traces.rollout.length, traces.keys,
        max_steps=s.max_steps, min_tokens=s.min_tokens, max_tokens=s.max_tokens,
        boundaries=c.boundaries, share=c.boundary_share,
    )  # fmt: skip
    watch.lap()
    ends, mask = np.asarray(spans.end), np.asarray(spans.mask)
    with watch("branches"):
        where = np.argwhere(mask[..., 1:])
        prefixes = texts(traces, [(b, g, ends[b, g, e]) for b, g, e in where])
        keys = noise.question_keys(jax.random.key(0), step, prefixes.ids)
        left = config.sampling.max_tokens - min(ends[b, g, e] for b, g, e in where)
        branches = sample(
            solver.policy, params, prefixes, keys, solver.stop,
            group=c.draws, rule=rule, max_tokens=-(-int(left) // 8) * 8,
        )[1]  # fmt: skip
        jax.block_until_ready(branches.tokens)
    steps = int(mask.sum())
    width = len(solver.field.cues[0]) + c.max_answer_tokens - 1
    last = [(0, g, ends[0, g, mask[0, g].sum() - 1]) for g in range(config.group_size)]
    asked = texts(traces, [row for row in last for _ in range(c.max_candidates)], width)
    arms = 1 + c.latent_arms + c.surface_arms
    score(solver.policy, params, asked.tokens, asked.mask, width=width).block_until_ready()
    with watch("readout"):
        score(solver.policy, params, asked.tokens, asked.mask, width=width).block_until_ready()
    seconds = watch.lap()
    seconds["readout_seconds"] *= steps / config.group_size * arms * len(solver.field.cues)
    return seconds


def texts(traces: Traces, rows: list[tuple[int, int, int]], more: int = 0) -> Prompts:
    """Prompts and the first `end` response tokens as one text each, with `more` tokens behind.

    Filled up with the last row to a multiple of B G.
    """
    asked, known = np.asarray(traces.prompts.tokens), np.asarray(traces.prompts.mask)
    batch, group, size = traces.tokens.shape
    width = asked.shape[1] + size + more
    count = -(-len(rows) // (batch * group)) * batch * group if not more else len(rows)
    tokens, mask = np.ones((count, width), np.int32), np.zeros((count, width), bool)
    for n in range(count):
        b, g, end = rows[min(n, len(rows) - 1)]
        text = [*asked[b][known[b]], *traces.tokens[b, g, :end], *[1] * more]
        tokens[n, : len(text)], mask[n, : len(text)] = text, True
    return Prompts(jnp.asarray(tokens), jnp.asarray(mask), jnp.arange(count, dtype=jnp.uint32))


@partial(jax.jit, static_argnames=("policy", "width"))
def score(policy: Any, params: Any, tokens: jax.Array, mask: jax.Array, *, width: int) -> jax.Array:
    """Sum of the log-probabilities of the last `width` tokens of each text."""

    def one(tokens: jax.Array, mask: jax.Array) -> jax.Array:
        hidden, _ = policy.encode(params, tokens, jnp.arange(tokens.shape[0]), mask, ())
        from_ = jnp.sum(mask) - width - 1
        states = jax.lax.dynamic_slice_in_dim(hidden, from_, width)
        chosen = jax.lax.dynamic_slice_in_dim(tokens, from_ + 1, width)
        law = log_law(policy.logits(params, states), Rule())
        return jnp.take_along_axis(law, chosen[:, None], axis=1).sum()

    return jax.vmap(one)(tokens, mask)
