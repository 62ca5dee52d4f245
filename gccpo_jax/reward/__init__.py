"""The reward as a library: scores of steps from answer laws and values. Needs JAX alone.

`score` makes every score of a trajectory at once; the functions it is made of are here
too. Bring laws from any reader and any policy.
"""

from gccpo_jax.reward.arms import Arms, Family, no_arms, pool
from gccpo_jax.reward.scores import (
    LN2,
    agreement,
    branch_values,
    counterfactual_effect,
    effects,
    equivariance,
    fill_undefined,
    flip_bounds,
    flip_rate,
    gated_effects,
    gold_probability,
    jsd,
    kl_divergence,
    law_variation,
    normalise_law,
    readable,
    robustness,
    selectivity,
    sensitivity,
    total_variation,
)
from gccpo_jax.reward.trajectory import Laws, LeftOut, Score, Scores, score

__all__ = ["LN2", "Arms", "Family", "Laws", "LeftOut", "Score", "Scores", "agreement"]
__all__ += ["branch_values", "counterfactual_effect", "effects", "equivariance"]
__all__ += ["fill_undefined", "flip_bounds", "flip_rate", "gated_effects", "gold_probability"]
__all__ += ["jsd", "kl_divergence", "law_variation", "no_arms", "normalise_law", "pool"]
__all__ += ["readable", "robustness", "score", "selectivity", "sensitivity", "total_variation"]
