"""ProcessBench's measure: can the scores find the earliest wrong step?

Zheng et al. 2024 (arXiv 2412.06559): of each solution the earliest erroneous step
is predicted, or -1 for "all steps are right". The accuracy on erroneous and the
accuracy on correct solutions are told apart, and F1 is their harmonic mean.

A score has no threshold of its own. It is chosen on one half of the questions,
the one with the highest F1 there, and judged on the other half, both ways round:
every solution is judged once, by a threshold that did not see its question.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from gccpo_jax.analysis.step_statistics import Rows, same_length
from gccpo_jax.statistics.bootstrap import Interval, Statistic, bootstrap, codes, divide, ratio


@dataclasses.dataclass(frozen=True)
class ProcessBench:
    """F1 and its two parts, in [0, 1]; all NaN where a part has no solutions."""

    f1: Interval
    error_accuracy: Interval  # over solutions with an error: exactly the earliest one found
    correct_accuracy: Interval  # over solutions without: no step flagged
    erroneous: int
    correct: int


def earliest_error(scores: Sequence[float] | np.ndarray, threshold: float) -> int:
    """Index of the first step whose score is below the threshold, -1 if none is.

    A NaN score flags nothing.

    >>> earliest_error([0.5, -0.1, -0.3], 0.0), earliest_error([], 0.0)
    (1, -1)
    """
    flagged = np.flatnonzero(np.asarray(scores, np.float64) < threshold)
    return int(flagged[0]) if flagged.size else -1


def judge(predicted: Rows, label: Rows, question: Rows, *, resamples: int = 2000) -> ProcessBench:
    """Accuracies and F1 of predicted earliest errors, intervals over questions.

    F1 = 2 a b / (a + b), and 0 where a = b = 0.

    Args:
        predicted: [N] int, one a solution; -1 for no error.
        label: [N] int, the truth.
        question: [N] sortable ids.

    >>> judge([1, 0, -1], [1, 1, -1], [0, 1, 2]).f1.estimate
    0.6666666666666666
    """
    questions, code = codes(question)
    predicted, label = np.asarray(predicted), np.asarray(label)
    same_length(predicted=predicted, label=label, question=code)
    hit, wrong = predicted == label, label != -1
    sums = [np.bincount(code, x, questions) for x in (hit & wrong, wrong, hit & ~wrong, ~wrong)]
    parts = ratio(*sums[:2]), ratio(*sums[2:])

    def interval(statistic: Statistic) -> Interval:
        return bootstrap(statistic, questions, resamples=resamples)

    return ProcessBench(
        interval(lambda weights: _f1(*(part(weights) for part in parts))),
        *(interval(part) for part in parts),
        int(wrong.sum()),
        int((~wrong).sum()),
    )


def process_bench(
    scores: Sequence[Sequence[float]],
    label: Rows,
    question: Rows,
    *,
    resamples: int = 2000,
) -> tuple[ProcessBench, tuple[float, float]]:
    """ProcessBench's measure of step scores, thresholds crossed between two halves.

    Questions go to the halves alternately in the sorted order of their ids. The
    interval is conditional on the two thresholds.

    Args:
        scores: [N][K_n], one per step, finite or NaN; low means wrong; NaN flags nothing.
        label: [N] int, index of the earliest wrong step, -1 if there is none.
        question: [N] sortable ids.

    Returns:
        The measure, and the threshold of each half (chosen on the other one). All
        NaN if a half lacks erroneous or correct solutions.

    Raises:
        ValueError: a label outside -1 ... K_n - 1.
    """
    label = np.asarray(label)
    for number, (row, truth) in enumerate(zip(scores, label, strict=True)):
        if not -1 <= truth < len(row):
            raise ValueError(f"solution {number} has {len(row)} steps and the label {truth}")
    half = codes(question)[1] % 2
    predicted = np.full(len(label), -1)
    chosen = []
    for fold in (0, 1):
        others = np.flatnonzero(half != fold)
        chosen.append(best_threshold([scores[n] for n in others], label[others]))
        for n in np.flatnonzero(half == fold):
            predicted[n] = earliest_error(scores[n], chosen[fold])
    thresholds = (chosen[0], chosen[1])
    if np.isnan(thresholds).any():
        nothing = Interval(np.nan, np.nan, np.nan)
        erroneous = int((label != -1).sum())
        return ProcessBench(*[nothing] * 3, erroneous, len(label) - erroneous), thresholds
    return judge(predicted, label, question, resamples=resamples), thresholds


def best_threshold(scores: Sequence[Sequence[float]], label: Rows) -> float:
    """The threshold with the highest F1, halfway to the next score below; NaN without both kinds.

    Solution n is right exactly for thresholds in an interval (low, high]: with an
    error at k, above its score and up to the least score before it; without,
    up to its least score. So the best threshold is among the upper ends; of
    several best ones it is the lowest.

    >>> best_threshold([[0.9, 0.1], [0.8, 0.4]], [1, -1])
    0.25
    """
    label = np.asarray(label)
    bounds = [_right_between(row, k) for row, k in zip(scores, label, strict=True)]
    low, high = np.array(bounds, np.float64).reshape(-1, 2).T
    wrong = label != -1
    if wrong.all() or not wrong.any():
        return float("nan")
    candidates = np.unique(high)[:, None]
    right = (low < candidates) & (candidates <= high)
    f1 = _f1(right[:, wrong].mean(1), right[:, ~wrong].mean(1))
    best = float(candidates[np.argmax(f1), 0])
    flat = np.concatenate([np.asarray(row, np.float64) for row in scores])
    middle = best / 2 + float(flat[flat < best].max(initial=-np.inf)) / 2
    # Between neighbouring floats, or beside an infinite one, there is no room.
    safe = np.isfinite(middle) and (flat < middle).sum() == (flat < best).sum()
    return middle if safe else best


def _right_between(scores: Sequence[float], label: int) -> tuple[float, float]:
    """(low, high]: the thresholds for which this solution is judged right; maybe none."""
    row = np.asarray(scores, np.float64)
    row = np.where(np.isnan(row), np.inf, row)
    if label == -1:
        return -np.inf, row.min(initial=np.inf)
    return row[label], row[:label].min(initial=np.inf)


def _f1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(a + b == 0, 0.0, divide(2 * a * b, a + b))
