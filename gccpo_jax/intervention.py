"""Interventions on a step: pure functions of a key, each returning edited cache or tokens.

The family of an intervention says how its effect is read: *nuisance* effects
should be small (robustness), *content* effects should be large (sensitivity);
they are never pooled.

`latent` edits the cache and lives here. `surface`, `corrupt` and `number` edit
text and belong to the task (`tasks/base.py`). `resample` is a continued branch
from the step's start (`counterfactual.py`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_mean
from gccpo_jax.types import Array, Segment


def latent(segment: Segment, span: Array, sigma: Array, key: Array) -> Segment:
    """do(H += sigma RMS(H) eps) on the keys and values of one step (family: nuisance).

        k'[l, t] = k[l, t] + sigma RMS_l(k[span]) eps[l, t],   eps ~ N(0, 1),  l < L

    and the same for v, for t in the step and every layer below the last. No token is
    read again: the edited cache is what a later readout attends to. The noise is
    relative to the step's own RMS, so inflated norms buy nothing.

    Args:
      segment: [L, T, K, D]. span: [T] bool, the step's tokens.
      sigma: [] >= 0; 0 returns keys and values bitwise unchanged (the placebo).
      key: noise at token t depends on (key, t) only, not on padding.
    Returns:
      A segment whose mask is `span` restricted to existing tokens.
    """
    layers, size, heads, head_dim = segment.k.shape
    keys = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(size))
    draw = jax.vmap(lambda k: jax.random.normal(k, (2, layers, heads, head_dim)), out_axes=2)
    noise = draw(keys)  # [2, L, T, K, D]
    below_last = (jnp.arange(layers) < layers - 1)[:, None, None, None]
    where = (span & segment.mask)[None, :, None, None]

    def edit(x: Array, eps: Array) -> Array:
        x32 = x.astype(jnp.float32)
        power = masked_mean(x32**2, jnp.broadcast_to(where, x.shape), axis=(1, 2, 3))
        rms = jnp.sqrt(power)[:, None, None, None]
        return jnp.where(where & below_last, x32 + sigma * rms * eps, x32).astype(x.dtype)

    return Segment(edit(segment.k, noise[0]), edit(segment.v, noise[1]), span & segment.mask)


def restrict(segment: Segment, start: Array, end: Array) -> Segment:
    """The same keys and values, seen only at positions in [start, end)."""
    position = jnp.arange(segment.mask.shape[0])
    return Segment(segment.k, segment.v, segment.mask & (position >= start) & (position < end))
