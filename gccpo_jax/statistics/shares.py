"""Shares of right answers: an interval of one, and the difference of two on the same items."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

from gccpo_jax.statistics.bootstrap import Interval


def wilson(right: float, total: int, level: float = 0.95) -> Interval:
    """A share of `total` independent answers with Wilson's interval; NaN for none.

        (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    It stays inside [0, 1] and is no point at 0 or 1, as the percentiles of a bootstrap are.

    >>> round(wilson(0, 10).high, 4)
    0.2775
    """
    if not total:
        return Interval(np.nan, np.nan, np.nan)
    z = float(stats.norm.ppf((1 + level) / 2))
    share, spread = right / total, z**2 / total
    middle = share + spread / 2
    half = z * np.sqrt(share * (1 - share) / total + spread / (4 * total))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return Interval(share, float(np.clip(low, 0, share)), float(np.clip(high, share, 1)))


@dataclasses.dataclass(frozen=True)
class Discordance:
    """Two policies on the same items: where exactly one is right."""

    first: int  # items that only the first answers
    second: int
    difference: float  # of accuracies
    low: float  # of the difference, 95 %, over items
    high: float
    p: float  # exact McNemar
    h: float  # Cohen's h, 2 asin sqrt(p1) - 2 asin sqrt(p2)


def mcnemar(first: np.ndarray, second: np.ndarray) -> Discordance:
    """Exact McNemar test of two policies' outcomes [N] in {0, 1}, with the risk difference.

    The interval is Wald's with one pseudo-count in each discordant cell (Agresti and Min 2005);
    it is over items only and says nothing of other seeds.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    only_a, only_b, n = int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)
    x, y, m = only_a + 0.5, only_b + 0.5, n + 2
    middle, half = (x - y) / m, 1.96 * np.sqrt(x + y - (x - y) ** 2 / m) / m
    return Discordance(
        first=only_a,
        second=only_b,
        difference=(only_a - only_b) / n,
        low=float(max(middle - half, -1.0)),
        high=float(min(middle + half, 1.0)),
        p=_sign_test(only_a, only_b),
        h=cohen_h(float(a.mean()), float(b.mean())),
    )


def _sign_test(first: int, second: int) -> float:
    """Two-sided exact p of as uneven a split of first + second coins."""
    return float(min(2 * stats.binom.cdf(min(first, second), first + second, 0.5), 1.0))


def cohen_h(first: float, second: float) -> float:
    """Effect size of two shares: 2 asin sqrt(p1) - 2 asin sqrt(p2), in [-pi, pi]."""
    return float(2 * np.arcsin(np.sqrt(first)) - 2 * np.arcsin(np.sqrt(second)))
