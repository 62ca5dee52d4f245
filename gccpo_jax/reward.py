"""Scores of steps from answer laws and values: arrays in, arrays out.

No model, no key, no disk: bring your own laws. Everything is float32, written
for one trajectory, and safe (value and gradient) on empty input. A law is a
vector of probabilities over candidate answers plus, last, all other answers.

Nuisance interventions (the step means the same) should leave the law alone: R.
Content changes should move it: D, signed by the gold answer. R only ever *gates*
a positive D (`advantage.py`), since on its own it is maximal for filler.
"""

from __future__ import annotations

import jax.numpy as jnp

from gccpo_jax.masked import masked_mean, masked_median
from gccpo_jax.types import Array

LN2 = 0.6931471805599453


def kl_divergence(p: Array, q: Array) -> Array:
    """KL(p || q) = sum_a p_a (log p_a - log q_a) in nats over the last axis.

    Terms with p_a = 0 count 0; q must be positive where p is (as the mixture of
    `jsd` is). Gradients are finite at 0.
    """
    positive = p > 0
    log_p = jnp.log(jnp.where(positive, p, 1.0))
    log_q = jnp.log(jnp.where(positive & (q > 0), q, 1.0))
    return jnp.sum(jnp.where(positive, p * (log_p - log_q), 0.0), axis=-1)


def jsd(p: Array, q: Array) -> Array:
    """Jensen-Shannon divergence of laws [..., A] over ln 2, in [0, 1].

        JSD(p, q) = KL(p || m)/2 + KL(q || m)/2,   m = (p + q)/2

    As the sum of two halves, equal laws give exactly 0; disjoint ones give 1. Clipped,
    since for nearly equal laws rounding can take the sum below 0.
    Example: (.7, .2, .1) and (.5, .3, .2) give .0315967.
    """
    mixture = 0.5 * (p + q)
    halves = kl_divergence(p, mixture) + kl_divergence(q, mixture)
    return jnp.clip(0.5 * halves / LN2, 0.0, 1.0)


def total_variation(p: Array, q: Array) -> Array:
    """Total variation distance of laws [..., A]: half the L1 distance, in [0, 1]."""
    return 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)


def readable(law: Array, max_other: float = 0.2) -> Array:
    """Whether a scored law [..., A] can be read: its mass outside the candidates is small.

    An unreadable law is masked out of every score, not counted as zero.
    """
    return law[..., -1] <= max_other


def robustness(factual: Array, perturbed: Array, usable: Array) -> tuple[Array, Array]:
    """Stability of the answer law under nuisance interventions.

        R_k = 1 - mean_m JSD(P_0, P_m) / ln 2   in [0, 1]

    Args:
      factual: [..., A] law after the step as it was.
      perturbed: [..., P, A] laws under P nuisance interventions.
      usable: [..., P] bool, the interventions that count.
    Returns:
      R [...] and whether it is defined: with no usable arm R is undefined (and 0
      here), which is not the same as robust. See `fill_undefined`.
    Example: laws of `jsd` with arms (P1, P0) give .9842016.
    """
    divergence = jsd(factual[..., None, :], perturbed)
    defined = jnp.any(usable, axis=-1)
    return jnp.where(defined, 1.0 - masked_mean(divergence, usable, axis=-1), 0.0), defined


def sensitivity(factual: Array, perturbed: Array, usable: Array) -> tuple[Array, Array]:
    """How far content interventions move the law: S_k = mean_m JSD(P_0, P_m)/ln 2 in [0, 1].

    Shapes as `robustness`. A lucky guess has S near 0: its step did not cause the answer.
    """
    divergence = jsd(factual[..., None, :], perturbed)
    return masked_mean(divergence, usable, axis=-1), jnp.any(usable, axis=-1)


def fill_undefined(score: Array, defined: Array) -> Array:
    """Replaces undefined scores of a group [G, E] by the median of its defined ones (else 1)."""
    return jnp.where(defined, score, masked_median(score, defined, fallback=1.0))


def effects(value_before: Array, outcome: Array, mask: Array) -> Array:
    """Signed effect of each step of one trajectory on reaching the gold answer.

        D_k = Phi_k - Phi_{k-1}   for k < K,      D_K = o - Phi_{K-1}

    so that the effects telescope to o - Phi_0 whatever Phi is.

    Args:
      value_before: [E] Phi_{k-1}, the value before step k, in [0, 1].
      outcome: [] o, the verified outcome. mask: [E] bool, the steps that exist (first).
    Returns:
      [E] in [-1, 1]; 0 on padding.
    """
    following = jnp.append(mask[1:], False)
    next_value = jnp.where(following, jnp.append(value_before[1:], 0.0), outcome)
    return jnp.where(mask, next_value - value_before, 0.0)


def branch_values(outcomes: Array) -> Array:
    """Phi = mean over draws of the verified outcomes [..., N] of continued branches.

    Outcomes that could not be scored are NaN and leave the mean; where none could
    be scored the result is NaN.
    """
    scored = ~jnp.isnan(outcomes)
    mean = masked_mean(outcomes, scored, axis=-1)
    return jnp.where(jnp.any(scored, axis=-1), mean, jnp.nan)


def gold_probability(laws: Array, gold: Array) -> Array:
    """P(a*) [...] from laws [..., A] and the gold's candidate index (broadcast against [...])."""
    return jnp.take_along_axis(laws, jnp.broadcast_to(gold, laws.shape[:-1])[..., None], -1)[..., 0]


def gated_effects(
    effect: Array, robust: Array, mask: Array, *, gate: bool = True, gate_answer: bool = True
) -> Array:
    """The episodic reward of steps: robustness gates *positive* effect.

        d~_k = R_k max(d_k, 0) + min(d_k, 0)

    Args:
      effect: [E] d. robust: [E] R in [0, 1], defined everywhere. mask: [E] bool.
      gate: False leaves d as it is. gate_answer: whether the last step is gated too.
    """
    last = mask & ~jnp.append(mask[1:], False)
    weight = robust if gate_answer else jnp.where(last, 1.0, robust)
    gated = weight * jnp.maximum(effect, 0.0) + jnp.minimum(effect, 0.0)
    return jnp.where(mask, gated if gate else effect, 0.0)


def normalise_law(law: Array) -> Array:
    """A law from unnormalised non-negative masses [..., A]; uniform where all are 0."""
    total = jnp.sum(law, axis=-1, keepdims=True)
    uniform = jnp.full_like(law, 1.0 / law.shape[-1])
    return jnp.where(total > 0, law / jnp.where(total > 0, total, 1.0), uniform)
