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


def latent_noise(key: Array, like: Segment) -> Array:
    """Standard normal noise [2, L, K, T, D] for the keys and values of a segment.

    Noise at token t depends on (key, t) alone, not on padding: one draw serves all
    steps of a trajectory, since steps are disjoint.
    """
    layers, heads, size, head_dim = like.k.shape

    def at(t: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, t), (2, layers, heads, head_dim))

    return jax.vmap(at, out_axes=3)(jnp.arange(size))


def latent(segment: Segment, span: Array, sigma: Array, noise: Array) -> Segment:
    """do(H += sigma RMS(H) eps) on the keys and values of one step (family: nuisance).

        k'[l, t] = k[l, t] + sigma RMS_l(k[span]) eps[l, t],   eps ~ N(0, 1),  l < L

    and the same for v, for t in the step and every layer below the last. No token is
    read again: the edited cache is what a later readout attends to. The scale is
    relative to the step's own RMS, so inflated norms buy nothing.

    Args:
      segment: [L, K, T, D]. span: [T] bool, the step's tokens.
      sigma: [] >= 0; 0 returns keys and values bitwise unchanged (the placebo).
      noise: [2, L, K, T, D] from `latent_noise`.
    Returns:
      A segment whose mask is `span` restricted to existing tokens.
    Raises:
      ValueError: a model of one layer, where there is no layer below the last.
    """
    layers = segment.k.shape[0]
    if layers < 2:
        raise ValueError("latent noise acts below the last layer; this model has one layer")
    below_last = (jnp.arange(layers) < layers - 1)[:, None, None, None]
    where = (span & segment.mask)[None, None, :, None]

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
