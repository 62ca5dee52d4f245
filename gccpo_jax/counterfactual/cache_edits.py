"""Edits of a step in the cache: noise on its keys and values, and how much of it there is.

Pure functions of a key, for one trajectory; no token is read again.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax.errors import UserError
from gccpo_jax.masked import masked_mean
from gccpo_jax.types import Array, Segment


def latent_noise_at(key: Array, t: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal noise [2, L, K, D] for the keys and values of token t, by (key, t) alone.

    So padding has no say, and one draw serves all steps of a trajectory: they are disjoint.
    """
    return jax.random.normal(jax.random.fold_in(key, t), shape)


def check_depth(layers: int) -> None:
    """Refuses latent noise in a model without a layer below the last."""
    if layers < 2:
        raise UserError(
            "counterfactual.latent_arms: latent noise acts below the last layer and this model has "
            "one layer; set it to 0"
        )


def latent(segment: Segment, span: Array, sigma: Array, noise: Array) -> Segment:
    """do(H += sigma RMS(H) eps) on the keys and values of one step (family: nuisance).

        k'[l, h, t, c] = k[l, h, t, c] + sigma RMS(k[l, h, span, c]) eps,   eps ~ N(0, 1),  l < L

    and the same for v, for t in the step and every layer l, head h and channel c below the
    last layer. No token is read again: the edited cache is what a later readout attends to.
    The scale is the channel's own RMS over the step's tokens, so inflated norms buy nothing and
    a few channels with large numbers (keys have such) do not drown the others in noise.

    Args:
      segment: [L, K, T, D]. span: [T] bool, the step's tokens.
      sigma: [] >= 0; 0 returns keys and values bitwise unchanged (the placebo).
      noise: [2, L, K, T, D], `latent_noise_at` of each token.
    Returns:
      A segment whose mask is `span` restricted to existing tokens.
    Raises:
      UserError: a model of one layer, where there is no layer below the last.
    """
    layers = segment.k.shape[0]
    check_depth(layers)
    below_last = (jnp.arange(layers) < layers - 1)[:, None, None, None]
    where = (span & segment.mask)[None, None, :, None]

    def edit(x: Array, eps: Array) -> Array:
        x32 = x.astype(jnp.float32)
        power = masked_mean(x32**2, jnp.broadcast_to(where, x.shape), axis=2)
        rms = jnp.sqrt(power)[:, :, None]
        return jnp.where(where & below_last, x32 + sigma * rms * eps, x32).astype(x.dtype)

    return Segment(edit(segment.k, noise[0]), edit(segment.v, noise[1]), span & segment.mask)


def norm_energy(segment: Segment, start: Array, end: Array) -> Array:
    """Mean square of the keys and values of a step's last token, layers below the last.

    What can be read later of the step's latent; 0 for an empty step. A norm is no
    behaviour (RMSNorm removes it): only the reconstruction of the paper uses this.

    Args:
      segment: [L, K, T, D]. start, end: [] the step's tokens.
    """
    at = jnp.maximum(end - 1, 0)
    last = jnp.stack([segment.k[:-1, :, at], segment.v[:-1, :, at]]).astype(jnp.float32)
    return jnp.where(end > start, jnp.mean(last**2), 0.0)
