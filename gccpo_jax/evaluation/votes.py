"""What k responses to a question are worth together: one of them right, their vote, the best.

Outcomes are [K] in [0, 1], NaN where a response could not be scored; above 1/2 is right. Votes and
choices are those of disjoint blocks of k responses in the order of their draws, K // k of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RIGHT = 0.5
"""Outcomes above are right, as in training's metrics."""


def pass_at_k(outcome: np.ndarray, k: int) -> float:
    """Chance that one of k responses, drawn from the scorable ones without return, is right.

        1 - C(n - c, k) / C(n, k),   n scorable responses, c of them right

    unbiased for the chance that one of k fresh responses is right (Chen et al. 2021). NaN for
    fewer than k scorable ones.

    >>> pass_at_k(np.array([1.0, 0.0, 0.0]), 2)
    0.6666666666666667
    """
    scored = outcome[~np.isnan(outcome)]
    total, wrong = len(scored), int(np.sum(scored <= RIGHT))
    if total < k:
        return float("nan")
    return 1.0 - float(np.prod([(wrong - i) / (total - i) for i in range(k)]))


def majority(
    answers: Sequence[str | None],
    same: Callable[[str, str], bool],
    weights: np.ndarray | None = None,
) -> int:
    """Place of a response that gives the most frequent answer, the first such response.

    With weights [K] >= 0 an answer has those of its responses for votes.

    Of equally frequent answers the one that was given first wins; a response without an answer
    does not vote, and where there is none the first response is chosen.

    >>> majority(["7", None, "8", "08"], lambda a, b: int(a) == int(b))
    2
    """
    places: list[int] = []
    votes: list[float] = []
    worth = np.ones(len(answers)) if weights is None else weights
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        for n, known in enumerate(places):
            if same(answers[known], answer):
                votes[n] += worth[place]
                break
        else:
            places.append(place)
            votes.append(worth[place])
    return places[int(np.argmax(votes))] if places else 0


def voted(
    outcome: np.ndarray,
    answers: Sequence[str | None],
    k: int,
    same: Callable[[str, str], bool],
    weights: np.ndarray | None = None,
) -> float:
    """maj@k of one question: mean outcome of the majority's answers of its blocks."""
    worth = np.ones(len(answers)) if weights is None else weights
    return _mean_of_blocks(outcome, k, lambda block: majority(answers[block], same, worth[block]))


def best(outcome: np.ndarray, scores: np.ndarray, k: int) -> float:
    """best@k of one question: mean outcome of the responses with the greatest score."""
    return _mean_of_blocks(outcome, k, lambda block: int(np.argmax(scores[block])))


def _mean_of_blocks(outcome: np.ndarray, k: int, choose: Callable[[slice], int]) -> float:
    blocks = [slice(first, first + k) for first in range(0, len(outcome) - k + 1, k)]
    chosen = np.array([outcome[block][choose(block)] for block in blocks])
    scored = chosen[~np.isnan(chosen)]
    return float(scored.mean()) if scored.size else float("nan")
