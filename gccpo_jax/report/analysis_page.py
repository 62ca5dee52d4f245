"""The page of an analysis: what each step did to the answer of any model, with its intervals."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from gccpo_jax.analysis.files import columns
from gccpo_jax.analysis.report import Estimate, StepReport, TrajectoryReport
from gccpo_jax.counterfactual.shown import Law
from gccpo_jax.report import charts
from gccpo_jax.report.analysed import Analysed
from gccpo_jax.report.document import MOST_BYTES, document, environment, fitting, short
from gccpo_jax.runtime.completions import verdict
from gccpo_jax.runtime.shades import shade, signed

FILTERS = {
    "decisive": "the effect of a step is above 0, all of its interval",
    "harmful": "the effect of a step is below 0, all of its interval",
    "lucky": "right, but a step is labelled wrong",
    "sound-but-wrong": "every labelled step is valid, but wrong",
    "unreadable": "an answer law says more than a fifth outside the candidates",
    "unscorable": "no outcome",
}
_READABLE = 0.2  # of a law may be outside the candidates

SCORES = {
    "phi": "chance of a right answer after the step",
    "D": "effect of the step on it",
    "R": "how little the answer moves when the step is disturbed",
    "S": "how much it moves when the step says something else",
    "Q": "R S",
    "other": "share of the answer law outside the candidates",
    "deletion": "how far the answer moves without the step",
    "logp": "mean log-probability of a token",
    "entropy": "mean entropy of a token, nats",
}
_MEASURED = {
    "scored_phi": "answers right at once",
    "other": "outside the candidates",
    "deletion": "moves without it",
    "counterfactual": "D against resamples",
    "agreement": "same answer when corrupted",
    "but_for": "answer hangs on it",
    "logp": "log-prob per token",
    "entropy": "entropy per token",
}
"""Numbers without an interval, in words."""


@dataclasses.dataclass(frozen=True)
class StepView:
    """A step as the page shows it."""

    row: StepReport
    shade: int  # -3 .. 3
    before: Law
    facts: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Card:
    """A trajectory as the page shows it."""

    row: TrajectoryReport
    anchor: str
    number: str
    verdict: str
    marks: tuple[str, ...]  # of FILTERS
    path: tuple[tuple[float, float], ...]  # of Phi
    ranges: tuple[tuple[float, float, float], ...]  # x, and both ends of Phi's interval
    values: tuple[float, ...]
    steps: tuple[StepView, ...]


def render(analysed: Analysed, most_bytes: int = MOST_BYTES, live: bool = False) -> str:
    """The page of an analysis.

    Args:
      most_bytes: of the questions' part; the first ones go in.
      live: the page asks its server for what is new.
    """
    question = environment(interval=interval).get_template("question.html")

    def shown() -> Iterator[tuple[str, list[Card]]]:
        for name, rows in itertools.groupby(analysed.trajectories, question_of):
            cards = cards_of(list(rows))
            yield question.render(name=name, cards=cards), cards

    kept = fitting(shown(), most_bytes)
    questions = len({question_of(row) for row in analysed.trajectories})
    return document(
        "analysis.html",
        [text for text, _ in kept],
        left_out=questions - len(kept),
        filters=FILTERS,
        counts=Counter(mark for _, cards in kept for card in cards for mark in card.marks),
        live=live,
        title=f"{analysed.name} - what each step did",
        heading="What each step did to the answer",
        analysed=analysed,
        questions=questions,
        columns=columns(analysed.summary) if analysed.summary else {},
        scores=SCORES,
    )


def question_of(row: TrajectoryReport) -> str:
    """The name of the question that a trajectory answers.

    >>> [name.partition("/")[0] for name in ("12/3", "12")]
    ['12', '12']
    """
    return row.id.partition("/")[0]


def cards_of(rows: Sequence[TrajectoryReport]) -> list[Card]:
    """The trajectories of one question side by side; shades relative to their largest effect."""
    effects = [abs(step.D.value) for row in rows for step in row.steps if step.D is not None]
    return [card(row, max(effects, default=0.0)) for row in rows]


def card(row: TrajectoryReport, size: float) -> Card:
    """One trajectory."""
    phis = [row.steps[0].phi_before, *(step.phi for step in row.steps)] if row.steps else []
    known = [phi for phi in phis if phi is not None]
    values = tuple(phi.value for phi in known) if len(known) == len(phis) else ()
    path, low, high = (
        charts.path([end(phi) for phi in known] if values else ())
        for end in (lambda phi: phi.value, _low, _high)
    )
    befores = [row.law_before, *(step.law for step in row.steps)]
    return Card(
        row=row,
        anchor=f"q-{row.id}",
        number=row.id.partition("/")[2],
        verdict=verdict(row.outcome),
        marks=tuple(name for name, has in marks(row).items() if has),
        path=tuple(path),
        ranges=tuple((x, a, z) for (x, a), (_, z) in zip(low, high, strict=True)),
        values=values,
        steps=tuple(
            StepView(
                row=step,
                shade=0 if step.D is None else shade_of(step.D, size),
                before=before,
                facts=facts(step),
            )
            for step, before in zip(row.steps, befores, strict=False)
        ),
    )


def shade_of(effect: Estimate, size: float) -> int:
    """The shade of an effect; the palest where its interval holds 0.

    >>> [shade_of(Estimate(0.5, low, 0.9), 0.5) for low in (0.1, -0.1)]
    [3, 1]
    """
    found = shade(effect.value, size)
    return found if _low(effect) > 0 or _high(effect) < 0 else max(-1, min(1, found))


def marks(row: TrajectoryReport) -> dict[str, bool]:
    """Which of FILTERS a trajectory has."""
    labels = [step.label for step in row.steps if step.label is not None]
    effects = [step.D for step in row.steps if step.D is not None]
    return {
        "decisive": any(_low(effect) > 0 for effect in effects),
        "harmful": any(_high(effect) < 0 for effect in effects),
        "lucky": row.outcome == 1 and "wrong" in labels,
        "sound-but-wrong": row.outcome == 0 and bool(labels) and set(labels) == {"valid"},
        "unreadable": any((step.other or 0) > _READABLE for step in row.steps),
        "unscorable": row.outcome is None,
    }


def facts(step: StepReport) -> tuple[tuple[str, str], ...]:
    """Numbers of a step that have no interval, where they were measured."""
    values = ((words, getattr(step, name)) for name, words in _MEASURED.items())
    return tuple((words, short(value)) for words, value in values if value is not None)


def interval(estimate: Estimate | None, with_sign: bool = False) -> str:
    """A number with its interval in words.

    >>> interval(Estimate(0.5, 0.25, 1.0)), interval(Estimate(0.5, None, None)), interval(None)
    ('0.50 [0.25, 1.00]', '0.50', '--')
    """
    if estimate is None:
        return "--"
    form = signed if with_sign else "{:.2f}".format
    if estimate.low is None or estimate.high is None:
        return form(estimate.value)
    return f"{form(estimate.value)} [{form(estimate.low)}, {form(estimate.high)}]"


def _low(estimate: Estimate) -> float:
    return estimate.value if estimate.low is None else estimate.low


def _high(estimate: Estimate) -> float:
    return estimate.value if estimate.high is None else estimate.high
