"""The answer laws (scored reader) that steps induce, as they were and intervened on.

`latent_laws` edits the cache, `site_laws` replaces a step's tokens, `variant_laws`
reads a trajectory in other words.

Written for one trajectory and mapped over perturbations, group and batch at the
end of each public function. Nothing that the rollout encoded is encoded
again: a prefix is a mask over the trajectory's segment, the prompt's segment is
shared by the group, and both are shared by draws, arms and candidates.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax import noise
from gccpo_jax.intervention import latent, latent_noise, restrict
from gccpo_jax.law import Rule, log_law
from gccpo_jax.masked import masked_mean
from gccpo_jax.readout import AnswerField, Candidates, read_scored
from gccpo_jax.sampling import SEGMENT_AXES, read_prompt
from gccpo_jax.sites import Sites, boundary, context_of, enter, position_after
from gccpo_jax.types import Array, Params, Policy, Segment, Spans, record


@partial(jax.jit, static_argnames=("policy", "arms"))
def latent_laws(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    segment: Segment,  # [L, B, G, K, T, D]
    spans: Spans,  # [B, G, E]
    question_keys: Array,  # [B]
    field: AnswerField,
    candidates: Candidates,  # [B, C, A]
    sigma: Array,  # []
    *,
    arms: int,
) -> tuple[Array, Array]:
    """Answer laws after each step, as it was and under `arms` latent perturbations of it.

    Returns:
      The factual laws [B, G, E, C + 1] and the perturbed ones [B, G, E, P, C + 1].
      The factual law is the arm with sigma = 0 of one compiled batch, so sigma = 0
      everywhere gives bitwise equal laws.
    """

    def trajectory(
        prompt: Segment, segment: Segment, spans: Spans, key: Array, candidates: Candidates
    ) -> Array:
        length = jnp.sum(prompt.mask, dtype=jnp.int32)
        position = jnp.arange(segment.mask.shape[0])
        keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(arms))
        drawn = jax.vmap(lambda key: latent_noise(key, segment))(keys)
        noises = jnp.concatenate([jnp.zeros((1, *drawn.shape[1:])), drawn])  # arm 0: as it was
        sigmas = jnp.append(0.0, jnp.full(arms, sigma))

        def arm(start: Array, end: Array, noise: Array, sigma: Array) -> Array:
            span = (position >= start) & (position < end)
            before = restrict(segment, jnp.int32(0), start)
            context = (prompt, before, latent(segment, span, sigma, noise))
            return read_scored(policy, params, context, length + end, field, candidates)

        def step(inputs: tuple[Array, Array]) -> Array:
            return jax.vmap(arm, in_axes=(None, None, 0, 0))(*inputs, noises, sigmas)

        # Steps one after the other: only one step's edited caches are alive at a time.
        return jax.lax.map(step, (spans.start, spans.end))

    group = spans.start.shape[1]
    keys = jax.vmap(lambda key: noise.stream_keys(key, noise.LATENT, group))(question_keys)
    of_group = jax.vmap(trajectory, in_axes=(None, SEGMENT_AXES, 0, 0, None))
    of_batch = jax.vmap(of_group, in_axes=(SEGMENT_AXES, SEGMENT_AXES, 0, 0, 0))
    laws = of_batch(prompt, segment, spans, keys, candidates)
    return laws[:, :, :, 0], laws[:, :, :, 1:]


@partial(jax.jit, static_argnames=("policy",))
def site_laws(
    policy: Policy,
    params: Params,
    prompt: Segment,  # [L, B, K, S, D]
    segment: Segment,  # [L, B, G, K, T, D]
    sites: Sites,  # [B, G, E, P, W]
    field: AnswerField,
    candidates: Candidates,  # [B, C, A]
) -> Array:
    """Answer laws [B, G, E, P, C + 1] after each site: do(S_k = s') and answer at once.

    Cost: B G E P (W + c L) tokens read; the prefix is the cache, whatever the step.
    """

    def trajectory(
        prompt: Segment, segment: Segment, sites: Sites, candidates: Candidates
    ) -> Array:
        length = jnp.sum(prompt.mask, dtype=jnp.int32)

        def one(site: Sites) -> Array:
            _, step = enter(policy, params, prompt, length, segment, site)
            context = (*context_of(prompt, length, segment, site), step)
            at = position_after(length, site)
            return read_scored(policy, params, context, at, field, candidates)

        return jax.lax.map(jax.vmap(one), sites)  # steps one after the other: less memory

    of_group = jax.vmap(trajectory, in_axes=(None, SEGMENT_AXES, 0, None))
    return jax.vmap(of_group, in_axes=(SEGMENT_AXES, SEGMENT_AXES, 0, 0))(
        prompt, segment, sites, candidates
    )


@partial(jax.jit, static_argnames=("policy", "rule"))
def step_log_likelihood(
    policy: Policy,
    params: Params,
    prompt_tokens: Array,  # [B, S]
    prompt: Segment,  # [L, B, K, S, D]
    tokens: Array,  # [B, G, T]
    segment: Segment,  # [L, B, G, K, T, D]
    sites: Sites,  # [B, G, E, P, W]
    *,
    rule: Rule,
) -> Array:
    """Mean log-probability a token [B, G, E, P] of the sites' tokens after their prefixes.

    Positivity: a step that the policy would hardly write here is outside what its
    behaviour identifies (`swap` keeps those close to the factual step's value).
    """

    def trajectory(
        asked: Array, prompt: Segment, tokens: Array, segment: Segment, sites: Sites
    ) -> Array:
        length = jnp.sum(prompt.mask, dtype=jnp.int32)

        def one(site: Sites) -> Array:
            # The token before the site is read again: it predicts the site's first.
            before = boundary(asked, length, tokens, site.keep, site.exists)
            first, _ = enter(policy, params, prompt, length, segment, before)
            hidden, _ = enter(policy, params, prompt, length, segment, site)
            states = jnp.concatenate([first, hidden[:-1]])
            law = log_law(policy.logits(params, states), rule)
            chosen = jnp.take_along_axis(law, site.tokens[:, None], axis=1)[:, 0]
            return masked_mean(chosen, jnp.arange(site.tokens.shape[0]) < site.length)

        return jax.lax.map(jax.vmap(one), sites)

    of_group = jax.vmap(trajectory, in_axes=(None, None, 0, SEGMENT_AXES, 0))
    return jax.vmap(of_group, in_axes=(0, SEGMENT_AXES, 0, SEGMENT_AXES, 0))(
        prompt_tokens, prompt, tokens, segment, sites
    )


@record
class Variant:
    """One trajectory in other words, token by token, with the places to read it at."""

    tokens: Array  # [T] int32
    mask: Array  # [T] bool
    ends: Array  # [E] int32   prefix lengths at which the answer law is read


@partial(jax.jit, static_argnames=("policy",))
def variant_laws(
    policy: Policy,
    params: Params,
    prompt_tokens: Array,  # [B, P, S] the questions in other words
    prompt_mask: Array,  # [B, P, S] bool
    variants: Variant,  # [B, G, P, T]
    field: AnswerField,
    candidates: Candidates,  # [B, C, A] the same as for the factual laws
) -> Array:
    """Answer laws [B, G, E, P, C + 1] of rewritten trajectories (`surface`, `number`).

    The trajectory is encoded once a variant and all its steps are read from that.
    """

    def one(prompt: Segment, length: Array, variant: Variant, candidates: Candidates) -> Array:
        positions = length + jnp.arange(variant.tokens.shape[0])
        _, segment = policy.encode(params, variant.tokens, positions, variant.mask, (prompt,))

        def at(end: Array) -> Array:
            context = (prompt, restrict(segment, jnp.int32(0), end))
            return read_scored(policy, params, context, length + end, field, candidates)

        return jax.vmap(at)(variant.ends)

    def question(tokens: Array, mask: Array, variants: Variant, candidates: Candidates) -> Array:
        def arm(tokens: Array, mask: Array, variants: Variant) -> Array:
            _, prompt, length = read_prompt(policy, params, tokens, mask)
            of_group = jax.vmap(one, in_axes=(None, None, 0, None))
            return of_group(prompt, length, variants, candidates)

        return jax.vmap(arm, in_axes=(0, 0, 1), out_axes=2)(tokens, mask, variants)

    return jax.vmap(question)(prompt_tokens, prompt_mask, variants, candidates)
