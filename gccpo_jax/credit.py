"""One question's group, from what was read to token advantages: the method on one screen.

    D_k = Phi_k - Phi_{k-1},  R_k = 1 - mean_m JSD(P_0, P_m)/ln 2,  S_k,  Q_k = R_k S_k
    d~_k = R_k max(D_k, 0) + min(D_k, 0)

    gated_gae    A_k = sum_{j>=k} lam^{tokens/t0} d~_j, minus its leave-one-out mean
    additive     A_k = A_out + weight C_k,  C_k = d~_k minus its leave-one-out mean
    selective    A_k = A_out w_k,  w_k in proportion to floor + Q_k
    four_corner  A = o (a + (1 - a) q) + (1 - o) b q, minus its leave-one-out mean
    paper        `paper.py`

Leave-one-out means are over the same step (or all) of the other trajectories. Steps
here are macro-steps: the pieces between boundaries at which Phi was read.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax import advantage as adv
from gccpo_jax import paper as reconstruction
from gccpo_jax import reward
from gccpo_jax.baselines import of_outcome
from gccpo_jax.masked import first, masked_median
from gccpo_jax.measure import Reading, StepScores, existing, measure, outcomes, readable_laws
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Rollout, Spans, record


@dataclasses.dataclass(frozen=True)
class CreditRule:
    """The choices of `config.CreditConfig`, where they are explained, and `max_other`.

    Hashable: a change compiles anew. Each kind reads its own fields only.
    """

    kind: str = "gated_gae"
    gate: bool = True
    gate_answer: bool = True
    lam: float = 0.95
    tokens_per_unit: float = 10.0
    token_weights: str = "uniform"
    baseline: str = "leave_one_out"
    ddof: int = 1
    epsilon: float = 1e-4
    pass_k: int = 4
    entropy_base: float = 1.0
    entropy_bonus: float = 0.1
    entropy_floor: float = 1e-6
    additive_weight: float = 0.5
    selective_floor: float = 0.1
    corner_a: float = 0.25
    corner_b: float = 0.5
    paper_alpha: float = 0.9
    paper_weight: float = 0.8
    paper_truncation: float = 0.025
    paper_floor: float = 1e-4
    paper_clip: float = 5.0
    max_other: float = 0.2  # more mass outside the candidates: law unreadable


@record
class Credit:
    """Scores and advantages of one question's trajectories."""

    value_before: Array  # [G, E] and the next eight: `measure.StepScores`
    effect: Array
    robustness: Array
    defined: Array
    gated: Array
    sensitivity: Array
    content_defined: Array
    selectivity: Array
    selective_defined: Array
    step_score: Array  # [G, E]  what the kind makes of the step: d~_k, C_k, w_k, Q_k or r_k
    step_advantage: Array  # [G, E]  A_k
    advantage: Array  # [G, T]  of each token; 0 outside steps


def of_group(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """Credit of one group by `rule.kind`; each kind is a function of the same arguments.

    Args:
      reading: arrays of the group. spans: macro-steps [G, E]. rollout: [G, T].
      use_gate: [] bool; False where the reader failed its gate, so that no law is used:
        R is 1, all Q are equal, the paper's robustness is 0.
      rule: the choices.
    A trajectory that could not be scored gets 0 and leaves every baseline.
    """
    kinds = {
        "gated_gae": gated_gae,
        "additive": additive,
        "selective": selective,
        "four_corner": four_corner,
        "paper": paper,
    }
    return kinds[rule.kind](reading, spans, rollout, use_gate, rule=rule)


def gated_gae(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="gated_gae"`, the default: Phi is the critic and R gates what it praises."""
    mask, scores = _measure(reading, spans, use_gate, rule)
    discount = partial(adv.discounted_effects, lam=rule.lam, tokens_per_unit=rule.tokens_per_unit)
    per_step = adv.recentre(jax.vmap(discount)(scores.gated, _tokens(spans)), mask)
    return Credit(
        **vars(scores),
        step_score=scores.gated,
        step_advantage=per_step,
        advantage=_spread(per_step, spans, rollout, rule),
    )


def additive(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="additive"`: two streams with a baseline each, nearest to the paper's shape.

    C is clipped to [-1, 1]; token weights apply to C only, so that weight 0 is
    `outcome_only`.
    """
    mask, scores = _measure(reading, spans, use_gate, rule)
    process = jnp.clip(adv.recentre(scores.gated, mask), -1.0, 1.0)
    weighted = rule.additive_weight * process
    scalar = _outcome_scalar(reading, rule)
    return Credit(
        **vars(scores),
        step_score=process,
        step_advantage=jnp.where(mask, scalar[:, None] + weighted, 0.0),
        advantage=_on_every_token(scalar, rollout) + _spread(weighted, spans, rollout, rule),
    )


def selective(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="selective"`: the outcome's advantage goes where the answer was caused; no gold.

    A step without Q takes the median of its group's (all equal if there is none).
    """
    mask, scores = _measure(reading, spans, use_gate, rule)
    filled = reward.fill_undefined(scores.selectivity, scores.selective_defined)
    preserve = partial(adv.mass_preserving, floor=rule.selective_floor)
    weights = jax.vmap(preserve)(filled, _tokens(spans))
    per_step = jnp.where(mask, weights * _outcome_scalar(reading, rule)[:, None], 0.0)
    return Credit(
        **vars(scores),
        step_score=weights,
        step_advantage=per_step,
        advantage=_spread(per_step, spans, rollout, rule),
    )


def four_corner(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="four_corner"`: one advantage a trajectory, for the outcome and its soundness.

    The soundness q is the token mean of Q over the steps where it was measured; a
    trajectory without any takes the median of its group's (1 if there is none, which
    leaves the outcome's contrast, scaled).
    """
    mask, scores = _measure(reading, spans, use_gate, rule)
    sound, known = jax.vmap(adv.token_mean)(
        scores.selectivity, _tokens(spans), scores.selective_defined
    )
    sound = reward.fill_undefined(sound, known)
    shaped = adv.four_corner(outcomes(reading), sound, a=rule.corner_a, b=rule.corner_b)
    scalar = adv.leave_one_out(shaped, reading.scorable)
    return Credit(
        **vars(scores),
        step_score=scores.selectivity,
        step_advantage=jnp.where(mask, scalar[:, None], 0.0),
        advantage=_on_every_token(scalar, rollout),
    )


def paper(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="paper"`: the reconstruction of `paper.py`, over whatever nuisance arms there are.

    A step without a readable law takes the median of its group's robustness (0 if
    there is none); the scale of the energies is their mean over the group.
    """
    mask, scores = _measure(reading, spans, use_gate, rule)
    factual, usable, _ = readable_laws(reading, mask, use_gate, rule.max_other)
    robust, defined = reconstruction.robustness(
        reading.nuisance.beside(factual), reading.nuisance.laws, usable
    )
    robust = jnp.where(defined, robust, masked_median(robust, defined, fallback=0.0))
    process = robust + rule.paper_weight * reconstruction.effectiveness(reading.energy, mask)
    size = rollout.tokens.shape[-1]
    inside = first(rollout.length, size)
    step = jax.vmap(partial(step_of_token, size=size))(spans)
    per_token = reconstruction.token_advantages(
        process, outcomes(reading), reading.scorable, rollout.logp, step, inside, mask,
        alpha=rule.paper_alpha, truncation=rule.paper_truncation, ddof=rule.ddof,
        epsilon=rule.epsilon, floor=rule.paper_floor, clip=rule.paper_clip,
    )  # fmt: skip
    return Credit(
        **vars(scores),
        step_score=jnp.where(mask, process, 0.0),
        step_advantage=jax.vmap(adv.to_steps)(per_token, spans),
        advantage=per_token,
    )


def outcome_only(
    outcome: Array,  # [G]
    scorable: Array,  # [G] bool
    rollout: Rollout,  # [G, T]
    *,
    baseline: str,
    ddof: int,
    epsilon: float,
    k: int = 1,
) -> Array:
    """The trajectory's outcome advantage on each of its tokens, [G, T].

    The baselines are those of `baselines.of_outcome`.
    """
    scalar = of_outcome(outcome, scorable, baseline=baseline, ddof=ddof, epsilon=epsilon, k=k)
    return _on_every_token(scalar, rollout)


def spread(per_step: Array, spans: Spans, rollout: Rollout, token_weights: str) -> Array:
    """Step advantages [E] of one trajectory over its tokens [T], uniform or by surprise."""
    size = rollout.tokens.shape[0]
    tokens = adv.to_tokens(per_step, spans, size)
    if token_weights == "uniform":
        return tokens
    weights = adv.surprise_weights(
        rollout.logp, step_of_token(spans, size), first(rollout.length, size), per_step.shape[0]
    )
    return tokens * weights


def _measure(
    reading: Reading, spans: Spans, use_gate: Array, rule: CreditRule
) -> tuple[Array, StepScores]:
    """Which steps count [G, E], and their scores."""
    scores = measure(
        reading, spans, use_gate,
        gate=rule.gate, gate_answer=rule.gate_answer, max_other=rule.max_other,
    )  # fmt: skip
    return existing(reading, spans), scores


def _outcome_scalar(reading: Reading, rule: CreditRule) -> Array:
    """[G]: the outcome's advantage under the rule's baseline."""
    return of_outcome(
        outcomes(reading), reading.scorable,
        baseline=rule.baseline, ddof=rule.ddof, epsilon=rule.epsilon, k=rule.pass_k,
    )  # fmt: skip


def _on_every_token(scalar: Array, rollout: Rollout) -> Array:
    """[G, T]: one number a trajectory on all its tokens."""
    return jnp.where(first(rollout.length, rollout.tokens.shape[-1]), scalar[:, None], 0.0)


def _tokens(spans: Spans) -> Array:
    """[G, E]: tokens of each step, 0 on padding."""
    return jnp.where(spans.mask, spans.end - spans.start, 0)


def _spread(per_step: Array, spans: Spans, rollout: Rollout, rule: CreditRule) -> Array:
    """`spread` over the group."""
    return jax.vmap(partial(spread, token_weights=rule.token_weights))(per_step, spans, rollout)
