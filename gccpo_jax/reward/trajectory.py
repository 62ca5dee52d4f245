"""All scores of one trajectory from its answer laws: the reward as a library.

    Phi_k = P_k(a*)                          value        D_k = Phi_k - Phi_{k-1}   effect
    R_k   = 1 - mean_m JSD(P_k, P_km)/ln 2   nuisance     S_k   the mean, content
    Q_k   = R_k S_k                          selectivity  D^cf  against resamples   baseline

Bring laws from any reader and any policy; no model, no key, no trainer. A score
that was not measured says so (`defined`) and is 0, never NaN and never a guess.
Training, analysis and `score_batch` all come here: there is no other scorer.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.reward import scores as reward
from gccpo_jax.reward.arms import Arms, Family, expect
from gccpo_jax.shapes import check, fields
from gccpo_jax.types import Array, record


@record
class Laws:
    """What a scored reader found along one trajectory; laws over C candidates and `other`."""

    before: Array  # [C + 1] f32     before the first step
    factual: Array  # [E, C + 1] f32  after each step
    mask: Array  # [E] bool          steps that exist; they come first
    gold: Array  # [] int32          candidate index of the gold answer; -1: there is none
    nuisance: Arms  # [E, P, C + 1]  Family.NUISANCE; each family has its own P, 0 allowed
    content: Arms  # [E, P, C + 1]   Family.CONTENT
    baseline: Arms  # [E, P, C + 1]  Family.BASELINE


@record
class Score:
    """One number per step, and whether it was measured."""

    value: Array  # [E] f32    0 where not defined
    defined: Array  # [E] bool


@record
class LeftOut:
    """How much of what was asked for could not be used; counts over existing steps."""

    unreadable: Array  # [] int32  steps whose law has too much mass outside the candidates
    nuisance: Array  # [] int32    arms that did not take place, or of an unreadable step
    content: Array  # [] int32
    baseline: Array  # [] int32


@record
class Scores:
    """Scores of the steps of one trajectory."""

    value: Score  # Phi_k in [0, 1]; needs a gold answer
    effect: Score  # D_k in [-1, 1]; needs a gold answer and two readable laws
    robustness: Score  # R_k in [0, 1]
    sensitivity: Score  # S_k in [0, 1]
    selectivity: Score  # Q_k in [0, 1]
    counterfactual: Score  # D^cf_k in [-1, 1]; needs a gold answer
    readable: Array  # [E] bool  steps whose own law counts; no other step has a score
    left_out: LeftOut


@partial(jax.jit, static_argnames=("max_other",))
def score_batch(laws: Laws, *, max_other: float = 0.2) -> Scores:
    """`score` of B questions x G trajectories at once, jitted: [B, G, ...] in and out.

    Args:
      laws: every field with [B, G] in front of what `Laws` says; B and G may be 1, and each
        new shape compiles once. max_other: as for `score`; static.
    Raises:
      UserError, ValueError: as `score`.
    Example: laws of 2 questions with 4 trajectories of 8 steps, `before` [2, 4, C + 1],
    `factual` [2, 4, 8, C + 1], `gold` [2, 4], give `robustness.value` [2, 4, 8].
    """
    check(**fields("Laws", laws, gold="B G", before="B G C+1"))
    trajectory = partial(score, max_other=max_other)
    each = Laws(before=0, factual=0, mask=0, gold=0, nuisance=0, content=0, baseline=0)
    group = jax.vmap(trajectory, in_axes=(each,))  # [G, ...]
    return jax.vmap(group, in_axes=(each,))(laws)  # [B, G, ...]


def score(laws: Laws, *, max_other: float = 0.2) -> Scores:
    """Every score of one trajectory; `score_batch` for many.

    A step whose own law has more than `max_other` outside the candidates is unreadable
    and leaves every score. An arm's law may put its mass there: that is the arm
    moving the answer (a corrupted number leads to an answer nobody gave), and leaving
    it out would hide just that.

    Args:
      laws: the laws; whatever is masked, unusable or unreadable may hold NaN.
      max_other: in [0, 1].
    Raises:
      UserError: arms of a wrong family. ValueError: an axis too many or too few, naming the
        field and both shapes. Both while tracing.
    Example, one step, gold 0: before (.1, .9, 0), after (.7, .2, .1) and the law
    (.5, .3, .2) under one arm of every family give Phi .7, D .6, R .9684033,
    S .0315967, Q .0305983, D^cf .2.
    """
    check(**fields("Laws", laws, gold="", before="C+1", mask="E", factual="E C+1"))
    arms = {
        "nuisance": expect(laws.nuisance, Family.NUISANCE, "Laws.nuisance", laws.factual),
        "content": expect(laws.content, Family.CONTENT, "Laws.content", laws.factual),
        "baseline": expect(laws.baseline, Family.BASELINE, "Laws.baseline", laws.factual),
    }
    readable = reward.readable(laws.factual, max_other) & laws.mask
    factual = jnp.where(readable[:, None], laws.factual, 0.0)
    usable = {name: each.usable & readable[:, None] for name, each in arms.items()}

    has_gold = (laws.gold >= 0) & (laws.gold < laws.before.shape[0] - 1)
    gold = jnp.where(has_gold, laws.gold, 0)
    valued = readable & has_gold
    value = jnp.where(valued, reward.gold_probability(factual, gold), 0.0)
    can_start = reward.readable(laws.before, max_other) & has_gold
    start = jnp.where(can_start, reward.gold_probability(laws.before, gold), 0.0)
    both = valued & jnp.append(can_start, valued)[:-1]
    effect = value - jnp.append(start, value)[:-1]

    robust = reward.robustness(
        laws.nuisance.beside(factual), laws.nuisance.laws, usable["nuisance"]
    )
    sensitive = reward.sensitivity(
        laws.content.beside(factual), laws.content.laws, usable["content"]
    )
    gain, gained = reward.counterfactual_effect(
        reward.gold_probability(_only(laws.baseline.beside(factual), usable["baseline"]), gold),
        reward.gold_probability(_only(laws.baseline.laws, usable["baseline"]), gold),
        usable["baseline"],
    )

    def left_out(name: str) -> Array:
        asked = jnp.broadcast_to(laws.mask[:, None], usable[name].shape)
        return jnp.sum(asked & ~usable[name], dtype=jnp.int32)

    return Scores(
        value=Score(value, valued),
        effect=_score(effect, both),
        robustness=_score(*robust),
        sensitivity=_score(*sensitive),
        selectivity=_score(*reward.selectivity(robust, sensitive)),
        counterfactual=_score(gain, gained & has_gold),
        readable=readable,
        left_out=LeftOut(
            unreadable=jnp.sum(laws.mask & ~readable, dtype=jnp.int32),
            nuisance=left_out("nuisance"),
            content=left_out("content"),
            baseline=left_out("baseline"),
        ),
    )


def _only(laws: Array, usable: Array) -> Array:
    return jnp.where(usable[..., None], laws, 0.0)


def _score(value: Array, defined: Array) -> Score:
    return Score(jnp.where(defined, value, 0.0), defined)
