"""Is the lucky guess seen? Answers that follow a surface cue against answers that follow the steps.

The policy was taught with a label that gives the answer away in nine of ten questions. Here the
label says something else than the steps do, and the answer shows which of the two it came from:

    follows the cue    the answer is the label's number and not the value the steps reached
    follows the steps  the answer is that value and not the label's number

R at the answer step under `surface` (the label is redrawn, the numbers stay) and S under `corrupt`
(a number of the last step before the answer is changed) should be low for the first and high for
the second. Both are read without knowing the right answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.suites.trajectories import Judged, judged
from gccpo_jax.sampling.opened import Model
from gccpo_jax.statistics.bootstrap import Interval, bootstrap, codes, ratio
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.chain.check import read_steps

SCORES = {
    "robustness_answer": "R at the answer step, under `surface`",
    "sensitivity_scored": "S of the last step before the answer, under `corrupt`, scored",
    "following": "1 - agreement under `corrupt` of that step, continued",
    "equivariance": "P(new answer) when all numbers change and the label stays (Eq)",
    "outcome": "outcome",
    "logprob": "mean log-probability of the answer step",
}
KINDS = ("follows the cue", "follows the steps")
LUCKY = "of the cue, right"


@dataclasses.dataclass(frozen=True)
class Guess:
    """Which two kinds of trajectories are told apart, by which scores."""

    scores: Mapping[str, str]  # name to meaning
    kinds: tuple[str, str]  # the lucky one, the one that reasons
    lucky: str = ""  # those of the first kind whose outcome is right; "": all of them are


GUESS = Guess(SCORES, KINDS, LUCKY)


def classify(item: Item, steps: Sequence[str], answer: str | None) -> str | None:
    """One of `KINDS`; None if the trajectory does not tell them apart.

    The value of the steps is what the last line before the answer states, which the
    checker follows; a trajectory without a step before its answer tells nothing.
    """
    problem = item.meta["problem"]
    if answer is None or len(steps) < 2 or problem.label is None:
        return None
    value = str(read_steps(problem, steps)[-1].value)
    label = str(problem.label)
    if value == label:
        return None
    return {label: KINDS[0], value: KINDS[1]}.get(answer)


def collect(
    model: Model,
    batches: Iterable[Sequence[Item]],
    settings: Settings,
    *,
    group: int,
    prompt_tokens: int,
) -> dict[str, np.ndarray]:
    """Columns [N], one row per trajectory that tells cue and steps apart."""
    parts: list[dict] = []
    for chosen in batches:
        found = judged(
            model, chosen, settings, group=group, injected=0, prompt_tokens=prompt_tokens
        )
        parts += [row for row in _rows(model, found)]
    return {name: np.array([row[name] for row in parts]) for name in (parts[0] if parts else {})}


def _rows(model: Model, found: Judged) -> list[dict]:
    out = []
    for b, item in enumerate(found.items):
        for g, steps in enumerate(found.texts[b]):
            kind = classify(item, steps, model.solver.task.extract(found.traces.texts[b, g]))
            if kind is None:
                continue
            last = len(steps) - 1
            a = found.analysis
            out.append(
                {
                    "question": item.id,
                    "kind": kind,
                    "robustness_answer": a.robustness[b, g, last],
                    "sensitivity_scored": a.sensitivity[b, g, last - 1],
                    "following": 1 - a.agreement[b, g, last - 1],
                    "equivariance": a.equivariance[b, g],
                    "outcome": found.traces.outcome[b, g],
                    "logprob": a.logp[b, g, last],
                }
            )
    return out


def summarise(rows: dict[str, np.ndarray], guess: Guess = GUESS) -> dict:
    """Means by kind and AUC (the kind that reasons is positive), with intervals over questions.

    `auc_lucky` is against those of the other kind whose answer is right: the lucky guesses.
    AUC is over all pairs, not only those of one question: what a guess looks like should not
    depend on the question.
    """
    kind = rows["kind"]
    out: dict = {"counts": {name: int((kind == name).sum()) for name in guess.kinds}, "scores": {}}
    questions, code = codes(rows["question"])
    guesses, reasons = (kind == one for one in guess.kinds)
    lucky = guesses & (rows["outcome"] == 1)
    groups = dict(zip(guess.kinds, (guesses, reasons), strict=True))
    groups |= {guess.lucky: lucky} if guess.lucky else {}
    for name in guess.scores:
        x = rows[name].astype(np.float64)
        known = ~np.isnan(x)
        found = {}
        for one, chosen in groups.items():
            keep = known & chosen
            total = np.bincount(code[keep], x[keep], questions)
            size = np.bincount(code[keep], minlength=questions).astype(np.float64)
            found[one] = bootstrap(ratio(total, size), questions).plain()
        found["auc"] = _auc(x[known], reasons[known], code[known], questions).plain()
        if guess.lucky:
            chosen = known & (lucky | reasons)
            auc = _auc(x[chosen], reasons[chosen], code[chosen], questions)
            found["auc_lucky"] = auc.plain()
        found["defined"] = int(known.sum())
        out["scores"][name] = found
    return out


def _auc(x: np.ndarray, positive: np.ndarray, code: np.ndarray, questions: int) -> Interval:
    """AUC over all pairs; a resample counts a pair as often as both its questions are drawn."""
    won = np.zeros((questions, questions))
    tried = np.zeros((questions, questions))
    for i in np.flatnonzero(positive):
        rivals = np.flatnonzero(~positive)
        wins = (x[i] > x[rivals]) + 0.5 * (x[i] == x[rivals])
        won[code[i]] += np.bincount(code[rivals], wins, questions)
        tried[code[i]] += np.bincount(code[rivals], minlength=questions)

    def statistic(weights: np.ndarray) -> np.ndarray:
        top, bottom = ((weights @ table * weights).sum(-1) for table in (won, tried))
        return np.where(bottom > 0, top / np.maximum(bottom, 1e-300), np.nan)

    return bootstrap(statistic, questions)
