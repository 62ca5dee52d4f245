"""Equivariance: do the answers of a trajectory follow when all its numbers change?

    Eq = P(new gold answer | question and steps with other numbers)

Everything else, cues included, is as it was: a cue keeps pointing at the old answer.
Read by the scored reader at the last step, before the answer field.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.counterfactual.candidates import Item, candidates_of
from gccpo_jax.counterfactual.rewritten import Variant, variant_laws
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling import outcomes
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Candidates, Params, Spans


def equivariance(
    solver: Solver,
    params: Params,
    traces: Traces,
    spans: Spans,  # [B, G, E] steps without the answer field
    *,
    arms: int,
    max_answer_tokens: int,
) -> np.ndarray:
    """Eq [B, G] of each trajectory, the mean over its rewrites; NaN without one.

    The candidates of a rewrite are its new answer and the old one. The numbers of arm p
    are drawn from (seed, question id, p); a rewrite exists where the task has one for
    this trajectory.
    """
    batch, group, size = traces.tokens.shape
    spans = jax.tree.map(to_host, spans)
    if solver.task.number is None or arms == 0:
        return np.full((batch, group), np.nan)
    shape = (batch * group, arms)
    width = traces.prompts.tokens.shape[1]
    prompts = np.zeros((*shape, width), np.int32)
    prompt_mask = np.zeros((*shape, width), bool)
    prompt_mask[..., 0] = True
    tokens, mask = np.zeros((*shape, size), np.int32), np.zeros((*shape, size), bool)
    ends = np.zeros((*shape, 1), np.int32)
    exists = np.zeros(shape, bool)
    rows: list[list] = []
    for b, g, p in np.ndindex(batch, group, arms):
        n, found = b * group + g, _rewrite(solver, traces, spans, b, g, p)
        rows.append([None, None])
        if found is None:
            continue
        item, lines = found
        prompt = solver.tokenizer.render(
            solver.task.prompt(item), solver.task.system, solver.task.chat
        )
        ids = [token for line in lines for token in solver.tokenizer.encode(line)]
        if len(prompt) > width or len(ids) > size:
            continue
        prompts[n, p, : len(prompt)] = prompt
        prompt_mask[n, p] = np.arange(width) < len(prompt)
        tokens[n, p, : len(ids)], mask[n, p, : len(ids)] = ids, True
        ends[n, p], exists[n, p] = len(ids), True
        rows[-1] = [item, traces.items[b].answer]
    candidates = _candidates(solver, rows, max_answer_tokens)
    flat = lambda x: x.reshape(-1, 1, *x.shape[2:])  # noqa: E731  an arm is a question of its own
    variants = Variant(*(jnp.asarray(flat(x))[:, None] for x in (tokens, mask, ends)))
    laws = variant_laws(
        solver.policy, params, jnp.asarray(flat(prompts)), jnp.asarray(flat(prompt_mask)),
        variants, jnp.asarray(flat(exists))[:, None, :, None], solver.field, candidates,
    )  # fmt: skip
    found = to_host(laws)[:, 0, 0, 0, 0].reshape(batch, group, arms)
    known = exists.reshape(batch, group, arms)
    total = np.where(known, found, 0.0).sum(-1)
    return np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)


def _rewrite(solver: Solver, traces: Traces, spans: Spans, b: int, g: int, p: int):
    """The item and the steps with other numbers, None where the task has no such rewrite."""
    kept = np.asarray(spans.mask[b, g])
    starts, ends = np.asarray(spans.start[b, g])[kept], np.asarray(spans.end[b, g])[kept]
    steps = outcomes.step_texts(solver.tokenizer, traces.tokens[b, g], starts, ends)
    rng = np.random.default_rng([*traces.seed, traces.items[b].id, p])
    return solver.task.number(traces.items[b], [step for step in steps if step], rng)


def _candidates(solver: Solver, rows: list, max_tokens: int) -> Candidates:
    """New and old answer of each rewrite, [rows, 2, A]."""
    found = []
    for item, old in rows:
        if item is None:
            item, old = _NOTHING, None
        said = [["" if old is None else f"{solver.task.cues[0]}{old}{solver.task.terminator}"]]
        candidates, _ = candidates_of(
            solver.task,
            solver.tokenizer,
            [item],
            np.array(said, object),
            count=2,
            max_tokens=max_tokens,
        )
        found.append(candidates)
    fields = [f.name for f in dataclasses.fields(Candidates)]
    return Candidates(*(np.concatenate([getattr(c, name) for c in found]) for name in fields))


_NOTHING = Item(id=0, question="", answer=None)
