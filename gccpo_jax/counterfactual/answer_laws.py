"""The answer laws (scored reader) that steps induce, as they were and intervened on.

`latent_laws` edits the cache, `site_laws` replaces a step's tokens; `rewritten.py` reads a
trajectory in other words.

Written for one trajectory and mapped over perturbations, group and batch at the
end of each public function. Nothing that the rollout encoded is encoded
again: a prefix is a mask over the trajectory's segment, the prompt's segment is
shared by the group, and both are shared by draws, arms and candidates.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.counterfactual.cache_edits import latent, latent_noise_at
from gccpo_jax.counterfactual.needed_rows import differs, filled, where_needed
from gccpo_jax.counterfactual.readout import read_scored
from gccpo_jax.policy.cache import restrict
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import SEGMENT_AXES
from gccpo_jax.sampling.sites import Sites, context_of, enter, position_after
from gccpo_jax.types import AnswerField, Array, Candidates, Params, Policy, Segment, Spans

_AT_ONCE = 12
"""Steps whose laws are read together, at least: fewer have too few rows for a product."""


@partial(jax.jit, static_argnames=("policy", "arms", "blocks"))
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
    blocks: int = 1,
) -> tuple[Array, Array]:
    """Answer laws after each step, as it was and under `arms` latent perturbations of it.

    The factual law is the arm with sigma = 0 of one compiled batch, so sigma = 0 everywhere
    gives bitwise equal laws. A step without tokens ends where the one before it does: it has
    that step's law, and is not read again. Steps that do not exist are not read.

    Args:
      blocks: of consecutive questions, each read by itself (the shards of a mesh); divides B.
    Returns:
      The factual laws [B, G, E, C + 1] and the perturbed ones [B, G, E, P, C + 1].
    """
    batch, group, steps = spans.start.shape
    keys = jax.vmap(lambda key: noise.stream_keys(key, noise.LATENT, group))(question_keys)
    read = partial(
        _latent_block, policy, params, field=field, sigma=sigma, arms=arms,
        size=max(_AT_ONCE, batch // blocks * group // 4),
    )  # fmt: skip

    def split(x: Array, axis: int = 0) -> Array:
        of_block = (blocks, batch // blocks)
        return x.reshape(*x.shape[:axis], *of_block, *x.shape[axis + 1 :])

    caches = (Segment(split(x.k, 1), split(x.v, 1), split(x.mask)) for x in (prompt, segment))
    rest = jax.tree.map(split, (spans, keys, candidates))
    laws = jax.vmap(read, in_axes=(SEGMENT_AXES, SEGMENT_AXES, 0, 0, 0))(*caches, *rest)
    laws = laws.reshape(batch, group, steps, *laws.shape[4:])
    return laws[:, :, :, 0], laws[:, :, :, 1:]


def _latent_block(
    policy: Policy,
    params: Params,
    prompt: Segment,
    segment: Segment,
    spans: Spans,
    keys: Array,  # [B, G]
    candidates: Candidates,
    *,
    field: AnswerField,
    sigma: Array,
    arms: int,
    size: int,
) -> Array:
    """Laws [B, G, E, 1 + P, C + 1] of one block, `size` steps at a time; the first is factual."""
    shape = spans.start.shape
    layers, _, heads, _, width = prompt.k.shape
    sigmas = jnp.append(0.0, jnp.full(arms, sigma))

    def of_steps(rows: Array) -> Array:
        q, g, e = jnp.unravel_index(rows, shape)
        start, end = spans.start[q, g, e], spans.end[q, g, e]
        of_arms = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
        arm_keys = jax.vmap(of_arms, in_axes=(0, None))(keys[q, g], jnp.arange(arms))  # [n, P]

        def draw(j: Array, noises: Array) -> Array:
            """Noise of the j-th token of every step; those of other tokens are not needed."""
            at = partial(latent_noise_at, shape=(2, layers, heads, width))
            drawn = jax.vmap(jax.vmap(at, in_axes=(0, None)))(arm_keys, start + j)
            return noises.at[j].set(drawn)

        tokens = segment.mask.shape[-1]
        noises = jnp.zeros((tokens, len(rows), arms, 2, layers, heads, width))
        noises = jax.lax.fori_loop(0, jnp.max(end - start), draw, noises)

        def step(q: Array, g: Array, start: Array, end: Array, noises: Array) -> Array:
            asked = Segment(prompt.k[:, q], prompt.v[:, q], prompt.mask[q])
            own = Segment(segment.k[:, q, g], segment.v[:, q, g], segment.mask[q, g])
            length = jnp.sum(asked.mask, dtype=jnp.int32)
            position = jnp.arange(tokens)
            span = (position >= start) & (position < end)
            placed = jnp.moveaxis(noises[jnp.clip(position - start, 0, tokens - 1)], 0, 4)
            as_it_was = jnp.zeros((1, *placed.shape[1:]))
            chosen = jax.tree.map(lambda x: x[q], candidates)

            def arm(noise: Array, sigma: Array) -> Array:
                edited = latent(own, span, sigma, noise)
                seen = restrict(Segment(edited.k, edited.v, own.mask), jnp.int32(0), end)
                return read_scored(policy, params, (asked, seen), length + end, field, chosen)

            return jax.vmap(arm)(jnp.concatenate([as_it_was, placed]), sigmas)

        return jax.vmap(step, in_axes=(0, 0, 0, 0, 1))(q, g, start, end, noises)

    needed = spans.mask & ((spans.end > spans.start) | differs(spans.end))
    laws = where_needed(of_steps, needed.reshape(-1), size)
    laws = laws.reshape(*shape, *laws.shape[1:])
    factual = jax.vmap(jax.vmap(filled))(laws[..., :1, :], needed)
    edited = (spans.end > spans.start)[..., None, None]  # no token, no noise
    return jnp.where(edited, laws, factual)


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
