"""Steps replaced by other tokens, and the answer laws that follow: do(S_k = s').

    identity    the factual arm of every batch
    resample    the step once more from the policy: the baseline, never filtered
    equivalent  resamples with the same stated result
    corrupt     one number replaced
    swap        a sibling's step that the policy might write here

Arms of one batch share a compilation, so a replacement by the same tokens gives the
same law bit by bit.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.config import Config
from gccpo_jax.counterfactual import text_edits
from gccpo_jax.counterfactual.answer_laws import site_laws
from gccpo_jax.counterfactual.step_edits import own_steps, resample, sites_of, swapped
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.reward.arms import Arms, Edits, Family, no_arms, pool
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.types import Candidates, Params, Spans


def scored_arms(
    solver: Solver,
    params: Params,
    traces: Traces,
    spans: Spans,
    edits: Edits,
    candidates: Candidates,
) -> Arms:
    """Answer laws right after replaced steps, beside those after the steps as they were."""
    own = own_steps(traces, spans)
    width = max(own.tokens.shape[-1], edits.tokens.shape[-1])

    def wide(x: Edits) -> Edits:
        missing = width - x.tokens.shape[-1]
        return Edits(
            jnp.pad(x.tokens, [(0, 0)] * 4 + [(0, missing)]), x.length, x.usable, Family.NULL
        )

    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=3), wide(own), wide(edits))
    laws = site_laws(
        solver.policy, params, traces.prompt, traces.rollout.segment, sites_of(spans, both),
        solver.field, candidates,
    )  # fmt: skip
    factual = jnp.broadcast_to(laws[..., :1, :], laws[..., 1:, :].shape)
    usable = jnp.asarray(edits.usable) & jnp.asarray(own.usable)
    return Arms(laws[..., 1:, :], usable, edits.family, factual)


def equivalent_arms(
    solver: Solver,
    config: Config,
    params: Params,
    traces: Traces,
    reader: Params,
    seen: Traces,
    spans: Spans,
    candidates: Candidates,
) -> tuple[Arms, dict[str, float]]:
    """Laws under `equivalent`, and the fraction of resamples that were kept.

    The policy (`params`, `traces`) writes; `reader`, with its own caches in `seen`, reads.
    """
    resampled = resample(
        solver, params, traces, spans, arms=config.counterfactual.equivalent_arms,
        rule=behaviour_rule(config), min_tokens=config.segmentation.min_tokens,
        limit=config.sampling.max_tokens,
    )  # fmt: skip
    kept = text_edits.equivalent(solver.tokenizer, resampled, own_steps(traces, spans))
    arms = scored_arms(solver, reader, seen, spans, kept, candidates)
    return arms, {"equivalent_kept": text_edits.kept_fraction(kept, spans.mask)}


def content_arms(
    solver: Solver,
    config: Config,
    params: Params,
    traces: Traces,
    reader: Params,
    seen: Traces,
    spans: Spans,
    candidates: Candidates,
) -> tuple[Arms, dict[str, float]]:
    """Laws under `corrupt` and `swap`, as many arms as the config asks for (maybe none)."""
    c = config.counterfactual
    found: list[Arms] = []
    metrics: dict[str, float] = {}
    if c.corrupt_arms:
        edits = text_edits.corrupt(
            solver.task, solver.tokenizer, traces.items, traces.tokens, spans,
            arms=c.corrupt_arms, seed=traces.seed, max_tokens=config.sampling.max_tokens,
        )  # fmt: skip
        metrics["corrupt_kept"] = text_edits.kept_fraction(edits, spans.mask)
        found.append(scored_arms(solver, reader, seen, spans, edits, candidates))
    if c.swap_arms:
        edits = swapped(
            solver, params, traces, spans, arms=c.swap_arms, rule=behaviour_rule(config),
            delta=c.swap_delta,
        )  # fmt: skip
        metrics["swap_kept"] = text_edits.kept_fraction(edits, spans.mask)
        found.append(scored_arms(solver, reader, seen, spans, edits, candidates))
    none = no_arms(Family.CONTENT, spans.mask.shape, candidates.tokens.shape[-2] + 1)
    return (pool(*found) if found else none), metrics
