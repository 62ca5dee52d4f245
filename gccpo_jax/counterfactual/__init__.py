"""What a step does: interventions, readers, and the reading of a batch of trajectories."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """`analyse` and `open_model` live in `gccpo_jax.analysis`; their old place works until 0.2."""
    if name in ("analyse", "open_model"):
        return getattr(importlib.import_module("gccpo_jax.analysis"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
