"""From trajectories to what credit needs: values and answer laws of their steps.

    Phi   continued branches from the ends of macro-steps      (total effect)
    P_0   scored readout after each macro-step                 (immediate readout)
    P_m   the same under nuisance interventions                (robustness)
    P_c   the same under content interventions                 (sensitivity)

Readers stop before the answer field: a reader that sees the stated answer
would only repeat it. So the answer step is read from what precedes its answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import gate, readers
from gccpo_jax.counterfactual.answer_laws import latent_laws
from gccpo_jax.counterfactual.asked import Asked
from gccpo_jax.counterfactual.cache_edits import norm_energy
from gccpo_jax.counterfactual.candidates import candidates_of
from gccpo_jax.counterfactual.equivariance import equivariance
from gccpo_jax.counterfactual.interventions import INTERVENTIONS
from gccpo_jax.counterfactual.places import Places, boundary_sites, places_of
from gccpo_jax.reward.arms import Arms, Family, no_arms, pool
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.runtime.distributed import broadcast_arrays, broadcast_json, to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import fresh_tapes, independent_tapes
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.types import Array, Candidates, Spans


def read(
    writer: Seen,
    reader: Seen,
    section: CounterfactualConfig,
    segmentation: SegmentationConfig,
    watch: Stopwatch,
) -> tuple[GroupReading, Spans, dict[str, float]]:
    """Cuts sampled trajectories into macro-steps and reads them.

    Args:
      writer: the policy that wrote them. Branches are always the policy's: Phi is its value.
      reader: who reads answer laws; often the writer, from the caches that sampling left.
    Returns:
      What was read, the macro-steps [B, G, E] and metrics of the readers.
    """
    solver, traces = writer.solver, writer.traces
    places = places_of(writer, segmentation, section.boundaries)
    spans = places.spans
    values = None
    if section.value == "continued":
        with watch("branches"):
            values = begin_values(writer, spans, section)
    candidates, answers = candidates_of(
        solver.task,
        solver.tokenizer,
        traces.items,
        traces.texts,
        count=section.max_candidates,
        max_tokens=section.max_answer_tokens,
    )
    # Which answers are the same may depend on a deadline: the first process decides.
    candidates, answers = broadcast_arrays(candidates), broadcast_json(lambda: answers)
    with watch("readout"):
        asked = ask(writer, reader, places, candidates, section, segmentation)
        arms, kept = arms_of(asked)
        nuisance = arms[Family.NUISANCE]
        nuisance = dataclasses.replace(nuisance, usable=nuisance.usable & varied(traces))
    with watch("branches"):  # their endings are checked while the device reads laws
        if values is not None:
            value, branch_tokens = values(answers)
        else:
            value, branch_tokens = _scored_values(asked.factual, candidates, spans), 0
    with watch("readout"):
        jax.block_until_ready((nuisance.laws, arms[Family.CONTENT].laws))
    with watch("equivariance"):
        follows = equivariance(
            reader,
            places,
            arms=section.equivariance_arms,
            max_answer_tokens=section.max_answer_tokens,
        )
    reading = GroupReading(
        outcome=jnp.asarray(np.nan_to_num(traces.outcome)),
        scorable=jnp.asarray(traces.scorable),
        value=jnp.asarray(value),
        factual=asked.factual,
        nuisance=nuisance,
        content=arms[Family.CONTENT],
        energy=_energy(reader.traces.rollout.segment, places.read_spans),
        equivariance=jnp.asarray(follows, jnp.float32),
    )
    metrics = {
        "steps": float(to_host(places.steps.mask).sum(-1).mean()),
        "branch_tokens": float(branch_tokens),
        **gate.of_reader(solver.task, traces, spans, asked.factual, answers),
        **(gate.of_equivariance(follows) if section.equivariance_arms else {}),
        **kept,
    }
    return reading, spans, metrics


def ask(
    writer: Seen,
    reader: Seen,
    places: Places,
    candidates: Candidates,
    section: CounterfactualConfig,
    segmentation: SegmentationConfig,
    limit: int = 0,
) -> Asked:
    """Reads the factual laws, and with them those under latent noise: what arms start from.

    `limit`: tokens that a response may have; 0: as many as the trajectories' arrays.
    """
    solver = reader.solver
    factual, latent = latent_laws(
        solver.policy,
        reader.params,
        *reader.cache,
        places.read_spans,
        reader.traces.keys,
        solver.field,
        candidates,
        jnp.float32(section.latent_sigma),
        arms=section.latent_arms,
        blocks=solver.shards,
    )
    limit = limit or writer.traces.tokens.shape[-1]
    return Asked(writer, reader, places, candidates, section, segmentation, limit, factual, latent)


def arms_of(asked: Asked) -> tuple[dict[Family, Arms], dict[str, float]]:
    """Laws under every intervention asked for that the task can do, pooled by family.

    Returns:
      Arms [B, G, E, P, C + 1] per family (P 0 where nothing was asked), and per intervention
      that replaces steps the share of usable arms, `<name>_kept`.
    """
    shape, entries = asked.factual.shape[:-1], asked.factual.shape[-1]
    found: dict[Family, list[Arms]] = {Family.NUISANCE: [], Family.CONTENT: []}
    kept: dict[str, float] = {}
    for row in INTERVENTIONS:
        count = row.asked(asked.section)
        if row.arms and count and row.possible(asked.reader.solver.task):
            arms, share = row.arms(asked, count)
            found[row.family].append(arms)
            if row.reads == "site":
                kept[f"{row.name}_kept"] = share
    none = {family: no_arms(family, shape, entries) for family in found}
    return {family: pool(*(arms or [none[family]])) for family, arms in found.items()}, kept


def varied(traces: Traces) -> np.ndarray:
    """[B, 1, 1, 1]: whether a group holds more than one text.

    A collapsed policy is stable under anything: its robustness says nothing and is
    left out rather than counted as 1.
    """
    return (traces.texts != traces.texts[:, :1]).any(1)[:, None, None, None]


def begin_values(
    writer: Seen, spans: Spans, section: CounterfactualConfig
) -> Callable[[readers.CandidateTexts], tuple[np.ndarray, int]]:
    """Starts the branches of each macro-step and returns what waits for their values.

    That is, given the candidate answers: Phi after each macro-step [B, G, E], NaN after the
    last and where it is unknown, and how many tokens were decoded.
    """
    traces = writer.traces
    where = spans.mask[..., 1:]  # a boundary is read if a step follows it
    batch, group, sites = where.shape
    if section.shared_noise:
        tapes = fresh_tapes(traces.keys, group, section.draws)
    else:
        tapes = independent_tapes(traces.keys, group, sites, section.draws)
    limit = traces.tokens.shape[-1]
    read_endings = readers.begin_branches(
        writer,
        noise.keyed(tapes, writer.solver.policy.vocab_size),
        boundary_sites(traces, spans.end[..., :-1], where),
        limit=limit,
        max_tokens=section.branch_tokens or limit,
        slots=branch_slots(batch * group, sites * section.draws, writer.solver.shards),
    )

    def values(answers: readers.CandidateTexts) -> tuple[np.ndarray, int]:
        found = read_endings(answers, section.max_candidates)
        after_last = np.full((batch, group, 1), np.nan, np.float32)
        return np.concatenate([found.value[..., 0], after_last], -1), found.tokens

    return values


def branch_slots(rollouts: int, each: int, shards: int) -> int:
    """Branches decoded at a time; 0: all at once, since a queue serves one device.

    The fewer, the fewer wait for the longest; a machine is kept busy by a quarter of the
    rollouts, and by 32 if they are few. `each`: branches per rollout.
    """
    return 0 if shards > 1 else min(max(rollouts // 4, 32), rollouts * each)


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
