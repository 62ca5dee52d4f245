"""One question's group, from what was read to token advantages: the method on one screen.

    D_k = Phi_k - Phi_{k-1},  R_k = 1 - mean_m JSD(P_0, P_m)/ln 2
    d~_k = R_k max(D_k, 0) + min(D_k, 0)
    A_k = sum_{j>=k} lam^{tokens/t0} d~_j,  minus the leave-one-out mean of the same step

Steps here are macro-steps: the pieces between boundaries at which Phi was read.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from gccpo_jax import advantage as adv
from gccpo_jax import reward
from gccpo_jax.masked import first, masked_mean
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Rollout, Spans, record


@dataclasses.dataclass(frozen=True)
class CreditRule:
    """The choices of `gated_gae`. Hashable: a change compiles anew."""

    gate: bool = True  # R gates positive effects
    gate_answer: bool = True  # also at the answer step
    lam: float = 0.95  # in [0, 1]
    tokens_per_unit: float = 10.0  # t0 > 0
    token_weights: str = "uniform"  # or "surprise"
    max_other: float = 0.2  # more mass outside the candidates: law unreadable


@record
class Reading:
    """What was read of one question's trajectories at the ends of their macro-steps."""

    outcome: Array  # [G] f32 in [0, 1]; anything where not scorable
    scorable: Array  # [G] bool
    value: Array  # [G, E] f32  Phi after each step; NaN or anything where it was not read
    factual: Array  # [G, E, C + 1] f32  answer law after each step
    perturbed: Array  # [G, E, P, C + 1] f32  under nuisance interventions on it
    usable: Array  # [G, E, P] bool  interventions that took place


@record
class Credit:
    """Scores and advantages of one question's trajectories."""

    value_before: Array  # [G, E]  Phi_{k-1}
    effect: Array  # [G, E]  D_k
    robustness: Array  # [G, E]  R_k, filled where undefined
    defined: Array  # [G, E] bool  R_k was measured
    gated: Array  # [G, E]  d~_k
    step_advantage: Array  # [G, E]  A_k
    advantage: Array  # [G, T]  of each token; 0 outside steps


def gated_gae(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """Credit of one group, `credit="gated_gae"` (method section 6).

    Phi_0 is the group's mean outcome: the G rollouts *are* draws of the continued
    reader before any step, already paid for. Being the same for the whole group it
    leaves the recentred advantage unbiased; as a score of the first step it is
    conservative by a factor (G - 1) / G of the trajectory's own outcome.

    Args:
      reading: arrays of the group. spans: macro-steps [G, E]. rollout: [G, T].
      use_gate: [] bool; False where the reader failed its gate, so that R is not used.
      rule: the choices.
    A trajectory that could not be scored gets 0 and leaves every baseline.
    """
    mask = spans.mask & reading.scorable[:, None]
    baseline = masked_mean(reading.outcome, reading.scorable)
    value = jnp.where(jnp.isfinite(reading.value), reading.value, baseline)
    start = jnp.broadcast_to(baseline, value.shape[:1])[:, None]
    value_before = jnp.concatenate([start, value[:, :-1]], axis=1)
    effect = jax.vmap(reward.effects)(value_before, reading.outcome, mask)

    readable = reward.readable(reading.factual, rule.max_other) & mask & use_gate
    usable = reading.usable & readable[..., None]
    measured, defined = reward.robustness(reading.factual, reading.perturbed, usable)
    robust = reward.fill_undefined(measured, defined)

    def gated_of(effect: Array, robust: Array, mask: Array) -> Array:
        return reward.gated_effects(
            effect, robust, mask, gate=rule.gate, gate_answer=rule.gate_answer
        )

    gated = jax.vmap(gated_of)(effect, robust, mask)
    tokens = jnp.where(spans.mask, spans.end - spans.start, 0)

    def discount(gated: Array, tokens: Array) -> Array:
        return adv.discounted_effects(
            gated, tokens, lam=rule.lam, tokens_per_unit=rule.tokens_per_unit
        )

    per_step = adv.recentre(jax.vmap(discount)(gated, tokens), mask)
    per_token = jax.vmap(lambda a, s, r: spread(a, s, r, rule.token_weights))(
        per_step, spans, rollout
    )
    return Credit(
        value_before=jnp.where(mask, value_before, 0.0),
        effect=effect,
        robustness=robust,
        defined=defined,
        gated=gated,
        step_advantage=per_step,
        advantage=per_token,
    )


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


def outcome_only(
    outcome: Array,  # [G]
    scorable: Array,  # [G] bool
    rollout: Rollout,  # [G, T]
    *,
    baseline: str,
    ddof: int,
    epsilon: float,
) -> Array:
    """The trajectory's outcome advantage on each of its tokens, [G, T].

    `baseline="zscore"` is GRPO's, `"leave_one_out"` RLOO's (`advantage.py`).
    """
    if baseline == "zscore":
        scalar = adv.group_zscore(outcome, scorable, ddof=ddof, epsilon=epsilon)
    else:
        scalar = adv.leave_one_out(outcome, scorable)
    return jnp.where(first(rollout.length, rollout.tokens.shape[-1]), scalar[:, None], 0.0)
