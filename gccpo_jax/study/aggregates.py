"""An arm's score over seeds and families at once, after rliable.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice":
the interquartile mean and the probability of improvement, with intervals by a bootstrap that
resamples seeds in each family by itself (stratified).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from gccpo_jax.statistics.bootstrap import Interval


def iqm(scores: np.ndarray, *, resamples: int = 5000, seed: int = 0) -> Interval:
    """Mean of the middle half of scores [S, K] of S seeds in K families, with a 95 % interval."""
    draws = resample(np.asarray(scores, np.float64), resamples, np.random.default_rng(seed))
    estimate = stats.trim_mean(scores, 0.25, axis=None)
    return _interval(estimate, stats.trim_mean(draws.reshape(resamples, -1), 0.25, axis=1))


def probability_of_improvement(
    first: np.ndarray, second: np.ndarray, *, resamples: int = 5000, seed: int = 0
) -> Interval:
    """P(a seed of the first arm beats a seed of the second), mean over families.

        mean_k  mean_{s, s'} ( 1[x_sk > y_s'k] + 1[x_sk = y_s'k] / 2 )

    Args:
      first, second: scores [S, K] and [S', K]. Seeds are not paired here.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    rng = np.random.default_rng(seed)
    draws = resample(first, resamples, rng), resample(second, resamples, rng)
    return _interval(_wins(first, second), _wins(*draws))


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of pairs that x [..., S, K] wins against y [..., S', K]; a draw is half."""
    gap = x[..., :, None, :] - y[..., None, :, :]
    return ((np.sign(gap) + 1) / 2).mean(axis=(-3, -2, -1))


def resample(scores: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Scores [R, S, K]: in each family other seeds, drawn with replacement."""
    rows = rng.integers(len(scores), size=(resamples, *scores.shape))
    return np.take_along_axis(scores[None], rows, axis=1)


def _interval(estimate: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(estimate), float(low), float(high))
