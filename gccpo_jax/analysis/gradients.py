"""How far gradients of independent batches agree: signal and noise, from dot products alone.

    g_kr = mu + a_k + b_kr      batch k of questions, sampled r times: mu the expected gradient,
                                a_k what its questions add, b_kr what its tapes add

    same question, same tape    Q = mean_kr |g_kr|^2              |mu|^2 + tr A + tr B
    same question, other tape   W = mean_k, r != s <g_kr, g_ks>   |mu|^2 + tr A
    other questions             S = mean_k != l    <g_kr, g_ls>   |mu|^2

each without bias. What a batch of n tokens would be with m n of them follows from variance in
proportion to 1 / m: two such batches have the expected cosine S / (S + (Q - S) / m).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from gccpo_jax.statistics.bootstrap import Interval

FEWEST = 3
"""Batches that an interval needs: with one left out there are still two that differ."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """The gradients of one preset: K batches of questions, R tapes of each."""

    whole: np.ndarray  # [K, R, D] f32
    trajectory: np.ndarray  # [K, R, D] f32  of the mean advantage of each trajectory
    tokens: float  # forward tokens of a batch, on average


@dataclasses.dataclass(frozen=True)
class Dots:
    """Dot products of the gradients of two arms (or one) on the same K batches, R tapes each."""

    dots: np.ndarray  # [K, R, K, R] float64

    def without(self, batch: int) -> Dots:
        """All but one batch."""
        kept = np.delete(np.arange(len(self.dots)), batch)
        return Dots(self.dots[np.ix_(kept, range(self.tapes), kept, range(self.tapes))])

    @property
    def batches(self) -> int:
        """K."""
        return len(self.dots)

    @property
    def tapes(self) -> int:
        """R."""
        return self.dots.shape[1]

    @property
    def total(self) -> float:
        """Q."""
        return float(np.einsum("krkr->", self.dots)) / (self.batches * self.tapes)

    @property
    def same(self) -> float:
        """W; NaN with one tape."""
        if self.tapes == 1:
            return math.nan
        within = np.einsum("krks->", self.dots) - np.einsum("krkr->", self.dots)
        return float(within) / (self.batches * self.tapes * (self.tapes - 1))

    @property
    def signal(self) -> float:
        """S."""
        between = self.dots.sum() - np.einsum("krks->", self.dots)
        return float(between) / (self.batches * (self.batches - 1) * self.tapes**2)

    @property
    def variance(self) -> float:
        """Trace of the covariance of a batch's gradient: Q - S."""
        return self.total - self.signal

    @property
    def ratio(self) -> float:
        """Signal to noise of one batch: S / (Q - S)."""
        return divided(self.signal, self.variance)

    @property
    def cosine(self) -> float:
        """Mean cosine of two gradients of other questions."""
        size = np.sqrt(np.einsum("krkr->kr", self.dots))
        scale = size[:, :, None, None] * size[None, None]
        cosines = np.divide(self.dots, scale, out=np.zeros_like(self.dots), where=scale > 0)
        return Dots(cosines).signal


def dots_of(first: np.ndarray, second: np.ndarray) -> Dots:
    """Dot products of gradients [K, R, D] with gradients [K, R, D], added in float64."""
    shape = first.shape[:2]
    rows = [x.reshape(-1, x.shape[-1]) for x in (first, second)]
    wide = np.zeros((len(rows[0]), len(rows[1])))
    for start in range(0, rows[0].shape[1], 1 << 18):  # float64 copies of a part at a time
        a, b = (x[:, start : start + (1 << 18)].astype(np.float64) for x in rows)
        wide += a @ b.T
    return Dots(wide.reshape(*shape, *shape))


def jackknife(statistic: Callable[..., float], *dots: Dots, level: float = 0.95) -> Interval:
    """Interval of a statistic of one or more `Dots` over batches of questions.

    Each batch is left out once, in all of them: standard error
    sqrt((K - 1) / K sum_k (x_k - mean x)^2), read at Student's quantile with K - 1 degrees of
    freedom. Where mu is 0 it is too wide. All NaN where the estimate is.
    """
    estimate, count = statistic(*dots), dots[0].batches
    left = np.array([statistic(*(x.without(k) for x in dots)) for k in range(count)])
    error = math.sqrt((count - 1) / count * ((left - left.mean()) ** 2).sum())
    reach = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return Interval(estimate, estimate - reach, estimate + reach)


def tokens_for_half(ratio: Interval, tokens: float) -> Interval:
    """Tokens per batch at which two gradients have the expected cosine .5: tokens / ratio.

    An end is infinite where the ratio's is 0 or less: no number of tokens is known to do.
    """
    low, estimate, high = (
        tokens / x if x > 0 else math.inf for x in (ratio.high, ratio.estimate, ratio.low)
    )
    return Interval(estimate, low, high)


def cosine_at(ratio: Interval, tokens: float, matched: float) -> Interval:
    """Expected cosine of two gradients of `matched` tokens each; 0 where the ratio is below 0."""

    def at(x: float) -> float:
        scaled = max(x, 0.0) * matched / tokens
        return scaled / (1 + scaled)

    return Interval(at(ratio.estimate), at(ratio.low), at(ratio.high))


def expected_cosine(first: Dots, second: Dots, cross: Dots) -> float:
    """Cosine of the expected gradients of two arms, from batches of other questions.

    Args:
      cross: dot products of the one's gradients with the other's, on the same batches.
    Returns:
      NaN where the signal of either is not above 0. It may exceed 1 by noise.
    """
    if min(first.signal, second.signal) <= 0:
        return math.nan
    return cross.signal / math.sqrt(first.signal * second.signal)


def divided(a: float, b: float) -> float:
    """a / b; NaN unless b is positive."""
    return a / b if b > 0 else math.nan
