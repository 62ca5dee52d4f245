"""What a run is: a mutable `ConfigDict` for config files, a frozen `Config` for the run.

    default() -> ConfigDict        config files change some fields of it
    freeze(ConfigDict) -> Config   checked: unknown fields, types, ranges, combinations

Any room may take *its own* section (frozen, hashable); only `training` and the commands see
the whole `Config`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gccpo_jax.config.checks import check_combinations
from gccpo_jax.config.fields import build
from gccpo_jax.config.sections import (
    CheckpointConfig,
    Config,
    CounterfactualConfig,
    CreditConfig,
    DataConfig,
    EvalConfig,
    LogConfig,
    LoraConfig,
    MeshConfig,
    ObjectiveConfig,
    OptimConfig,
    PolicyConfig,
    RewardConfig,
    SamplingConfig,
    ScratchConfig,
    SegmentationConfig,
    TaskConfig,
)

__all__ = ["default", "freeze"]
__all__ += ["CheckpointConfig", "Config", "CounterfactualConfig", "CreditConfig"]
__all__ += ["DataConfig", "EvalConfig", "LogConfig", "LoraConfig", "MeshConfig"]
__all__ += ["ObjectiveConfig", "OptimConfig", "PolicyConfig", "RewardConfig"]
__all__ += ["SamplingConfig", "ScratchConfig", "SegmentationConfig", "TaskConfig"]


def default() -> Any:
    """A mutable `ml_collections.ConfigDict` with every field at its default."""
    import ml_collections

    config = ml_collections.ConfigDict(dataclasses.asdict(Config()))
    config.task.options.unlock()  # the task checks its own options
    config.data.template.unlock()  # and the chat template its variables
    return config


def freeze(config: Any) -> Config:
    """The checked, frozen `Config` of a `ConfigDict` or nested dict.

    Raises:
      UserError: names the field, its value and what is valid.
    """
    mapping = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    check_combinations(frozen := build(Config, mapping, "config"))
    return frozen
