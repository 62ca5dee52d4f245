"""Token advantages of kinds without steps: from a group's outcomes, lengths and entropies."""

from __future__ import annotations

import jax.numpy as jnp

from gccpo_jax.advantage import shaping
from gccpo_jax.advantage.baselines import RIGHT
from gccpo_jax.advantage.kinds import outcome_only
from gccpo_jax.config import CreditConfig, RewardConfig
from gccpo_jax.masked import length_mask
from gccpo_jax.shapes import check, fields
from gccpo_jax.types import Array, Rollout


def shaped_outcome(
    outcome: Array, scorable: Array, rollout: Rollout, *, limit: int, rule: RewardConfig
) -> Array:
    """Rewards [G] of one group: outcome, shaped by length, less what is overlong.

    Args:
      outcome: [G] in [0, 1]. scorable: [G] bool. rollout: [G, T]; its length and stop.
      limit: most tokens of a response.
      rule: `overlong`, buffer of `shaping.soft_overlong`, 0: off; `length_penalty`, alpha of
      `shaping.length_penalised`, 0: off; `cosine`, the reward of `shaping.cosine_length` instead;
      `exploration`, share of `shaping.explored`, 0: off.
    """
    named = {"outcome": (outcome, "G"), "scorable": (scorable, "G")}
    check(**named, **fields("rollout", rollout, length="G"))
    reward = outcome
    length, ended = rollout.length, rollout.stopped
    if alpha := rule.length_penalty:
        reward = shaping.length_penalised(outcome, length, ended, scorable, alpha=alpha)
    if rule.cosine:
        reward = shaping.cosine_length(outcome, length, ended, limit=limit)
    if rule.exploration:
        reward = shaping.explored(reward, length, limit=limit, share=rule.exploration)
    if rule.overlong:
        reward = reward + shaping.soft_overlong(length, limit=limit, buffer=rule.overlong)
    return jnp.where(scorable, reward, 0.0)


def outcome_advantages(
    outcome: Array, scorable: Array, rollout: Rollout, *, rule: CreditConfig
) -> Array:
    """Token advantages [G, T] of one group by `rule.kind`; a kind is a function of the same.

    Args: outcome [G], shaped or not; scorable [G] bool; rollout [G, T].
    """
    named = {"outcome": (outcome, "G"), "scorable": (scorable, "G")}
    check(**named, **fields("rollout", rollout, tokens="G T", entropy="G T"))
    if rule.kind == "outcome":
        return outcome_only(outcome, scorable, rollout, rule=rule)
    return {"gtpo": _gtpo, "grpo_s": _grpo_s}[rule.kind](outcome, scorable, rollout, rule)


def _gtpo(outcome: Array, scorable: Array, rollout: Rollout, rule: CreditConfig) -> Array:
    inside = _inside(scorable, rollout)
    return shaping.gtpo(outcome > RIGHT, rollout.entropy, inside, **_options(rule))


def _grpo_s(outcome: Array, scorable: Array, rollout: Rollout, rule: CreditConfig) -> Array:
    inside = _inside(scorable, rollout)
    scalar = shaping.grpo_s(outcome > RIGHT, rollout.entropy, inside, scorable, **_options(rule))
    return jnp.where(inside, scalar[:, None], 0.0)


def _inside(scorable: Array, rollout: Rollout) -> Array:
    """[G, T] bool: response tokens of scorable trajectories."""
    return length_mask(rollout.length, rollout.tokens.shape[-1]) & scorable[:, None]


def _options(rule: CreditConfig) -> dict[str, float]:
    return {
        "base": rule.entropy_base,
        "bonus": rule.entropy_bonus,
        "floor": rule.entropy_floor,
        "ddof": rule.ddof,
        "epsilon": rule.epsilon,
    }
