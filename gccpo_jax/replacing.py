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

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax import edits as text_edits
from gccpo_jax import noise
from gccpo_jax.branches import continue_branches, resampling_tapes
from gccpo_jax.config import Config
from gccpo_jax.distributed import to_host
from gccpo_jax.family import Arms, Edits, Family, no_arms, pool
from gccpo_jax.intervention import identity, plausible, swap
from gccpo_jax.kit import Kit, behaviour_rule
from gccpo_jax.law import Rule
from gccpo_jax.laws import site_laws, step_log_likelihood
from gccpo_jax.noise import Tape
from gccpo_jax.readers import on_device
from gccpo_jax.readout import Candidates
from gccpo_jax.sites import Sites, boundary, replaced
from gccpo_jax.traces import Traces
from gccpo_jax.types import Array, Params, Spans


def own_steps(traces: Traces, spans: Spans) -> Edits:
    """Each step's own tokens, [B, G, E, 1, W]."""
    longest = int(to_host(spans.end - spans.start).max(initial=1))
    return _own_steps(traces.rollout.tokens, spans, text_edits.width_of(longest))


@partial(jax.jit, static_argnames="width")
def _own_steps(tokens: Array, spans: Spans, width: int) -> Edits:
    return jax.vmap(jax.vmap(lambda t, s: identity(t, s, width)))(tokens, spans)


def resample(
    kit: Kit,
    params: Params,
    traces: Traces,
    spans: Spans,
    *,
    arms: int,
    rule: Rule,
    min_tokens: int,
    limit: int,
) -> Edits:
    """Each step once more from the policy, `arms` times: same prefix, fresh step noise.

    A resample ends as a step does: with a boundary token once it has `min_tokens`
    tokens, a stop token, or the response's token limit.
    """
    group, steps = spans.mask.shape[1:]
    sites = _starts(traces.prompts.tokens, traces.prompts.mask, traces.rollout.tokens, spans)
    keys = resampling_tapes(traces.keys, group, steps, arms)
    tapes = Tape(keys, jnp.zeros((*keys.shape[:2], arms, 0, kit.policy.vocab_size)))
    found = continue_branches(
        kit.policy, params, traces.prompt, traces.rollout.segment, sites, tapes, kit.stop,
        kit.boundary, rule=rule, max_tokens=limit, limit=limit, min_tokens=min_tokens,
    )  # fmt: skip
    return text_edits.trim(Edits(found.tokens, found.length, found.length > 0, Family.BASELINE))


@jax.jit
def _starts(prompt: Array, prompt_mask: Array, tokens: Array, spans: Spans) -> Sites:
    of_steps = jax.vmap(boundary, in_axes=(None, None, None, 0, 0))
    of_group = jax.vmap(of_steps, in_axes=(None, None, 0, 0, 0))
    length = jnp.sum(prompt_mask, axis=-1, dtype=jnp.int32)
    return jax.vmap(of_group)(prompt, length, tokens, spans.start, spans.mask)


def swapped(
    kit: Kit, params: Params, traces: Traces, spans: Spans, *, arms: int, rule: Rule, delta: float
) -> Edits:
    """Siblings' steps in place of each step, where the policy might write them there."""
    own = own_steps(traces, spans)
    width = own.tokens.shape[-1]
    drawn = _swapped(traces.keys, traces.rollout.tokens, spans, width, arms)

    def likelihood(edits: Edits) -> Array:
        return step_log_likelihood(
            kit.policy, params, traces.prompts.tokens, traces.prompt, traces.rollout.tokens,
            traces.rollout.segment, sites_of(spans, edits), rule=rule,
        )  # fmt: skip

    both = Edits(
        jnp.concatenate([own.tokens, drawn.tokens], axis=3),
        jnp.concatenate([own.length, drawn.length], axis=3),
        jnp.concatenate([own.usable, drawn.usable], axis=3),
        Family.CONTENT,
    )
    found = likelihood(both)
    return plausible_of(drawn, found[..., 1:], found[..., 0], delta)


def plausible_of(edits: Edits, found: Array, factual: Array, delta: float) -> Edits:
    """`intervention.plausible` over batch and group."""
    one = partial(plausible, delta=delta)
    return jax.vmap(jax.vmap(one))(edits, found, factual)


@partial(jax.jit, static_argnames=("width", "arms"))
def _swapped(keys: Array, tokens: Array, spans: Spans, width: int, arms: int) -> Edits:
    group = tokens.shape[1]

    def question(key: Array, tokens: Array, spans: Spans) -> Edits:
        of_trajectory = noise.stream_keys(key, noise.SWAP, group)
        return jax.vmap(lambda k, i: swap(k, tokens, spans, i, width, arms))(
            of_trajectory, jnp.arange(group)
        )

    return jax.vmap(question)(keys, tokens, spans)


def sites_of(spans: Spans, edits: Edits) -> Sites:
    """The sites [B, G, E, P] behind steps that edits replace."""
    tokens, length, usable = (jnp.asarray(x) for x in (edits.tokens, edits.length, edits.usable))
    return on_device(jax.vmap(jax.vmap(replaced))(spans, tokens, length, usable))


def scored_arms(
    kit: Kit,
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
        kit.policy, params, traces.prompt, traces.rollout.segment, sites_of(spans, both),
        kit.field, candidates,
    )  # fmt: skip
    factual = jnp.broadcast_to(laws[..., :1, :], laws[..., 1:, :].shape)
    usable = jnp.asarray(edits.usable) & jnp.asarray(own.usable)
    return Arms(laws[..., 1:, :], usable, edits.family, factual)


def equivalent_arms(
    kit: Kit,
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
        kit, params, traces, spans, arms=config.counterfactual.equivalent_arms,
        rule=behaviour_rule(config), min_tokens=config.segmentation.min_tokens,
        limit=config.sampling.max_tokens,
    )  # fmt: skip
    kept = text_edits.equivalent(kit.tokenizer, resampled, own_steps(traces, spans))
    arms = scored_arms(kit, reader, seen, spans, kept, candidates)
    return arms, {"equivalent_kept": text_edits.kept_fraction(kept, spans.mask)}


def content_arms(
    kit: Kit,
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
            kit.task, kit.tokenizer, traces.items, traces.tokens, spans,
            arms=c.corrupt_arms, seed=traces.seed, max_tokens=config.sampling.max_tokens,
        )  # fmt: skip
        metrics["corrupt_kept"] = text_edits.kept_fraction(edits, spans.mask)
        found.append(scored_arms(kit, reader, seen, spans, edits, candidates))
    if c.swap_arms:
        edits = swapped(
            kit, params, traces, spans, arms=c.swap_arms, rule=behaviour_rule(config),
            delta=c.swap_delta,
        )  # fmt: skip
        metrics["swap_kept"] = text_edits.kept_fraction(edits, spans.mask)
        found.append(scored_arms(kit, reader, seen, spans, edits, candidates))
    none = no_arms(Family.CONTENT, spans.mask.shape, candidates.tokens.shape[-2] + 1)
    return (pool(*found) if found else none), metrics
