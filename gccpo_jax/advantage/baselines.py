"""Advantages of outcomes: what a group of one question's trajectories is compared with.

    zscore         (r_i - mean r) / (std r + epsilon)        GRPO
    leave_one_out  r_i - mean of the others                  RLOO
    mean           r_i - mean r                              Dr.GRPO
    maxrl          (r_i - mean r) / mean r                   MaxRL
    pass_at_k      of the best of k, over all subsets        Pass@k training

Trajectories outside `where` get 0 and leave every baseline; a group without contrast
gets exactly 0.
"""

from __future__ import annotations

import jax.numpy as jnp

from gccpo_jax.config import CreditConfig
from gccpo_jax.masked import leave_one_out_mean, masked_mean, safe_divide
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array


@shaped(reward="G", where="G")
def leave_one_out(reward: Array, where: Array) -> Array:
    """RLOO: A_i = r_i - mean_{j != i} r_j over the scorable trajectories [G]; others get 0.

    Sums to 0; the baseline of i does not depend on r_i (arXiv 2402.14740). Equal rewards, and
    one alone, give exactly 0, whatever their mean is rounded to.
    Example: (1, 0, 0, 1) gives (2/3, -2/3, -2/3, 2/3).
    """
    centred = reward - leave_one_out_mean(reward, where)
    return jnp.where(where & has_contrast(reward, where), centred, 0.0)


@shaped(reward="G", where="G")
def group_zscore(reward: Array, where: Array, *, ddof: int, epsilon: float) -> Array:
    """GRPO: A_i = (r_i - mean r) / (std r + epsilon) over the scorable trajectories [G].

    ddof 1 is the sample standard deviation (TRL, verl, Tunix). A group without
    contrast gets exactly 0, and so do trajectories that could not be scored
    (arXiv 2402.03300, section 4.1). Example, epsilon -> 0: (1, 0, 0, 1) gives
    (.866025, -.866025, -.866025, .866025) with ddof 1 and (1, -1, -1, 1) with ddof 0.
    """
    centred = jnp.where(where, reward - masked_mean(reward, where), 0.0)
    freedom = jnp.maximum(jnp.sum(where) - ddof, 0)
    variance = safe_divide(jnp.sum(centred**2), freedom.astype(jnp.float32))
    # Not `variance > 0`: the mean of equal numbers may round to another number.
    highest = jnp.max(jnp.where(where, reward, -jnp.inf))
    lowest = jnp.min(jnp.where(where, reward, jnp.inf))
    contrast = (highest > lowest) & (variance > 0)
    deviation = jnp.sqrt(jnp.where(contrast, variance, 1.0))
    return jnp.where(contrast, centred / (deviation + epsilon), 0.0)


RIGHT = 0.5
"""An outcome above it counts as right where a formula knows right and wrong only."""


@shaped(reward="G", where="G")
def has_contrast(reward: Array, where: Array, tolerance: float = 0.0) -> Array:
    """[] bool: the selected rewards [G] differ, by more than `tolerance` of the largest size.

    With 0/1 outcomes and tolerance 0 this is DAPO's rule 0 < #right < G (arXiv
    2503.14476), by which dynamic sampling keeps a group; False for an empty selection.
    Test it on outcomes, not on shaped rewards: those differ in unanimous groups too.
    """
    highest = jnp.max(jnp.where(where, reward, -jnp.inf))
    lowest = jnp.min(jnp.where(where, reward, jnp.inf))
    size = jnp.max(jnp.where(where, jnp.abs(reward), 0.0))
    return highest - lowest > tolerance * size


@shaped(reward="G", where="G")
def mean_only(reward: Array, where: Array) -> Array:
    """Dr.GRPO: A_i = r_i - mean r over the scorable trajectories [G] (arXiv 2503.20783).

    (G - 1) / G of `leave_one_out`: no division by a deviation, so that near-unanimous
    groups weigh less. Example: (1, 0, 0, 0) gives (.75, -.25, -.25, -.25).
    """
    centred = jnp.where(where, reward - masked_mean(reward, where), 0.0)
    return jnp.where(has_contrast(reward, where), centred, 0.0)


@shaped(reward="G", where="G")
def maxrl(reward: Array, where: Array) -> Array:
    """MaxRL: A_i = (r_i - mean r) / mean r over the scorable trajectories [G], r >= 0.

    The gradient of the log of the success rate: rare successes weigh more. A group whose mean
    is 0 gets 0 (arXiv 2602.02710). Example: (1, 0, 0, 0) gives (3, -1, -1, -1).
    """
    mean = masked_mean(reward, where)
    centred = jnp.where(where & has_contrast(reward, where), reward - mean, 0.0)
    return jnp.where(mean > 0, safe_divide(centred, jnp.maximum(mean, 0.0)), 0.0)


@shaped(right="G", where="G")
def pass_at_k(right: Array, where: Array, *, k: int, epsilon: float) -> Array:
    """The advantage of each trajectory [G] as a member of subsets of k that share their best.

        Rbar  = 1 - C(W, k) / C(N, k)           sigma = sqrt(Rbar (1 - Rbar))
        A_pos = (1 - Rbar) / (sigma + epsilon)
        A_neg = (1 - Rbar - C(W-1, k-1) / C(N-1, k-1)) / (sigma + epsilon)

    with N scorable trajectories of which W are wrong: the mean over all k-subsets that
    hold the trajectory of the normalised largest outcome. Quotients of binomials are
    products of k ratios, so nothing overflows. Sums to 0. Where every subset holds a
    right one (W < k), none does (W = N), or N < k, all get 0. arXiv 2508.10751.

    Args:
      right: [G] bool. where: [G] bool. k: at least 1; 1 is GRPO with ddof 0.
    Example, epsilon -> 0: (1, 1, 0, 0), k 2: +-.447214; (1, 0, 0, 0), k 2: 1 and -1/3.
    """
    right = where & right
    total = jnp.sum(where, dtype=jnp.float32)
    wrong = total - jnp.sum(right, dtype=jnp.float32)
    drawn = jnp.arange(k, dtype=jnp.float32)
    ratio = jnp.maximum(wrong - drawn, 0.0) / jnp.maximum(total - drawn, 1.0)
    none = jnp.prod(ratio)  # no right one among k
    none_other = jnp.prod(jnp.where(drawn > 0, ratio, 1.0))  # nor among the k - 1 beside a wrong
    variance = none * (1.0 - none)
    trains = (total >= k) & (variance > 0)
    sigma = jnp.sqrt(jnp.where(trains, variance, 1.0)) + epsilon
    advantage = jnp.where(right, none, none - none_other) / sigma
    return jnp.where(trains & where, advantage, 0.0)


@shaped(outcome="G", where="G")
def outcome_advantage(outcome: Array, where: Array, *, rule: CreditConfig) -> Array:
    """The outcome advantage [G] under `rule.baseline`, a name of this module's table.

    `rule.ddof` is of "zscore", `rule.epsilon` of "zscore" and "pass_at_k", `rule.pass_k` of
    "pass_at_k", for which an outcome above 1/2 is right.
    """
    if rule.baseline == "zscore":
        return group_zscore(outcome, where, ddof=rule.ddof, epsilon=rule.epsilon)
    if rule.baseline == "mean":
        return mean_only(outcome, where)
    if rule.baseline == "maxrl":
        return maxrl(outcome, where)
    if rule.baseline == "pass_at_k":
        return pass_at_k(outcome > RIGHT, where, k=rule.pass_k, epsilon=rule.epsilon)
    return leave_one_out(outcome, where)


@shaped(latent="D", replaced="D", integrated="D", centre="D")
def causal_weight(
    latent: Array, replaced: Array, integrated: Array, centre: Array, *, alpha: float
) -> Array:
    """GCPO's factor on the advantage of one response: alpha cos(z, Zbar - Zbar' + zbar).

    Group Causal Policy Optimization, arXiv 2508.05428 eq. 11 (another method than
    GC2PO); B = A * factor with A GRPO's advantage. |factor| <= alpha. A negative cosine
    turns the sign: a right answer that is no typical one is then punished. 0 where a
    vector is 0.

    Args:
      latent: [D] z, last hidden state of the response. replaced: [D] Zbar, mean over
        re-generations given the question, the other responses and the integrated output.
      integrated: [D] Zbar', the same averaged over the integrated outputs too.
      centre: [D] zbar, mean of z over the group. alpha: the paper's is 2.
    Example: (1, 0), (.6, .2), (.4, .4), (.5, .5), alpha 2: cosine .919145, factor 1.838290.
    """
    target = replaced - integrated + centre
    squares = jnp.sum(latent**2) * jnp.sum(target**2)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return alpha * safe_divide(jnp.sum(latent * target), length)
