"""From scores of steps to token advantages. Needs JAX alone.

`credit_batch` goes all the way, from what was read of a batch to its credit; `credit_group` is
its half behind `reward.measure`, and `outcome_advantages` the credit of kinds without steps. The
pieces are pure functions of arrays, written for one trajectory or one group.
"""

from gccpo_jax.advantage.baselines import (
    causal_weight,
    group_zscore,
    has_contrast,
    leave_one_out,
    mean_only,
    pass_at_k,
)
from gccpo_jax.advantage.credit import Credit
from gccpo_jax.advantage.kinds import credit_batch, credit_group
from gccpo_jax.advantage.outcome import outcome_advantages
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

__all__ = ["Credit", "credit_batch", "credit_group", "outcome_advantages"]
__all__ += ["causal_weight", "discounted_effects", "four_corner", "group_zscore", "grpo_s"]
__all__ += ["gtpo", "has_contrast", "leave_one_out", "length_penalised", "mass_preserving"]
__all__ += ["mean_only", "pass_at_k", "recentre", "soft_overlong", "surprise_weights"]
__all__ += ["to_steps", "to_tokens", "token_mean"]
