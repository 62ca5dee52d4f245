"""From what was read of one question's group to the scores of its steps.

D_k = Phi_k - Phi_{k-1}          R_k = 1 - mean_m JSD(P_0, P_m)/ln 2   (nuisance)
d~_k = R_k max(D_k, 0) + min(D_k, 0)
S_k = mean_m JSD(P_0, P_m)/ln 2  (content)             Q_k = R_k S_k
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gccpo_jax import reward
from gccpo_jax.masked import masked_mean
from gccpo_jax.reward.arms import Arms, Family, expect
from gccpo_jax.types import Array, Spans, record


@record
class GroupReading:
    """What was read of one question's trajectories at the ends of their macro-steps."""

    outcome: Array  # [G] f32 in [0, 1]; anything where not scorable
    scorable: Array  # [G] bool
    value: Array  # [G, E] f32  Phi after each step; NaN or anything where it was not read
    factual: Array  # [G, E, C + 1] f32  answer law after each step
    nuisance: Arms  # [G, E, P, C + 1]  Family.NUISANCE
    content: Arms  # [G, E, P2, C + 1]  Family.CONTENT; P2 may be 0
    energy: Array  # [G, E] f32 >= 0  mean square of the step's latent; credit `paper` reads it
    equivariance: Array  # [G] f32  Eq of each trajectory; NaN where it was not measured


@record
class StepScores:
    """Scores of the steps of a group, before any baseline."""

    value_before: Array  # [G, E]  Phi_{k-1}
    effect: Array  # [G, E]  D_k
    robustness: Array  # [G, E]  R_k, filled where undefined
    defined: Array  # [G, E] bool  R_k was measured
    gated: Array  # [G, E]  d~_k
    sensitivity: Array  # [G, E]  S_k, 0 where undefined
    content_defined: Array  # [G, E] bool  S_k was measured
    selectivity: Array  # [G, E]  Q_k, 0 where undefined
    selective_defined: Array  # [G, E] bool  both were measured


def existing(reading: GroupReading, spans: Spans) -> Array:
    """[G, E] bool: steps that exist, of trajectories that could be scored."""
    return spans.mask & reading.scorable[:, None]


def outcomes(reading: GroupReading) -> Array:
    """[G] outcomes, 0 where not scorable."""
    return jnp.where(reading.scorable, reading.outcome, 0.0)


def readable_steps(reading: GroupReading, mask: Array, use_gate: Array, max_other: float) -> Array:
    """[G, E] bool: existing steps whose own law counts; `use_gate` [] False leaves none."""
    return reward.readable(reading.factual, max_other) & mask & use_gate


def readable_laws(
    reading: GroupReading, mask: Array, use_gate: Array, max_other: float
) -> tuple[Array, Array, Array]:
    """The laws that count: factual [G, E, C + 1] (0 elsewhere), nuisance and content arms.

    Returns the factual laws and which arms [G, E, P] and [G, E, P2] count: those that took
    place on a step whose own law is readable. `use_gate` [] False leaves none.
    """
    readable = readable_steps(reading, mask, use_gate, max_other)
    return (
        jnp.where(readable[..., None], reading.factual, 0.0),
        reading.nuisance.usable & readable[..., None],
        reading.content.usable & readable[..., None],
    )


def effects_of(reading: GroupReading, value: Array, mask: Array) -> tuple[Array, Array]:
    """Phi_{k-1} and D_k [G, E] of values [G, E] after each step; not finite: the group's mean."""
    outcome = outcomes(reading)
    baseline = masked_mean(outcome, reading.scorable)
    value = jnp.where(jnp.isfinite(value), value, baseline)
    start = jnp.broadcast_to(baseline, value.shape[:1])[:, None]
    value_before = jnp.concatenate([start, value], axis=1)[:, :-1]
    return value_before, jax.vmap(reward.effects)(value_before, outcome, mask)


def measure(
    reading: GroupReading,
    spans: Spans,
    use_gate: Array,
    *,
    gate: bool = True,
    gate_answer: bool = True,
    gate_by: str = "robustness",
    max_other: float = 0.2,
) -> StepScores:
    """Scores of one group's steps; the options are `reward.gated_effects`' and `readable`'s.

    `gate_by` "equivariance" gates by R_k Eq instead of R_k, with Eq the trajectory's
    equivariance (the median of the group's where it has none).

    Phi_0 is the group's mean outcome: the G rollouts *are* draws of the continued
    reader before any step, already paid for. Being the same for the whole group it
    leaves the recentred advantage unbiased; as a score of the first step it is
    conservative by a factor (G - 1) / G of the trajectory's own outcome.

    Args:
      reading: arrays of the group. spans: macro-steps [G, E].
      use_gate: [] bool; False where the reader failed its gate, so that no law is used.
    """
    mask = existing(reading, spans)
    value_before, effect = effects_of(reading, reading.value, mask)
    factual, nuisance, content = readable_laws(reading, mask, use_gate, max_other)
    robust = reward.robustness(
        reading.nuisance.beside(factual),
        expect(reading.nuisance, Family.NUISANCE, "GroupReading.nuisance").laws,
        nuisance,
    )
    sensitive = reward.sensitivity(
        reading.content.beside(factual),
        expect(reading.content, Family.CONTENT, "GroupReading.content").laws,
        content,
    )
    selective = reward.selectivity(robust, sensitive)
    filled = reward.fill_undefined(*robust)
    weight = filled
    if gate_by == "equivariance":
        known = jnp.isfinite(reading.equivariance) & reading.scorable & use_gate
        weight = filled * reward.fill_undefined(reading.equivariance, known)[:, None]

    def gated_of(effect: Array, robust: Array, mask: Array) -> Array:
        return reward.gated_effects(effect, robust, mask, gate=gate, gate_answer=gate_answer)

    return StepScores(
        value_before=jnp.where(mask, value_before, 0.0),
        effect=effect,
        robustness=filled,
        defined=robust[1],
        gated=jax.vmap(gated_of)(effect, weight, mask),
        sensitivity=sensitive[0],
        content_defined=sensitive[1],
        selectivity=selective[0],
        selective_defined=selective[1],
    )
