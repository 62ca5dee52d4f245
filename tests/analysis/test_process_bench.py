"""Earliest errors by a threshold that is chosen on other questions; accuracies and F1."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.analysis import process_bench as bench
from tests.helpers import oracles_steps as oracle

SCORE = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, math.nan])
SOLUTIONS = st.lists(
    st.lists(SCORE, max_size=4).flatmap(
        lambda row: st.tuples(
            st.just(row), st.integers(-1, len(row) - 1), st.sampled_from("abcdef")
        )
    ),
    max_size=16,
)
FEW = {"resamples": 50}


def _columns(rows):
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]


@given(st.lists(SCORE, max_size=5), SCORE)
def test_earliest_error_equals_the_loop(scores, threshold):
    assert bench.earliest_error(scores, threshold) == oracle.earliest_error(scores, threshold)


@given(SOLUTIONS)
def test_the_threshold_is_the_best_there_is(solutions):
    scores, label, _ = _columns(solutions)
    threshold = bench.best_threshold(scores, label)
    if set(label) <= {-1} or -1 not in label:
        assert math.isnan(threshold)
    else:
        predicted = [oracle.earliest_error(row, threshold) for row in scores]
        assert oracle.f1(predicted, label) == pytest.approx(oracle.best_f1(scores, label))


def test_the_threshold_stands_halfway():
    assert bench.best_threshold([[5.0, 1.0], [3.0]], [1, -1]) == 2
    # Between neighbouring numbers there is no room: halfway rounds to the lower one.
    above = 1.0 + 2**-52
    assert bench.best_threshold([[2.0, 1.0], [above]], [1, -1]) == above
    assert bench.best_threshold([[-1e308], [1e308]], [0, -1]) == 0
    assert bench.best_threshold([[1.0], []], [0, -1]) == math.inf


@given(SOLUTIONS)
def test_process_bench_equals_two_crossed_halves(solutions):
    scores, label, question = _columns(solutions)
    got, thresholds = bench.process_bench(scores, label, question, **FEW)
    names = sorted(set(question))
    half = [names.index(q) % 2 for q in question]
    for fold in (0, 1):
        seen = [n for n in range(len(half)) if half[n] != fold]
        alone = bench.best_threshold([scores[n] for n in seen], [label[n] for n in seen])
        assert thresholds[fold] == pytest.approx(alone, nan_ok=True)
    assert (got.erroneous, got.correct) == (len(label) - label.count(-1), label.count(-1))
    if any(math.isnan(t) for t in thresholds):
        assert math.isnan(got.f1.estimate) and math.isnan(got.error_accuracy.estimate)
        return
    predicted = [
        oracle.earliest_error(row, thresholds[h]) for row, h in zip(scores, half, strict=True)
    ]
    assert got.f1.estimate == pytest.approx(oracle.f1(predicted, label))
    assert got.f1.low <= got.f1.estimate <= got.f1.high


def test_a_threshold_does_not_see_what_it_is_judged_on():
    # In questions 0 and 2 errors score 0.4, in 1 and 3 they score 0.8 and right steps 0.9.
    scores = [[0.9, 0.4], [0.9, 0.9], [0.9, 0.8], [0.9, 0.9]] * 2
    label, question = [1, -1, 1, -1] * 2, [0, 0, 1, 1, 2, 2, 3, 3]
    got, thresholds = bench.process_bench(scores, label, question)
    assert thresholds == pytest.approx((0.85, 0.65))
    assert got.error_accuracy.estimate == 0.5 and got.correct_accuracy.estimate == 1
    assert got.f1.estimate == pytest.approx(2 / 3)


def test_judge_on_an_example():
    # Two of three errors found where they are, one of two right solutions left alone.
    got = bench.judge([0, 2, 1, -1, 3], [0, 2, 2, -1, -1], [0, 1, 2, 3, 4])
    assert got.error_accuracy.estimate == pytest.approx(2 / 3)
    assert got.correct_accuracy.estimate == 0.5
    assert got.f1.estimate == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert bench.judge([1, 0], [0, -1], [0, 1]).f1.estimate == 0


def test_a_label_beyond_the_steps_is_refused():
    with pytest.raises(ValueError, match="solution 1 has 2 steps and the label 2"):
        bench.process_bench([[0.0], [0.0, 1.0]], [0, 2], [0, 1])
