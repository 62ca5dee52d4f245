"""Numbers for the log that say whether sampling, readers and credit can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax import reward
from gccpo_jax.credit_rule import Credit
from gccpo_jax.distributed import to_host
from gccpo_jax.measure import Reading
from gccpo_jax.tasks.base import Task
from gccpo_jax.types import Array, Spans

if TYPE_CHECKING:
    from gccpo_jax.traces import Traces

_variation = jax.jit(jax.vmap(reward.law_variation))  # [B, G, E, C + 1] and mask to [B]


def of_sampling(sampled: Traces) -> dict[str, float]:
    """Accuracy, share of groups with contrast, entropy (nats a token), lengths (tokens)."""
    outcome, scorable, rollout = sampled.outcome, sampled.scorable, sampled.rollout
    best = np.where(scorable, outcome, -np.inf).max(1)
    worst = np.where(scorable, outcome, np.inf).min(1)
    return {
        "accuracy": _mean(outcome, scorable),
        "unscorable": float(1 - scorable.mean()),
        "contrast": float((best > worst).mean()),
        "entropy": float(to_host(rollout.entropy).sum() / sampled.lengths.sum()),
        "length": float(sampled.lengths.mean()),
        "truncated": float(1 - to_host(rollout.stopped).mean()),
        "tokens": float(sampled.lengths.sum()),
    }


def of_reader(
    task: Task, sampled: Traces, spans: Spans, factual: Array, answers: list[list[str]]
) -> dict[str, float]:
    """The reader's gate and how much of its law lies outside the candidates.

    `reader_gate`: over finished trajectories that emitted a candidate, how often the
    scored reader's most probable candidate at the last step is the emitted answer.
    """
    laws, mask = to_host(factual), to_host(spans.mask)
    last = mask.sum(-1) - 1
    finished = to_host(sampled.rollout.stopped)
    agree = []
    for b, g in zip(*np.nonzero(finished), strict=True):
        answer = task.extract(sampled.texts[b, g])
        if answer in answers[b]:
            best = int(np.argmax(laws[b, g, last[b, g], :-1]))
            agree.append(best == answers[b].index(answer))
    return {
        "reader_gate": float(np.mean(agree)) if agree else 0.0,
        "other": _mean(laws[..., -1], mask),
    }


def of_equivariance(follows: np.ndarray) -> dict[str, float]:
    """Mean Eq of the trajectories [B, G] that have one (NaN: not), and their share."""
    known = np.isfinite(follows)
    return {"Eq": _mean(follows, known), "Eq_defined": float(known.mean())}


def of_credit(credit: Credit, spans: Spans, reading: Reading) -> dict[str, float]:
    """Reward parts over steps that exist: R, D, gated effect, share of the first step.

    `law_variation` (`reward.law_variation`, mean over questions) near 0 says that the
    reader answers the same after every step: then R near 1 says nothing.
    """
    mask = to_host(spans.mask) & to_host(reading.scorable)[..., None]
    last = mask & (np.arange(mask.shape[-1]) == mask.sum(-1, keepdims=True) - 1)
    effect, gated = to_host(credit.effect), to_host(credit.gated)
    robust, defined = to_host(credit.robustness), to_host(credit.defined) & mask
    selective = to_host(credit.selective_defined) & mask
    size = np.abs(gated).sum()
    return {
        "R": _mean(robust, defined),
        "R_answer": _mean(robust, defined & last),
        "R_defined": _mean(defined, mask),
        "D": _mean(effect, mask),
        "D_abs": _mean(np.abs(effect), mask),
        "D_positive": _mean(effect > 0, mask),
        "D_answer": _mean(effect, last),
        "gated": _mean(gated, mask),
        "S": _mean(to_host(credit.sensitivity), to_host(credit.content_defined) & mask),
        "Q": _mean(to_host(credit.selectivity), selective),
        "Q_defined": _mean(selective, mask),
        "step_score": _mean(to_host(credit.step_score), mask),
        "law_variation": float(_variation(reading.factual, jnp.asarray(mask)).mean()),
        "credit_first": float(np.abs(gated[..., 0]).sum() / size) if size else 0.0,
        "advantage_abs": _mean(np.abs(to_host(credit.step_advantage)), mask),
    }


def _mean(x: np.ndarray, where: np.ndarray) -> float:
    return float(x[where].mean()) if where.any() else 0.0
