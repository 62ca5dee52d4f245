"""When does step credit pay for its branches? Exact variances on a chain of independent steps.

    python benchmarks/credit_budget.py

A policy writes K steps, each right with probability q; the outcome is that all are. Writes
docs/results/credit_budget.md: the variance of the policy gradient (one parameter per step, summed)
by the outcome, by exact values and by values of N continued branches, and the same times the tokens
that each way spends. Nothing is sampled: all 2^K rollouts are summed over.
"""

from __future__ import annotations

import itertools
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from gccpo_jax.runtime.workdir import write_text

OUT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results"
STEPS, CHANCES, DRAWS = (3, 5, 8), (0.5, 0.6, 0.7, 0.8, 0.9), (1, 2, 4, 8)


def main(argv: Sequence[str]) -> None:
    if argv:
        sys.exit(__doc__)
    write_text(OUT / "credit_budget.md", page())


def variance(steps: int, chance: float, draws: float | None, *, pooled: bool = False) -> float:
    """Variance of a rollout's gradient estimate, summed over the parameters of the steps.

        g_k = A_k (x_k - q),     A_k = Phi_k - Phi_{k-1},  Phi_0 = q^K,  Phi_K = o

    Args:
      draws: N branches per value, fresh ones at each place; inf: exact values; None: the outcome,
        A_k = o - q^K.
      pooled: the value after a step counts the outcome as one more draw, the one before it the
        mean outcome, as `credit.pooled` and `credit.shrink` do.

    >>> round(variance(1, 0.5, None), 4), round(variance(1, 0.5, np.inf), 4)
    (0.0, 0.0)
    >>> round(variance(5, 0.6, np.inf) / variance(5, 0.6, None), 2)
    0.28
    """
    right = np.array(list(itertools.product((0, 1), repeat=steps)))
    weight = np.prod(np.where(right, chance, 1 - chance), axis=1)
    slope, alive = right - chance, np.cumprod(right, axis=1)
    outcome, mean = alive[:, -1:], chance**steps
    square = (outcome - mean) ** 2
    if draws is not None:
        after = alive * chance ** (steps - 1 - np.arange(steps))
        before = np.concatenate([np.full((len(right), 1), mean), after[:, :-1]], axis=1)
        spread = after * (1 - after) / draws  # 0 at the end, whose value is the outcome
        noise = np.concatenate([0 * outcome, spread[:, :-1]], axis=1)
        if pooled:
            share = draws / (draws + 1)
            after = np.where(
                np.arange(steps) < steps - 1, share * after + (1 - share) * outcome, after
            )
            before = share * before + (1 - share) * mean
            spread, noise = share**2 * spread, share**2 * noise
        square = (after - before) ** 2 + spread + noise
    second = weight @ (square * slope**2)
    return float(np.sum(second - (mean * (1 - chance)) ** 2))


def tokens(steps: int, draws: float) -> float:
    """Steps written per rollout with N branches from each place inside it, over those without.

    >>> tokens(5, 2)
    5.0
    """
    return 1 + draws * (steps - 1) / 2


TEXT = """# What step credit can save

Made by `python benchmarks/credit_budget.py`; nothing is sampled. A policy writes K steps, each
right with probability q, and is right if all are. Variance of its gradient by step credit, over
that by the outcome; in brackets the same times the tokens spent: below 1 step credit would reach a
given precision with fewer tokens than more rollouts do.

{table}

- **Exact values pay where steps often fail** (q up to .7): the noise of later steps is gone. From
  q = .8 on they save nothing: what is left is the rare wrong step, which step credit blames more
  than the outcome does, as it should.
- **Values of continued branches cost more than they save, everywhere in this table**: to learn that
  a step was wrong takes the tokens of several rollouts.
- So what makes step credit pay is a value that is nearly free, read off the policy or learned, on
  questions that the policy mostly fails. With branches its worth is not in the gradient's noise but
  in what is rewarded: effects that hold in other words ([the method, 15](../method.md)).
"""


def page() -> str:
    """The table and its reading as Markdown."""
    ways = [("exact, free", np.inf, False)]
    ways += [(f"N = {n}", n, False) for n in DRAWS] + [(f"N = {n}, pooled", n, True) for n in DRAWS]
    rows = ["| K | q | right | " + " | ".join(name for name, *_ in ways) + " |"]
    rows.append("| ---: " * (3 + len(ways)) + "|")
    for steps, chance in itertools.product(STEPS, CHANCES):
        alone = variance(steps, chance, None)
        cells = []
        for _, draws, pooled in ways:
            ratio = variance(steps, chance, draws, pooled=pooled) / alone
            spent = f" ({ratio * tokens(steps, draws):.1f})" if np.isfinite(draws) else ""
            cells.append(f"{ratio:.2f}{spent}")
        rows.append(f"| {steps} | {chance} | {chance**steps:.2f} | {' | '.join(cells)} |")
    return TEXT.format(table="\n".join(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
