"""AUC inside strata, its intervals, lucky trajectories, means by label."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gccpo_jax.analysis import step_statistics as steps
from gccpo_jax.statistics.bootstrap import bootstrap, ratio
from tests.helpers import oracles_steps as oracle

# Few values, so that ties, strata of one kind and questions without a pair occur.
SCORE = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, math.nan])
ROW = st.tuples(SCORE, st.booleans(), st.sampled_from("abcd"), st.integers(0, 2))
ROWS = st.lists(ROW, max_size=40)
FEW = {"resamples": 50}


def _columns(rows, count=4):
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * count


def _auc(rows):
    return steps.stratified_auc(*_columns(rows), resamples=0).estimate


def _same(a, b):
    return a == pytest.approx(b, abs=1e-12, nan_ok=True)


@given(ROWS)
def test_pairs_and_auc_equal_the_loops(rows):
    score, positive, question, step = _columns(rows)
    counts = steps.pair_counts(score, positive, question, step)
    expected = oracle.pairs(score, positive, question, step)
    assert list(zip(counts.concordant, counts.pairs, strict=True)) == [
        tuple(expected[q]) for q in sorted(expected)
    ]
    got = steps.stratified_auc(score, positive, question, step, **FEW)
    assert _same(got.estimate, oracle.auc(score, positive, question, step))


def test_an_auc_by_hand():
    # Question 0, step 0: 3 beats 1 and 2, 2 ties with 2 and beats 1; step 1 has no
    # negative; question 1 has one pair and loses it. Pooled it would be 8.5 / 12.
    rows = [(3, 1, 0, 0), (2, 1, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (9, 1, 0, 1)]
    rows += [(7, 1, 1, 0), (8, 0, 1, 0)]
    got = steps.stratified_auc(*_columns(rows))
    assert got.estimate == pytest.approx(3.5 / 5)
    assert steps.pair_counts(*_columns(rows)).pairs.tolist() == [4, 1]


@given(ROWS, st.randoms(use_true_random=False))
def test_auc_keeps_under_monotone_maps_and_order_and_turns_with_the_label(rows, random):
    value = _auc(rows)
    assert _same(_auc([(math.exp(s) + s, *rest) for s, *rest in rows]), value)
    shuffled = random.sample(rows, len(rows))
    assert _same(_auc(shuffled), value)
    assert _same(_auc([(s, not y, *rest) for s, y, *rest in rows]), 1 - value)
    assert _same(_auc([(-s, *rest) for s, *rest in rows]), 1 - value)


@given(ROWS)
def test_what_a_whole_stratum_shares_does_not_matter(rows):
    moved = [(s + 10 * ord(q) - 100 * k, y, q, k) for s, y, q, k in rows]
    assert _same(_auc(moved), _auc(rows))


def test_infinite_scores_are_scores():
    inf = math.inf
    rows = [(inf, 1, 0, 0), (inf, 0, 0, 0), (-inf, 0, 0, 0), (-inf, 1, 0, 0)]
    assert _auc(rows) == (0.5 + 1 + 0 + 0.5) / 4


def _noisy(questions, seed, gain=1.0):
    """Rows of eight trajectories of three steps; valid steps score higher by `gain`."""
    rng = np.random.default_rng(seed)
    shape = (questions, 8, 3)
    valid = rng.random(shape) < 0.6
    score = rng.normal(size=shape) + gain * valid + rng.normal(size=(questions, 1, 1))
    question, _, step = np.indices(shape)
    return score.ravel(), valid.ravel(), question.ravel(), step.ravel()


@given(ROWS, st.integers(0, 3))
def test_the_interval_covers_its_estimate_and_repeats(rows, seed):
    got = steps.stratified_auc(*_columns(rows), resamples=400, seed=seed)
    again = steps.stratified_auc(*_columns(rows), resamples=400, seed=seed)
    assert repr(got) == repr(again)
    low, value, high = got.low, got.estimate, got.high
    assert math.isnan(value) or 0 <= low <= value <= high <= 1
    pairs = steps.pair_counts(*_columns(rows)).pairs
    assert math.isnan(low) == math.isnan(high) == math.isnan(value) == (pairs.sum() == 0)


def test_the_interval_shrinks_with_questions_and_equals_scipys():
    widths = []
    for questions in (20, 80, 320):
        rows = _noisy(questions, seed=questions)
        got = steps.stratified_auc(*rows, seed=1)
        counts = steps.pair_counts(*rows)
        reference = stats.bootstrap(
            (counts.concordant, counts.pairs),
            lambda c, n, axis: c.sum(axis) / n.sum(axis),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=2000,
            rng=0,
        ).confidence_interval
        widths.append(got.high - got.low)
        assert got.low == pytest.approx(reference.low, abs=0.1 * widths[-1])
        assert got.high == pytest.approx(reference.high, abs=0.1 * widths[-1])
    # A fourfold number of questions halves it.
    assert 0.35 < widths[1] / widths[0] < 0.65 and 0.35 < widths[2] / widths[1] < 0.65


def test_questions_are_resampled_not_rows():
    # All pairs of a question agree: a hundred copies of its rows say nothing new.
    rows = [(s, y, q, 0) for q in range(20) for s, y in ((q % 2, 1), (0.5, 0))]
    once = steps.stratified_auc(*_columns(rows))
    assert steps.stratified_auc(*_columns(rows * 10)) == once


def test_a_perfect_score_has_a_point_interval():
    rows = [(y, y, q, 0) for q in range(5) for y in (0, 1)]
    got = steps.stratified_auc(*_columns(rows))
    assert (got.low, got.estimate, got.high) == (1, 1, 1)


def test_undefined_resamples_are_left_out():
    rows = [(1, 1, 0, 0), (0, 0, 0, 0), (1, 1, 1, 0), (1, 1, 2, 0)]
    got = steps.stratified_auc(*_columns(rows), resamples=50)
    assert (got.low, got.high) == (1, 1)


def test_level_and_the_quantiles_of_a_known_law():
    # The mean of 0/1 over 100 questions: binomial.
    ones = np.repeat([0.0, 1.0], 50)
    for level in (0.5, 0.95):
        got = bootstrap(ratio(ones, np.ones(100)), 100, level=level, resamples=20000)
        low, high = stats.binom(100, 0.5).interval(level)
        assert got.low == pytest.approx(low / 100, abs=0.0101)
        assert got.high == pytest.approx(high / 100, abs=0.0101)


def test_gain_is_the_difference_of_aucs_and_is_paired():
    score, *rest = _noisy(60, seed=0)
    rival = score + 0.3 * np.random.default_rng(1).normal(size=score.shape)
    gain = steps.auc_gain(score, rival, *rest)
    mine, theirs = (steps.stratified_auc(one, *rest) for one in (score, rival))
    assert gain.estimate == pytest.approx(mine.estimate - theirs.estimate, abs=1e-12)
    assert gain.high - gain.low < 0.5 * (mine.high - mine.low)
    zero = steps.auc_gain(score, score, *rest)
    assert (zero.low, zero.estimate, zero.high) == (0, 0, 0)
    back = steps.auc_gain(rival, score, *rest)
    assert back.low == pytest.approx(-gain.high) and back.high == pytest.approx(-gain.low)


@given(st.lists(st.tuples(SCORE, ROW).map(lambda row: (row[0], *row[1])), max_size=30))
def test_gain_compares_the_rows_that_have_both(rows):
    both = [row for row in rows if not (math.isnan(row[0]) or math.isnan(row[1]))]
    mine, theirs, *rest = _columns(both, 5)
    got = steps.auc_gain(*_columns(rows, 5), **FEW).estimate
    assert _same(got, oracle.auc(mine, *rest) - oracle.auc(theirs, *rest))


KINDS = st.sampled_from([(True, False), (False, True), (False, False)])


@given(
    st.lists(
        st.tuples(SCORE, KINDS, st.sampled_from("abcdef"), st.integers(0, 2)).map(
            lambda row: (row[0], *row[1], *row[2:])
        ),
        max_size=30,
    )
)
def test_outscores_equals_the_loops(rows):
    columns = _columns(rows, 5)
    got = steps.probability_outscores(*columns, **FEW)
    won, inside, won_across, across = oracle.outscores(*columns)
    assert (got.pairs_within, got.pairs_across) == (inside, across)
    top, bottom = won + won_across, inside + across
    assert _same(got.interval.estimate, top / bottom if bottom else math.nan)


def test_outscores_by_hand():
    # Question a has both kinds, at different steps; b and c lack one each and meet at
    # step 1 only; d stays alone.
    rows = [
        (0.2, True, False, "a", 0),
        (0.1, False, True, "a", 2),
        (0.0, True, False, "b", 1),
        (0.9, True, False, "b", 0),
        (0.5, False, True, "c", 1),
        (0.9, True, False, "d", 2),
    ]
    got = steps.probability_outscores(*_columns(rows))
    assert got.interval.estimate == 0.5
    assert (got.pairs_within, got.pairs_across) == (1, 1)
    # Both questions of a pair are resampled, so it may come more than once.
    assert (got.interval.low, got.interval.high) == (0, 1)


def test_a_tie_across_questions_counts_half():
    rows = [(0.5, True, False, "a", 0), (0.5, False, True, "b", 0), (0.7, False, True, "b", 0)]
    assert steps.probability_outscores(*_columns(rows)).interval.estimate == 0.25


def test_the_broadcast_outcome_never_outscores():
    rows = [(0, True, False, q, 0) for q in range(4)] + [(1, False, True, q, 0) for q in range(4)]
    assert steps.probability_outscores(*_columns(rows)).interval.high == 0


def test_a_step_cannot_be_both_kinds():
    with pytest.raises(ValueError, match="row 1 is both"):
        steps.probability_outscores([0, 0], [1, 1], [0, 1], [0, 0], [0, 0])


def test_means_by_label_in_their_order():
    rng = np.random.default_rng(0)
    label = rng.choice(["invalid", "filler", "valid", "other"], size=400)
    level = {"invalid": -1.0, "filler": 0.0, "valid": 2.0, "other": 50.0}
    score = np.array([level[one] for one in label]) + rng.normal(size=400)
    score[:3] = np.nan
    got = steps.mean_by_label(
        score, label, rng.integers(0, 50, size=400), ("invalid", "filler", "valid")
    )
    expected = [
        np.mean([s for s, one in zip(score, label, strict=True) if one == name and s == s])
        for name in ("invalid", "filler", "valid")
    ]
    assert [one.estimate for one in got.means] == pytest.approx(expected)
    assert [gap.estimate for gap in got.gaps] == pytest.approx(np.diff(expected))
    assert all(gap.low > 0 for gap in got.gaps)
    assert all(one.low < one.estimate < one.high for one in (*got.means, *got.gaps))


def test_a_label_without_rows_has_no_mean():
    got = steps.mean_by_label([1.0], ["valid"], [0], ("invalid", "valid"))
    assert got.means[1].estimate == 1
    assert math.isnan(got.means[0].estimate) and math.isnan(got.gaps[0].estimate)


@pytest.mark.parametrize("columns", [([1.0], [True], [0], [0, 1]), ([[1.0]], [True], [0], [0])])
def test_rows_of_other_lengths_are_refused(columns):
    with pytest.raises(ValueError, match="vectors of one length"):
        steps.stratified_auc(*columns)
