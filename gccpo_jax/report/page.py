"""One HTML page of one or more runs: learning curves, and why each step was rewarded."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from gccpo_jax.report import charts
from gccpo_jax.report.document import MOST_BYTES, document, environment, fitting, short
from gccpo_jax.report.read import Run
from gccpo_jax.runtime.completions import verdict
from gccpo_jax.runtime.shades import shade
from gccpo_jax.training.rollout_record import Law, Trajectory

CURVES = {
    "eval/id": "accuracy on held-out questions of the training law",
    "accuracy": "share of right rollouts",
    "reward": "mean reward, shaped",
    "sound_right": "share of rollouts: every step sound, and right",
    "flawed_right": "share of rollouts: right by luck, some step is flawed",
    "D_abs": "mean size of the effect of a step",
    "R": "robustness of the answer law",
    "S": "sensitivity of the answer law",
    "Q": "selectivity R S",
    "advantage_abs": "mean size of a step's advantage",
    "equivariance": "Eq: answers follow other numbers",
    "outcome_do": "outcome in other words",
    "process_score": "mean score of the judge",
    "reader_gate": "how often the reader's favourite is what the policy writes",
    "contrast": "share of groups with right and wrong rollouts",
    "entropy": "nats per token",
    "kl": "to the reference, nats per token",
    "loss": "objective",
    "length": "tokens per rollout",
    "truncated": "share that the token limit ended",
    "unscorable": "share without an outcome",
    "skipped": "updates that were not finite",
    "alarms": "warnings of the step",
    "step_seconds": "seconds per step",
}
"""Panels in their order, where a run has the metric."""

FILTERS = {
    "lucky": "right, but a step is flawed",
    "sound-but-wrong": "every step is sound, but wrong",
    "disagree": "credit most against outcome",
    "truncated": "ended by the token limit",
    "unscorable": "no outcome",
}
_DISAGREE = 10  # trajectories of a run with that mark


@dataclasses.dataclass(frozen=True)
class Card:
    """A trajectory as the page shows it."""

    row: Trajectory
    anchor: str
    verdict: str
    marks: tuple[str, ...]  # of FILTERS
    parts: tuple[tuple[str, str], ...]  # of the reward, in words
    path: tuple[tuple[float, float], ...]  # of Phi
    values: tuple[float, ...]
    shades: tuple[int, ...]  # -3 .. 3 per step
    befores: tuple[Law | None, ...]  # the law before each step
    token_shades: tuple[int, ...]


def render(runs: Sequence[Run], most_bytes: int = MOST_BYTES, live: bool = False) -> str:
    """The page of one or more runs.

    Args:
      runs: at least one; their curves are overlaid in this order.
      most_bytes: of the questions' part. Groups of the latest steps go in first.
      live: the page asks its server for what is new.
    """
    group = environment().get_template("group.html")

    def shown(n: int, run: Run) -> Iterator[tuple[str, list[Card]]]:
        disagree = against(run.trajectories)
        groups = [list(rows) for _, rows in itertools.groupby(run.trajectories, _question)]
        for rows in reversed(groups):
            cards = cards_of(rows, n, disagree)
            several = len(runs) > 1
            yield group.render(rows=rows, cards=cards, run=run, n=n, several=several), cards

    kept = [fitting(shown(n, run), most_bytes // len(runs)) for n, run in enumerate(runs)]
    cards = [card for one in kept for _, cards in one for card in cards]
    questions = sum(len({_question(row) for row in run.trajectories}) for run in runs)
    return document(
        "run.html",
        [text for one in kept for text, _ in reversed(one)],
        left_out=questions - sum(map(len, kept)),
        filters=FILTERS,
        counts=Counter(mark for card in cards for mark in card.marks),
        live=live,
        title=", ".join(run.name for run in runs) + " - why a step was rewarded",
        heading="Why a step was rewarded",
        runs=runs,
        panels=panels(runs),
        stages=stages(runs),
        alarms=[alarm_steps(run) for run in runs],
        width=charts.WIDTH,
        height=charts.HEIGHT,
    )


def panels(runs: Sequence[Run]) -> list[charts.Panel]:
    """A panel per metric of `CURVES` that a run has."""
    found = (
        charts.panel(
            name, about, [[(row["step"], row.get(name)) for row in run.metrics] for run in runs]
        )
        for name, about in CURVES.items()
    )
    return [panel for panel in found if panel is not None]


def stages(runs: Sequence[Run]) -> list[tuple[str, list[float | None]]]:
    """Median seconds of each stage of a step, per run; the first step compiles and is left out."""
    tables = []
    for run in runs:
        rows = [row for row in run.metrics if row["step"] > 1] or list(run.metrics)
        names = {key for row in rows for key in row if key.endswith("_seconds")}
        tables.append(
            {
                name.removesuffix("_seconds"): statistics.median(
                    row[name] for row in rows if row.get(name) is not None
                )
                for name in names
                if any(row.get(name) is not None for row in rows)
            }
        )
    every = sorted({name for table in tables for name in table} - {"step"})
    rows = [(name, [table.get(name) for table in tables]) for name in every]
    rows.sort(key=lambda row: -max(x or 0.0 for x in row[1]))
    return [*rows, ("step", [table.get("step") for table in tables])]


def alarm_steps(run: Run) -> list[str]:
    """What a reader of the curves should know: steps with warnings or skipped updates."""
    found = []
    for name, words in (("alarms", "warnings"), ("skipped", "skipped updates")):
        steps = [row["step"] for row in run.metrics if row.get(name)]
        if steps:
            some = ", ".join(map(str, steps[:10])) + (", ..." if len(steps) > 10 else "")
            found.append(f"{words} in {len(steps)} steps: {some}")
    return found


def cards_of(rows: Sequence[Trajectory], n: int, disagree: set[tuple]) -> list[Card]:
    """The trajectories of one question side by side."""
    size = max((abs(step.advantage) for row in rows for step in row.steps or ()), default=0.0)
    each = max((abs(a) for row in rows for a in row.tokens.advantage), default=0.0)
    return [card(row, n, disagree, size, each) for row in rows]


def card(row: Trajectory, n: int, disagree: set[tuple], size: float, each: float) -> Card:
    """One trajectory; shades are relative to the group's largest advantages."""
    steps = row.steps or ()
    marks = {
        "lucky": row.quadrant == "flawed_right",
        "sound-but-wrong": row.quadrant == "sound_wrong",
        "disagree": _key(row) in disagree,
        "truncated": not row.stopped,
        "unscorable": row.outcome is None,
    }
    values = (steps[0].value_before, *(step.value_after for step in steps)) if steps else ()
    parts = {
        "outcome": row.outcome,
        "reward": row.reward if row.reward != row.outcome else None,
        "in other words": row.transported,
        "Eq": row.equivariance,
    }
    return Card(
        row=row,
        anchor=f"r{n}-s{row.step}-q{row.row}-t{row.trajectory}",
        verdict=verdict(row.outcome),
        marks=tuple(name for name, has in marks.items() if has),
        parts=tuple((name, short(value)) for name, value in parts.items() if value is not None),
        path=tuple(charts.path(values)),
        values=values,
        shades=tuple(shade(step.advantage, size) for step in steps),
        befores=(row.law_before, *(step.law for step in steps))[: len(steps)],
        token_shades=tuple(shade(a, each) for a in row.tokens.advantage),
    )


def against(rows: Sequence[Trajectory]) -> set[tuple]:
    """The trajectories whose credit is most against their outcome, by key.

    disagreement = -(o - mean o of the group) * (mean advantage of a token)
    """
    found = []
    for _, group in itertools.groupby(rows, _question):
        scored = [row for row in group if row.outcome is not None]
        mean = statistics.fmean(row.outcome for row in scored) if scored else 0.0
        for row in scored:
            size = -(row.outcome - mean) * row.advantage / max(row.length, 1)
            if size > 0:
                found.append((size, _key(row)))
    return {key for _, key in sorted(found, reverse=True)[:_DISAGREE]}


def _question(row: Trajectory) -> tuple[int, int]:
    return row.step, row.row


def _key(row: Trajectory) -> tuple[int, int, int]:
    return row.step, row.row, row.trajectory
