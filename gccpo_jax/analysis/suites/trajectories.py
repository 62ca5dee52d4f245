"""Trajectories to judge credits on: the policy's own, and ones with an injected step.

An injected trajectory is the beginning of the worked solution, then a step that is not valid
(`Task.inject`), then whatever the policy writes from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.analysis.engine import Analysis, analyse_traces
from gccpo_jax.analysis.library import given_traces, own_traces, texts_of_steps
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.counterfactual.places import boundary_sites, cut_steps
from gccpo_jax.policy.step_scorer import StepScorer
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes
from gccpo_jax.sampling.buckets import padded
from gccpo_jax.sampling.opened import Model
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.tasks.base import Item


@dataclasses.dataclass(frozen=True)
class Judged:
    """Analysed trajectories of a few questions with the checker's labels."""

    items: Sequence[Item]
    traces: Traces  # [B, G]
    analysis: Analysis
    texts: list[list[list[str]]]  # [B][G][steps]
    labels: list[list[list[str]]]  # [B][G][steps], of the task's checker
    flaws: tuple[str, ...]  # the labels that say that a step is wrong
    sampled: int  # how many of each group, the first ones, are the policy's own
    scored: np.ndarray | None = None  # [B, G, E] of a step scorer


def judged(
    model: Model,
    items: Sequence[Item],
    settings: Settings,
    *,
    group: int,
    injected: int,
    prompt_tokens: int,
    scorer: StepScorer | None = None,
) -> Judged:
    """`group` sampled and `injected` injected trajectories of each question, analysed.

    `scorer`: a process reward model that scores the steps as well.
    """
    solver = model.solver
    own = own_traces(model, items, settings, group=group, width=prompt_tokens)
    tokens, lengths = own.tokens, own.lengths
    if injected:
        more = with_injections(model, own, settings, injected)
        tokens = np.concatenate([padded(tokens, settings.max_tokens), more[0]], axis=1)
        lengths = np.concatenate([lengths, more[1]], axis=1)
    traces = given_traces(model, own, tokens, lengths, step=2)
    spans = cut_steps(solver, traces, settings.segmentation)
    seen = Seen(solver, model.params, traces)
    found = analyse_traces(seen, spans, settings, pool_of=own.texts, limit=settings.max_tokens)
    texts = [
        [texts_of_steps(solver, traces, found, b, g) for g in range(tokens.shape[1])]
        for b in range(len(items))
    ]
    labels = [
        [solver.task.check(item, steps) for steps in rows]
        for item, rows in zip(items, texts, strict=True)
    ]
    scored = None
    if scorer is not None:
        scored = np.full(found.mask.shape, np.nan)
        for b, g in np.argwhere(found.mask.any(-1)):
            steps = scorer(items[b].question, texts[b][g])
            scored[b, g, found.mask[b, g]] = steps
    return Judged(items, traces, found, texts, labels, solver.task.flaws, group, scored)


def with_injections(
    model: Model, own: Traces, settings: Settings, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [B, count, T] and lengths of trajectories with one injected step each.

    Their questions are those of `own`.

    Where to inject and which flaw is drawn by (seed, question id, n).
    """
    solver, items = model.solver, own.items
    size = settings.max_tokens
    tokens = np.zeros((len(items), count, size), np.int32)
    lengths = np.ones((len(items), count), np.int32)
    for b, item in enumerate(items):
        for n in range(count):
            rng = np.random.default_rng([settings.seed, item.id, n])
            ids = solver.tokenizer.encode(
                "".join(f"{line}\n" for line in solver.task.inject(item, rng))
            )
            ids = ids[: size - 1]
            tokens[b, n, : len(ids)] = ids
            lengths[b, n] = len(ids)
    begun = given_traces(model, own, tokens, lengths, step=1)
    exists = jnp.ones((len(items), count, 1), bool)
    sites = boundary_sites(begun, jnp.asarray(lengths)[..., None], exists)
    tapes = noise.keyed(fresh_tapes(begun.keys, count, 1), solver.policy.vocab_size)
    branches = continue_branches(
        solver.policy,
        model.params,
        begun.prompt,
        begun.rollout.segment,
        jax.tree.map(lambda x: x[:, :, :, 0], sites),  # without the axis of arms
        at_sites(tapes, 1),
        solver.stop,
        rule=own.rule,
        max_tokens=size,
        limit=size,
    )
    more, grown = to_host(branches.tokens)[:, :, 0, 0], to_host(branches.length)[:, :, 0, 0]
    for b, n in np.ndindex(*lengths.shape):
        begin = lengths[b, n]
        tokens[b, n, begin : begin + grown[b, n]] = more[b, n, : grown[b, n]]
    return tokens, lengths + grown
