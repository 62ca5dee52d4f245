"""Step values of a policy's own solutions, by continued branches: what a step scorer learns from.

    v_k = share of N branches from the end of step k that end right,   v_K = o

A soft Monte-Carlo label of "the solution can still be finished", no person's label of a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from gccpo_jax.analysis.engine import trim_steps
from gccpo_jax.analysis.library import own_traces
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.counterfactual.places import cut_steps
from gccpo_jax.counterfactual.read import begin_values
from gccpo_jax.sampling.opened import Model
from gccpo_jax.sampling.outcomes import step_texts
from gccpo_jax.sampling.traces import Seen
from gccpo_jax.tasks.base import Item

GOOD = 0.5
"""A judge that scores a step below says that it is wrong."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """One solution and the values of its steps."""

    item: Item
    steps: tuple[str, ...]
    value: np.ndarray  # [K] f32 after each step; the last is the outcome; NaN unknown
    before: float  # Phi_0: mean outcome of its group
    logp: np.ndarray  # [K] mean log-probability of each step's tokens


def solutions(
    model: Model, items: Sequence[Item], settings: Settings, *, group: int
) -> tuple[list[Solution], float]:
    """`group` sampled solutions of each question with a known outcome, and the branches' tokens.

    `settings.counterfactual.draws` is N.
    """
    solver = model.solver
    traces = own_traces(model, items, settings, group=group)
    spans = trim_steps(cut_steps(solver, traces, settings.segmentation))
    values = begin_values(Seen(solver, model.params, traces), spans, settings.counterfactual)()
    start, end, mask = (np.asarray(x) for x in jax.tree.leaves(spans))
    logp = np.asarray(traces.rollout.logp, np.float64)
    found = []
    for b, g in np.argwhere(mask.any(-1) & traces.scorable):
        ends = start[b, g][mask[b, g]], end[b, g][mask[b, g]]
        value = np.append(values.value[b, g, : len(ends[0]) - 1], traces.outcome[b, g])
        found.append(
            Solution(
                items[b],
                tuple(step_texts(solver.tokenizer, traces.tokens[b, g], *ends)),
                value.astype(np.float32),
                float(np.nanmean(traces.outcome[b])),
                np.array([logp[b, g, i:j].mean() for i, j in zip(*ends, strict=True)]),
            )
        )
    return found, values.tokens


def agree(value: np.ndarray, judged: Sequence[float]) -> bool:
    """Whether branches and a judge find the first wrong step in the same place, or none.

    The consensus filter of arXiv 2501.07301: branches call a step wrong from which none of them
    ends right, the judge one that it scores below 1/2. Unknown values and scores say nothing.

    >>> agree(np.array([0.5, 0.0, 0.0]), [0.9, 0.2, 0.8])
    True
    """
    return _first(np.asarray(value) <= 0) == _first(np.asarray(judged) < GOOD)


def _first(wrong: np.ndarray) -> int:
    return int(np.argmax(wrong)) if wrong.any() else -1


def in_batches(
    collect: Callable[[Sequence[Item]], tuple[list[Solution], float]],
    items: Sequence[Item],
    batch: int,
) -> tuple[list[Solution], float]:
    """All questions, `batch` at a time; the last batch must not be smaller (another program)."""
    found, tokens = [], 0.0
    for first in range(0, len(items), batch):
        part, decoded = collect(items[first : first + batch])
        found, tokens = found + part, tokens + decoded
    return found, tokens
