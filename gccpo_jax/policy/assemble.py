"""Parameters from Hugging Face tensors and back: names, shapes, orientation."""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from gccpo_jax.errors import UserError
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.model_files import Read
from gccpo_jax.runtime import sharding
from gccpo_jax.types import Params

NAMES = {
    "embed": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "unembed": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
NAMES |= {name: f"self_attn.{name}_proj.weight" for name in "qkvo"}
NAMES |= {f"{name}_bias": f"self_attn.{name}_proj.bias" for name in "qkvo"}
NAMES |= {f"{name}_norm": f"self_attn.{name}_norm.weight" for name in "qk"}


def hf_names(arch: Arch) -> dict[str, list[str]]:
    """For every flat parameter name its tensors in a checkpoint: one, or one per layer."""
    names = {}
    for flat in model.layout(arch):
        hf = NAMES[flat.removeprefix("layers/")]
        in_layer = flat.startswith("layers/")
        names[flat] = [f"model.layers.{i}.{hf}" for i in range(arch.depth)] if in_layer else [hf]
    return names


def assemble(arch: Arch, read: Read, shardings: Any = None) -> Params:
    """Builds the parameters from a reader of Hugging Face tensors.

    Raises:
      UserError: a tensor does not have the shape that the config implies.
    """
    places = traverse_util.flatten_dict(shardings, sep="/") if shardings is not None else {}
    flat = {}
    for name, sources in hf_names(arch).items():
        stacked = name.startswith("layers/")
        leaf = model.layout(arch)[name]
        shape = leaf.shape[1:] if stacked else leaf.shape
        rows = (_from_hf(source, read(source), shape) for source in sources)
        first = next(rows)  # before there is memory of the size that the config says
        rows = itertools.chain([first], rows)
        where = places.get(name)
        flat[name] = sharding.put_rows(rows, leaf.shape, jnp.dtype(arch.dtype), stacked, where)
    return model.nest(flat)


def _hf_shape(source: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not source.endswith("_proj.weight"):
        return (math.prod(shape),) if source.endswith("bias") else shape
    inputs = 2 if source.endswith("o_proj.weight") else 1
    return math.prod(shape[inputs:]), math.prod(shape[:inputs])


def _from_hf(source: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    expected = _hf_shape(source, shape)
    if tensor.shape != expected:
        raise UserError(f"{source} has shape {tensor.shape}, but the config implies {expected}")
    return (tensor.T if source.endswith("_proj.weight") else tensor).reshape(shape)


def _to_hf(source: str, array: np.ndarray) -> np.ndarray:
    shape = _hf_shape(source, array.shape)
    if not source.endswith("_proj.weight"):
        return np.ascontiguousarray(array.reshape(shape))
    return np.ascontiguousarray(array.reshape(shape[::-1]).T)


def check_names(
    path: pathlib.Path, arch: Arch, found: set[str], spelt: Callable[[str], str] = str
) -> None:
    """Refuses tensors that are missing or unknown; `spelt`: from the names of `hf_names` to theirs.

    Before the names are made, a config with more layers than there are tensors.
    """
    if arch.depth > len(found):
        raise UserError(
            f"{path}: {arch.depth} layers in the config and {len(found)} tensors; do config and "
            "weights belong together?"
        )
    wanted = {spelt(source) for sources in hf_names(arch).values() for source in sources}
    for problem, names in (("missing", wanted - found), ("unknown", found - wanted)):
        if names:
            few = ", ".join(sorted(names)[:3])
            raise UserError(
                f"{path}: {len(names)} tensors are {problem} for the {arch.family} model of the "
                f"config, e.g. {few}; do config and weights belong together?"
            )
