"""Where trajectories are cut and read: steps, macro-steps, the beginning of the answer field.

`Asked` is what an intervention is given there: who wrote, who reads, and what was read as it was.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual.candidates import answer_starts
from gccpo_jax.runtime.distributed import broadcast_arrays
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.sites import Sites, boundary
from gccpo_jax.sampling.solver import Solver
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.steps import find_steps, merge_steps, read_boundaries
from gccpo_jax.types import Array, Candidates, Spans


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the trajectories of a batch are read."""

    steps: Spans  # [B, G, E']
    spans: Spans  # [B, G, E]  macro-steps: each ends where something is read
    answer: np.ndarray  # [B, G] int32  the token at which the answer field begins

    @cached_property
    def read_spans(self) -> Spans:
        """The macro-steps without what belongs to the answer field.

        Readers stop before it: a reader that sees the stated answer would only repeat it.
        """
        until = jnp.minimum(self.spans.end, self.answer[..., None])
        return Spans(jnp.minimum(self.spans.start, until), until, self.spans.mask)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The arguments of every intervention. Writer and reader hold the same trajectories."""

    writer: Seen  # the policy: it decodes resamples and judges swaps
    reader: Seen  # who reads answer laws, with its own caches; often the writer
    places: Places
    candidates: Candidates  # [B, C, A]
    section: CounterfactualConfig
    segmentation: SegmentationConfig
    limit: int  # tokens that a response may have
    factual: Array  # [B, G, E, C + 1]  laws after the steps as they were
    latent: Array  # [B, G, E, P, C + 1]  read in one batch with them; P may be 0


def places_of(
    seen: Seen, segmentation: SegmentationConfig, boundaries: int, share: float = 1.0
) -> Places:
    """Steps of sampled trajectories, and at most `boundaries` + 1 macro-steps of each."""
    traces = seen.traces
    steps, spans = cut(
        seen.solver.boundary,
        traces.rollout.tokens,
        traces.rollout.length,
        traces.keys,
        **dataclasses.asdict(segmentation),
        boundaries=boundaries,
        share=jnp.float32(share),
    )
    return Places(steps, spans, starts_of(seen))


def starts_of(seen: Seen) -> np.ndarray:
    """The token [B, G] at which each trajectory's answer field begins."""
    solver, traces = seen.solver, seen.traces
    found = answer_starts(
        solver.task, solver.tokenizer, traces.tokens, traces.lengths, traces.texts
    )
    return broadcast_arrays(found)  # which answers are the same may depend on a deadline


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
    share: Array,  # []
) -> tuple[Spans, Spans]:
    """Steps [B, G, max_steps] and the macro-steps [B, G, boundaries + 1] that are read."""
    sizes = dict(max_steps=max_steps, min_tokens=min_tokens, max_tokens=max_tokens)

    def one(tokens: Array, length: Array, key: Array) -> tuple[Spans, Spans]:
        spans = find_steps(boundary[tokens], length, **sizes)
        kept = read_boundaries(key, spans, boundaries, share)
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


def cut_steps(solver: Solver, traces: Traces, segmentation: SegmentationConfig) -> Spans:
    """Every step [B, G, E] of trajectories, cut where the task cuts."""
    rollout, sizes = traces.rollout, dataclasses.asdict(segmentation)
    return find_all_steps(solver.boundary, rollout.tokens, rollout.length, **sizes)


def boundary_sites(traces: Traces, ends: Array, where: Array) -> Sites:
    """Sites [B, G, E, 1] behind the first `ends` [B, G, E] tokens of each trajectory."""
    prompts = traces.prompts
    return _boundary_sites(prompts.tokens, prompts.mask, traces.rollout.tokens, ends, where)


@jax.jit
def _boundary_sites(
    prompt: Array, prompt_mask: Array, tokens: Array, ends: Array, where: Array
) -> Sites:
    of_sites = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_arms = jax.vmap(of_sites, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_arms, in_axes=(None, None, 0, 0, 0))
    length = jnp.sum(prompt_mask, axis=-1, dtype=jnp.int32)
    return jax.vmap(of_group)(prompt, length, tokens, ends[..., None], where[..., None])
