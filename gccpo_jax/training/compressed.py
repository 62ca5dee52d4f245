"""L2T's compression penalty in training: C_k = (g_k . (theta - theta_0))^2 of every step.

g_k is the gradient of the step's log-probability and theta_0 where training began. One `jvp`
of all responses of the batch: a forward pass that costs about two, and nothing is stored.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.advantage.process_supervision import compression
from gccpo_jax.masked import length_mask
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Params, Policy, Prompts, Rollout, Spans


@partial(jax.jit, static_argnames=("policy", "rule"))
def step_compression(
    policy: Policy,
    params: Params,
    start: Params,
    prompts: Prompts,  # [B, S]
    rollout: Rollout,  # [B, G, T]
    spans: Spans,  # [B, G, E]
    *,
    rule: Rule,
) -> Array:
    """C_k [B, G, E] >= 0, 0 on padding and while the parameters are those of the start."""
    size, steps = rollout.tokens.shape[-1], spans.mask.shape[-1]
    inside = length_mask(rollout.length, size)
    step = jax.vmap(jax.vmap(partial(step_of_token, size=size)))(spans)
    member = (step[..., None] == jnp.arange(steps)[None, None, None]) & inside[
        ..., None
    ]  # [B, G, T, E]

    def of_steps(params: Params) -> Array:
        asked = (prompts.tokens, prompts.mask, rollout.tokens, inside)
        logp = token_logp(policy, params, *asked, rule=rule)
        return jnp.sum(jnp.where(member, logp[..., None], 0.0), axis=2)

    change = jax.tree.map(lambda now, then: now - then, params, start)
    return jnp.where(spans.mask, compression(of_steps, params, change), 0.0)
