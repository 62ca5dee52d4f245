"""Signal and noise of gradients, on gradients whose law is known."""

import json
import math

import numpy as np
import pytest

from gccpo_jax.analysis.gradient_page import summarise, tables
from gccpo_jax.analysis.gradients import (
    Dots,
    Measured,
    cosine_at,
    dots_of,
    expected_cosine,
    jackknife,
    tokens_for_half,
)
from gccpo_jax.statistics.bootstrap import Interval

D, K, R = 40, 6, 2
MEAN = np.linspace(-0.2, 0.4, D)  # |mu|^2 = 1.6
QUESTIONS, TAPES = 0.3, 0.5  # deviation of each entry: traces 3.6 and 10
S, A, B = (MEAN**2).sum(), D * QUESTIONS**2, D * TAPES**2


def simulated(rng, batches=K, tapes=R, mean=MEAN):
    of_questions = rng.normal(0, QUESTIONS, (batches, 1, D))
    return mean + of_questions + rng.normal(0, TAPES, (batches, tapes, D))


def dots(x):
    return dots_of(x, x)


def test_the_moments_are_unbiased():
    rng = np.random.default_rng(0)
    found = [dots(simulated(rng)) for _ in range(2000)]
    for name, wanted in {"signal": S, "same": S + A, "total": S + A + B, "variance": A + B}.items():
        values = np.array([getattr(x, name) for x in found])
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - wanted) < 4 * error, name
        assert error < 0.03 * wanted, name


def test_dot_products_are_those_of_loops():
    x, y = (simulated(np.random.default_rng(n), 3, 2) for n in range(2))
    found = dots_of(x, y)
    loops = np.array([[[[a @ b for b in q] for q in y] for a in k] for k in x])
    np.testing.assert_allclose(found.dots, loops, rtol=1e-12)
    own = dots(x)
    pairs = [(k, r, q, s) for k, r, q, s in np.ndindex(3, 2, 3, 2) if k != q]
    size = np.linalg.norm(x, axis=-1)
    cosines = [x[k, r] @ x[q, s] / size[k, r] / size[q, s] for k, r, q, s in pairs]
    assert own.cosine == pytest.approx(np.mean(cosines))
    assert own.signal == pytest.approx(np.mean([x[k, r] @ x[q, s] for k, r, q, s in pairs]))
    assert math.isnan(dots(x[:, :1]).same)


def test_intervals_cover():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        found = jackknife(lambda d: d.ratio, dots(simulated(rng, 8)))
        covered += found.low <= S / (A + B) <= found.high
    assert 0.9 <= covered / 300 <= 0.99


def test_what_a_batch_of_more_tokens_would_be():
    ratio = Interval(0.25, 0.05, 0.5)
    half = tokens_for_half(ratio, 1000)
    assert (half.estimate, half.low, half.high) == (4000, 2000, 20000)
    assert tokens_for_half(Interval(0.1, -0.1, 0.3), 1000).high == math.inf
    there = cosine_at(ratio, 1000, half.estimate)
    assert there.estimate == pytest.approx(0.5) and there.low < 0.5 < there.high
    assert cosine_at(Interval(-1.0, -2.0, 0.0), 1000, 9000).estimate == 0
    # A batch m times as large is the mean of m of them.
    rng, many = np.random.default_rng(2), 4
    means = [simulated(rng, 12 * many).reshape(12, many, R, D).mean(1) for _ in range(40)]
    cosine = np.mean([dots(x).signal for x in means]) / np.mean([dots(x).total for x in means])
    once = Interval(S / (A + B), 0.0, 0.0)
    assert cosine == pytest.approx(cosine_at(once, 1000, many * 1000).estimate, rel=0.05)


def test_noise_that_two_arms_share_does_not_make_them_agree():
    rng = np.random.default_rng(3)
    other = np.where(np.arange(D) % 2, MEAN, -MEAN)
    true = MEAN @ other / S
    noise = [simulated(rng, 64, mean=0.0) for _ in range(30)]
    found = [
        expected_cosine(dots(MEAN + x), dots(other + x), dots_of(MEAN + x, other + x))
        for x in noise
    ]
    assert np.mean(found) == pytest.approx(true, abs=4 * np.std(found) / math.sqrt(30))
    assert np.std(found) < 0.2 and abs(true) < 0.2
    nothing = Dots(-dots(noise[0]).dots)
    assert math.isnan(expected_cosine(nothing, nothing, nothing))


def test_the_page_says_what_is_not_known():
    rng = np.random.default_rng(4)
    one, none = simulated(rng, 16), simulated(rng, 16, mean=0.0)
    measured = {
        "A0": Measured(one, one, 1000.0),
        "A8": Measured(one + none, one, 4000.0),
        "none": Measured(none, none, 500.0),
    }
    found = summarise(measured)
    first = found["presets"]["A0"]
    assert found["matched_tokens"] == 4000 and first["steps_share"]["estimate"] == 0
    assert first["half"]["estimate"] == pytest.approx(1000 / first["ratio"]["estimate"])
    assert first["agreement"]["estimate"] == pytest.approx(1)
    assert found["presets"]["none"]["half"]["high"] is None
    page = tables(found)
    assert page == tables(json.loads(json.dumps(found, sort_keys=True)))  # "A0" < "A8" < "none"
    assert "cosine at 4.0k tokens" in page and "none]" in page and "nan" not in page
