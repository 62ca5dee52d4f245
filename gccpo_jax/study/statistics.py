"""Is one arm better than another? Paired contrasts over seeds, templates and items.

Two arms that start from the same policy with the same seed answer the same questions, so
what is looked at is a difference in each place of a table of seeds and items,

    d[s, i] = score of the first arm - score of the second,   in [-1, 1].

Seeds and questions are both samples: a claim about a method is about seeds and questions that
were not tried. They are crossed, not nested, since every seed answers the same questions, and
questions from one template (what stays when names and numbers are drawn anew) go together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

MARGIN = 0.01
"""Accuracies that differ by less are called equal."""

_FEW = 6
"""With fewer templates nothing is known of how templates vary: items are resampled alone."""

_NOTHING = 1e-24
"""A variance that is rounding."""


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A difference of two arms' accuracies, in shares of 1."""

    estimate: float  # mean of d over seeds and items
    low: float
    high: float
    p: float  # two-sided, of no difference
    equivalence: float  # p of a difference of MARGIN or more (two one-sided tests)
    error: float  # standard error
    freedom: float  # degrees of freedom of the error
    seeds: int
    clusters: int  # templates, or items where templates are few
    items: int


def contrast(
    first: np.ndarray,
    second: np.ndarray,
    templates: Sequence[Any],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Contrast:
    """The paired difference of two arms, with an interval by the hierarchical bootstrap.

    A resample draws seeds, then templates, then items inside each template that was drawn
    (`resampled_means`). Two things make its spread wrong in small tables. Seeds lose a factor
    (S - 1)/S, and the residual of seed and item is counted up to three times (Owen 2007, "The
    pigeonhole bootstrap"). So draws are stretched about the estimate to the unbiased standard
    error (`standard_error`), and the ends are their quantiles at Phi(t) with t the quantile of
    Student's law (Hesterberg 2015, "What teachers should know about the bootstrap": expanded
    percentiles). The shape is the bootstrap's, the width is right for five seeds. p and
    `equivalence` are of the same error and degrees of freedom, and an end is never nearer than
    Student's interval has it: where 0 is outside, p is below 1 - level.

    Args:
      first: scores [S, N] in [0, 1]; row s is of one seed, column i of one item.
      second: the same seeds and items.
      templates: [N] the template of each item. Fewer than six are not resampled: then items are
        resampled as if they had none.

    >>> zero = np.zeros((2, 8))
    >>> found = contrast(zero, zero, ["a"] * 8)
    >>> found.estimate, found.low, found.high, found.p
    (0.0, 0.0, 0.0, 1.0)
    """
    d = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if d.ndim != 2 or len(templates) != d.shape[1]:
        raise ValueError(f"scores {d.shape} with {len(templates)} templates; expected [S, N], [N]")
    clusters = np.unique([str(name) for name in templates], return_inverse=True)[1]
    if clusters.max() + 1 < _FEW:
        clusters = np.arange(d.shape[1])
    estimate = float(d.mean())
    error, freedom = standard_error(d, clusters)
    draws = resampled_means(d, clusters, resamples, np.random.default_rng(seed))
    spread = draws.std()
    if spread:
        draws = estimate + (draws - draws.mean()) * (error / spread)
    t = stats.t.ppf((1 + level) / 2, freedom)
    low, high = np.quantile(draws, [stats.norm.cdf(-t), stats.norm.cdf(t)])
    low, high = min(low, estimate - t * error), max(high, estimate + t * error)
    return Contrast(
        estimate=estimate,
        low=float(max(low, -1.0)),
        high=float(min(high, 1.0)),
        p=float(2 * stats.t.sf(_ratio(abs(estimate), error), freedom)),
        equivalence=float(stats.t.sf(_ratio(MARGIN - abs(estimate), error), freedom)),
        error=error,
        freedom=freedom,
        seeds=d.shape[0],
        clusters=int(clusters.max() + 1),
        items=d.shape[1],
    )


def standard_error(d: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Standard error of the mean of d [S, N] over crossed seeds and clusters, and its freedom.

        V = max(V_seeds, V_cells) + max(V_clusters - V_cells, 0)

    with the variances that one would take from the seeds' means alone, from the clusters' means
    alone and from what is left of each cell: the residual is in all three, once each (Cameron,
    Gelbach and Miller 2011). A few seeds' means may lie closer together than coins allow; the
    first maximum keeps such luck out of the error. Degrees of freedom by Satterthwaite: S - 1,
    T - 1 and (S - 1)(T - 1). A null is rejected at 5 % in 2 to 6 % of studies with five seeds
    or more, whatever varies; with two in up to 12 %. A single seed says nothing of
    other seeds: then V = V_clusters, and the claim is about these two policies.

    Args:
      clusters: [N] integers 0 to T - 1, each at least once.
    """
    seeds, items = d.shape
    member = np.zeros((items, clusters.max() + 1))
    member[np.arange(items), clusters] = 1 / items
    count, share = member.shape[1], member.sum(0)
    part = d @ member  # [S, T], adds up to a seed's mean
    of_seed = part.sum(1) - d.mean()
    of_cluster = part.mean(0) - share * d.mean()
    more = count / max(count - 1, 1)
    v_clusters = more * np.sum(of_cluster**2)
    if seeds == 1:
        return float(np.sqrt(v_clusters)), max(count - 1.0, 1.0)
    v_seeds = np.sum(of_seed**2) / (seeds * (seeds - 1))
    rest = part - part.mean(0) - share * of_seed[:, None]
    v_cells = more * np.sum(rest**2) / (seeds * (seeds - 1))
    own, freedom = max((v_seeds, seeds - 1), (v_cells, (seeds - 1) * max(count - 1, 1)))
    beyond = max(v_clusters - v_cells, 0.0)
    total = own + beyond
    if total < _NOTHING:
        return 0.0, seeds - 1.0
    freedom = total**2 / (own**2 / freedom + beyond**2 / max(count - 1, 1))
    return float(np.sqrt(total)), float(freedom)


def resampled_means(
    d: np.ndarray, clusters: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means [R] of d [S, N] over resampled seeds and, for all of them, resampled items.

    Seeds and clusters are drawn with replacement, and from a cluster that was drawn m times its n
    items m n times; so how many items a resample has varies with the clusters in it.
    """
    seeds, items = d.shape
    count = clusters.max() + 1
    of_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    of_cluster = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    of_item = np.zeros((resamples, items))
    if count == items:
        of_item[:, np.argsort(clusters)] = of_cluster
    else:
        for cluster in range(count):
            where = np.flatnonzero(clusters == cluster)
            size, chance = len(where), np.full(len(where), 1 / len(where))
            of_item[:, where] = rng.multinomial(of_cluster[:, cluster] * size, chance)
    sums = np.sum((of_seed @ d) * of_item, axis=1)
    return sums / (seeds * of_item.sum(1))


def holm(p: Sequence[float]) -> list[float]:
    """p-values of one family of tests, adjusted by Holm's steps; in the same order."""
    from statsmodels.stats.multitest import multipletests

    return [float(x) for x in multipletests(p, method="holm")[1]] if len(p) else []


def _ratio(estimate: float, error: float) -> float:
    """estimate / error, infinite where there is no error, 0 where there is neither."""
    if error:
        return estimate / error
    return float(np.sign(estimate) * np.inf) if estimate else 0.0
