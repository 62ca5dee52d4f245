"""One question's group, from what was read to token advantages: the method on one screen.

    D_k = Phi_k - Phi_{k-1},  R_k = 1 - mean_m JSD(P_0, P_m)/ln 2,  S_k,  Q_k = R_k S_k
    d~_k = R_k max(D_k, 0) + min(D_k, 0)

    gated_gae    A_k = sum_{j>=k} lam^{tokens/t0} d~_j, minus its leave-one-out mean
    additive     A_k = A_out + weight C_k,  C_k = d~_k minus its leave-one-out mean
    selective    A_k = A_out w_k,  w_k in proportion to floor + Q_k
    four_corner  A = o (a + (1 - a) q) + (1 - o) b q, minus its leave-one-out mean
    paper, l2t   by rewards of tokens, see `paper.py`
    terminate    A_k = o - Phi_{k-1}, none before the first boundary

Leave-one-out means are over the same step (or all) of the other trajectories. Steps
here are macro-steps: the pieces between boundaries at which Phi was read.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax import reward
from gccpo_jax.advantage import paper as reconstruction
from gccpo_jax.advantage import process_supervision
from gccpo_jax.advantage import step_advantages as adv
from gccpo_jax.advantage.baselines import leave_one_out, outcome_advantage
from gccpo_jax.advantage.controls import inverted, permuted, step_term
from gccpo_jax.advantage.credit import Credit, on_every_token, spread_all, tokens_of
from gccpo_jax.config import CreditConfig
from gccpo_jax.masked import length_mask, masked_median
from gccpo_jax.reward.group import (
    GroupReading,
    StepScores,
    check_reading,
    existing,
    measure,
    outcomes,
    transported_reading,
)
from gccpo_jax.shapes import check, fields
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Rollout, Spans


@partial(jax.jit, static_argnames=("rule", "max_other", "draws"))
def credit_batch(
    reading: GroupReading,
    spans: Spans,
    rollout: Rollout,
    use_gate: Array,
    keys: Array | None = None,
    *,
    rule: CreditConfig,
    max_other: float,
    draws: int = 1,
) -> Credit:
    """Measures the steps of a batch and credits each group; jitted, [B, G, ...] in and out.

    Args:
      reading: arrays of B groups. spans: macro-steps [B, G, E].
      rollout: [B, G, T]; its cache, which has other axes, is not read.
      use_gate: [] bool; False where the reader failed its gate, so that no law is used:
        R is 1, all Q are equal, the paper's robustness is 0.
      keys: [B, G], for `rule.control` "permuted" only; consumed.
      rule: the choices. max_other: more mass outside the candidates, and a law is unreadable.
      draws: N, branches that each Phi is the mean of; `pooled` and `shrink` read it.
    """
    check(**fields("reading", reading, outcome="B G"), **fields("rollout", rollout, tokens="B G T"))
    if reading.transported is not None:
        reading = jax.vmap(partial(transported_reading, kappa=rule.kappa))(reading)
    if rule.kind not in BESIDE_OUTCOME:
        reading = dataclasses.replace(reading, final=None)
    scores = measure(
        reading, spans, use_gate, gate=rule.gate, gate_answer=rule.gate_answer,
        gate_by=rule.gate_by, max_other=max_other,
    )  # fmt: skip
    rollout = dataclasses.replace(rollout, segment=None)
    of_group = partial(credit_group, rule=rule, draws=draws)
    in_axes = (0, 0, 0, 0, None if keys is None else 0)
    return jax.vmap(of_group, in_axes=in_axes)(reading, scores, spans, rollout, keys)


def credit_group(
    reading: GroupReading,
    scores: StepScores,
    spans: Spans,
    rollout: Rollout,
    keys: Array | None = None,
    *,
    rule: CreditConfig,
    draws: int = 1,
) -> Credit:
    """Credit of one group by `rule.kind`; each kind is a function of the same arguments.

    Args:
      reading: arrays of the group. scores: what `measure` made of them, [G, E].
      spans: macro-steps [G, E]. rollout: [G, T].
      keys: [G], of this optimisation step, for `rule.control` "permuted" only; consumed.
      rule: the choices.
    A trajectory that could not be scored gets 0 and leaves every baseline.

    Raises:
      ValueError: an axis too many or too few; names the argument and both shapes.
    """
    check_reading(reading, spans)
    check(
        **fields("scores", scores, **dict.fromkeys(vars(scores), "G E")),
        **fields("spans", spans, mask="G E"),
        **fields("rollout", rollout, tokens="G T"),
    )
    if rule.kind == "gated_gae":
        return gated_gae(reading, scores, spans, rollout, keys, rule=rule, draws=draws)
    return KINDS[rule.kind](reading, scores, spans, rollout, rule=rule)


def gated_gae(
    reading: GroupReading,
    scores: StepScores,
    spans: Spans,
    rollout: Rollout,
    keys: Array | None,
    *,
    rule: CreditConfig,
    draws: int,
) -> Credit:
    """`credit="gated_gae"`, the default: Phi is the critic and R gates what it praises.

    `rule.step_term` and `rule.control` put a control in its place (see `controls.py`).
    """
    mask, tokens = existing(reading, spans), tokens_of(spans)
    term = earned = step_term(reading, scores, spans, rule)
    if rule.control == "permuted":
        if keys is None:
            raise ValueError("credit control 'permuted': expected keys [G], got None")
        earned = jax.vmap(permuted)(keys, term, mask)
    reward, where = outcomes(reading), reading.scorable
    if rule.pooled:
        pool = partial(adv.pooled_effects, draws=draws)
        returns = jax.vmap(pool)(scores.value_before, reward, mask)
    else:
        lam, unit = rule.lam, rule.tokens_per_unit
        discount = partial(adv.discounted_effects, lam=lam, tokens_per_unit=unit)
        returns = jax.vmap(discount)(earned, tokens)
    if rule.shrink:
        returns += adv.shrunk_baseline(
            scores.value_before, reward, mask, where, draws=draws, weight=rule.shrink
        )
    per_step = adv.recentre(returns, mask)
    if rule.control == "inverted":
        per_step = jax.vmap(inverted)(per_step, tokens, spans.mask)
    return Credit(
        **vars(scores),
        step_score=term,
        step_advantage=per_step,
        advantage=spread_all(per_step, spans, rollout, rule),
    )


def additive(
    reading: GroupReading, scores: StepScores, spans: Spans, rollout: Rollout, *, rule: CreditConfig
) -> Credit:
    """`credit="additive"`: two streams with a baseline each, nearest to the paper's shape.

    C is clipped to [-1, 1]; token weights apply to C only, so that weight 0 is
    `outcome_only`.
    """
    mask = existing(reading, spans)
    process = jnp.clip(adv.recentre(scores.gated, mask), -1.0, 1.0)
    weighted = rule.additive_weight * process
    scalar = outcome_advantage(outcomes(reading), reading.scorable, rule=rule)
    return Credit(
        **vars(scores),
        step_score=process,
        step_advantage=jnp.where(mask, scalar[:, None] + weighted, 0.0),
        advantage=on_every_token(scalar, rollout) + spread_all(weighted, spans, rollout, rule),
    )


def selective(
    reading: GroupReading, scores: StepScores, spans: Spans, rollout: Rollout, *, rule: CreditConfig
) -> Credit:
    """`credit="selective"`: the outcome's advantage goes where the answer was caused; no gold.

    A step without Q takes the median of its group's (all equal if there is none).
    """
    mask = existing(reading, spans)
    filled = reward.fill_undefined(scores.selectivity, scores.selective_defined)
    preserve = partial(adv.mass_preserving, floor=rule.selective_floor)
    weights = jax.vmap(preserve)(filled, tokens_of(spans))
    per_step = jnp.where(
        mask,
        weights * outcome_advantage(outcomes(reading), reading.scorable, rule=rule)[:, None],
        0.0,
    )
    return Credit(
        **vars(scores),
        step_score=weights,
        step_advantage=per_step,
        advantage=spread_all(per_step, spans, rollout, rule),
    )


def four_corner(
    reading: GroupReading, scores: StepScores, spans: Spans, rollout: Rollout, *, rule: CreditConfig
) -> Credit:
    """`credit="four_corner"`: one advantage per trajectory, for the outcome and its soundness.

    The soundness q is the token mean of Q over the steps where it was measured; a
    trajectory without any takes the median of its group's (1 if there is none, which
    leaves the outcome's contrast, scaled).
    """
    mask = existing(reading, spans)
    sound, known = jax.vmap(adv.token_mean)(
        scores.selectivity, tokens_of(spans), scores.selective_defined
    )
    sound = reward.fill_undefined(sound[:, None], known[:, None])[:, 0]
    shaped = adv.four_corner(outcomes(reading), sound, a=rule.corner_a, b=rule.corner_b)
    scalar = leave_one_out(shaped, reading.scorable)
    return Credit(
        **vars(scores),
        step_score=scores.selectivity,
        step_advantage=jnp.where(mask, scalar[:, None], 0.0),
        advantage=on_every_token(scalar, rollout),
    )


def outcome_only(outcome: Array, scorable: Array, rollout: Rollout, *, rule: CreditConfig) -> Array:
    """The trajectory's outcome advantage on each of its tokens, [G, T].

    Args: outcome [G]; scorable [G] bool; rollout [G, T]. The baselines are those of
    `baselines.outcome_advantage`.
    """
    return on_every_token(outcome_advantage(outcome, scorable, rule=rule), rollout)


def paper(
    reading: GroupReading, scores: StepScores, spans: Spans, rollout: Rollout, *, rule: CreditConfig
) -> Credit:
    """`credit="paper"`: the reconstruction of `paper.py`, over whatever nuisance arms there are.

    A step without a readable law takes the median of its group's robustness (0 if
    there is none); the scale of the energies is their mean over the group.
    """
    mask = existing(reading, spans)
    arms, seen = reading.nuisance, scores.readable[..., None]
    robust, defined = reconstruction.robustness(
        arms.beside(jnp.where(seen, reading.factual, 0.0)), arms.laws, arms.usable & seen
    )
    robust = jnp.where(defined, robust, masked_median(robust, defined, fallback=0.0))
    process = robust + rule.paper_weight * reconstruction.effectiveness(reading.energy, mask)
    return _mapped_back(process, mask, scores, reading, spans, rollout, rule)


def l2t(
    reading: GroupReading, scores: StepScores, spans: Spans, rollout: Rollout, *, rule: CreditConfig
) -> Credit:
    """`credit="l2t"`: Learning to Think (arXiv 2505.10425), r_k = D_k - beta C_k.

    The progress D_k of the last step is to the reading after it where values are read at once, and
    to the outcome where branches are continued. C_k = (g . dtheta)^2 comes with the reading
    (`process_supervision.compression`) if `rule.compression`, its beta, is not 0; the paper does
    not say which displacement is meant inside one rollout, training takes it from its start.
    """
    mask = existing(reading, spans)
    process = scores.effect
    if reading.penalty is not None:
        process = jnp.where(mask, process - rule.compression * reading.penalty, 0.0)
    return _mapped_back(process, mask, scores, reading, spans, rollout, rule)


def terminate(
    reading: GroupReading, scores: StepScores, spans: Spans, rollout: Rollout, *, rule: CreditConfig
) -> Credit:
    """`credit="terminate"`: MRT's advantage over answering at once, A_k = o - Phi_{k-1}.

    The baseline of what follows a boundary is the reward of a policy that is made to answer there
    (arXiv 2503.07572, the `terminate now` half of its rollouts). Read at once, Phi is that reward's
    mean and none of them is sampled. What comes before the first boundary does not train.
    """
    mask = existing(reading, spans)
    after = mask & (jnp.arange(mask.shape[1]) > 0)[None]
    over = process_supervision.over_terminating
    of_step = jax.vmap(lambda v, w, o: over(o[None], v[None], w[None], w[None])[0], (0, 0, None))
    per_step = jax.vmap(of_step)(scores.value_before, after, outcomes(reading))
    return Credit(
        **vars(scores),
        step_score=scores.effect,
        step_advantage=per_step,
        advantage=spread_all(per_step, spans, rollout, rule),
    )


def _mapped_back(
    process: Array,
    mask: Array,
    scores: StepScores,
    reading: GroupReading,
    spans: Spans,
    rollout: Rollout,
    rule: CreditConfig,
) -> Credit:
    """L2T's token half: step rewards [G, E] and outcomes to token advantages [G, T]."""
    size = rollout.tokens.shape[-1]
    inside = length_mask(rollout.length, size)
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


KINDS = {
    "additive": additive,
    "selective": selective,
    "four_corner": four_corner,
    "paper": paper,
    "l2t": l2t,
    "terminate": terminate,
}
"""Kinds of credit beside the default; a new one is a function, a row here and a name in config."""

BESIDE_OUTCOME = ("additive", "l2t")
"""Kinds whose effects stand beside the outcome: they end at the reading after the last step, where
there is one (MRT, L2T: J_K - J_{K-1}). In the others the last effect is what the outcome adds."""
