"""From trajectories to what credit needs: values and answer laws of their steps.

    Phi   continued branches from the ends of macro-steps      (total effect)
    P_0   scored readout after each macro-step                 (immediate readout)
    P_m   the same under nuisance interventions: `latent`, `surface`, `equivalent`
    P_c   the same under content interventions: `corrupt`, `swap`

Readers stop before the answer field: a reader that sees the stated answer
would only repeat it. So the answer step is read from what precedes its answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import Config
from gccpo_jax.counterfactual import gate, readers, rewritten
from gccpo_jax.counterfactual.answer_laws import latent_laws
from gccpo_jax.counterfactual.arms import content_arms, equivalent_arms
from gccpo_jax.counterfactual.candidates import answer_starts, candidates_of
from gccpo_jax.counterfactual.equivariance import equivariance
from gccpo_jax.counterfactual.interventions import norm_energy
from gccpo_jax.counterfactual.rewritten import variant_laws
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.reward.arms import Arms, Family, pool
from gccpo_jax.reward.group import Reading
from gccpo_jax.runtime.distributed import from_first, of_first, to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import fresh_tapes, independent_tapes
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.sites import boundary
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Traces, read_by
from gccpo_jax.steps import find_steps, merge_steps, read_boundaries
from gccpo_jax.types import Array, Candidates, Params, Spans


def read(
    solver: Solver,
    config: Config,
    params: Params,
    traces: Traces,
    watch: Stopwatch,
    reader: Params | None = None,
) -> tuple[Reading, Spans, dict[str, float]]:
    """Cuts trajectories into macro-steps and reads them.

    Args:
      reader: parameters of who reads answer laws; None is the policy itself, from the
        caches that sampling left. Branches are always the policy's: Phi is its value.
    Returns:
      What was read, the macro-steps [B, G, E] and metrics of the readers.
    """
    s, c = config.segmentation, config.counterfactual
    steps, spans = cut(
        solver.boundary, traces.rollout.tokens, traces.rollout.length, traces.keys,
        max_steps=s.max_steps, min_tokens=s.min_tokens, max_tokens=s.max_tokens,
        boundaries=c.boundaries,
    )  # fmt: skip
    branches = None
    if c.value == "continued":
        with watch("branches"):
            branches = begin_values(solver, config, params, traces, spans)
    candidates, answers = candidates_of(
        solver.task, solver.tokenizer, traces.items, traces.texts,
        count=c.max_candidates, max_tokens=c.max_answer_tokens,
    )  # fmt: skip
    # Which answers are the same may depend on a deadline: the first process decides.
    candidates, answers = of_first(candidates), from_first(lambda: answers)
    starts = answer_starts(
        solver.task, solver.tokenizer, traces.tokens, traces.lengths, traces.texts
    )
    read_spans = before_answer(spans, starts)
    with watch("readout"):
        who = params if reader is None else reader
        seen = traces if reader is None else read_by(solver, reader, traces, behaviour_rule(config))
        laws, perturbed = latent_laws(
            solver.policy, who, seen.prompt, seen.rollout.segment, read_spans, seen.keys,
            solver.field, candidates, jnp.float32(c.latent_sigma), arms=c.latent_arms,
            blocks=config.mesh.data * config.mesh.fsdp,
        )  # fmt: skip
        nuisance = latent_arms(laws, perturbed, read_spans)
        if c.surface_arms:
            surface = surface_arms(
                solver, config, who, seen, steps, spans, starts, candidates, laws
            )
            nuisance = pool(nuisance, surface)
    value, branch_tokens = None, 0
    if branches is not None:
        with watch("branches"):  # their endings are checked while the device reads laws
            value, branch_tokens = branches(answers)
    with watch("readout"):
        found: dict[str, float] = {}
        if c.equivalent_arms:
            arms, kept = equivalent_arms(
                solver, config, params, traces, who, seen, read_spans, candidates
            )
            nuisance, found = pool(nuisance, arms), found | kept
        content, kept = content_arms(
            solver, config, params, traces, who, seen, read_spans, candidates
        )
        nuisance = dataclasses.replace(nuisance, usable=nuisance.usable & varied(traces))
        jax.block_until_ready((nuisance.laws, content.laws))
    with watch("equivariance"):
        follows = equivariance(
            solver, who, seen, read_spans,
            arms=c.equivariance_arms, max_answer_tokens=c.max_answer_tokens,
        )  # fmt: skip
    if value is None:
        value = _scored_values(laws, candidates, spans)
    reading = Reading(
        outcome=jnp.asarray(np.nan_to_num(traces.outcome)),
        scorable=jnp.asarray(traces.scorable),
        value=jnp.asarray(value),
        factual=laws,
        nuisance=nuisance,
        content=content,
        energy=_energy(seen.rollout.segment, read_spans),
        equivariance=jnp.asarray(follows, jnp.float32),
    )
    metrics = {
        "steps": float(to_host(steps.mask).sum(-1).mean()),
        "branch_tokens": float(branch_tokens),
        **gate.of_reader(solver.task, traces, spans, laws, answers),
        **(gate.of_equivariance(follows) if c.equivariance_arms else {}),
        **found,
        **kept,
    }
    return reading, spans, metrics


@partial(jax.jit, static_argnames=("max_steps", "min_tokens", "max_tokens", "boundaries"))
def cut(
    boundary: Array,  # [V] bool
    tokens: Array,  # [B, G, T]
    length: Array,  # [B, G]
    question_keys: Array,  # [B]
    *,
    max_steps: int,
    min_tokens: int,
    max_tokens: int,
    boundaries: int,
) -> tuple[Spans, Spans]:
    """Steps [B, G, max_steps] and the macro-steps [B, G, boundaries + 1] that are read."""

    def one(tokens: Array, length: Array, key: Array) -> tuple[Spans, Spans]:
        spans = find_steps(
            boundary[tokens], length,
            max_steps=max_steps, min_tokens=min_tokens, max_tokens=max_tokens,
        )  # fmt: skip
        kept = read_boundaries(key, spans, boundaries)
        return spans, merge_steps(spans, kept, boundaries + 1)

    group = tokens.shape[1]
    keys = jax.vmap(lambda key: noise.stream_keys(key, noise.BOUNDARIES, group))(question_keys)
    return jax.vmap(jax.vmap(one))(tokens, length, keys)


@partial(jax.jit, static_argnames=("max_steps", "min_tokens", "max_tokens"))
def find_all_steps(
    boundary: Array,
    tokens: Array,
    length: Array,
    *,
    max_steps: int,
    min_tokens: int,
    max_tokens: int,
) -> Spans:
    """Every step [B, G, E] of trajectories [B, G, T], none merged."""
    one = partial(find_steps, max_steps=max_steps, min_tokens=min_tokens, max_tokens=max_tokens)
    return jax.vmap(jax.vmap(one))(boundary[tokens], length)


def before_answer(spans: Spans, answer_starts: np.ndarray) -> Spans:
    """Steps [B, G, E] without what belongs to the answer field, which begins at [B, G]."""
    until = jnp.minimum(spans.end, answer_starts[..., None])
    return Spans(jnp.minimum(spans.start, until), until, spans.mask)


def varied(traces: Traces) -> np.ndarray:
    """[B, 1, 1, 1]: whether a group holds more than one text.

    A collapsed policy is stable under anything: its robustness says nothing and is
    left out rather than counted as 1.
    """
    return (traces.texts != traces.texts[:, :1]).any(1)[:, None, None, None]


def begin_values(
    solver: Solver, config: Config, params: Params, traces: Traces, spans: Spans
) -> Callable[[readers.CandidateTexts], tuple[np.ndarray, int]]:
    """Starts the branches of each macro-step and returns what waits for their values.

    That is, given the candidate answers: Phi after each macro-step [B, G, E], NaN after the
    last and where it is unknown, and how many tokens were decoded.
    """
    c = config.counterfactual
    where = spans.mask[..., 1:]  # a boundary is read if a step follows it
    group, sites = traces.tokens.shape[1], where.shape[-1]
    if c.shared_noise:
        tapes = fresh_tapes(traces.keys, group, c.draws)
    else:
        tapes = independent_tapes(traces.keys, group, sites, c.draws)
    read_endings = readers.begin_branches(
        solver, params, traces, noise.keyed(tapes, solver.policy.vocab_size),
        boundary_sites(traces, spans.end[..., :-1], where),
        rule=behaviour_rule(config), limit=config.sampling.max_tokens,
        max_tokens=c.branch_tokens or config.sampling.max_tokens, slots=branch_slots(config),
    )  # fmt: skip

    def values(answers: readers.CandidateTexts) -> tuple[np.ndarray, int]:
        found = read_endings(answers, c.max_candidates)
        after_last = np.full((*found.value.shape[:2], 1), np.nan, np.float32)
        return np.concatenate([found.value[..., 0], after_last], -1), found.tokens

    return values


def branch_slots(config: Config) -> int:
    """Branches decoded at a time; 0: all at once, since a queue serves one device.

    The fewer, the fewer wait for the longest; a machine is kept busy by a quarter of the
    rollouts, and by 32 if they are few.
    """
    if config.mesh.data * config.mesh.fsdp > 1:
        return 0
    c, rollouts = config.counterfactual, config.batch_size * config.group_size
    return min(max(rollouts // 4, 32), rollouts * c.boundaries * c.draws)


@jax.jit
def _boundary_sites(prompt, prompt_mask, tokens, ends, where):
    of_sites = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_arms = jax.vmap(of_sites, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_arms, in_axes=(None, None, 0, 0, 0))
    length = jnp.sum(prompt_mask, axis=-1, dtype=jnp.int32)
    return jax.vmap(of_group)(prompt, length, tokens, ends[..., None], where[..., None])


def boundary_sites(traces: Traces, ends: Array, where: Array):
    """Sites [B, G, E, 1] behind the first `ends` [B, G, E] tokens of each trajectory."""
    return _boundary_sites(
        traces.prompts.tokens, traces.prompts.mask, traces.rollout.tokens, ends, where
    )


def latent_arms(laws: Array, perturbed: Array, read_spans: Spans) -> Arms:
    """Usable where the step has tokens before the answer field."""
    has_tokens = (read_spans.end > read_spans.start) & read_spans.mask
    usable = jnp.broadcast_to(has_tokens[..., None], perturbed.shape[:-1])
    factual = jnp.broadcast_to(laws[..., None, :], perturbed.shape)
    return Arms(perturbed, usable, Family.NUISANCE, factual)


def surface_arms(
    solver: Solver,
    config: Config,
    params: Params,
    traces: Traces,
    steps: Spans,
    spans: Spans,
    answer_starts: np.ndarray,
    candidates: Candidates,
    factual: Array,  # [B, G, E, C + 1]
) -> Arms:
    """Laws of trajectories in other words; usable where the task could rewrite them."""
    mask, step_ends = to_host(steps.mask), to_host(steps.end)
    ends = np.minimum(step_ends, answer_starts[..., None])
    begins = np.minimum(to_host(steps.start), ends)
    prompts, prompt_mask, variants, exists = rewritten.surface_variants(
        solver.task, solver.tokenizer, traces.items, traces.tokens, begins, ends, mask,
        arms=config.counterfactual.surface_arms, seed=traces.seed,
        prompt_tokens=traces.prompts.tokens.shape[1],
    )  # fmt: skip
    # A macro-step is read at the end of its last step: look that step up.
    same = (step_ends[:, :, None, :] == to_host(spans.end)[..., None]) & mask[:, :, None, :]
    index = np.broadcast_to(
        np.argmax(same, axis=-1)[:, :, None, :], (*exists.shape, spans.end.shape[-1])
    )
    variants = dataclasses.replace(variants, ends=np.take_along_axis(variants.ends, index, axis=-1))
    read = jnp.asarray(exists)[..., None] & spans.mask[:, :, None, :]
    laws = variant_laws(
        solver.policy, params, jnp.asarray(prompts), jnp.asarray(prompt_mask),
        jax.tree.map(jnp.asarray, variants), read, solver.field, candidates,
    )  # fmt: skip
    usable = jnp.swapaxes(read, 2, 3)
    beside = jnp.broadcast_to(factual[..., None, :], laws.shape)
    return Arms(laws, usable, Family.NUISANCE, beside)


def _scored_values(laws: Array, candidates: Candidates, spans: Spans) -> np.ndarray:
    """P(gold) after each macro-step but the last; NaN where there is no gold to look for."""
    following = np.concatenate(
        [to_host(spans.mask)[..., 1:], np.zeros((*spans.mask.shape[:-1], 1), bool)], -1
    )
    has_gold = to_host(candidates.exists)[:, 0][:, None, None]
    return np.where(following & has_gold, to_host(laws)[..., 0], np.nan).astype(np.float32)


@jax.jit
def _energy(segment, spans: Spans) -> Array:
    of_steps = jax.vmap(norm_energy, in_axes=(None, 0, 0))
    of_group = jax.vmap(of_steps, in_axes=(SEGMENT_AXES, 0, 0))
    return jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, 0))(segment, spans.start, spans.end)
