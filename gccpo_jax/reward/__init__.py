"""The reward as a library: scores of steps from answer laws and values. Needs JAX alone.

`score` makes every score of a trajectory at once, `score_batch` those of [B, G] trajectories,
jitted; `measure` adds what a group is needed for. The functions they are made of are here
too. Bring laws from any reader and any policy.
"""

from gccpo_jax.reward.arms import Arms, Family, no_arms, pool
from gccpo_jax.reward.group import GroupReading, StepScores, measure
from gccpo_jax.reward.scores import (
    LN2,
    agreement,
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
from gccpo_jax.reward.trajectory import Laws, LeftOut, Score, Scores, score, score_batch

__all__ = ["LN2", "Arms", "Family", "GroupReading", "Laws", "LeftOut", "Score", "Scores"]
__all__ += ["StepScores", "agreement", "counterfactual_effect", "effects"]
__all__ += ["equivariance", "fill_undefined", "flip_bounds", "flip_rate", "gated_effects"]
__all__ += ["gold_probability", "jsd", "kl_divergence", "law_variation", "measure", "no_arms"]
__all__ += ["normalise_law", "pool", "readable", "robustness", "score", "score_batch"]
__all__ += ["selectivity", "sensitivity", "total_variation"]
