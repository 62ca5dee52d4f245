"""Responses with the word of a scorer of steps: what best-of-k chooses by.

The least score of a step, not the last or the product: one wrong step is enough, and a long
solution is no worse for being long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError

NAME = "scored"
"""Of the score in a response of the results."""

Judge = Callable[[str, Sequence[str]], Sequence[float]]
Scores = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[np.ndarray]]
"""Scores of the steps of each (question, steps), NaN where there is none to be had."""


def scores_of(judge: Judge) -> Scores:
    """A judge of one solution as one of many, all at once where it has a way to.

    Raises, later:
      UserError: it raised, or did not return a number per step.
    """
    return getattr(judge, "many", lambda asked: [_asked(judge, *one) for one in asked])


def _asked(judge: Judge, question: str, steps: Sequence[str]) -> np.ndarray:
    try:
        found = np.asarray(judge(question, steps), np.float64)
    except TimeoutError:
        return np.full(len(steps), np.nan)
    except Exception as error:  # the user's own code may raise anything
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--scorer: for a solution of {len(steps)} steps: {told}") from error
    if found.shape != (len(steps),):
        raise UserError(
            f"--scorer: it returned {found.size} numbers for {len(steps)} steps; expected a number "
            "per step"
        )
    return found


def least(scores: Scores, boundary: str, asked: Sequence[tuple[str, str]]) -> list[float]:
    """The least score of a step of each (question, response); 0 where there is none to be had.

    Args: boundary: text that ends a step (`Task.boundary`).
    """
    texts = [(question, _steps(text, boundary)) for question, text in asked]
    known = [found[np.isfinite(found)] for found in map(np.asarray, scores(texts))]
    return [float(found.min()) if found.size else 0.0 for found in known]


def _steps(text: str, boundary: str) -> list[str]:
    return [step for step in text.split(boundary) if step.strip()]


def with_scores(
    rows: Sequence[Mapping[str, Any]], scores: Scores, boundary: str
) -> list[dict[str, Any]]:
    """The rows with the least score of a step in every draw."""
    texts = [(row["question"], one["text"]) for row in rows for one in row["draws"]]
    found = iter(least(scores, boundary, texts))
    return [{**row, "draws": [{**one, NAME: next(found)} for one in row["draws"]]} for row in rows]
