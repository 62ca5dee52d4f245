"""How much an analysis measures: the choices of `engine.analyse_traces`."""

from __future__ import annotations

import dataclasses

from gccpo_jax.config import Config, CounterfactualConfig, SegmentationConfig


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured; every number costs forward tokens (`planning/tokens.py`)."""

    seed: int = 0
    temperature: float = 1.0
    max_tokens: int = 64  # tokens of a sampled trajectory, or of a branch from a given one
    draws: int = 8  # N: branches per boundary
    latent_arms: int = 2
    latent_sigma: float = 0.3
    surface_arms: int = 2  # where the task can
    corrupt_arms: int = 2  # where the task can
    equivariance_arms: int = 1  # P of number rewrites, where the task can
    audit_arms: int = 0  # P of resamples and of continued `corrupt`; each costs N branches
    max_candidates: int = 6
    max_answer_tokens: int = 8
    max_steps: int = 16
    min_step_tokens: int = 2
    max_step_tokens: int = 0

    def config(self) -> Config:
        """The same choices where training looks for them."""
        base = Config()
        return dataclasses.replace(
            base,
            seed=self.seed,
            sampling=dataclasses.replace(
                base.sampling, temperature=self.temperature, max_tokens=self.max_tokens
            ),
            segmentation=SegmentationConfig(
                self.max_steps, self.min_step_tokens, self.max_step_tokens
            ),
            counterfactual=CounterfactualConfig(
                draws=self.draws,
                latent_arms=self.latent_arms,
                latent_sigma=self.latent_sigma,
                surface_arms=self.surface_arms,
                corrupt_arms=self.corrupt_arms,
                max_candidates=self.max_candidates,
                max_answer_tokens=self.max_answer_tokens,
            ),
        )
