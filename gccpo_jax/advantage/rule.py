"""What every kind of credit is made of: its choices, its result, and the steps it shares."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.advantage import step_advantages as adv
from gccpo_jax.advantage.baselines import outcome_advantage
from gccpo_jax.masked import length_mask
from gccpo_jax.reward.group import GroupReading, StepScores, existing, measure, outcomes
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
    step_term: str = "gated"
    gate_by: str = "robustness"
    control: str = "none"
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

    value_before: Array  # [G, E] and the next eight: `group.StepScores`
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


def spread(per_step: Array, spans: Spans, rollout: Rollout, token_weights: str) -> Array:
    """Step advantages [E] of one trajectory over its tokens [T], uniform or by surprise."""
    size = rollout.tokens.shape[0]
    tokens = adv.to_tokens(per_step, spans, size)
    if token_weights == "uniform":
        return tokens
    weights = adv.surprise_weights(
        rollout.logp,
        step_of_token(spans, size),
        length_mask(rollout.length, size),
        per_step.shape[0],
    )
    return tokens * weights


def measured(
    reading: GroupReading, spans: Spans, use_gate: Array, rule: CreditRule
) -> tuple[Array, StepScores]:
    """Which steps count [G, E], and their scores."""
    scores = measure(
        reading, spans, use_gate,
        gate=rule.gate, gate_answer=rule.gate_answer, gate_by=rule.gate_by,
        max_other=rule.max_other,
    )  # fmt: skip
    return existing(reading, spans), scores


def outcome_scalar(reading: GroupReading, rule: CreditRule) -> Array:
    """[G]: the outcome's advantage under the rule's baseline."""
    return outcome_advantage(
        outcomes(reading), reading.scorable,
        baseline=rule.baseline, ddof=rule.ddof, epsilon=rule.epsilon, k=rule.pass_k,
    )  # fmt: skip


def on_every_token(scalar: Array, rollout: Rollout) -> Array:
    """[G, T]: one number a trajectory on all its tokens."""
    return jnp.where(length_mask(rollout.length, rollout.tokens.shape[-1]), scalar[:, None], 0.0)


def tokens_of(spans: Spans) -> Array:
    """[G, E]: tokens of each step, 0 on padding."""
    return jnp.where(spans.mask, spans.end - spans.start, 0)


def spread_all(per_step: Array, spans: Spans, rollout: Rollout, rule: CreditRule) -> Array:
    """`spread` over the group: [G, E] to [G, T]."""
    return jax.vmap(partial(spread, token_weights=rule.token_weights))(per_step, spans, rollout)
