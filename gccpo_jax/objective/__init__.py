"""Losses of token advantages, and the update. The losses need JAX alone."""

from gccpo_jax.objective.kl import corrected, estimate
from gccpo_jax.objective.losses import (
    LOSSES,
    Loss,
    gvpo_loss,
    negative_log_likelihood,
    policy_loss,
)
from gccpo_jax.objective.ratios import clipped_surrogate, safe_ratio, sampler_correction
from gccpo_jax.objective.reductions import reduce_tokens

__all__ = ["LOSSES", "Loss", "clipped_surrogate", "corrected", "estimate", "gvpo_loss"]
__all__ += ["negative_log_likelihood", "policy_loss", "reduce_tokens", "safe_ratio"]
__all__ += ["sampler_correction"]
