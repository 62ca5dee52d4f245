"""Estimators of KL(policy || reference) from the policy's own samples, one value per token.

With d = log reference - log policy of the sampled token (Schulman's k1, k2, k3):

    =====  ===============  ==================  =====================================
    name   value            mean over samples   mean gradient when differentiated
    =====  ===============  ==================  =====================================
    k1     -d               KL                  0
    k2     d^2 / 2          not KL              that of KL
    k3     exp(d) - d - 1   KL                  that of KL(reference || policy)
    k3_k2  that of k3       KL                  that of KL, through k2
    =====  ===============  ==================  =====================================

Example: policy (.5, .5), reference (.9, .1). KL is .510826; k1 (-.587787, 1.609438),
k2 (.172747, 1.295145), k3 (.212213, .809438); mean gradients by the first logit are
0, -.549306, -.4 and, for k3_k2, -.549306, which is KL's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.objective.ratios import MAX_LOG_RATIO, safe_ratio
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array

ESTIMATORS = ("k3", "k3_k2", "k2", "k1")
MAX_K3 = 10.0


def k1(log_ratio: Array) -> Array:
    """-d, with d clamped to [-20, 20]: right on average, negative on some tokens."""
    return -jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def k2(log_ratio: Array) -> Array:
    """d^2 / 2, with d clamped to [-20, 20]: biased in value, unbiased in gradient."""
    return 0.5 * k1(log_ratio) ** 2


def k3(log_ratio: Array) -> Array:
    """Schulman's estimator exp(d) - d - 1 >= 0 of KL(p || q) from samples of p, d = log q - log p.

    Unbiased in value (GRPO, arXiv 2402.03300, eq. 4). d is clamped to [-20, 20] and
    the estimate to at most 10, so that one token cannot poison a run.
    """
    d = jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return jnp.minimum(jnp.exp(d) - d - 1.0, MAX_K3)


def k3_k2(log_ratio: Array) -> Array:
    """Straight-through: the value of k3 with the gradient of k2 (verl's "k3+")."""
    second = k2(log_ratio)
    return jax.lax.stop_gradient(k3(log_ratio) - second) + second


def estimate(log_ratio: Array, estimator: str) -> Array:
    """The estimator of that name, elementwise; `log_ratio` is log reference - log policy.

    Raises:
      ValueError: another estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"KL estimator {estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    return {"k1": k1, "k2": k2, "k3": k3, "k3_k2": k3_k2}[estimator](log_ratio)


@shaped(log_ratio="...", policy_log_ratio="...")
def corrected(log_ratio: Array, policy_log_ratio: Array, estimator: str) -> Array:
    """`estimate` times w = policy / behaviour, for samples of the behaviour policy.

    The mean over the behaviour policy's samples is then that over the policy's own. For k1
    and k3 the weight is differentiated too (DeepSeek-V3.2's form of k3), which makes the
    mean gradient KL's; for k2 and k3_k2, whose own gradient is KL's, it is a constant.
    """
    weight = safe_ratio(policy_log_ratio)
    if estimator in ("k2", "k3_k2"):
        weight = jax.lax.stop_gradient(weight)
    return weight * estimate(log_ratio, estimator)
