"""How much an analysis measures: the choices of `engine.analyse_traces`."""

from __future__ import annotations

import dataclasses

from gccpo_jax.config import CounterfactualConfig, SegmentationConfig

COUNTERFACTUAL = CounterfactualConfig(
    draws=8, surface_arms=2, corrupt_arms=2, equivariance_arms=1, max_answer_tokens=8
)
"""More branches and arms than training pays for; rewrites are made where the task can."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured; every number costs forward tokens (`planning/tokens.py`).

    Of the sections of the config an analysis reads the fields that say how steps are cut and
    perturbed; every boundary is read, always by the policy itself.
    """

    seed: int = 0
    temperature: float = 1.0
    max_tokens: int = 64  # tokens of a sampled trajectory, or of a branch from a given one
    audit_arms: int = 0  # P of resamples and of continued `corrupt`; each costs N branches
    true_thinking: bool = False  # read the true-thinking score too (true_thinking.py)
    counterfactual: CounterfactualConfig = COUNTERFACTUAL
    segmentation: SegmentationConfig = SegmentationConfig()
