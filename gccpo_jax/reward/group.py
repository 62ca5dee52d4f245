"""From what was read of a batch's groups to the scores of their steps.

D_k = Phi_k - Phi_{k-1}          R_k = 1 - mean_m JSD(P_0, P_m)/ln 2   (nuisance)
d~_k = R_k max(D_k, 0) + min(D_k, 0)
S_k = mean_m JSD(P_0, P_m)/ln 2  (content)             Q_k = R_k S_k

R, S and Q are `trajectory.score`'s. D is of values that a reader has continued, not of laws.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.masked import leave_one_out_mean, masked_mean
from gccpo_jax.reward import scores as reward
from gccpo_jax.reward.arms import Arms, Family, no_arms
from gccpo_jax.reward.trajectory import Laws, Scores, score_batch
from gccpo_jax.shapes import check, fields, shaped
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
    start: Array | None = None  # [G] f32  Phi before the first step; None, NaN: the mean outcome
    # [G] f32  Phi after the last step, where the reader answers at once, for credit that has the
    # outcome beside the effects; NaN: no law of the trajectory was readable. None: the outcome.
    final: Array | None = None
    # Read under rewrites of question and steps (counterfactual/transport.py); None: not asked.
    transported: Array | None = None  # [G] f32  o^do, NaN where there was no rewrite
    step_robustness: Array | None = None  # [G, E] f32  rho_k, NaN where there was none
    penalty: Array | None = None  # [G, E] f32  L2T's C_k; None: not computed


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
    readable: Array  # [G, E] bool  the step's own law counts


def existing(reading: GroupReading, spans: Spans) -> Array:
    """[..., G, E] bool: steps that exist, of trajectories that could be scored."""
    return spans.mask & reading.scorable[..., None]


def outcomes(reading: GroupReading) -> Array:
    """[..., G] outcomes, 0 where not scorable."""
    return jnp.where(reading.scorable, reading.outcome, 0.0)


def check_reading(reading: GroupReading, spans: Spans, group: str = "G") -> None:
    """Raises ValueError unless the arrays are of one group ("G") or of a batch ("B G")."""
    per_step, laws = f"{group} E", f"{group} E C+1"
    scalars = ("outcome", "scorable", "equivariance", "start", "final", "transported")
    steps = dict.fromkeys(("value", "energy", "step_robustness", "penalty"), per_step)
    check(
        **fields("reading", reading, **dict.fromkeys(scalars, group), **steps, factual=laws),
        **fields("spans", spans, start=per_step, end=per_step, mask=per_step),
    )


def laws_of(reading: GroupReading, mask: Array) -> Laws:
    """The laws of each trajectory, for the scores that need no gold answer: R, S and Q.

    Args: reading [..., G, ...]; mask [..., G, E] bool, steps whose laws may be used.
    """
    entries = reading.factual.shape[-1]
    return Laws(
        before=jnp.zeros((*mask.shape[:-1], entries)),
        factual=reading.factual,
        mask=mask,
        gold=jnp.full(mask.shape[:-1], -1),
        nuisance=reading.nuisance,
        content=reading.content,
        baseline=no_arms(Family.BASELINE, mask.shape, entries),
    )


@shaped(outcome="G", transported="G", scorable="G")
def transported_reward(
    outcome: Array, transported: Array, scorable: Array, *, kappa: float
) -> Array:
    """The reward of a trajectory that is right for a reason that survives other words, [G].

        r = (1 - kappa) o + kappa o o^do

    Args:
      outcome: [G] o. transported: [G] o^do; NaN where the trajectory has no rewrite: the mean
        of those right trajectories of the group that have one, 1 if there is none.
      scorable: [G] bool. kappa: in [0, 1]; 0 is the outcome.
    A wrong trajectory earns 0 with or without a rewrite.
    Example: o 1, o^do .1, kappa 1: .1.
    """
    outcome = jnp.where(scorable, outcome, 0.0)
    known = jnp.isfinite(transported) & scorable
    right = known & (outcome > 0)
    mean = jnp.where(right.any(), masked_mean(transported, right), 1.0)
    return outcome * (1.0 - kappa + kappa * jnp.where(known, transported, mean))


def transported_reading(reading: GroupReading, *, kappa: float) -> GroupReading:
    """The reading whose outcome is `transported_reward`, and Phi_0 the others' mean of it."""
    reward = transported_reward(reading.outcome, reading.transported, reading.scorable, kappa=kappa)
    start = leave_one_out_mean(reward, reading.scorable)
    return dataclasses.replace(reading, outcome=reward, start=start)


def effects_of(reading: GroupReading, value: Array, mask: Array) -> tuple[Array, Array]:
    """Phi_{k-1} and D_k [G, E] of values [G, E] after each step; not finite: the group's mean.

    The last effect is to the outcome, or to `reading.final`.
    """
    outcome = outcomes(reading)
    baseline = masked_mean(outcome, reading.scorable)
    value = jnp.where(jnp.isfinite(value), value, baseline)
    start = jnp.broadcast_to(baseline, value.shape[:1])
    if reading.start is not None:
        start = jnp.where(jnp.isfinite(reading.start), reading.start, start)
    value_before = jnp.concatenate([start[:, None], value], axis=1)[:, :-1]
    end = outcome
    if reading.final is not None:
        end = jnp.where(jnp.isfinite(reading.final), reading.final, start)
    return value_before, jax.vmap(reward.effects)(value_before, end, mask)


@shaped(use_gate="")
def measure(
    reading: GroupReading,
    spans: Spans,
    use_gate: Array,
    *,
    gate: bool,
    gate_answer: bool,
    gate_by: str,
    max_other: float,
) -> StepScores:
    """Scores of the steps of a batch; the options are `gated_effects`' and `readable`'s.

    `gate_by` "equivariance" gates by R_k Eq instead of R_k, with Eq the trajectory's
    equivariance, "step" by rho_k (the median of the group's where it has none).

    Phi_0 is the group's mean outcome where `reading.start` has none: the G rollouts *are*
    draws of the continued reader before any step, already paid for. Being the same for the
    whole group it leaves the recentred advantage unbiased; as a score of the first step it
    is conservative by a factor (G - 1) / G of the trajectory's own outcome.

    Args:
      reading: arrays [B, G, ...]. spans: macro-steps [B, G, E].
      use_gate: [] bool; False where the reader failed its gate, so that no law is used.
    Returns:
      Scores [B, G, E].
    """
    check_reading(reading, spans, "B G")
    mask = existing(reading, spans)
    found = score_batch(laws_of(reading, mask & use_gate), max_other=max_other)
    known = jnp.isfinite(reading.equivariance) & reading.scorable & use_gate
    of_group = partial(_of_group, gate=gate, gate_answer=gate_answer, gate_by=gate_by)
    return jax.vmap(of_group)(reading, found, known, mask)


def _of_group(
    reading: GroupReading,
    found: Scores,
    known: Array,  # [G] bool  Eq counts
    mask: Array,
    *,
    gate: bool,
    gate_answer: bool,
    gate_by: str,
) -> StepScores:
    """What a group is needed for: Phi_0, and scores in place of those that are undefined."""
    value_before, effect = effects_of(reading, reading.value, mask)
    filled = reward.fill_undefined(found.robustness.value, found.robustness.defined)
    weight = filled
    if gate_by == "equivariance":
        weight = filled * reward.fill_undefined(reading.equivariance[:, None], known[:, None])
    if gate_by == "step" and reading.step_robustness is not None:
        known_steps = jnp.isfinite(reading.step_robustness) & mask
        weight = reward.fill_undefined(reading.step_robustness, known_steps)
    gated = partial(reward.gated_effects, gate=gate, gate_answer=gate_answer)
    return StepScores(
        value_before=jnp.where(mask, value_before, 0.0),
        effect=effect,
        robustness=filled,
        defined=found.robustness.defined,
        gated=jax.vmap(gated)(effect, weight, mask),
        sensitivity=found.sensitivity.value,
        content_defined=found.sensitivity.defined,
        selectivity=found.selectivity.value,
        selective_defined=found.selectivity.defined,
        readable=found.readable,
    )
