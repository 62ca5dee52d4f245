"""Responses with the word of a process reward model: what best-of-k chooses by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.policy.step_scorer import StepScorer

NAME = "prm"
"""Of the score in a response of the results."""


def with_scores(
    rows: Sequence[Mapping[str, Any]], scorer: StepScorer, boundary: str
) -> list[dict[str, Any]]:
    """The rows with the least score of a step in every draw; 0 where there is none to be had.

    The least, not the last or the product: one wrong step is enough, and a long solution is no
    worse for being long.

    Args: boundary: text that ends a step (`Task.boundary`).
    """
    texts = [
        (row["question"], [step for step in one["text"].split(boundary) if step.strip()])
        for row in rows
        for one in row["draws"]
    ]
    found = iter(scorer.many(texts))

    def scored(one: Mapping[str, Any]) -> dict[str, Any]:
        scores = next(found)
        known = scores[np.isfinite(scores)]
        return {**one, NAME: float(known.min()) if known.size else 0.0}

    return [{**row, "draws": [scored(one) for one in row["draws"]]} for row in rows]
