"""What a step earns in the control arms: another step term, or the credit of the wrong step.

    gated          R_k max(D_k, 0) + min(D_k, 0)              the method
    observational  the same of Phi and R estimated from siblings: nothing is intervened on
    non_causal     (1 - V_k) H_k, variance and entropy of answer laws
    robustness     R_k
    effect_size    |D_k|
    selectivity    R_k S_k
    prover         D_k + B(Phi_k) - B(Phi_{k-1}), B(v) = 1 - (1 - v)^4: a best-of-4 prover (PAV)
    root           (Phi_k - Phi_{k-1}) + (Phi_k - Phi_0): over the parent and the root (TreeRL)

`observational` and `non_causal` look at the trajectories of the group as they were sampled, at
the same step index: those have *other prefixes*, which is what the method does without.
`non_causal` and the next three carry no sign and know no outcome, so the answer step keeps the
outcome's own advantage over the group's mean, o - mean o.

    permuted  the steps' d~ in another order, by key, before they are discounted: afterwards
              neighbours are alike, and their order hardly matters
    inverted  A'_k = 2 mean A - A_k: the best step of a trajectory becomes its worst

These two keep what a trajectory earns and only change where it goes. An arm
that does as well as the method with either of them does not owe it to step credit.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax import reward
from gccpo_jax.advantage.step_advantages import token_mean
from gccpo_jax.config import CreditConfig
from gccpo_jax.masked import masked_mean, masked_sum, safe_divide
from gccpo_jax.reward.group import GroupReading, StepScores, effects_of, existing, outcomes
from gccpo_jax.shapes import shaped
from gccpo_jax.types import Array, Spans


def step_term(reading: GroupReading, scores: StepScores, spans: Spans, rule: CreditConfig) -> Array:
    """d~ [G, E] by `rule.step_term`, 0 on padding; `scores` are the method's own."""
    mask = existing(reading, spans)
    if rule.step_term == "gated":
        return scores.gated
    if rule.step_term == "prover":
        best = lambda value: 1.0 - (1.0 - value) ** 4  # noqa: E731
        gain = jax.vmap(reward.effects)(best(scores.value_before), best(outcomes(reading)), mask)
        return scores.effect + gain
    if rule.step_term == "root":
        return jnp.where(mask, scores.effect + jnp.cumsum(scores.effect, axis=1), 0.0)
    seen = scores.readable
    laws = jnp.where(seen[..., None], reading.factual, 0.0)
    if rule.step_term == "observational":
        _, effect = effects_of(reading, sibling_value(laws, outcomes(reading), seen), mask)
        robust = reward.fill_undefined(*sibling_robustness(laws, seen))
        gated = partial(reward.gated_effects, gate=rule.gate, gate_answer=rule.gate_answer)
        return jax.vmap(gated)(effect, robust, mask)
    if rule.step_term == "non_causal":
        steady, defined = sibling_variance(laws, seen)
        score = reward.fill_undefined((1.0 - steady) * entropy(laws), defined)
    elif rule.step_term == "robustness":
        score = scores.robustness
    elif rule.step_term == "effect_size":
        score = jnp.abs(scores.effect)
    else:
        score = reward.fill_undefined(scores.selectivity, scores.selective_defined)
    return with_outcome(score, outcomes(reading), reading.scorable, mask)


@shaped(score="G E", outcome="G", scorable="G", mask="G E")
def with_outcome(score: Array, outcome: Array, scorable: Array, mask: Array) -> Array:
    """Scores [G, E] of steps, and on each last step the outcome over the group's mean instead.

    Args: outcome [G]; scorable [G] bool; mask [G, E] bool, existing steps first.
    """
    last = mask & ~jnp.concatenate([mask[:, 1:], jnp.zeros_like(mask[:, :1])], axis=1)
    over = outcome - masked_mean(outcome, scorable)
    return jnp.where(last, over[:, None], jnp.where(mask, score, 0.0))


@shaped(laws="G E A", seen="G E")
def sibling_robustness(laws: Array, seen: Array) -> tuple[Array, Array]:
    """R without an intervention: 1 - mean_{j != i} JSD(P_ik, P_jk)/ln 2, and where it is defined.

    Args: laws [G, E, A]; seen [G, E] bool, laws that can be read.
    Siblings that say the same give 1. Example: laws (.7, .2, .1) and (.5, .3, .2) of two
    trajectories give both .9684033.
    """
    others = _others(seen)
    group = laws.shape[0]
    beside = jnp.broadcast_to(
        jnp.moveaxis(laws, 0, 1)[None], (group, *laws.shape[1:2], group, laws.shape[2])
    )
    return reward.robustness(laws, beside, others)


@shaped(laws="G E A", outcome="G", seen="G E")
def sibling_value(laws: Array, outcome: Array, seen: Array) -> Array:
    """Phi without a branch: the outcomes of siblings, weighted by how alike their laws are here.

        Phi_ik = sum_{j != i} w_ij o_j / sum_{j != i} w_ij,   w_ij = 1 - JSD(P_ik, P_jk)/ln 2

    A kernel estimate of E[o | answer law after step k] from the group as it was sampled.
    Returns [G, E], NaN where no sibling weighs (measured as unread, like any other Phi).
    Where all laws are equal it is the leave-one-out mean of the outcomes.
    """
    own = jnp.moveaxis(laws, 0, 1)  # [E, G, A]
    pairs = (*own.shape[:2], *own.shape[1:])
    divergence = reward.jsd(
        jnp.broadcast_to(own[:, :, None], pairs), jnp.broadcast_to(own[:, None], pairs)
    )
    weight = jnp.where(_others(seen), jnp.moveaxis(1.0 - divergence, 1, 0), 0.0)  # [G, E, G]
    total = jnp.sum(weight, axis=-1)
    mean = safe_divide(jnp.sum(weight * outcome[None, None], axis=-1), total)
    return jnp.where(total > 0, mean, jnp.nan)


@shaped(laws="G E A", seen="G E")
def sibling_variance(laws: Array, seen: Array) -> tuple[Array, Array]:
    """V_k [G, E] in [0, 1): sum over answers of the variance (ddof 0) across the group's laws.

    The same for all trajectories; defined where at least two can be read.
    Example: laws (1, 0) and (0, 1) give .5, equal laws 0.
    """
    where = jnp.broadcast_to(seen[..., None], laws.shape)
    mean = masked_mean(laws, where, axis=0)  # [E, A]
    square = masked_mean((laws - mean[None]) ** 2, where, axis=0)
    variance = jnp.broadcast_to(jnp.sum(square, axis=-1)[None], seen.shape)
    defined = seen & (jnp.sum(seen, axis=0, keepdims=True) > 1)
    return jnp.where(defined, variance, 0.0), defined


def entropy(laws: Array) -> Array:
    """H [...] in [0, 1] of laws [..., A]: in nats, over ln A. Uniform gives 1."""
    positive = laws > 0
    log = jnp.log(jnp.where(positive, laws, 1.0))
    return -masked_sum(laws * log, positive, axis=-1) / jnp.log(jnp.float32(laws.shape[-1]))


def _others(seen: Array) -> Array:
    """[G, E, G] bool: siblings j of trajectory i that can be read beside it at step k."""
    apart = ~jnp.eye(seen.shape[0], dtype=bool)
    return apart[:, None] & seen[..., None] & jnp.swapaxes(seen, 0, 1)[None]


@shaped(per_step="E", mask="E")
def permuted(key: Array, per_step: Array, mask: Array) -> Array:
    """The selected entries of [E] in an order drawn by `key`; they must come first."""
    draw = jax.random.uniform(key, per_step.shape)
    order = jnp.argsort(jnp.where(mask, draw, jnp.inf), stable=True)
    return jnp.where(mask, per_step[order], 0.0)


@shaped(per_step="E", tokens="E", mask="E")
def inverted(per_step: Array, tokens: Array, mask: Array) -> Array:
    """[E] mirrored at its mean over the tokens [E], which stays what it was.

    Example: (.3, -.1) with tokens (10, 30), mean 0, gives (-.3, .1).
    """
    mean, _ = token_mean(per_step, tokens, mask)
    return jnp.where(mask, 2.0 * mean - per_step, 0.0)
