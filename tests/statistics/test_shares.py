"""Intervals of shares and of their differences, against libraries and enumeration."""

import numpy as np
import pytest
from scipy import stats

from gccpo_jax.statistics.shares import mcnemar, wilson


@pytest.mark.parametrize("right, total", [(0, 10), (3, 10), (10, 10), (37, 50), (1, 1)])
def test_wilson_is_that_of_statsmodels_and_scipy(right, total):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    found = wilson(right, total)
    expected = proportion.proportion_confint(right, total, method="wilson")
    assert found.estimate == right / total
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    scipys = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx(tuple(scipys), abs=1e-12)


def test_nothing_has_no_share():
    assert np.isnan([wilson(0, 0).estimate, wilson(0, 0).low]).all()


def test_a_risk_difference_covers_the_truth():
    rng, covered = np.random.default_rng(1), []
    for _ in range(400):
        level = rng.random(80)
        other = np.where(rng.random(80) < 0.5, level, rng.random(80))
        found = mcnemar(level < 0.6, other < 0.45)
        covered.append(found.low <= 0.6 - 0.45 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize(("first", "second", "total"), [(8, 2, 20), (0, 0, 7), (30, 1, 200)])
def test_a_risk_difference_has_the_interval_of_a_mean(first, second, total):
    """Of the items' differences, with half an item more in each discordant cell."""
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    weights = [first + 0.5, second + 0.5, total - first - second + 1]
    d = weightstats.DescrStatsW([1, -1, 0], weights)
    low, high = stats.norm.interval(0.95, d.mean, np.sqrt(d.var / d.sum_weights))
    one = np.repeat([1, 0, 0], [first, second, total - first - second])
    other = np.repeat([0, 1, 0], [first, second, total - first - second])
    found = mcnemar(one, other)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_mcnemar_is_a_sign_test_of_the_items_that_differ():
    first = np.array([1] * 8 + [0] * 2 + [1] * 5 + [0] * 5)
    second = np.array([0] * 8 + [1] * 2 + [1] * 5 + [0] * 5)
    found = mcnemar(first, second)
    assert (found.first, found.second, found.difference) == (8, 2, 0.3)
    assert found.p == pytest.approx(stats.binomtest(8, 10).pvalue)
    assert found.low < 0.3 < found.high
    assert found.h == pytest.approx(2 * np.arcsin(0.65**0.5) - 2 * np.arcsin(0.35**0.5))
    equal = mcnemar(first, first)
    assert (equal.p, equal.difference, equal.h) == (1.0, 0.0, 0.0)


def test_mcnemar_is_that_of_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(3)
    for total in (1, 5, 40):
        a, b = rng.random((2, total)) < 0.5
        table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
        assert mcnemar(a, b).p == pytest.approx(min(tables.mcnemar(table, exact=True).pvalue, 1))


def test_mcnemar_rejects_a_null_no_more_often_than_said():
    rng = np.random.default_rng(5)
    arms = rng.random((2, 300, 60)) < 0.4
    rejected = np.mean([mcnemar(a, b).p < 0.05 for a, b in zip(*arms, strict=True)])
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
