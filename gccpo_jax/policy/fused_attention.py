"""Attention as one kernel of cuDNN, which never writes the scores: for long texts on NVIDIA GPUs.

What `attention.attend` computes, with a context that is laid before the new tokens and a mask
[S, J] that all heads share; scores are added up in float32 and rounded to the operands' dtype
where they are multiplied again.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.attention import KeysValues
from gccpo_jax.types import Array

LEAST = 128
"""New tokens below which `attention.attend` is used: a kernel for few queries saves nothing."""


def attend_fused(
    q: Array,
    k: Array,
    v: Array,
    mask: Array,
    past: tuple[KeysValues, ...],
    sequences: Array | None = None,
) -> Array:
    """`attention.attend` [S, H, D] of bfloat16 operands on a GPU; the same arguments."""
    size, place = mask.shape[0], jnp.arange(mask.shape[0])
    own = mask[None, :] & (place[None, :] <= place[:, None])
    if sequences is not None:
        own &= sequences[None, :] == sequences[:, None]
    before = [jnp.broadcast_to(seen[None, :], (size, *seen.shape)) for _, _, seen in past]
    visible = jnp.concatenate([*before, own], axis=1)
    keys, values = (
        jnp.concatenate([*(segment[n] for segment in past), new], axis=1).swapaxes(0, 1)
        for n, new in enumerate((k, v))
    )
    q, keys, values = (_even(x) for x in (q, keys, values))
    visible = _even(_even(visible).T).T
    # Under `vmap` JAX 0.11 wants a mask of every head, though they all share one.
    visible = jnp.broadcast_to(visible, (q.shape[1], *visible.shape))
    mix = jax.nn.dot_product_attention
    return mix(q, keys, values, mask=visible, implementation="cudnn")[:size]


def _even(x: Array) -> Array:
    """With one row of zeros (False) more if there is an odd number: cuDNN's gradients under a mask
    need even lengths."""
    return jnp.pad(x, [(0, x.shape[0] % 2)] + [(0, 0)] * (x.ndim - 1))


def check_fused(arch: Arch, dtype: str, devices: int = 1) -> None:
    """Attends once to a few tokens of the model's heads, forward and backward.

    Raises:
      UserError: it cannot run here; says why and what can.
    """

    def total(q: Array, k: Array) -> Array:
        mask = jnp.ones(LEAST, bool)
        return attend_fused(q, k, k, mask, ((k, k, mask),)).astype(jnp.float32).sum()

    try:
        if devices > 1:
            raise ValueError(f"the kernel serves one device, the mesh has {devices}")
        q = jnp.ones((1, LEAST, arch.heads, arch.head_dim), dtype)
        k = jnp.ones((1, arch.kv_heads, LEAST, arch.head_dim), dtype)
        jax.block_until_ready(jax.jit(jax.vmap(jax.grad(total, (0, 1))))(q, k))
    except Exception as error:  # versions of JAX raise four kinds, and XLA others
        why = str(error).strip().split("\n")[0]
        device = jax.devices()[0].device_kind
        raise UserError(
            f"config.policy.attention = 'cudnn' with heads of {arch.head_dim} in {dtype} on "
            f"{device}: {why} (it needs an NVIDIA GPU and bfloat16); set 'xla', which runs anywhere"
        ) from error
