"""What an analysis says of one trajectory: its steps' scores with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from gccpo_jax.analysis.engine import Analysis
from gccpo_jax.counterfactual.shown import Arm, Law, arms_at, numbers
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.statistics.bootstrap import Interval
from gccpo_jax.statistics.shares import wilson

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it is not defined."""

    value: float
    low: float | None  # None: too few arms for an interval
    high: float | None


@dataclasses.dataclass(frozen=True)
class StepReport:
    """One step. Undefined scores are None: never zero, never NaN."""

    text: str
    tokens: int
    phi_before: Estimate | None  # value of going on from before the step
    phi: Estimate | None  # and from after it; the outcome after the last step
    D: Estimate | None  # effect on reaching the gold answer
    R: Estimate | None  # robustness of the answer law
    S: Estimate | None  # sensitivity of the answer law
    Q: float | None  # selectivity
    scored_phi: float | None  # P(gold) if the policy had to answer now
    other: float | None  # mass of the answer law outside the candidates; above .2: unreadable
    deletion: float | None  # how far the law moves without the step
    counterfactual: float | None  # D^cf, of an audit
    agreement: float | None  # same final answer under `corrupt`, of an audit
    but_for: float | None  # its own answer changes under `corrupt` and its own noise, of an audit
    logp: float | None  # mean per token
    entropy: float | None  # mean per token, nats
    law: Law  # after the step, over `candidates` and all other answers last
    arms: tuple[Arm, ...]  # the law under every intervention
    label: Any = None  # of the data, where it has one


@dataclasses.dataclass(frozen=True)
class TrajectoryReport:
    """One analysed trajectory."""

    id: str
    question: str
    gold: str | None
    answer: str | None  # what the trajectory ends in
    outcome: float | None  # None: no gold, or it could not be scored
    candidates: list[str]  # answers that laws are over
    law_before: Law  # before the first step
    steps: list[StepReport]

    def to_json(self) -> dict:
        """A JSON-able dictionary."""
        return dataclasses.asdict(self)


def phi_estimate(value: float, hits: int, tried: int) -> Estimate | None:
    """Phi with the Wilson interval of its branches; a point where nothing was drawn (outcome)."""
    if math.isnan(value):
        return None
    found = wilson(hits, tried, LEVEL) if tried else Interval(value, value, value)
    return Estimate(float(value), min(found.low, float(value)), max(found.high, float(value)))


def difference(before: Estimate | None, after: Estimate | None) -> Estimate | None:
    """after - before with Newcombe's interval from the two Wilson intervals.

    It holds for independent proportions; shared noise makes it wider than needed.
    """
    if before is None or after is None:
        return None
    value = after.value - before.value
    low = math.hypot(after.value - after.low, before.high - before.value)
    high = math.hypot(after.high - after.value, before.value - before.low)
    return Estimate(value, max(-1.0, value - low), min(1.0, value + high))


def mean_estimate(value: float, arms: np.ndarray) -> Estimate | None:
    """A mean over arms with Student's interval, clipped to [0, 1]; none from a single arm."""
    if math.isnan(value):
        return None
    used = arms[~np.isnan(arms)]
    if len(used) < 2:
        return Estimate(float(value), None, None)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(used) - 1) * stats.sem(used))
    return Estimate(float(value), max(0.0, float(value) - half), min(1.0, float(value) + half))


def steps_of(
    analysis: Analysis,
    b: int,
    g: int,
    pieces: Sequence[str],
    labels: Sequence[Any] | None,
    tokenizer: Tokenizer,
) -> list[StepReport]:
    """Reports of the steps of trajectory g of question b.

    Args:
      pieces: text of each step. labels: one per step, or None.
      tokenizer: of the model, for the texts of edited steps.
    """
    at = (b, g)
    known = candidates_at(analysis, b)
    phis = [
        phi_estimate(*(x[at][k] for x in (analysis.value, analysis.hits, analysis.tried)))
        for k in range(len(pieces) + 1)
    ]
    return [
        StepReport(
            text=piece,
            tokens=int(analysis.spans.end[at][k] - analysis.spans.start[at][k]),
            phi_before=phis[k],
            phi=phis[k + 1],
            D=difference(phis[k], phis[k + 1]),
            R=mean_estimate(analysis.robustness[at][k], analysis.robustness_arms[at][k]),
            S=mean_estimate(analysis.sensitivity[at][k], analysis.sensitivity_arms[at][k]),
            Q=_number(analysis.selectivity[at][k]),
            scored_phi=_number(analysis.scored_value[at][k + 1]),
            other=_number(analysis.other[at][k]),
            deletion=_number(analysis.deletion[at][k]),
            counterfactual=_number(analysis.counterfactual[at][k]),
            agreement=_number(analysis.agreement[at][k]),
            but_for=_number(analysis.but_for[at][k]),
            logp=_number(analysis.logp[at][k]),
            entropy=_number(analysis.entropy[at][k]),
            law=law_over(known, np.asarray(analysis.laws.factual[at][k])),
            arms=tuple(
                dataclasses.replace(arm, law=arm.law and law_over(known, arm.law))
                for arm in arms_at(analysis.arms, tokenizer, b, g, k)
            ),
            label=None if labels is None else labels[k],
        )
        for k, piece in enumerate(pieces)
    ]


def candidates_at(analysis: Analysis, b: int) -> list[int]:
    """Where the candidates of question b are: entries of laws without one are left out."""
    return [n for n, answer in enumerate(analysis.labels[b]) if answer]


def law_over(known: Sequence[int], law: Sequence[float] | np.ndarray) -> Law:
    """A law [C + 1] over the candidates that there are, and all other answers.

    >>> law_over([0, 2], [0.5, 0.0, 0.25, 0.25])
    (0.5, 0.25, 0.25)
    """
    return numbers(np.asarray(law)[[*known, -1]])


def _number(x: float) -> float | None:
    return None if np.isnan(x) else float(x)


def render(report: TrajectoryReport) -> str:
    """A trajectory for people: a line of scores above each step."""
    verdict = {None: "not scored", 0.0: "wrong", 1.0: "right"}
    lines = [
        f"question {report.id}: {verdict.get(report.outcome, report.outcome)} "
        f"(answer {report.answer}, gold {report.gold})",
        *(f"    {line}" for line in report.question.strip().splitlines()),
        "",
    ]
    for step in report.steps:
        label = "" if step.label is None else f"   label {step.label}"
        lines.append(
            f"  Phi {_show(step.phi)}   D {_show(step.D, signed=True)}   R {_show(step.R)}   "
            f"S {_show(step.S)}{label}"
        )
        lines += [f"  | {line}" for line in (step.text.strip() or "(empty)").splitlines()]
    return "\n".join([*lines, ""])


def _show(estimate: Estimate | None, signed: bool = False) -> str:
    if estimate is None:
        return "--"
    form = "+.2f" if signed else ".2f"
    text = format(estimate.value, form)
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:{form}}, {estimate.high:{form}}]"
