"""Simulated studies with known effects and on a null; small tables against enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats

from gccpo_jax.study import aggregates, statistics

STUDIES = 300


def simulate(rng, seeds, templates, each, *, of_seeds, of_templates, effect):
    """Outcomes of two arms: an effect that varies with seeds and templates, and coins."""
    names = np.repeat(np.arange(templates), each)
    size = effect + rng.normal(0, of_seeds, (seeds, 1))
    size = size + rng.normal(0, of_templates, templates)[names]
    level = 0.5 + rng.normal(0, 0.1, names.size)
    first, second = (rng.random(size.shape) < level + sign * size / 2 for sign in (1, -1))
    return first.astype(float), second.astype(float), names


# A share of 300 that is .05 or .95 in truth lies within these bounds but once in a thousand.
@pytest.mark.parametrize("effect", [0.0, 0.15])
@pytest.mark.parametrize(
    "of_seeds, of_templates", [(0, 0), (0.15, 0), (0, 0.2), (0.08, 0.1)], ids=str
)
def test_the_interval_covers_and_a_null_is_rejected_as_often_as_said(
    effect, of_seeds, of_templates
):
    rng = np.random.default_rng(1)
    found = [
        statistics.contrast(
            *simulate(rng, 5, 12, 5, of_seeds=of_seeds, of_templates=of_templates, effect=effect),
            resamples=300,
        )
        for _ in range(STUDIES)
    ]
    covered = np.mean([c.low <= effect <= c.high for c in found])
    assert 0.90 <= covered <= 0.997
    assert all(c.p < 0.05 for c in found if not c.low <= 0 <= c.high)
    estimates = np.array([c.estimate for c in found])
    assert abs(estimates.mean() - effect) < 4 * estimates.std() / np.sqrt(STUDIES)
    rejected = np.mean([c.p < 0.05 for c in found])
    assert 0.003 <= rejected <= 0.10 if effect == 0 else rejected > 0.2


def test_a_known_difference_in_every_place_has_no_error():
    first, second = np.full((3, 14), 0.75), np.full((3, 14), 0.5)
    found = statistics.contrast(first, second, np.arange(14) // 2)
    assert (found.estimate, found.low, found.high) == (0.25, 0.25, 0.25)
    assert found.error == 0 and found.p == 0 and found.equivalence == 1


def test_seeds_that_agree_by_luck_do_not_make_the_error_small():
    rng = np.random.default_rng(8)
    first = rng.permuted(np.tile(np.repeat([0.0, 1.0], 50), (2, 1)), axis=1)
    found = statistics.contrast(first, np.zeros_like(first), np.arange(100))
    assert np.ptp(first.mean(1)) == 0
    assert found.error == pytest.approx(0.5 / np.sqrt(200), rel=0.2)


def test_templates_are_resampled_whole_unless_they_are_few():
    rng = np.random.default_rng(0)
    effects = np.repeat(rng.normal(0, 0.5, 12), 10)
    first = np.stack([effects, effects])
    args = first, np.zeros_like(first)
    whole = statistics.contrast(*args, np.repeat(np.arange(12), 10))
    alone = statistics.contrast(*args, np.arange(120))
    few = statistics.contrast(*args, np.arange(120) % 2)
    assert (whole.clusters, alone.clusters, few.clusters) == (12, 120, 120)
    # Ten copies of twelve values say as much as twelve values.
    assert whole.error == pytest.approx(effects[::10].std(ddof=1) / np.sqrt(12))
    assert whole.high - whole.low > 2.5 * (alone.high - alone.low)
    assert (few.low, few.high) == pytest.approx((alone.low, alone.high), abs=0.005)


def test_the_names_and_the_order_of_templates_do_not_matter():
    rng = np.random.default_rng(2)
    first, second, names = simulate(rng, 5, 8, 6, of_seeds=0.1, of_templates=0.1, effect=0.1)
    order = rng.permutation(names.size)
    found = statistics.contrast(first, second, names)
    other = statistics.contrast(first[:, order], second[:, order], [f"t{n}" for n in names[order]])
    assert found.error == pytest.approx(other.error)
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.02)


def test_the_spread_of_resamples_is_that_of_all_of_them():
    d, clusters = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, -1.0]]), np.array([0, 1, 1])

    def means():  # every seed draw, cluster draw and item draw, with its chance
        for rows in itertools.product(range(2), repeat=2):
            for groups in itertools.product(range(2), repeat=2):
                places = [np.flatnonzero(clusters == g) for g in groups]
                each = [list(itertools.product(p, repeat=len(p))) for p in places]
                for picked in itertools.product(*each):
                    columns = [i for items in picked for i in items]
                    chance = 1 / 16 / np.prod([len(e) for e in each])
                    yield d[np.ix_(rows, columns)].mean(), chance

    values, chances = np.array(list(means())).T
    mean = np.sum(values * chances)
    variance = np.sum((values - mean) ** 2 * chances)
    assert chances.sum() == pytest.approx(1)
    draws = statistics.resampled_means(d, clusters, 40_000, np.random.default_rng(0))
    assert draws.mean() == pytest.approx(mean, abs=0.02)
    assert draws.var() == pytest.approx(variance, rel=0.03)


def test_the_width_is_students():
    rng = np.random.default_rng(9)
    first, second, names = simulate(rng, 5, 24, 8, of_seeds=0.1, of_templates=0, effect=0.1)
    found = statistics.contrast(first, second, names)
    assert 4 <= found.freedom < 6
    half = stats.t.ppf(0.975, found.freedom) * found.error
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


def test_one_seed_is_a_claim_about_two_policies():
    d = np.random.default_rng(3).normal(size=(1, 40))
    found = statistics.contrast(d, np.zeros_like(d), np.arange(40))
    ours = stats.ttest_1samp(d[0], 0)
    assert found.p == pytest.approx(ours.pvalue)


def test_equality_within_a_point_needs_a_narrow_interval():
    rng = np.random.default_rng(4)
    arms = rng.random((2, 5, 4000)) < 0.5
    wide = statistics.contrast(*(arm[:, :200].astype(float) for arm in arms), np.arange(200))
    same = arms[0].astype(float)
    near = same.copy()
    near[:, 0] = 1 - near[:, 0]
    narrow = statistics.contrast(same, near, np.arange(4000), resamples=500)
    assert wide.equivalence > 0.05 and narrow.equivalence < 0.05
    apart = statistics.contrast(same, same - 0.02, np.arange(4000), resamples=500)
    assert apart.equivalence > 0.95


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 templates"):
        statistics.contrast(np.zeros((2, 4)), np.zeros((2, 4)), [0, 1, 2])


def test_holm_against_its_steps():
    p = [0.04, 0.001, 0.03, 0.5]
    order, adjusted, running = np.argsort(p), np.zeros(4), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, p[place] * (4 - rank)))
        adjusted[place] = running
    assert statistics.holm(p) == pytest.approx(adjusted)
    assert statistics.holm([]) == []


def rliable_iqm(scores):
    """The mean of what is left when a quarter of the runs is cut at each end."""
    flat = sorted(scores.flatten())
    cut = int(0.25 * len(flat))
    return sum(flat[cut : len(flat) - cut]) / (len(flat) - 2 * cut)


def rliable_improvement(x, y):
    """Mean over tasks of the Mann-Whitney statistic over all pairs of runs."""
    total = 0.0
    for task in range(x.shape[1]):
        u = stats.mannwhitneyu(x[:, task], y[:, task], alternative="greater").statistic
        total += u / (len(x) * len(y))
    return total / x.shape[1]


def test_aggregates_against_the_formulas_of_rliable():
    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 5, (5, 3)) / 4, rng.integers(0, 5, (7, 3)) / 4
    assert aggregates.iqm(x, resamples=10).estimate == pytest.approx(rliable_iqm(x))
    found = aggregates.probability_of_improvement(x, y, resamples=10)
    assert found.estimate == pytest.approx(rliable_improvement(x, y))
    other = aggregates.probability_of_improvement(y, x, resamples=10)
    assert found.estimate + other.estimate == pytest.approx(1)


def test_a_stratified_resample_keeps_every_family_at_its_place():
    scores = np.arange(12.0).reshape(4, 3)
    draws = aggregates.resample(scores, 500, np.random.default_rng(0))
    assert draws.shape == (500, 4, 3)
    for family in range(3):
        assert set(draws[..., family].flatten()) == set(scores[:, family])
    assert any(len({*(draw[0] // 3)}) > 1 for draw in draws), "families are drawn apart"


def test_an_interval_of_the_iqm_covers_and_a_certain_win_is_certain():
    rng = np.random.default_rng(7)
    draws = [aggregates.iqm(rng.normal(0, 1, (10, 4)), resamples=200, seed=n) for n in range(200)]
    assert 0.87 <= np.mean([i.low <= 0 <= i.high for i in draws]) <= 0.99
    found = aggregates.probability_of_improvement(np.ones((3, 2)), np.zeros((4, 2)))
    assert (found.estimate, found.low, found.high) == (1.0, 1.0, 1.0)
