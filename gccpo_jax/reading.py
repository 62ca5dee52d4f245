"""From sampled trajectories to what credit needs: values and answer laws of their steps.

    Phi   continued branches from the ends of macro-steps      (total effect)
    P_0   scored readout after each macro-step                 (immediate readout)
    P_m   the same under nuisance interventions: `latent`, and `surface` if the task has it

Readers stop before the answer field: a reader that sees the stated answer
would only repeat it. So the answer step is read from what precedes its answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax import diagnostics, noise, reward, texts
from gccpo_jax.branches import continue_branches
from gccpo_jax.config import Config
from gccpo_jax.counterfactual import latent_laws, variant_laws
from gccpo_jax.credit import Reading
from gccpo_jax.kit import Kit, behaviour_rule
from gccpo_jax.readout import Candidates
from gccpo_jax.steps import find_steps, merge_steps, read_boundaries
from gccpo_jax.stopwatch import Stopwatch
from gccpo_jax.tasks.base import Item
from gccpo_jax.types import Array, Params, Prompts, Rollout, Segment, Spans


@dataclasses.dataclass(frozen=True)
class Sampled:
    """A sampled and verified batch with the cache that sampling left."""

    items: Sequence[Item]
    prompts: Prompts
    step: int
    keys: Array  # [B] question keys
    prompt: Segment  # [L, B, K, S, D]
    rollout: Rollout  # [B, G, T]
    tokens: np.ndarray  # [B, G, T] int32, `rollout.tokens` on the host
    lengths: np.ndarray  # [B, G]
    texts: np.ndarray  # [B, G] object
    outcome: np.ndarray  # [B, G] f32, NaN where unscorable

    @property
    def scorable(self) -> np.ndarray:
        """[B, G] bool"""
        return ~np.isnan(self.outcome)


def read(
    kit: Kit, config: Config, params: Params, sampled: Sampled, watch: Stopwatch
) -> tuple[Reading, Spans, dict[str, float]]:
    """Cuts trajectories into macro-steps and reads them.

    Returns:
      What was read, the macro-steps [B, G, E] and metrics of the readers.
    """
    s = config.segmentation
    steps, spans = cut(
        kit.boundary, sampled.rollout.tokens, sampled.rollout.length, sampled.keys,
        max_steps=s.max_steps, min_tokens=s.min_tokens, max_tokens=s.max_tokens,
        boundaries=config.counterfactual.boundaries,
    )  # fmt: skip
    with watch("branches"):
        value, branch_tokens = continued_values(kit, config, params, sampled, spans)
    with watch("readout"):
        candidates, answers = texts.candidates_of(
            kit.task, kit.tokenizer, sampled.items, sampled.texts,
            count=config.counterfactual.max_candidates,
            max_tokens=config.counterfactual.max_answer_tokens,
        )  # fmt: skip
        starts = texts.answer_starts(
            kit.task, kit.tokenizer, sampled.tokens, sampled.lengths, sampled.texts
        )
        factual, perturbed, usable = jax.block_until_ready(
            nuisance_laws(kit, config, params, sampled, steps, spans, starts, candidates)
        )
    reading = Reading(
        outcome=jnp.asarray(np.nan_to_num(sampled.outcome)),
        scorable=jnp.asarray(sampled.scorable),
        value=jnp.asarray(value),
        factual=factual,
        perturbed=perturbed,
        usable=usable,
        content=jnp.zeros((*usable.shape[:3], 0, factual.shape[-1])),
        content_usable=jnp.zeros((*usable.shape[:3], 0), bool),
        energy=jnp.zeros(usable.shape[:3]),
    )
    metrics = {
        "steps": float(np.asarray(steps.mask).sum(-1).mean()),
        "branch_tokens": float(branch_tokens),
        **diagnostics.of_reader(kit.task, sampled, spans, factual, answers),
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


def continued_values(
    kit: Kit, config: Config, params: Params, sampled: Sampled, spans: Spans
) -> tuple[np.ndarray, int]:
    """Phi after each macro-step [B, G, E], NaN after the last and where it is unknown.

    The mean verified outcome of the branches from there; also returns how many
    tokens were decoded.
    """
    c = config.counterfactual
    where = spans.mask[..., 1:]  # a boundary is read if a step follows it
    ends = jnp.maximum(spans.end[..., :-1], 1)
    branches = continue_branches(
        kit.policy, params, sampled.prompt, sampled.rollout, ends, where, sampled.keys, kit.stop,
        draws=c.draws, rule=behaviour_rule(config),
        max_tokens=c.branch_tokens or config.sampling.max_tokens,
    )  # fmt: skip
    tokens, lengths = np.asarray(branches.tokens), np.asarray(branches.length)
    ends, where = np.asarray(ends), np.asarray(where)
    scores = np.full(lengths.shape, np.nan, np.float32)
    for b, g, e in zip(*np.nonzero(where), strict=True):
        prefix = sampled.tokens[b, g, : ends[b, g, e]]
        for n in range(c.draws):
            ids = np.concatenate([prefix, tokens[b, g, e, n, : lengths[b, g, e, n]]])
            text = kit.tokenizer.decode(ids, skip_special=True)
            score = kit.task.verify(sampled.items[b], text)
            scores[b, g, e, n] = np.nan if score is None else score
    value = np.asarray(reward.branch_values(jnp.asarray(scores)))
    after_last = np.full((*value.shape[:2], 1), np.nan, np.float32)
    return np.concatenate([value, after_last], -1), int(lengths.sum())


def nuisance_laws(
    kit: Kit,
    config: Config,
    params: Params,
    sampled: Sampled,
    steps: Spans,
    spans: Spans,
    answer_starts: np.ndarray,
    candidates: Candidates,
) -> tuple[Array, Array, Array]:
    """Factual laws [B, G, E, C + 1], perturbed ones [B, G, E, P, C + 1], usable [B, G, E, P].

    The arms are `latent` first, then `surface`. A latent arm is usable where the step
    has tokens before the answer field; a surface arm where the task could rewrite.
    """
    c = config.counterfactual
    until = jnp.minimum(spans.end, answer_starts[..., None])
    read_spans = Spans(jnp.minimum(spans.start, until), until, spans.mask)
    factual, perturbed = latent_laws(
        kit.policy, params, sampled.prompt, sampled.rollout.segment, read_spans, sampled.keys,
        kit.cue, candidates, jnp.float32(c.latent_sigma), arms=c.latent_arms,
    )  # fmt: skip
    has_tokens = (read_spans.end > read_spans.start) & spans.mask
    usable = jnp.broadcast_to(has_tokens[..., None], perturbed.shape[:-1])
    if c.surface_arms:
        laws, exists = surface_laws(
            kit, config, params, sampled, steps, spans, answer_starts, candidates
        )
        perturbed = jnp.concatenate([perturbed, laws], axis=3)
        rewritten = exists[:, :, None, :] & spans.mask[..., None]
        usable = jnp.concatenate([usable, rewritten], axis=3)
    return factual, perturbed, usable


def surface_laws(
    kit: Kit,
    config: Config,
    params: Params,
    sampled: Sampled,
    steps: Spans,
    spans: Spans,
    answer_starts: np.ndarray,
    candidates: Candidates,
) -> tuple[Array, Array]:
    """Laws [B, G, E, P, C + 1] of trajectories in other words, and which exist [B, G, P]."""
    mask, step_ends = np.asarray(steps.mask), np.asarray(steps.end)
    ends = np.minimum(step_ends, answer_starts[..., None])
    begins = np.minimum(np.asarray(steps.start), ends)
    prompts, prompt_mask, variants, exists = texts.surface_variants(
        kit.task, kit.tokenizer, sampled.items, sampled.tokens, begins, ends, mask,
        arms=config.counterfactual.surface_arms, seed=(config.seed, sampled.step),
        prompt_tokens=sampled.prompts.tokens.shape[1],
    )  # fmt: skip
    # A macro-step is read at the end of its last step: look that step up.
    same = (step_ends[:, :, None, :] == np.asarray(spans.end)[..., None]) & mask[:, :, None, :]
    index = np.broadcast_to(
        np.argmax(same, axis=-1)[:, :, None, :], (*exists.shape, spans.end.shape[-1])
    )
    variants = dataclasses.replace(variants, ends=np.take_along_axis(variants.ends, index, axis=-1))
    laws = variant_laws(kit.policy, params, prompts, prompt_mask, variants, kit.cue, candidates)
    return laws, jnp.asarray(exists)
