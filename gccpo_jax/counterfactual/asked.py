"""What an intervention is given: who wrote the trajectories, who reads them, and where."""

from __future__ import annotations

import dataclasses

from gccpo_jax.config import CounterfactualConfig, SegmentationConfig
from gccpo_jax.counterfactual.places import Places
from gccpo_jax.sampling.traces import Seen
from gccpo_jax.types import Array, Candidates


@dataclasses.dataclass(frozen=True)
class Asked:
    """The arguments of every intervention. Writer and reader hold the same trajectories."""

    writer: Seen  # the policy: it decodes resamples and judges swaps
    reader: Seen  # who reads answer laws, with its own caches; often the writer
    places: Places
    candidates: Candidates  # [B, C, A]
    section: CounterfactualConfig
    segmentation: SegmentationConfig
    limit: int  # tokens that a response may have
    factual: Array  # [B, G, E, C + 1]  laws after the steps as they were
    latent: Array  # [B, G, E, P, C + 1]  read in one batch with them; P may be 0
