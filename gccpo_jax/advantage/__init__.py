"""From scores of steps to token advantages. Needs JAX alone.

`kinds.py` puts one question's group together (`credit_group`); the pieces are pure functions of
arrays, written for one trajectory or one group, and are here by name.
"""

from gccpo_jax.advantage.baselines import (
    causal_weight,
    group_zscore,
    has_contrast,
    leave_one_out,
    mean_only,
    pass_at_k,
)
from gccpo_jax.advantage.shaping import grpo_s, gtpo, length_penalised, soft_overlong
from gccpo_jax.advantage.step_advantages import (
    discounted_effects,
    four_corner,
    mass_preserving,
    recentre,
    surprise_weights,
    to_steps,
    to_tokens,
    token_mean,
)

__all__ = ["causal_weight", "discounted_effects", "four_corner", "group_zscore", "grpo_s"]
__all__ += ["gtpo", "has_contrast", "leave_one_out", "length_penalised", "mass_preserving"]
__all__ += ["mean_only", "pass_at_k", "recentre", "soft_overlong", "surprise_weights"]
__all__ += ["to_steps", "to_tokens", "token_mean"]
