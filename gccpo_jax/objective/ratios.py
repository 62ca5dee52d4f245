"""Policy ratios and the per-token objectives made of them, to be maximised.

    w = pi / pi_old, of a token or of a whole response

Everything takes log-ratios and clamps them before `exp`, which alters no value in
range. Masked tokens may hold anything: they are set to log-ratio 0 first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_mean, masked_sum
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array

MAX_LOG_RATIO = 20.0
MAX_SEQUENCE_LOG_RATIO = 10.0
MIN_LOGP = -100.0
"""Below it a token is one that the law excludes (`token_law.EXCLUDED`): e^-100 is 0 in float32."""
CORRECTIONS = (
    "token_truncate",
    "token_mask",
    "sequence_truncate",
    "sequence_mask",
    "geometric_mask",
)


def safe_ratio(log_ratio: Array) -> Array:
    """exp of the log-ratio, clamped to [-20, 20] before."""
    return jnp.exp(jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))


def bounded_logp(logp: Array) -> Array:
    """Log-probabilities, at least MIN_LOGP, for losses that are no function of a clamped ratio.

    A token that was sampled may leave the nucleus of the policy that is updated; its -1e30
    would be infinite when squared. No gradient flows through it.
    """
    return jnp.maximum(logp, MIN_LOGP)


@shaped(log_ratio="...", advantage="...")
def clipped_surrogate(
    log_ratio: Array, advantage: Array, low: float, high: float, dual_clip: float = 0.0
) -> Array:
    """PPO's objective per token, to be maximised (arXiv 1707.06347, eq. 7).

        J = min(w A, clip(w, 1 - low, 1 + high) A),   w = exp(log_ratio)
        J = max(J, c A) where A < 0,                  c = dual_clip, if it is not 0

    `high` above `low` is DAPO's clip-higher. The dual clip (arXiv 1912.09729; c = 3 is
    customary) bounds what one unlikely token of a bad response can do. For c >= 1 + high it
    is the two-sided clip min(min(w, c) A, clip(w) A) of INTELLECT-2 (delta = c).
    Args: `low`, `high` > 0; `dual_clip` 0 or > 1.
    Examples at .2: (w, A) = (1.5, 1) gives 1.2, (1.5, -1) -1.5, (.5, 1) .5, (.5, -1) -.8;
    (5, -1) with c = 3 gives -3 instead of -5.
    """
    ratio = safe_ratio(log_ratio)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - low, 1 + high) * advantage)
    if dual_clip:
        gain = jnp.where(advantage < 0, jnp.maximum(gain, dual_clip * advantage), gain)
    return gain


@shaped(log_ratio="...", advantage="...")
def clip_is_active(
    log_ratio: Array, advantage: Array, low: float, high: float, dual_clip: float = 0.0
) -> Array:
    """True where `clipped_surrogate` is constant in w, so that its gradient is 0."""
    ratio = safe_ratio(log_ratio)
    too_high = (advantage > 0) & (ratio > 1 + high)
    too_low = (advantage < 0) & (ratio < 1 - low)
    active = too_high | too_low
    return active | ((advantage < 0) & (ratio > dual_clip)) if dual_clip else active


@shaped(log_ratio="... T", mask="... T")
def sequence_log_ratio(log_ratio: Array, mask: Array) -> Array:
    """GSPO's log s of one response (arXiv 2507.18071, eq. 7), at each of its tokens.

        log s = (1 / L) sum_t log_ratio_t          [..., T] -> [..., T], at most 10

    0 without tokens. Example: log-ratios (.2, -.1) give s = 1.051271.
    """
    mean = masked_mean(log_ratio, mask, axis=-1)
    mean = jnp.clip(mean, -MAX_LOG_RATIO, MAX_SEQUENCE_LOG_RATIO)
    return jnp.broadcast_to(mean[..., None], log_ratio.shape)


def sequence_token_log_ratio(log_ratio: Array, mask: Array) -> Array:
    """GSPO-token's log s_t (arXiv 2507.18071, eq. 14): value of log s, gradient of its token.

        log s_t = sg(log s) + log pi_t - sg(log pi_t)          [..., T] -> [..., T]

    So a token's advantage stays its own, which `sequence_log_ratio` averages away.
    """
    frozen = jax.lax.stop_gradient
    return frozen(sequence_log_ratio(log_ratio, mask)) + log_ratio - frozen(log_ratio)


def capped_weight(log_ratio: Array, ratio_cap: float) -> Array:
    """CISPO's weight of a token's log-probability (arXiv 2506.13585, eq. 4), without gradient.

        sg( min(w, ratio_cap) )

    `ratio_cap` bounds w itself: a paper's "1 + eps_high" with eps_high = .28 is 1.28 here,
    ScaleRL's cap 5 is 5. Unlike a clipped surrogate no token loses its gradient.
    Example: w = (1.648721, .367879), cap 1.28 gives (1.28, .367879).
    """
    return jax.lax.stop_gradient(jnp.minimum(safe_ratio(log_ratio), ratio_cap))


@shaped(trainer_logp="... T", sampler_logp="... T", mask="... T")
def sampler_correction(
    trainer_logp: Array, sampler_logp: Array, mask: Array, mode: str, high: float, low: float = 0.0
) -> Array:
    """Weights [..., T] for tokens that another engine sampled, without gradient.

        rho = pi_old / pi_sampler of a token;  R = prod_t rho_t,  M = R^(1 / L) of a response

        token_truncate     min(rho, high)                          (truncated importance sampling)
        token_mask         rho if low <= rho <= high else 0        (masked importance sampling)
        sequence_truncate  min(R, high)
        sequence_mask      R if low <= R <= high else 0
        geometric_mask     1 if low <= M <= high else 0

    They multiply the objective outside of PPO's min, whose w is pi / pi_old: for `weight` of
    `losses.policy_loss`. Do not use them where pi_sampler itself serves as pi_old, as in
    `train.py` under float32: w corrects already. Under bfloat16 they are read apart there
    (`update.old_logp`), and `objective.sampler_cap` is the `high` of "token_truncate".
    Args: log-probabilities [..., T] under one law (temperature, top-k, top-p) and of the
      parameters that sampled; `low`, `high` >= 0. Masked tokens get 0.
    Example: trainer (-1, -1, -1), sampler (-1, -2, -.5): token_truncate at 2 is
    (1, 2, .606531); token_mask in [.5, 2] is (1, 0, .606531); R is 1.648721.

    Raises:
      ValueError: another mode.
    """
    if mode not in CORRECTIONS:
        raise ValueError(f"mode {mode!r}: choose one of {', '.join(CORRECTIONS)}")
    log_rho = jnp.where(mask, trainer_logp - sampler_logp, 0.0)
    if mode.startswith("sequence"):
        log_rho = jnp.broadcast_to(masked_sum(log_rho, mask, -1)[..., None], mask.shape)
    if mode.startswith("geometric"):
        log_rho = jnp.broadcast_to(masked_mean(log_rho, mask, -1)[..., None], mask.shape)
    rho = safe_ratio(log_rho)
    if mode.endswith("truncate"):
        weight = jnp.minimum(rho, high)
    else:
        inside = (low <= rho) & (rho <= high)
        weight = jnp.where(inside, 1.0 if mode == "geometric_mask" else rho, 0.0)
    return jax.lax.stop_gradient(jnp.where(mask, weight, 0.0))
