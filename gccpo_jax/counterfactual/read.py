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
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual import gate, readers, transport
from gccpo_jax.counterfactual.answer_laws import latent_laws
from gccpo_jax.counterfactual.arms import Intervened
from gccpo_jax.counterfactual.cache_edits import norm_energy
from gccpo_jax.counterfactual.candidates import candidates_of
from gccpo_jax.counterfactual.departed import begin_departed, tokens_again
from gccpo_jax.counterfactual.equivariance import equivariance
from gccpo_jax.counterfactual.interventions import INTERVENTIONS
from gccpo_jax.counterfactual.known_rest import by_chance
from gccpo_jax.counterfactual.learned import coins, foretold, learned_values
from gccpo_jax.counterfactual.places import Asked, Places, boundary_sites, places_of
from gccpo_jax.counterfactual.transport import Transported
from gccpo_jax.policy.step_scorer import StepScorer
from gccpo_jax.reward.arms import Arms, Family, no_arms, pool
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.runtime.distributed import broadcast_arrays, broadcast_json, to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import fresh_tapes, independent_tapes
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.types import Array, Candidates, Spans


@dataclasses.dataclass(frozen=True)
class BatchReading:
    """What was read of a batch of trajectories."""

    reading: GroupReading  # [B, G, ...]
    places: Places
    moved: Transported | None  # the trajectories in other words, where values are read there
    metrics: dict[str, float]
    evidence: Evidence


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was seen beside the numbers that credit is made of: for people who ask why."""

    read_spans: Spans  # [B, G, E]  steps without the answer field
    answers: list[list[str]] | None  # [B][C] candidates, "" for none; None: no law was read
    before: Array | None  # [B, G, C + 1]  the law before the first step, where it was read
    arms: dict[str, Intervened]  # by intervention
    written: readers.Written | None  # branches from after each macro-step but the last, as asked


def read(
    writer: Seen,
    reader: Seen,
    section: CounterfactualConfig,
    segmentation: SegmentationConfig,
    watch: Stopwatch,
    *,
    laws: bool,
    scorer: StepScorer | None = None,
) -> BatchReading:
    """Cuts sampled trajectories into macro-steps and reads them.

    Args:
      writer: the policy that wrote them. Branches are always the policy's: Phi is its value.
      reader: who reads answer laws; often the writer, from the caches that sampling left.
      laws: False reads no answer law: none is used.
      scorer: who foretells values, for `section.value` "learned".
    """
    traces = writer.traces
    places = places_of(writer, segmentation, section.boundaries, section.boundary_share)
    metrics = {"steps": float(to_host(places.steps.mask).sum(-1).mean())}
    moved, written, values = None, None, None
    if section.transport != "none":
        with watch("transport"):
            moved = transport.transport(writer, places, section)
            values = transport.begin_values(moved, section)
    elif section.value != "scored":
        drawn = None
        if scorer is not None:
            shape = (traces.keys, *places.spans.mask[..., 1:].shape[1:])
            drawn = coins(*shape, section.learned_share)
        with watch("branches"):
            values = begin_values(writer, places.spans, section, drawn)
    found = unread(places.spans, section.max_candidates)
    if laws:
        found, metrics = _laws(writer, reader, places, section, segmentation, watch, metrics)
    with watch("branches"):  # their endings are checked while the device reads laws
        start, final = None, None
        if values is not None:
            of_branches = values()
            value, written = of_branches.value, of_branches.written
            if scorer is not None:
                told = learned_values(scorer, writer.solver.tokenizer, traces, places)
                given = (told, value, drawn, section.learned_share)
                value, metrics["learned_error"] = foretold(*given)
            outcome, metrics["branch_tokens"] = of_branches.outcome, of_branches.tokens
            if section.from_departure:
                metrics["departure_tokens"] = of_branches.again
        else:
            trusted = metrics["reader_gate"] >= section.min_gate
            max_other = section.max_other if trusted else -1.0
            value, start, final = map(jnp.asarray, scored_values(found, places.spans, max_other))
            outcome, metrics["branch_tokens"] = None, 0.0
    reading = GroupReading(
        outcome=jnp.asarray(np.nan_to_num(traces.outcome)),
        scorable=jnp.asarray(traces.scorable),
        value=jnp.asarray(value),
        factual=found.factual,
        nuisance=found.nuisance,
        content=found.content,
        energy=_energy(reader.cache[1], places.read_spans),
        equivariance=jnp.asarray(found.equivariance, jnp.float32),
        start=start,
        final=final,
    )
    if moved is not None:
        rho = transport.step_robustness(writer, places, moved)
        reading = dataclasses.replace(
            reading,
            transported=jnp.asarray(outcome),
            step_robustness=jnp.asarray(rho, jnp.float32),
        )
        metrics |= transport.metrics_of(moved, outcome, rho)
    evidence = Evidence(places.read_spans, found.answers, found.before, found.arms, written)
    return BatchReading(reading, places, moved, metrics, evidence)


@dataclasses.dataclass(frozen=True)
class Laws:
    """What the scored reader found, [B, G, E, ...]."""

    factual: Array  # [B, G, E, C + 1]
    nuisance: Arms
    content: Arms
    equivariance: np.ndarray  # [B, G]
    has_gold: np.ndarray  # [B] bool  the gold answer is a candidate
    before: Array | None = None  # [B, G, C + 1]  before the first step, for scored values only
    answers: list[list[str]] | None = None  # [B][C]  the candidates
    arms: dict[str, Intervened] = dataclasses.field(default_factory=dict)  # before they are pooled


def unread(spans: Spans, candidates: int) -> Laws:
    """Laws of a reading without a reader: all mass is outside the candidates."""
    shape = spans.mask.shape
    factual = jnp.zeros((*shape, candidates + 1)).at[..., -1].set(1.0)
    none = partial(no_arms, shape=shape, entries=candidates + 1)
    return Laws(
        factual,
        none(Family.NUISANCE),
        none(Family.CONTENT),
        np.full(shape[:2], np.nan),
        np.zeros(shape[0], bool),
    )


def _laws(
    writer: Seen,
    reader: Seen,
    places: Places,
    section: CounterfactualConfig,
    segmentation: SegmentationConfig,
    watch: Stopwatch,
    metrics: dict[str, float],
) -> tuple[Laws, dict[str, float]]:
    """Candidates of the batch, and every law that is asked for; `metrics` with the readers'."""
    solver, traces = writer.solver, writer.traces
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
        arms, kept, intervened = arms_of(asked)
        nuisance, content = arms[Family.NUISANCE], arms[Family.CONTENT]
        nuisance = dataclasses.replace(nuisance, usable=nuisance.usable & varied(traces))
        jax.block_until_ready((nuisance.laws, content.laws))
    with watch("equivariance"):
        follows = equivariance(reader, places, section)
    metrics = {
        **metrics,
        **gate.candidate_metrics(candidates),
        **gate.reader_metrics(
            solver.task, traces, places.spans, asked.factual, candidates, answers
        ),
        **(gate.equivariance_metrics(follows) if section.equivariance_arms else {}),
        **kept,
    }
    has_gold = to_host(candidates.exists)[:, 0]
    before = law_before(asked) if section.value == "scored" else None
    laws = (asked.factual, nuisance, content, follows, has_gold, before)
    return Laws(*laws, answers, intervened), metrics


def law_before(asked: Asked) -> Array:
    """Answer laws [B, G, C + 1] before the first step, read as those after steps are."""
    seen, spans = asked.reader, asked.places.spans
    first = Spans(*(x[..., :1] for x in (spans.start * 0, spans.end * 0, spans.mask)))
    return _laws_after(seen, first, asked.candidates)[0][:, :, 0]


def _laws_after(
    seen: Seen, spans: Spans, candidates: Candidates, sigma: float = 0.0, arms: int = 0
) -> tuple[Array, Array]:
    """`latent_laws` of trajectories in a reader's cache."""
    return latent_laws(
        seen.solver.policy,
        seen.params,
        *seen.cache,
        spans,
        seen.traces.keys,
        seen.solver.field,
        candidates,
        jnp.float32(sigma),
        arms=arms,
        blocks=seen.solver.shards,
    )


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

    `limit`: tokens that a response may have; 0: as many as those that were read.
    """
    perturbed = (section.latent_sigma, section.latent_arms)
    factual, latent = _laws_after(reader, places.read_spans, candidates, *perturbed)
    limit = limit or writer.traces.limit
    return Asked(writer, reader, places, candidates, section, segmentation, limit, factual, latent)


def arms_of(
    asked: Asked,
) -> tuple[dict[Family, Arms], dict[str, float], dict[str, Intervened]]:
    """Laws under every intervention asked for that the task can do, pooled by family.

    Returns:
      Arms [B, G, E, P, C + 1] per family (P 0 where nothing was asked), per intervention that
      rewrites text the share of arms that could be made, `<name>_kept`, and each one's own arms.
    """
    shape, entries = asked.factual.shape[:-1], asked.factual.shape[-1]
    found: dict[Family, list[Arms]] = {Family.NUISANCE: [], Family.CONTENT: []}
    kept: dict[str, float] = {}
    intervened: dict[str, Intervened] = {}
    for row in INTERVENTIONS:
        count = row.asked(asked.section)
        if row.arms and count and row.possible(asked.reader.solver.task):
            intervened[row.name] = row.arms(asked, count)
            found[row.family].append(intervened[row.name].arms)
            if row.reads != "cache":
                kept[f"{row.name}_kept"] = intervened[row.name].kept
    none = {family: no_arms(family, shape, entries) for family in found}
    pooled = {family: pool(*(arms or [none[family]])) for family, arms in found.items()}
    return pooled, kept, intervened


def varied(traces: Traces) -> np.ndarray:
    """[B, 1, 1, 1]: whether a group holds more than one text.

    A collapsed policy is stable under anything: its robustness says nothing and is
    left out rather than counted as 1.
    """
    return (traces.texts != traces.texts[:, :1]).any(1)[:, None, None, None]


def begin_values(
    writer: Seen, spans: Spans, section: CounterfactualConfig, drawn: Array | None = None
) -> Callable[[], readers.Values]:
    """Starts the branches of each macro-step and returns what waits for their values.

    `drawn` [B, G, E - 1] bool: the boundaries that are branched from; None: all of them.
    """
    traces, ends = writer.traces, spans.end[..., :-1]
    where = spans.mask[..., 1:]  # a boundary is read if a step follows it
    where = where if drawn is None else where & drawn
    most = section.branch_tokens or traces.limit
    if section.from_departure:
        tapes = fresh_tapes(traces.keys, where.shape[1], section.draws)
        read_branches = begin_departed(writer, tapes, ends, where)
    else:
        read_branches = _begin_whole(writer, ends, where, section, most)

    def values() -> readers.Values:
        written, tokens = read_branches()
        if section.known_rest:
            counted = by_chance(traces, to_host(ends), written, most)
            written = dataclasses.replace(written, counted=counted)
        value = readers.mean_of_known(written.score if written.counted is None else written.counted)
        after_last = np.full((*value.shape[:2], 1), np.nan)
        value = np.concatenate([value, after_last], -1).astype(np.float32)
        again = 0.0
        if section.from_departure:
            again = tokens_again(traces.lengths, to_host(ends), to_host(where))
        return readers.Values(value, float(tokens), again, written=written)

    return values


def _begin_whole(
    writer: Seen, ends: Array, where: Array, section: CounterfactualConfig, most: int
) -> Callable[[], tuple[readers.Written, int]]:
    """`departed.begin_departed` with branches that are decoded from their boundaries on."""
    traces, (batch, group, sites) = writer.traces, where.shape
    if section.shared_noise:
        tapes = fresh_tapes(traces.keys, group, section.draws)
    else:
        tapes = independent_tapes(traces.keys, group, sites, section.draws)
    read_endings = readers.begin_branches(
        writer,
        noise.keyed(tapes, writer.solver.policy.vocab_size),
        boundary_sites(traces, ends, where),
        limit=traces.limit,
        max_tokens=most,
        slots=readers.branch_slots(batch * group, sites * section.draws, writer.solver.shards),
    )

    def written() -> tuple[readers.Written, int]:
        found = read_endings([[item.answer or ""] for item in traces.items], 1)
        return found.written, found.tokens

    return written


def scored_values(
    found: Laws, spans: Spans, max_other: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(gold), read at once, of each trajectory: all immediate readouts, the first as well.

    An unreadable law (more than `max_other` outside the candidates) takes the value of the
    nearest readable one before it, or of the first after it: its steps share one effect. A
    trajectory without a readable law, or a gold answer to look for, is NaN.

    Returns:
      After each macro-step but the last [B, G, E] (NaN elsewhere), before the first [B, G], and
      after the last [B, G].
    """
    mask = to_host(spans.mask)
    laws = np.concatenate([to_host(found.before)[:, :, None], to_host(found.factual)], 2)
    exists = np.concatenate([np.ones((*mask.shape[:2], 1), bool), mask], -1)
    known = exists & found.has_gold[:, None, None] & (laws[..., -1] <= max_other)
    place = np.maximum.accumulate(np.where(known, np.arange(known.shape[-1]), -1), -1)
    place = np.where(place < 0, known.argmax(-1)[..., None], place)
    value = np.take_along_axis(np.where(known, laws[..., 0], np.nan), place, -1)
    value = value.astype(np.float32)
    following = np.concatenate([mask[..., 1:], np.zeros_like(mask[..., :1])], -1)
    final = np.take_along_axis(value, mask.sum(-1)[..., None], -1)[..., 0]
    return np.where(following, value[..., 1:], np.float32(np.nan)), value[..., 0], final


@jax.jit
def _energy(segment, spans: Spans) -> Array:
    of_steps = jax.vmap(norm_energy, in_axes=(None, 0, 0))
    of_group = jax.vmap(of_steps, in_axes=(SEGMENT_AXES, 0, 0))
    return jax.vmap(of_group, in_axes=(SEGMENT_AXES, 0, 0))(segment, spans.start, spans.end)
