"""Losses of a batch of responses. Float32; losses are minimised.

A loss is returned as a numerator and a denominator: micro-batches and devices
add both, and the division comes last, so a split batch equals the whole.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_mean, masked_sum, safe_divide
from gccpo_jax.objective.kl import corrected, estimate, k3
from gccpo_jax.objective.ratios import (
    bounded_logp,
    capped_weight,
    clip_is_active,
    clipped_surrogate,
    safe_ratio,
    sequence_log_ratio,
    sequence_token_log_ratio,
)
from gccpo_jax.objective.reductions import reduce_tokens
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array, record

Gain = Callable[..., tuple[Array, Array]]
"""From `logp`, the tokens' log-ratio, `advantage` and `mask` [N, T] and the clips by name to the
gain J [N, T], which is maximised, and where its ratio is bounded [N, T] bool."""


def clipped(ratio_of: Callable[[Array, Array], Array]) -> Gain:
    """The clipped surrogate of a ratio: `ratio_of(log-ratio of tokens, mask)`."""

    def gain(
        logp: Array,
        token: Array,
        advantage: Array,
        mask: Array,
        *,
        clip_low: float,
        clip_high: float,
        dual_clip: float,
        ratio_cap: float,
    ) -> tuple[Array, Array]:
        log_ratio, clips = ratio_of(token, mask), (clip_low, clip_high, dual_clip)
        surrogate = clipped_surrogate(log_ratio, advantage, *clips)
        return surrogate, clip_is_active(log_ratio, advantage, *clips)

    return gain


def cispo(
    logp: Array, token: Array, advantage: Array, mask: Array, *, ratio_cap: float, **clips: float
) -> tuple[Array, Array]:
    """CISPO: the bounded ratio as a constant weight of A log pi."""
    chosen = jnp.where(mask, bounded_logp(logp), 0.0)
    gain = capped_weight(token, ratio_cap) * advantage * chosen
    return gain, safe_ratio(token) > ratio_cap


LOSSES: dict[str, Gain] = {
    "ppo": clipped(lambda token, mask: token),
    "gspo": clipped(sequence_log_ratio),
    "gspo_token": clipped(sequence_token_log_ratio),
    "cispo": cispo,
}
"""Objectives of the policy ratio; a new one is a function, a row here and a name in config."""


@record
class Loss:
    """Numerator and denominator of a loss, and sums over tokens for the log."""

    total: Array  # []  sum; loss = total / denominator
    denominator: Array  # []  does not depend on the parameters
    tokens: Array  # []  number of tokens that train; the next fields are sums over them
    kl: Array  # []  the penalty's estimate of KL(policy || reference), nats
    clipped: Array  # []  tokens whose clipped branch is active (CISPO: whose weight is bounded)
    ratio: Array  # []  policy ratio
    drift: Array  # []  k3 estimate of KL(behaviour || policy), nats
    # []  |log pi_old - log pi_sampler|, nats; None where they are one number
    mismatch: Array | None = None


@shaped(
    logp="N T",
    behaviour_logp="N T",
    reference_logp="N T",
    advantage="N T",
    mask="N T",
    entropy="N T",
    weight="N T",
    anchor_logp="N T",
)
def policy_loss(
    logp: Array,
    behaviour_logp: Array,
    reference_logp: Array,
    advantage: Array,
    mask: Array,
    entropy: Array | None = None,
    weight: Array | None = None,
    anchor_logp: Array | None = None,
    *,
    loss: str = "ppo",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 0.0,
    ratio_cap: float = 1.28,
    beta: float = 0.0,
    kl: str = "k3",
    kl_correction: bool = False,
    anchor: float = 0.0,
    entropy_bonus: float = 0.0,
    reduction: str = "token_mean",
    max_tokens: int | None = None,
) -> Loss:
    """An objective of the policy ratio, a KL penalty and an entropy bonus.

        loss = -reduce( u J - beta KL + entropy_bonus H )

        ppo         J = min(w A, clip(w, 1 - low, 1 + high) A)   GRPO, DAPO, Dr.GRPO by reduction
        gspo        the same of s = (prod_t w_t)^(1 / L), one ratio per response
        gspo_token  s in value, the gradient of its own token: for per-token advantages
        cispo       J = sg(min(w, ratio_cap)) A log pi           its value is not an objective

    Args:
      logp, behaviour_logp, reference_logp, advantage: [N, T] float32 of the sampled
        tokens; only `logp` and `entropy` carry a gradient. mask: [N, T] bool.
      entropy: [N, T] nats of the policy's law at each token; read if `entropy_bonus` > 0.
      weight: [N, T] u, a constant (`ratios.sampler_correction`); None is 1.
      loss: one of LOSSES. GSPO is defined with "seq_mean_token_mean"; the other reductions
        would weigh its one ratio by length. "gspo" moves every token of a response by the
        mean of its advantages.
      clip_low, clip_high: > 0; GSPO's ratio barely moves, so 3e-4 and 4e-4 are its usual
        values. dual_clip: see `clipped_surrogate`. ratio_cap: see `capped_weight`.
      beta: >= 0; at 0 the reference is not read. kl: one of `kl.ESTIMATORS`;
        kl_correction: `kl.corrected` by w.
      anchor_logp: [N, T] of a second reference, which need be no law; `anchor` is the weight of
        its k3 beside the penalty. None: there is none.
      reduction, max_tokens: see `reduce_tokens`.
    On-policy (w = 1) the gradient is that of -reduce(A log pi) for beta = entropy_bonus = 0
    (gspo: with A's mean over each response).

    Raises:
      ValueError: another loss, estimator or reduction.
    """
    behaviour_logp, reference_logp, advantage = jax.lax.stop_gradient(
        (behaviour_logp, reference_logp, advantage)
    )
    advantage = jnp.where(mask, advantage, 0.0)
    token = jnp.where(mask, logp - behaviour_logp, 0.0)
    if loss not in LOSSES:
        raise ValueError(f"loss {loss!r}: choose one of {', '.join(LOSSES)}")
    clips = dict(clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip, ratio_cap=ratio_cap)
    gain, bounded = LOSSES[loss](logp, token, advantage, mask, **clips)
    if weight is not None:
        gain = jax.lax.stop_gradient(jnp.where(mask, weight, 0.0)) * gain
    penalty = jnp.zeros_like(gain)
    if beta > 0:
        d = jnp.where(mask, reference_logp - logp, 0.0)
        penalty = corrected(d, token, kl) if kl_correction else estimate(d, kl)
        gain = gain - beta * penalty
    if anchor_logp is not None and anchor > 0:
        d = jnp.where(mask, jax.lax.stop_gradient(anchor_logp) - logp, 0.0)
        gain = gain - anchor * estimate(d, "k3")
    if entropy_bonus > 0:
        gain = gain + entropy_bonus * entropy
    total, denominator = reduce_tokens(-gain, mask, reduction, max_tokens)
    return Loss(total, denominator, *_log(token, mask, penalty, bounded))


def _log(log_ratio: Array, mask: Array, penalty: Array, clipped: Array) -> list[Array]:
    values = (penalty, clipped.astype(jnp.float32), safe_ratio(log_ratio), k3(log_ratio))
    sums = [masked_sum(jax.lax.stop_gradient(x), mask) for x in values]
    return [jnp.sum(mask, dtype=jnp.float32), *sums]


@shaped(logp="B G T", behaviour_logp="B G T", reward="B G", mask="B G T")
def gvpo_loss(
    logp: Array, behaviour_logp: Array, reward: Array, mask: Array, *, scale: float
) -> Loss:
    """GVPO (arXiv 2504.19599): implicit rewards of a whole group fitted to its rewards.

        a_i = scale (sum_t log pi - sum_t log pi_old),   loss of a question =
        sum_i [ (a_i - mean a) - (R_i - mean R) ]^2 / (2 (k - 1)),   averaged over questions

    Zero exactly where log pi = log pi_old + R / scale + a constant of the question. Sums
    (not means) over tokens, so `scale` and length are coupled; equal rewards still pull the
    ratios of a group together. The factor 1 / (k - 1) is the released code's.
    Args:
      logp, behaviour_logp: [B, G, T]; only `logp` carries a gradient. reward: [B, G].
      mask: [B, G, T] bool. A row without tokens leaves its group and its count k; a
        question with fewer than two rows leaves the sum and the denominator.
      scale: > 0, the paper's beta (released script: .1).
    A token that the policy's law excludes by now counts as `ratios.MIN_LOGP`, without gradient.
    Groups must be whole: a split group has other means, and nothing here can tell.
    Example: response log-probabilities (-3, -4, -5), old (-3.5, -4, -4.5), R = (1, 0, 0),
    scale .1: loss .142917, gradient (-.030833, .016667, .014167).
    """
    behaviour_logp, reward = jax.lax.stop_gradient((behaviour_logp, reward))
    log_ratio = jnp.where(mask, bounded_logp(logp) - bounded_logp(behaviour_logp), 0.0)
    used = jnp.any(mask, axis=-1)
    implicit = scale * jnp.sum(log_ratio, axis=-1)
    residual = jnp.where(used, implicit - reward, 0.0)
    residual = residual - masked_mean(residual, used, axis=-1)[..., None]
    others = jnp.maximum(jnp.sum(used, axis=-1, dtype=jnp.float32) - 1.0, 0.0)
    per_question = safe_divide(masked_sum(residual**2, used, axis=-1), 2.0 * others)
    questions = jnp.sum(others > 0, dtype=jnp.float32)
    nothing = jnp.zeros_like(log_ratio)
    return Loss(jnp.sum(per_question), questions, *_log(log_ratio, mask, nothing, nothing))


@shaped(logp="N T", mask="N T")
def negative_log_likelihood(logp: Array, mask: Array) -> Loss:
    """Supervised loss: the token mean of -log p over `mask` [N, T]."""
    total, denominator = reduce_tokens(-logp, mask, "token_mean")
    zero = jnp.float32(0)
    return Loss(total, denominator, denominator, zero, zero, zero, zero)
