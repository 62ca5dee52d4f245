"""Objectives per token and their reductions. Float32; losses are minimised.

A loss is returned as a numerator and a denominator: micro-batches and devices
add both, and the division comes last, so a split batch equals the whole.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_sum, safe_divide
from gccpo_jax.types import Array, record

MAX_LOG_RATIO = 20.0
REDUCTIONS = (
    "token_mean",
    "seq_mean_token_mean",
    "seq_mean_token_sum",
    "seq_mean_token_sum_norm",
)


@record
class Loss:
    """Numerator and denominator of a loss, and sums over tokens for the log."""

    total: Array  # []  sum; loss = total / denominator
    denominator: Array  # []  does not depend on the parameters
    tokens: Array  # []  number of tokens that train; the next fields are sums over them
    kl: Array  # []  k3 estimate of KL(policy || reference), nats
    clipped: Array  # []  tokens whose clipped branch is active
    ratio: Array  # []  policy ratio
    drift: Array  # []  k3 estimate of KL(behaviour || policy), nats


def clipped_surrogate(log_ratio: Array, advantage: Array, low: float, high: float) -> Array:
    """PPO's objective per token, to be maximised (arXiv 1707.06347, eq. 7).

        J = min(w A, clip(w, 1 - low, 1 + high) A),   w = exp(log_ratio)

    The log-ratio is clamped to [-20, 20] first, which changes no value in range.
    Examples at .2: (w, A) = (1.5, 1) gives 1.2, (1.5, -1) -1.5, (.5, 1) .5, (.5, -1) -.8.
    """
    ratio = jnp.exp(jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - low, 1 + high) * advantage)


def k3(log_ratio: Array) -> Array:
    """Schulman's estimator exp(d) - d - 1 >= 0 of KL(p || q) from samples of p, d = log q - log p.

    Unbiased in value (GRPO, arXiv 2402.03300, eq. 4). d is clamped to [-20, 20] and
    the estimate to at most 10, so that one token cannot poison a run.
    """
    d = jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return jnp.minimum(jnp.exp(d) - d - 1.0, 10.0)


def reduce_tokens(
    x: Array, mask: Array, reduction: str, max_tokens: int | None = None
) -> tuple[Array, Array]:
    """Numerator and denominator of a reduction of x [N, T] over tokens in `mask`.

    token_mean               sum x / number of tokens                     (DAPO)
    seq_mean_token_mean      mean over rows of the row's token mean       (GRPO)
    seq_mean_token_sum       mean over rows of the row's token sum        (RLOO)
    seq_mean_token_sum_norm  sum x / (rows * max_tokens), a constant      (Dr.GRPO)

    Rows without a token leave the numerator and the count of rows.
    """
    rows = jnp.sum(jnp.any(mask, axis=-1), dtype=jnp.float32)
    if reduction == "token_mean":
        return masked_sum(x, mask), jnp.sum(mask, dtype=jnp.float32)
    if reduction == "seq_mean_token_mean":
        count = jnp.sum(mask, axis=-1, dtype=jnp.float32)
        return jnp.sum(safe_divide(masked_sum(x, mask, axis=-1), count)), rows
    if reduction == "seq_mean_token_sum":
        return masked_sum(x, mask), rows
    if reduction == "seq_mean_token_sum_norm" and max_tokens:
        return masked_sum(x, mask), rows * max_tokens
    raise ValueError(
        f"reduction {reduction!r} with max_tokens {max_tokens}: choose one of "
        f"{', '.join(REDUCTIONS)}; the last needs max_tokens > 0"
    )


def policy_loss(
    logp: Array,
    behaviour_logp: Array,
    reference_logp: Array,
    advantage: Array,
    mask: Array,
    *,
    clip_low: float,
    clip_high: float,
    beta: float,
    reduction: str,
    max_tokens: int | None = None,
) -> Loss:
    """The clipped surrogate with a k3 penalty towards the reference policy.

        loss = -reduce( min(w A, clip(w) A) - beta k3(reference / policy) )

    Args:
      logp, behaviour_logp, reference_logp, advantage: [N, T] float32 of the sampled
        tokens; only `logp` carries a gradient. mask: [N, T] bool.
      clip_low, clip_high: > 0. beta: >= 0; at 0 the reference is not read.
      reduction, max_tokens: see `reduce_tokens`.
    On-policy (w = 1) the gradient is that of -reduce(A log pi) for beta = 0.
    """
    behaviour_logp, reference_logp, advantage = jax.lax.stop_gradient(
        (behaviour_logp, reference_logp, advantage)
    )
    log_ratio = jnp.where(mask, logp - behaviour_logp, 0.0)
    objective = clipped_surrogate(log_ratio, advantage, clip_low, clip_high)
    kl = jnp.zeros_like(objective)
    if beta > 0:
        kl = k3(jnp.where(mask, reference_logp - logp, 0.0))
        objective = objective - beta * kl
    total, denominator = reduce_tokens(-objective, mask, reduction, max_tokens)
    ratio = jnp.exp(jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    too_high = (advantage > 0) & (ratio > 1 + clip_high)
    too_low = (advantage < 0) & (ratio < 1 - clip_low)
    clipped = (too_high | too_low).astype(jnp.float32)
    sums = [masked_sum(jax.lax.stop_gradient(x), mask) for x in (kl, clipped, ratio, k3(log_ratio))]
    return Loss(total, denominator, jnp.sum(mask, dtype=jnp.float32), *sums)


def negative_log_likelihood(logp: Array, mask: Array) -> Loss:
    """Supervised loss: the token mean of -log p over `mask` [N, T]."""
    total, denominator = reduce_tokens(-logp, mask, "token_mean")
    zero = jnp.float32(0)
    return Loss(total, denominator, denominator, zero, zero, zero, zero)
