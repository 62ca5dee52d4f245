"""Adapters as a folder that the `peft` library loads."""

from __future__ import annotations

import json
import pathlib

import numpy as np

from gccpo_jax.config import LoraConfig
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.assemble import NAMES
from gccpo_jax.runtime.distributed import is_first, to_host
from gccpo_jax.types import Params


def save_peft(
    directory: pathlib.Path, arch: Arch, own: Params, section: LoraConfig, base: str
) -> None:
    """Writes adapters as the `peft` library reads them: safetensors and `adapter_config.json`.

    Args:
      own: as training has them, unscaled.
      base: name or path of the model that they belong to, for `peft` to load.
    """
    import safetensors.numpy

    tensors = {}
    for name in section.targets.split():
        module = NAMES[name].removesuffix(".weight")
        a, b = (to_host(own[f"{name}_{half}"]) for half in "ab")
        for layer in range(arch.depth):
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            rows = a[layer].reshape(-1, section.rank).T, b[layer].reshape(section.rank, -1).T
            for half, row in zip("AB", rows, strict=True):
                tensors[f"{prefix}.lora_{half}.weight"] = np.ascontiguousarray(row)
    if not is_first():
        return
    directory.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, directory / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": section.rank,
        "lora_alpha": section.alpha,
        "lora_dropout": 0.0,
        "target_modules": [f"{name}_proj" for name in section.targets.split()],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
