"""Credits that are written for tokens: the paper's reconstruction and L2T."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax import advantage as adv
from gccpo_jax import paper as reconstruction
from gccpo_jax.credit_rule import Credit, CreditRule, measured
from gccpo_jax.masked import first, masked_median
from gccpo_jax.measure import Reading, StepScores, outcomes, readable_laws
from gccpo_jax.steps import step_of_token
from gccpo_jax.types import Array, Rollout, Spans


def paper(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="paper"`: the reconstruction of `paper.py`, over whatever nuisance arms there are.

    A step without a readable law takes the median of its group's robustness (0 if
    there is none); the scale of the energies is their mean over the group.
    """
    mask, scores = measured(reading, spans, use_gate, rule)
    factual, usable, _ = readable_laws(reading, mask, use_gate, rule.max_other)
    robust, defined = reconstruction.robustness(
        reading.nuisance.beside(factual), reading.nuisance.laws, usable
    )
    robust = jnp.where(defined, robust, masked_median(robust, defined, fallback=0.0))
    process = robust + rule.paper_weight * reconstruction.effectiveness(reading.energy, mask)
    return _mapped_back(process, mask, scores, reading, spans, rollout, rule)


def l2t(
    reading: Reading, spans: Spans, rollout: Rollout, use_gate: Array, *, rule: CreditRule
) -> Credit:
    """`credit="l2t"`: Learning to Think (arXiv 2505.10425) without its compression penalty.

    The step reward is the progress D_k; the answer step is compared with the outcome itself. The
    penalty (g . dtheta)^2 is `process.compression`: the paper does not say which displacement
    dtheta is meant inside one rollout, so none is made up here.
    """
    mask, scores = measured(reading, spans, use_gate, rule)
    return _mapped_back(scores.effect, mask, scores, reading, spans, rollout, rule)


def _mapped_back(
    process: Array,
    mask: Array,
    scores: StepScores,
    reading: Reading,
    spans: Spans,
    rollout: Rollout,
    rule: CreditRule,
) -> Credit:
    """L2T's token half: step rewards [G, E] and outcomes to token advantages [G, T]."""
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
