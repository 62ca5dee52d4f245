"""Whether the scored reader can be trusted: its gate, its mass outside the candidates, Eq."""

from __future__ import annotations

import jax
import numpy as np

from gccpo_jax import reward
from gccpo_jax.runtime.distributed import broadcast_json, to_host
from gccpo_jax.sampling.traces import Traces
from gccpo_jax.tasks.base import Task
from gccpo_jax.types import Array, Candidates, Spans

_variation = jax.jit(jax.vmap(reward.law_variation))  # [B, G, E, C + 1] and mask to [B]


def reader_metrics(
    task: Task,
    sampled: Traces,
    spans: Spans,
    factual: Array,
    candidates: Candidates,
    answers: list[list[str]],
) -> dict[str, float]:
    """The reader's gate and how much of its law lies outside the candidates.

    `reader_gate`: over finished trajectories that emitted a candidate, how often the
    scored reader's most probable candidate at the last step is the emitted answer, or one
    that the task calls the same: a law has their mass in one row, the first of them.
    """
    laws, mask, counted_as = map(to_host, (factual, spans.mask, candidates.counted_as))
    finished = np.argwhere(to_host(sampled.rollout.stopped))
    last = mask.sum(-1) - 1

    def gate() -> float:
        agree, rows = [], {}
        for b, g in finished:
            answer = task.answer_of(sampled.items[b], sampled.texts[b, g])
            if (b, answer) not in rows:
                rows[b, answer] = _row(task, answers[b], counted_as[b], answer)
            if (row := rows[b, answer]) is not None:
                agree.append(int(np.argmax(laws[b, g, last[b, g], :-1])) == row)
        return float(np.mean(agree)) if agree else 0.0

    # Which answers are the same may depend on a deadline: the first process decides.
    return {"reader_gate": broadcast_json(gate), "other": _mean(laws[..., -1], mask)}


def _row(
    task: Task, candidates: list[str], counted_as: np.ndarray, answer: str | None
) -> int | None:
    """The row of a law that an answer is counted in; None: it is no candidate."""
    if not answer:
        return None
    if answer in candidates:
        return int(counted_as[candidates.index(answer)])
    same = (n for n, one in enumerate(candidates) if one and task.same(one, answer))
    return next(same, None)


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
