"""Low-rank adapters: of chosen matrices of every layer W, A and B beside it train and W does not.

    y = x W + (x A) (alpha / r) B,   W [*I, *O],  A [*I, r],  B [r, *O]

A starts with variance 1/|I|, B at 0, so the adapted policy starts as its base. In a tree of
parameters the adapters of `layers/q` are `layers/q_a` and `layers/q_b`: `model.make_policy` reads
them where they are, so the base alone is the reference policy. Adapters are float32 however
narrow the base is, and are rounded to the base's dtype in use; the products are apart, since
small changes of W would be lost in a sum that is rounded to bfloat16.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gccpo_jax.config import LoraConfig
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.types import Array, Params


def halves(name: str, whole: tuple, between: Any) -> dict[str, tuple]:
    """Sizes or axes of A and B from those of a layer's W; `between` is that of the rank.

    >>> halves("q", ("embed", "heads", "head"), None)
    {'q_a': ('embed', None), 'q_b': (None, 'heads', 'head')}
    """
    inputs = 2 if name == "o" else 1
    return {f"{name}_a": (*whole[:inputs], between), f"{name}_b": (between, *whole[inputs:])}


def adapted(times: Any, w: Params, name: str, x: Array) -> Array:
    """`times(x, W)`, and the adapter's part where the layer `w` has one."""
    y = times(x, w[name])
    if f"{name}_a" not in w:
        return y
    return y + times(times(x, w[f"{name}_a"]), w[f"{name}_b"])


def shapes(section: LoraConfig, layers: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the adapters of `layers`, a tree of arrays or shapes [L, *I, *O].

    Raises:
      UserError: the rank is one that no product of these shapes can have.
    """
    found, most = {}, 0
    for name in section.targets.split():
        depth, *whole = layers[name].shape
        a, b = halves(name, tuple(whole), section.rank).items()
        most = max(most, min(math.prod(a[1][:-1]), math.prod(b[1][1:])))
        found |= {half: jax.ShapeDtypeStruct((depth, *size), jnp.float32) for half, size in (a, b)}
    if section.rank > most:
        raise UserError(
            f"config.policy.lora.rank {section.rank}: a change of these matrices "
            f"({section.targets}) has at most rank {most}; lower it, or set it to 0 to train "
            "the whole model"
        )
    return found


def axes(section: LoraConfig, layers: Mapping[str, tuple]) -> dict[str, tuple]:
    """Logical axes of the adapters, from those of `layers`."""
    found = {}
    for name in section.targets.split():
        found |= {k: ("layers", *v) for k, v in halves(name, layers[name][1:], None).items()}
    return found


def init(section: LoraConfig, layers: Mapping[str, Any], key: Array) -> dict[str, Array]:
    """Adapters at the start of training, float32."""
    found = {}
    for row, (name, leaf) in enumerate(shapes(section, layers).items()):
        if name.endswith("_b"):
            found[name] = jnp.zeros(leaf.shape, leaf.dtype)
        else:
            noise = jax.random.normal(jax.random.fold_in(key, row), leaf.shape, leaf.dtype)
            found[name] = noise / math.sqrt(math.prod(leaf.shape[1:-1]))
    return found


def join(base: Params | None, own: Params, scale: float) -> Params:
    """What a policy takes: `own` itself, or the frozen base with the adapters `own`, scaled.

    Nothing of the base is copied.
    """
    if base is None:
        return own
    return base | {"layers": base["layers"] | _scaled(own, scale, base["embed"].dtype)}


@partial(jax.jit, static_argnums=(1, 2))
def _scaled(own: Params, scale: float, dtype: Any) -> Params:
    return {n: (scale * x if n.endswith("_b") else x).astype(dtype) for n, x in own.items()}


def merged(layers: Mapping[str, Array], name: str) -> Array:
    """W + A B of all layers [L, *I, *O], summed in float32, in W's dtype; W without adapters."""
    w = layers[name]
    if f"{name}_a" not in layers:
        return w
    a, b = (layers[f"{name}_{half}"].astype(jnp.float32) for half in "ab")
    low = jax.vmap(partial(jnp.tensordot, axes=1))(a, b)
    return (w.astype(jnp.float32) + low).astype(w.dtype)


def fingerprint(base: Params) -> str:
    """A digest of the base's norms and of a row of every matrix: whether it is the same model."""
    found = hashlib.sha256()
    for name, leaf in sorted(base["layers"].items()):
        part = leaf if leaf.ndim == 2 else leaf[:, 0]
        found.update(f"{name} {leaf.shape} {leaf.dtype}".encode() + to_host(part).tobytes())
    return found.hexdigest()[:16]
