"""Pairs of a positive and a negative step, counted by question.

Rows are steps of all trajectories, flat. A stratum is one question and one step
index: only pairs inside it are counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from gccpo_jax.bootstrap import codes

Rows = Sequence | np.ndarray


@dataclasses.dataclass(frozen=True)
class PairCounts:
    """Pairs of one positive and one negative step of a stratum, summed over a question."""

    concordant: np.ndarray  # [Q] float64: positive scored higher, plus half of the ties
    pairs: np.ndarray  # [Q] float64: all of them
    left_out: int  # rows without a score


def pair_counts(score: Rows, positive: Rows, question: Rows, step: Rows) -> PairCounts:
    """Concordant and all pairs, one entry a question in sorted order; O(N log N).

    Args:
        score: [N] any real, also infinite; NaN rows are left out.
        positive: [N] bool.
        question: [N] sortable ids; a question stays in the result without a pair.
        step: [N] sortable, e.g. the step index; a constant makes the question the stratum.
    """
    score, positive = np.asarray(score, np.float64), np.asarray(positive, bool)
    questions, code = codes(question)
    _, place = codes(step)
    same_length(score=score, positive=positive, question=code, step=place)
    kept = ~np.isnan(score)
    stratum = code * (place.max(initial=0) + 1) + place
    counts = count(score[kept], positive[kept], stratum[kept], code[kept], questions)
    return PairCounts(*counts, int((~kept).sum()))


def count(
    score: np.ndarray, positive: np.ndarray, stratum: np.ndarray, code: np.ndarray, questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Concordant and all pairs by question, from one sort by stratum, then score."""
    order = np.lexsort((score, stratum))
    score, positive, stratum, code = (x[order] for x in (score, positive, stratum, code))
    new = np.ones(len(score), bool)  # first row of its stratum
    new[1:] = stratum[1:] != stratum[:-1]
    group = new.copy()  # first row of its ties
    group[1:] |= score[1:] != score[:-1]
    below = np.concatenate([[0], np.cumsum(~positive)])  # negatives before each row
    start, end = _run_bounds(group)
    first, last = _run_bounds(new)
    concordant = (below[start] + below[end]) / 2 - below[first]
    pairs = below[last] - below[first]
    return (
        np.bincount(code, concordant * positive, questions),
        np.bincount(code, pairs * positive, questions),
    )


def _run_bounds(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the bounds of its run; `first` marks where runs begin."""
    starts = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    return starts[run], np.append(starts, len(first))[1:][run]


def same_length(**rows: np.ndarray) -> None:
    """Raises ValueError with all shapes unless the rows are vectors of one length."""
    shapes = {name: row.shape for name, row in rows.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"expected vectors of one length, one entry a step, but got {shapes}")
