"""The scores for PyTorch: tensors in, tensors out, through dlpack, so without a copy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax


def on_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays or records of arrays, such as `reward.score`, for PyTorch tensors.

    Tensors among the arguments, in records too, become arrays on the device where they are;
    arrays of the result become tensors there. Everything else is handed on. JAX computes in 32
    bits: float64 and int64 are narrowed first. No gradient goes through.

    Example: `on_tensors(reward.score)(laws, max_other=0.2).effect.value` is a tensor [E].
    """
    import torch

    narrow = {torch.float64: torch.float32, torch.int64: torch.int32}

    def to_jax(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        x = x.detach()
        return jax.dlpack.from_dlpack(x.to(narrow.get(x.dtype, x.dtype)).contiguous())

    def to_torch(x: Any) -> Any:
        return torch.from_dlpack(x) if isinstance(x, jax.Array) else x

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        args, options = jax.tree.map(to_jax, (args, options))
        return jax.tree.map(to_torch, function(*args, **options))

    return call
