"""Interventions on a step: pure functions of a key, each returning edited cache or tokens.

The family of an intervention says how its effect is read: *nuisance* effects
should be small (robustness), *content* effects should be large (sensitivity);
they are never pooled (`reward/arms.py`).

==============  =========  ====================================================
`identity`      null       the step's own tokens again: the placebo
`latent`        nuisance   noise on the step's cached keys and values
`equivalent`    nuisance   another wording of the policy's, same stated result
`resample`      baseline   the step once more from the policy (`branches.py`)
`swap`          content    a sibling's step, if the policy might write it here
`delete`        content    no step: the law one step earlier
`corrupt`       content    another number: the task's, on text (`text_edits.py`)
`surface`       nuisance   question and steps in other words: the task's, on text
`number`        content    question and steps with other numbers: the task's
==============  =========  ====================================================

Functions here are for one trajectory.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.masked import masked_mean
from gccpo_jax.reward.arms import Arms, Edits, Family
from gccpo_jax.types import Array, Segment, Spans


def latent_noise(key: Array, like: Segment) -> Array:
    """Standard normal noise [2, L, K, T, D] for the keys and values of a segment.

    Noise at token t depends on (key, t) alone, not on padding: one draw serves all
    steps of a trajectory, since steps are disjoint.
    """
    layers, heads, size, head_dim = like.k.shape
    at = partial(latent_noise_at, key, shape=(2, layers, heads, head_dim))
    return jax.vmap(at, out_axes=3)(jnp.arange(size))


def latent_noise_at(key: Array, t: Array, shape: tuple[int, ...]) -> Array:
    """`latent_noise` of one token: [2, L, K, D]."""
    return jax.random.normal(jax.random.fold_in(key, t), shape)


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


def step_tokens(tokens: Array, start: Array, end: Array, width: int) -> tuple[Array, Array]:
    """Tokens [W] of a step (0 after its end) and how many, at most W."""
    size = tokens.shape[0]
    length = jnp.clip(end - start, 0, width).astype(jnp.int32)
    offset = jnp.arange(width)
    own = tokens[jnp.clip(start + offset, 0, size - 1)]
    return jnp.where(offset < length, own, 0), length


def identity(tokens: Array, spans: Spans, width: int) -> Edits:
    """Each step's own tokens (family: null); P is 1.

    Read through the same machinery as every other replacement, so it is also the
    factual arm that others are compared with.

    Args:
      tokens: [T]. spans: steps [E]. width: W, at least the longest step.
    """
    own, length = jax.vmap(lambda a, b: step_tokens(tokens, a, b, width))(spans.start, spans.end)
    usable = spans.mask & (length > 0)
    return Edits(own[:, None], length[:, None], usable[:, None], Family.NULL)


def swap(key: Array, tokens: Array, spans: Spans, own: Array, width: int, arms: int) -> Edits:
    """Step k of a sibling, drawn by key, in place of step k (family: content).

    Not yet filtered: only swaps that the policy might write after this prefix are to be
    kept (`plausible`).

    Args:
      key: of the trajectory. tokens: [G, T] of the group. spans: steps [G, E] of the group.
      own: [] which trajectory of the group is edited. width: W. arms: P.
    """
    group, steps = spans.mask.shape
    mine = step_tokens_of(tokens, spans, width)

    def one(step: Array, arm: Array) -> tuple[Array, Array, Array]:
        pieces, lengths = mine[0][:, step], mine[1][:, step]
        differs = jnp.any(pieces != pieces[own][None], axis=-1)
        candidate = spans.mask[:, step] & differs & (lengths > 0)
        of_arm = jax.random.fold_in(jax.random.fold_in(key, step), arm)
        rank = jnp.where(candidate, jax.random.uniform(of_arm, (group,)), -1.0)
        chosen = jnp.argmax(rank)
        return pieces[chosen], lengths[chosen], candidate[chosen] & spans.mask[own, step]

    of_arms = jax.vmap(one, in_axes=(None, 0))
    found = jax.vmap(of_arms, in_axes=(0, None))(jnp.arange(steps), jnp.arange(arms))
    return Edits(*found, Family.CONTENT)


def step_tokens_of(tokens: Array, spans: Spans, width: int) -> tuple[Array, Array]:
    """Tokens [G, E, W] and lengths [G, E] of the steps of a group."""

    def of_trajectory(tokens: Array, spans: Spans) -> tuple[Array, Array]:
        return jax.vmap(lambda a, b: step_tokens(tokens, a, b, width))(spans.start, spans.end)

    return jax.vmap(of_trajectory)(tokens, spans)


def plausible(edits: Edits, log_likelihood: Array, factual: Array, delta: float) -> Edits:
    """Keeps edits that the policy might have written itself (positivity).

        log p(s' | prefix)/|s'| >= log p(s | prefix)/|s| - delta

    Args:
      log_likelihood: [E, P] of the edits, mean a token. factual: [E] of the steps.
      delta: nats a token.
    """
    close = log_likelihood >= factual[:, None] - delta
    return Edits(edits.tokens, edits.length, edits.usable & close, edits.family)


def delete(before: Array, factual: Array, mask: Array) -> Arms:
    """The step is not there (family: content): the law one step earlier, hence free.

    Args:
      before: [C + 1] law before step 1. factual: [E, C + 1] laws after each step. mask: [E].
    Returns:
      Arms [E, 1, C + 1].
    """
    earlier = jnp.concatenate([before[None], factual[:-1]])
    return Arms(earlier[:, None], mask[:, None], Family.CONTENT, factual[:, None])


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
