"""What every kind of credit is made of: its result, and the steps from scores to tokens."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.advantage import step_advantages as adv
from gccpo_jax.config import CreditConfig
from gccpo_jax.masked import length_mask
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Rollout, Spans, record


@record
class Credit:
    """Scores and advantages of one question's trajectories."""

    value_before: Array  # [G, E] and the next nine: `group.StepScores`
    effect: Array
    robustness: Array
    defined: Array
    gated: Array
    sensitivity: Array
    content_defined: Array
    selectivity: Array
    selective_defined: Array
    readable: Array
    step_score: Array  # [G, E]  what the kind makes of the step: d~_k, C_k, w_k, Q_k or r_k
    step_advantage: Array  # [G, E]  A_k
    advantage: Array  # [G, T]  of each token; 0 outside steps


def spread(per_step: Array, spans: Spans, rollout: Rollout, token_weights: str) -> Array:
    """Step advantages [E] of one trajectory over its tokens [T], by `token_weights`."""
    size = rollout.tokens.shape[0]
    tokens = adv.to_tokens(per_step, spans, size)
    if token_weights == "uniform":
        return tokens
    weigh = adv.surprise_weights if token_weights == "surprise" else adv.unsure_weights
    weights = weigh(
        rollout.logp,
        step_of_token(spans, size),
        length_mask(rollout.length, size),
        per_step.shape[0],
    )
    return tokens * weights


def on_every_token(scalar: Array, rollout: Rollout) -> Array:
    """[G, T]: one number per trajectory on all its tokens."""
    return jnp.where(length_mask(rollout.length, rollout.tokens.shape[-1]), scalar[:, None], 0.0)


def tokens_of(spans: Spans) -> Array:
    """[G, E]: tokens of each step, 0 on padding."""
    return jnp.where(spans.mask, spans.end - spans.start, 0)


def spread_all(per_step: Array, spans: Spans, rollout: Rollout, rule: CreditConfig) -> Array:
    """`spread` over the group: [G, E] to [G, T]."""
    return jax.vmap(partial(spread, token_weights=rule.token_weights))(per_step, spans, rollout)
