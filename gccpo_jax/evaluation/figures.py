"""Figures of a split from its responses, each with a 95 % interval over questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gccpo_jax.evaluation import votes
from gccpo_jax.evaluation.judged import NAME
from gccpo_jax.statistics.bootstrap import Interval, bootstrap, ratio
from gccpo_jax.statistics.shares import wilson

Row = Mapping[str, Any]
"""A line of the results file: a question with its responses, see `responses.py`."""

Same = Callable[[str, str], bool]
MOST_KINDS, LEAST_OF_A_KIND = 30, 4
"""A field with more values, or with fewer questions per value, tells items apart, not kinds."""


def figures(rows: Sequence[Row], same: Same, ks: Sequence[int] | None = None) -> dict[str, dict]:
    """Greedy, beam, mean@K, pass@k, maj@k, wmaj@k and best@k, as they have the responses for.

    wmaj@k weighs a vote by the geometric mean probability of the response's tokens, best@k takes
    the response where that is greatest, scored@k where a scorer's score is, of responses that
    have one (`judged.with_scores`).

    Args:
      rows: of one split. same: whether two answers are one (`Task.same`).
      ks: sizes of k; by default 2, 4, ... and K, the number of draws (of one, all are mean@1).
    Returns:
      Name to {"value", "low", "high", "questions", "tokens"}; with "unscorable" where a share of
      the responses was. Values are None where nothing could be scored. `tokens` are those that
      the model read or wrote per question: the prompt once, and k responses; of a beam what
      `beam.Cost` counts, with `again`.
    """
    greedy = np.array([[_score(row["greedy"])] for row in rows], np.float64)
    prompt = float(np.mean([row["prompt_tokens"] for row in rows]))
    written = float(np.mean([row["greedy"]["tokens"] for row in rows]))
    found = {"greedy": figure(greedy) | {"tokens": prompt + written}}
    if "beam" in rows[0]:
        found["beam"] = figure(np.array([[_score(row["beam"])] for row in rows], np.float64))
        for name, of_row in (("tokens", "spent"), ("again", "again")):
            found["beam"][name] = float(np.mean([row["beam"][of_row] for row in rows]))
    drawn = len(rows[0]["draws"])
    if not drawn:
        return found
    outcome = np.array([[_score(one) for one in row["draws"]] for row in rows], np.float64)
    answers = [[one["answer"] for one in row["draws"]] for row in rows]
    surety = np.array(
        [[one["logp"] / max(one["tokens"], 1) for one in row["draws"]] for row in rows]
    )
    written = float(np.mean([one["tokens"] for row in rows for one in row["draws"]]))
    found[f"mean@{drawn}"] = figure(outcome) | {"tokens": prompt + written}
    for k in sizes(drawn) if ks is None else ks:
        passed = [votes.pass_at_k(x, k) for x in outcome]
        voted = [votes.voted(x, a, k, same) for x, a in zip(outcome, answers, strict=True)]
        weighed = [
            votes.voted(x, a, k, same, np.exp(s))
            for x, a, s in zip(outcome, answers, surety, strict=True)
        ]
        chosen = [votes.best(x, s, k) for x, s in zip(outcome, surety, strict=True)]
        of_k = {"pass": passed, "maj": voted, "wmaj": weighed, "best": chosen}
        if NAME in rows[0]["draws"][0]:
            judged = [np.array([one[NAME] for one in row["draws"]]) for row in rows]
            pairs = zip(outcome, judged, strict=True)
            of_k[NAME] = [votes.best(x, s, k) for x, s in pairs]
        for name, values in of_k.items():
            tokens = {"tokens": prompt + k * written}
            found[f"{name}@{k}"] = figure(np.array(values)[:, None]) | tokens
    return found


def sizes(drawn: int) -> list[int]:
    """2, 4, ... and the number itself, above 1.

    >>> sizes(6), sizes(1)
    ([2, 4, 6], [])
    """
    return [*(2**n for n in range(1, drawn.bit_length()) if 2**n < drawn), drawn][: drawn - 1]


def figure(outcome: np.ndarray) -> dict[str, Any]:
    """Mean of outcomes [N, K] over what was scored, with its interval over questions.

    One response a question that is right or wrong: Wilson's interval. Else the bootstrap over
    questions; where it is a point, since all questions are alike, Wilson's of so many questions.
    """
    known = ~np.isnan(outcome)
    total, count = np.where(known, outcome, 0.0).sum(1), known.sum(1).astype(np.float64)
    questions = int(np.sum(count > 0))
    binary = outcome.shape[1] == 1 and np.isin(outcome[known], (0.0, 1.0)).all()
    if binary or not questions:
        found = wilson(total.sum(), questions)
    else:
        found = bootstrap(ratio(total, count), len(outcome))
        if found.low == found.high:
            of_so_many = wilson(found.estimate * questions, questions)
            found = Interval(found.estimate, of_so_many.low, of_so_many.high)
    plain = found.plain()
    row = {"value": plain.pop("estimate"), **plain, "questions": questions}
    return row if known.all() else row | {"unscorable": float(1 - known.mean())}


def _score(response: Mapping[str, Any]) -> float:
    return np.nan if response["outcome"] is None else response["outcome"]


def by_kind(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """(field, value, rows) for each field of the items' meta that parts them into kinds."""
    for field in sorted(set.intersection(*(set(row["meta"]) for row in rows))):
        values = [str(row["meta"][field]) for row in rows]
        kinds = sorted(set(values))
        if 2 <= len(kinds) <= min(MOST_KINDS, len(rows) // LEAST_OF_A_KIND):
            for kind in kinds:
                yield field, kind, [r for r, x in zip(rows, values, strict=True) if x == kind]
