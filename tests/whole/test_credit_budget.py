"""The exact variances behind docs/results/credit_budget.md, against draws."""

import pathlib
import runpy

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUDGET = runpy.run_path(str(ROOT / "benchmarks" / "credit_budget.py"))


def drawn(steps, chance, draws, pooled, number=200_000):
    rng = np.random.default_rng(0)
    right = rng.random((number, steps)) < chance
    alive = np.cumprod(right, 1).astype(float)
    value = np.column_stack(
        [np.full(number, chance**steps), alive * chance ** np.arange(steps)[::-1]]
    )
    if draws:
        value[:, 1:-1] = rng.binomial(draws, value[:, 1:-1]) / draws
        after, before = value[:, 1:].copy(), value[:, :-1].copy()
        if pooled:
            after[:, :-1] = (draws * after[:, :-1] + alive[:, -1:]) / (draws + 1)
            before[:, 1:] = (draws * before[:, 1:] + chance**steps) / (draws + 1)
        credit = after - before
    else:
        credit = alive[:, -1:] - chance**steps
    return (credit * (right - chance)).var(0).sum()


@pytest.mark.parametrize("draws, pooled", [(None, False), (1, False), (4, False), (2, True)])
def test_variances_are_those_of_draws(draws, pooled):
    exact = BUDGET["variance"](4, 0.7, draws, pooled=pooled)
    assert exact == pytest.approx(drawn(4, 0.7, draws, pooled), rel=0.03)


def test_the_page_is_the_command_s():
    assert (ROOT / "docs/results/credit_budget.md").read_text() == BUDGET["page"]()
