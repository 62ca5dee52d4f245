"""Two policies on the same questions and the same draws: what differs, question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.evaluation.figures import Row
from gccpo_jax.evaluation.votes import RIGHT
from gccpo_jax.statistics.bootstrap import bootstrap, ratio
from gccpo_jax.statistics.shares import mcnemar

SHARED = ("task", "options", "seed", "draws", "temperature", "top_k", "top_p", "max_tokens")
"""Settings in which two evaluations that are compared must agree."""


def check_shared(mine: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Refuses evaluations that asked otherwise.

    Raises:
      UserError: names the first setting that differs, with both values.
    """
    for name in SHARED:
        if mine[name] != theirs[name]:
            raise UserError(
                f"--against {where}: {name} = {theirs[name]!r} there and {mine[name]!r} here, so "
                "the two do not answer the same; evaluate both alike"
            )


def compare(first: Sequence[Row], second: Sequence[Row], where: str) -> dict[str, dict]:
    """Differences first - second of one split, over the questions that both answered.

    `greedy`: of accuracies, with McNemar's exact test. `mean@K`: of mean outcomes, with a
    bootstrap over questions. Questions that one of the two could not be scored on are left out.

    Raises:
      UserError: an id stands for two questions, or the two share none.
    """
    others = {row["id"]: row for row in second}
    pairs = [(row, others[row["id"]]) for row in first if row["id"] in others]
    for one, other in pairs:
        if (one["question"], one["answer"]) != (other["question"], other["answer"]):
            raise UserError(
                f"--against {where}: question {one['id']} of {one['split']} reads otherwise there; "
                "evaluate both on the same file"
            )
    if not pairs:
        raise UserError(f"--against {where}: no question of {first[0]['split']} in it")
    found = {"greedy": _greedy(pairs)}
    drawn = len(pairs[0][0]["draws"])
    return found | ({f"mean@{drawn}": _means(pairs)} if drawn else {})


def _greedy(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    scores = [(one["greedy"]["outcome"], other["greedy"]["outcome"]) for one, other in pairs]
    known = np.array([pair for pair in scores if None not in pair], np.float64).reshape(-1, 2)
    if not len(known):
        return {"difference": None, "low": None, "high": None, "p": None, "questions": 0}
    found = mcnemar(*(known > RIGHT).T)
    return {**vars(found), "questions": len(known)}


def _means(pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    means = np.array([[_mean(row) for row in pair] for pair in pairs])
    known = means[~np.isnan(means).any(1)]
    found = bootstrap(ratio(known[:, 0] - known[:, 1], np.ones(len(known))), len(known))
    ends = {"difference": found.estimate, "low": found.low, "high": found.high}
    ends = {name: None if np.isnan(x) else x for name, x in ends.items()}
    return ends | {"questions": len(known)}


def _mean(row: Row) -> float:
    scores = [one["outcome"] for one in row["draws"] if one["outcome"] is not None]
    return float(np.mean(scores)) if scores else float("nan")
