"""Whether the scored reader can be trusted: its gate, its mass outside the candidates, Eq."""

from __future__ import annotations

import jax
import numpy as np

from gccpo_jax import reward
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.tasks.base import Task
from gccpo_jax.types import Array, Candidates, Spans

_variation = jax.jit(jax.vmap(reward.law_variation))  # [B, G, E, C + 1] and mask to [B]


def reader_metrics(
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


def equivariance_metrics(follows: np.ndarray) -> dict[str, float]:
    """Mean Eq of the trajectories [B, G] that have one (NaN: not), and their share."""
    known = np.isfinite(follows)
    return {"Eq": _mean(follows, known), "Eq_defined": float(known.mean())}


def _mean(x: np.ndarray, where: np.ndarray) -> float:
    return float(x[where].mean()) if where.any() else 0.0


def candidate_metrics(candidates: Candidates) -> dict[str, float]:
    """Mean number of candidate answers of a question, and tokens of one scored readout of them."""
    exists = to_host(candidates.exists)
    lengths = to_host(candidates.mask).sum(-1) + 1  # with what ends it
    return {
        "candidates": float(exists.sum(-1).mean()),
        "candidate_tokens": float((lengths * exists).sum(-1).mean()),
    }
