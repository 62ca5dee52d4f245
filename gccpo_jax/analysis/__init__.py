"""The engine without a trainer: effects of the steps of any loaded model, with intervals."""

from gccpo_jax.analysis.library import analyse
from gccpo_jax.sampling.opened import open_model

__all__ = ["analyse", "open_model"]
