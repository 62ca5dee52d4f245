"""How much a step scorer pays for length alone, by a counterfactual: the same step, said twice.

    b = sum_k (s'_k - s_k)(n'_k - n_k) / sum_k (n'_k - n_k)^2,    debiased  s - b (n - usual)

s and n are the score and the words of a step, s' and n' those of the step that repeats itself,
which says no more. b is the least-squares price of a word; the scorer takes it off again
(`step_scorer.Layout.length_slope`). Length debiasing by counterfactuals is CoLD's idea; the
intervention and the linear form are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Many = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[np.ndarray]]
"""Scores [steps] of each (question, steps)."""


def said_twice(step: str) -> str:
    """The step, and once more.

    >>> said_twice("3 + 4 = 7\\n")
    '3 + 4 = 7 3 + 4 = 7\\n'
    """
    body = step.rstrip()
    return f"{body} {body}{step[len(body) :]}"


def words(step: str) -> int:
    """Words of a step."""
    return len(step.split())


def length_bias(many: Many, solutions: Sequence[tuple[str, Sequence[str]]]) -> tuple[float, float]:
    """b, the price of a word, and the mean number of words of a step.

    Args:
      many: the scorer, not debiased. solutions: (question, steps); each step is repeated in turn.
    """
    plain = many(solutions)
    longer, places = [], []
    for number, (question, steps) in enumerate(solutions):
        for k, step in enumerate(steps):
            longer.append((question, [*steps[:k], said_twice(step), *steps[k + 1 :]]))
            places.append((number, k))
    rise, added = np.zeros(len(places)), np.zeros(len(places))
    for row, ((number, k), scores) in enumerate(zip(places, many(longer), strict=True)):
        rise[row] = scores[k] - plain[number][k]
        added[row] = words(solutions[number][1][k])
    known = np.isfinite(rise) & (added > 0)
    if not known.any():
        return 0.0, 0.0
    slope = float(np.sum(rise[known] * added[known]) / np.sum(added[known] ** 2))
    return slope, float(added[known].mean())


def debiased(scores: np.ndarray, steps: Sequence[str], *, slope: float, usual: float) -> np.ndarray:
    """Scores [steps] less what their length is paid, kept in [0, 1]; NaN stays NaN."""
    lengths = np.array([words(step) for step in steps], np.float64)
    return np.clip(scores - slope * (lengths - usual), 0.0, 1.0)
