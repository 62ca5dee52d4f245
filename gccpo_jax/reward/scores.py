"""Scores of steps from answer laws and values: arrays in, arrays out.

No model, no key, no disk: bring your own laws. Everything is float32, written
for one trajectory, and safe (value and gradient) on empty input. A law is a
vector of probabilities over candidate answers plus, last, all other answers.

Nuisance interventions (the step means the same) should leave the law alone: R.
Content changes should move it: D, signed by the gold answer. R only ever *gates*
a positive D (`advantage/kinds.py`), since on its own it is maximal for filler.
"""

from __future__ import annotations

import jax.numpy as jnp

from gccpo_jax.masked import masked_mean, masked_median
from gccpo_jax.shapes import check, shaped
from gccpo_jax.types import Array

LN2 = 0.6931471805599453


@shaped(p="... A", q="... A")
def kl_divergence(p: Array, q: Array) -> Array:
    """KL(p || q) = sum_a p_a (log p_a - log q_a) in nats over the last axis.

    Terms with p_a = 0 count 0; q must be positive where p is (as the mixture of
    `jsd` is). Gradients are finite at 0.
    """
    positive = p > 0
    log_p = jnp.log(jnp.where(positive, p, 1.0))
    log_q = jnp.log(jnp.where(positive & (q > 0), q, 1.0))
    return jnp.sum(jnp.where(positive, p * (log_p - log_q), 0.0), axis=-1)


@shaped(p="... A", q="... A")
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


@shaped(p="... A", q="... A")
def total_variation(p: Array, q: Array) -> Array:
    """Total variation distance of laws [..., A]: half the L1 distance, in [0, 1]."""
    return 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)


def readable(law: Array, max_other: float) -> Array:
    """Whether a scored law [..., A] can be read: its mass outside the candidates is small.

    An unreadable law is masked out of every score, not counted as zero.
    """
    return law[..., -1] <= max_other


def robustness(factual: Array, perturbed: Array, usable: Array) -> tuple[Array, Array]:
    """Stability of the answer law under nuisance interventions.

        R_k = 1 - mean_m JSD(P_0, P_m) / ln 2   in [0, 1]

    Args:
      factual: [..., A] law after the step as it was, or one [A] for all; or [..., P, A], one
        beside each arm.
      perturbed: [..., P, A] laws under P nuisance interventions.
      usable: [..., P] bool, the interventions that count.
    Returns:
      R [...] and whether it is defined: with no usable arm R is undefined (and 0
      here), which is not the same as robust. See `fill_undefined`.
    Example: laws of `jsd` with arms (P1, P0) give .9842016.
    """
    divergence = _mean_jsd(factual, perturbed, usable)
    defined = jnp.any(usable, axis=-1)
    return jnp.where(defined, 1.0 - divergence, 0.0), defined


def sensitivity(factual: Array, perturbed: Array, usable: Array) -> tuple[Array, Array]:
    """How far content interventions move the law: S_k = mean_m JSD(P_0, P_m)/ln 2 in [0, 1].

    Shapes as `robustness`. A lucky guess has S near 0: its step did not cause the answer.
    """
    return _mean_jsd(factual, perturbed, usable), jnp.any(usable, axis=-1)


def _mean_jsd(factual: Array, perturbed: Array, usable: Array) -> Array:
    """Mean divergence [...] of the usable arms; 0 where there is none."""
    beside = "... A" if factual.ndim < perturbed.ndim else "... P A"
    check(
        factual=(factual, "A" if factual.ndim == 1 else beside),
        perturbed=(perturbed, "... P A"),
        usable=(usable, "... P"),
    )
    if factual.ndim < perturbed.ndim:
        factual = jnp.broadcast_to(factual[..., None, :], perturbed.shape)
    factual = jnp.where(usable[..., None], factual, 0.0)
    # Unused laws may hold anything; an inf would reach the gradient through the mask.
    divergence = jsd(factual, jnp.where(usable[..., None], perturbed, factual))
    return masked_mean(divergence, usable, axis=-1)


def selectivity(robust: tuple[Array, Array], sensitive: tuple[Array, Array]) -> tuple[Array, Array]:
    """Q_k = R_k S_k in [0, 1]: 0 for constant steps and 0 for fragile ones; needs no gold.

    Args: what `robustness` and `sensitivity` return. Defined where both are, else 0.
    Example: R .8 and S .5 give .4.
    """
    each = {"robust": robust, "sensitive": sensitive}
    check(**{f"{name}[{n}]": (pair[n], "...") for name, pair in each.items() for n in (0, 1)})
    defined = robust[1] & sensitive[1]
    return jnp.where(defined, robust[0] * sensitive[0], 0.0), defined


@shaped(answers="N", perturbed="P N", usable="P")
def agreement(answers: Array, perturbed: Array, usable: Array) -> tuple[Array, Array]:
    """Robustness under the continued reader: how often the answer survives a nuisance.

        R_k = mean_{m,n} 1[A(s; u_n) = A(s_m; u_n)]   in [0, 1]

    Draw n has the same noise u_n in every arm, so this compares counterfactuals;
    divergences of laws *counted* from a few draws would be biased instead.

    Args:
      answers: [N] int candidate index of each factual draw; -1: not scorable.
      perturbed: [P, N] the same under each intervention. usable: [P] bool.
    Returns:
      The score and whether any pair could be compared (0 where not). Pairs with a -1
      on either side are left out.
    Example: answers (0, 1, 1, -1) and one arm (0, 1, 0, 0) give 2/3.
    """
    both = (answers >= 0)[None] & (perturbed >= 0) & usable[:, None]
    same = (answers[None] == perturbed).astype(jnp.float32)
    return masked_mean(same, both), jnp.any(both)


@shaped(answers="N", other="N")
def flip_rate(answers: Array, other: Array) -> tuple[Array, Array]:
    """Share of draws [N] whose answer differs under shared noise: 1 - `agreement` of one arm.

    Depends on how the arms are coupled, so report it with `flip_bounds`. -1 leaves a
    draw out; returns the rate and whether it is defined (0 where not).
    """
    same, defined = agreement(answers, other[None], jnp.ones(1, bool))
    return jnp.where(defined, 1.0 - same, 0.0), defined


@shaped(p="... A", q="... A")
def flip_bounds(p: Array, q: Array) -> Array:
    """Smallest and largest flip rate [..., 2] that any coupling of laws [..., A] can have.

        [ TV(p, q),  1 - max(0, max_a(p_a + q_a - 1)) ]   (Frechet bounds)

    Equal laws have the lower bound 0 exactly, but not the upper one: shared noise is
    what keeps them from flipping. Every entry counts as one answer, `other` too.
    Example: (.7, .2, .1) and (.5, .3, .2) give (.2, .8).
    """
    lower = total_variation(p, q)
    upper = 1.0 - jnp.maximum(0.0, jnp.max(p + q - 1.0, axis=-1))
    return jnp.stack([lower, jnp.maximum(lower, upper)], axis=-1)  # rounding may cross them


@shaped(laws="... A", where="...")
def law_variation(laws: Array, where: Array) -> Array:
    """How much the answer law varies at all: mean JSD of the selected laws to their mean law.

    0 says that the reader answers the same after every step, so that any robustness
    measured with it is the robustness of a constant. In [0, 1]; 0 where nothing is selected.

    Args: laws [..., A]; where [...] bool. All leading axes are averaged over.
    Example: (1, 0) and (0, 1) give .3112781.
    """
    axes = tuple(range(where.ndim))
    laws = jnp.where(where[..., None], laws, 0.0)
    mean = masked_mean(laws, jnp.broadcast_to(where[..., None], laws.shape), axis=axes)
    return masked_mean(jsd(laws, jnp.broadcast_to(mean, laws.shape)), where)


@shaped(score="G E", defined="G E")
def fill_undefined(score: Array, defined: Array) -> Array:
    """Replaces undefined scores of a group [G, E] by the median of its defined ones (else 1)."""
    return jnp.where(defined, score, masked_median(score, defined, fallback=1.0))


@shaped(value_before="E", outcome="", mask="E")
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


def counterfactual_effect(
    factual_value: Array, values: Array, usable: Array
) -> tuple[Array, Array]:
    """What the step gained over the steps the policy would have written in its place.

        D^cf_k = P_0(a*) - mean_m P_m(a*)   in [-1, 1], over on-policy resamples of step k

    Removes what any step would have gained; unbiased as a baseline because the
    resamples do not look at the step. Family BASELINE only.

    Args: factual_value [...] P_0(a*), or [..., P] one beside each arm; values [..., P];
    usable [..., P] bool.
    Returns the effect and whether there was a usable arm (0 where not). The mean of the
    differences, so that equal values give exactly 0.
    Example: .7 against (.5, .2) gives .35.
    """
    beside = "..." if factual_value.ndim < values.ndim else "... P"
    check(factual_value=(factual_value, beside), values=(values, "... P"), usable=(usable, "... P"))
    if factual_value.ndim < values.ndim:
        factual_value = jnp.broadcast_to(factual_value[..., None], values.shape)
    gain = masked_mean(
        jnp.where(usable, factual_value, 0.0) - jnp.where(usable, values, 0.0), usable, axis=-1
    )
    return gain, jnp.any(usable, axis=-1)


def gold_probability(laws: Array, gold: Array) -> Array:
    """P(a*) [...] from laws [..., A] and the gold's candidate index (broadcast against [...])."""
    return jnp.take_along_axis(laws, jnp.broadcast_to(gold, laws.shape[:-1])[..., None], -1)[..., 0]


def equivariance(laws: Array, gold: Array) -> tuple[Array, Array]:
    """Eq_k = P(new gold answer) once question and steps have other numbers.

    High only if the answer comes from the steps: a surface cue keeps pointing at the
    old answer. The laws are those of the exact `number` rewrite, which belongs to no family.

    Args: laws [..., C + 1] of the rewritten trajectory; gold [...] int, candidate index
      of the *new* gold answer, -1 where it is no candidate.
    Returns Eq [...] in [0, 1] and whether it is defined (0 where not).
    Example: law (.1, .6, .3) and new gold 1 give .6.
    """
    defined = jnp.broadcast_to((gold >= 0) & (gold < laws.shape[-1] - 1), laws.shape[:-1])
    return jnp.where(defined, gold_probability(laws, jnp.maximum(gold, 0)), 0.0), defined


@shaped(effect="E", robust="E", mask="E")
def gated_effects(
    effect: Array, robust: Array, mask: Array, *, gate: bool, gate_answer: bool
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
