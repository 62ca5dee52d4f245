"""Whether step credits agree with step labels: pair counts inside strata.

Rows are steps of all trajectories, flat: `score[n]` is the credit of a step,
`question[n]` its question (any sortable ids), `step[n]` its index in the
trajectory. A stratum is one question and one step index: only steps that
answer the same question at the same place are compared, so neither an easy
question nor the position of a step can make the score look good.

    AUC = sum over strata of #{(i, j): y_i = 1, y_j = 0, s_i > s_j} + #{ties} / 2
          divided by the number of such pairs

Plain NumPy on the host. A NaN score means that a step has none: it is left out.
Intervals resample questions, see `bootstrap.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from gccpo_jax.statistics.bootstrap import Interval, bootstrap, codes, divide, ratio


@dataclasses.dataclass(frozen=True)
class Outscores:
    """P(a sound step of a failed trajectory outscores a flawed step of a lucky one)."""

    interval: Interval  # over all pairs
    pairs_within: int  # inside one question
    pairs_across: int  # of two questions that lack a partner of their own


@dataclasses.dataclass(frozen=True)
class Means:
    """Mean score of each label, and how far each is above the label before it."""

    means: tuple[Interval, ...]  # [L]
    gaps: tuple[Interval, ...]  # [L - 1] paired: both means from the same resamples


def stratified_auc(
    score: Rows,
    positive: Rows,
    question: Rows,
    step: Rows,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """AUC of the score against a binary label over pairs inside strata; NaN without a pair.

    Arguments as in `pair_counts`; the 95 % interval is `bootstrap`'s.

    >>> stratified_auc([3, 2, 2, 9], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]).estimate
    0.75
    """
    counts = pair_counts(score, positive, question, step)
    statistic = ratio(counts.concordant, counts.pairs)
    return bootstrap(statistic, counts.pairs.size, resamples=resamples, seed=seed)


def auc_gain(
    score: Rows,
    rival: Rows,
    positive: Rows,
    question: Rows,
    step: Rows,
    *,
    resamples: int = 2000,
) -> Interval:
    """AUC of `score` minus AUC of `rival` on the rows where both exist, same resamples."""
    score, rival = np.asarray(score, np.float64), np.asarray(rival, np.float64)
    same_length(score=score, rival=rival)
    missing = np.isnan(score) | np.isnan(rival)
    counts = [
        pair_counts(np.where(missing, np.nan, one), positive, question, step)
        for one in (score, rival)
    ]
    mine, theirs = (ratio(one.concordant, one.pairs) for one in counts)
    gain = lambda weights: mine(weights) - theirs(weights)  # noqa: E731
    return bootstrap(gain, counts[0].pairs.size, resamples=resamples)


def probability_outscores(
    score: Rows,
    sound_wrong: Rows,
    flawed_lucky: Rows,
    question: Rows,
    step: Rows,
    *,
    resamples: int = 2000,
) -> Outscores:
    """P(step of a sound-but-wrong trajectory outscores a flawed step of a lucky one).

    A question that has both kinds gives all pairs of its own, whatever their step
    index. Lucky trajectories are rare, so the other questions are paired with
    each other: a question with only the first kind with one with only the
    second, at equal step index. Ties count half. Broadcasting the outcome to all
    steps gives 0.

    Args:
        score, question, step: [N] as in `pair_counts`.
        sound_wrong: [N] bool, a step without error (nor one before it) of a
            trajectory whose answer is wrong.
        flawed_lucky: [N] bool, a wrong step of a trajectory whose answer is right.

    Raises:
        ValueError: a row is both.
    """
    score = np.asarray(score, np.float64)
    first, second = np.asarray(sound_wrong, bool), np.asarray(flawed_lucky, bool)
    questions, code = codes(question)
    _, place = codes(step)
    same_length(score=score, sound_wrong=first, flawed_lucky=second, question=code, step=place)
    if (first & second).any():
        raise ValueError(f"row {int(np.argmax(first & second))} is both sound_wrong and flawed")
    used = (first | second) & ~np.isnan(score)
    own, all_own = count(score[used], first[used], code[used], code[used], questions)
    lonely = used & (all_own == 0)[code]
    rows, columns, won, tried = _across(score, first & lonely, second & lonely, code, place)

    def pooled(weights: np.ndarray) -> np.ndarray:
        left, right = weights[:, rows], weights[:, columns]
        other, all_other = ((left @ counts * right).sum(-1) for counts in (won, tried))
        return divide(weights @ own + other, weights @ all_own + all_other)

    found = bootstrap(pooled, questions, resamples=resamples)
    return Outscores(found, int(all_own.sum()), int(tried.sum()))


def mean_by_label(
    score: Rows, label: Sequence[Hashable], question: Rows, order: Sequence[Hashable]
) -> Means:
    """Mean score by label; the order holds where every gap's interval is above 0.

    Not stratified: a label that is more frequent late in a trajectory brings the
    scores of late steps with it.

    Args:
        score: [N]; rows that are not finite are left out.
        label: [N]; rows with another label than those of `order` do not count.
        question: [N] sortable ids.
        order: labels from the lowest expected mean to the highest, e.g.
            ("invalid", "filler", "valid").
    """
    score = np.asarray(score, np.float64)
    questions, code = codes(question)
    where = [np.array([one == name for one in label], bool) for name in order]
    same_length(score=score, question=code, **dict(zip(map(str, order), where, strict=True)))
    finite = np.isfinite(score)
    statistics = []
    for rows in where:
        rows = rows & finite
        total = np.bincount(code[rows], score[rows], questions)
        statistics.append(ratio(total, np.bincount(code[rows], minlength=questions)))

    def gap(lower, upper) -> Interval:
        return bootstrap(lambda weights: upper(weights) - lower(weights), questions)

    return Means(
        tuple(bootstrap(one, questions) for one in statistics),
        tuple(gap(a, b) for a, b in zip(statistics, statistics[1:], strict=False)),
    )


def _across(
    score: np.ndarray, first: np.ndarray, second: np.ndarray, code: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of two questions at equal place.

    Returns the question codes of the rows and of the columns, and two tables:
    pairs in which the row's step scored higher (ties half), and all pairs.
    """
    rows, columns = np.unique(code[first]), np.unique(code[second])
    won, tried = np.zeros((2, len(rows), len(columns)))
    for column, other in enumerate(columns):
        for at in np.unique(place[second & (code == other)]):
            rivals = np.sort(score[second & (code == other) & (place == at)])
            mine = first & (place == at)
            row = np.searchsorted(rows, code[mine])
            left, right = (np.searchsorted(rivals, score[mine], side) for side in ("left", "right"))
            won[:, column] += np.bincount(row, (left + right) / 2, len(rows))
            tried[:, column] += np.bincount(row, minlength=len(rows)) * len(rivals)
    return rows, columns, won, tried


Rows = Sequence | np.ndarray


@dataclasses.dataclass(frozen=True)
class PairCounts:
    """Pairs of one positive and one negative step of a stratum, summed over a question."""

    concordant: np.ndarray  # [Q] float64: positive scored higher, plus half of the ties
    pairs: np.ndarray  # [Q] float64: all of them


def pair_counts(score: Rows, positive: Rows, question: Rows, step: Rows) -> PairCounts:
    """Concordant and all pairs, one entry per question in sorted order; O(N log N).

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
    return PairCounts(*count(score[kept], positive[kept], stratum[kept], code[kept], questions))


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
        raise ValueError(f"expected vectors of one length, one entry per step, but got {shapes}")
