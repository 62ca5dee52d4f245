"""One HTML page of one or more runs: learning curves, and why each step was rewarded.

The page is whole: no request leaves it, under a Content-Security-Policy that names its one style
and its one script by their hashes. Text of models is hostile: the template escapes everything.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import math
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from gccpo_jax.report import charts
from gccpo_jax.report.read import Run
from gccpo_jax.training.rollout_record import Law, Step, Trajectory

TEMPLATE = pathlib.Path(__file__).parent / "template"
MOST_BYTES = 4_500_000
"""Of the questions' part of a page; later steps are kept."""

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
    """The page.

    Args:
      runs: at least one; their curves are overlaid in this order.
      most_bytes: of the questions' part. Groups of the latest steps go in first.
      live: the page asks its server for what is new.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": signed, "short": short, "sign": sign}
    group = environment.get_template("group.html")
    shown, left, counts = [], 0, dict.fromkeys(FILTERS, 0)
    for n, run in enumerate(runs):
        disagree = against(run.trajectories)
        groups = [list(rows) for _, rows in itertools.groupby(run.trajectories, _question)]
        kept: list[Markup] = []
        room = most_bytes // len(runs)
        for rows in reversed(groups):
            cards = cards_of(rows, n, disagree)
            text = group.render(rows=rows, cards=cards, run=run, n=n, several=len(runs) > 1)
            room -= len(text.encode())
            if room < 0:
                break
            kept.append(Markup(text))
            for mark in itertools.chain(*(card.marks for card in cards)):
                counts[mark] += 1
        left += len(groups) - len(kept)
        shown += reversed(kept)
    style, script = _parts()
    return environment.get_template("page.html").render(
        runs=runs,
        panels=panels(runs),
        stages=stages(runs),
        alarms=[alarm_steps(run) for run in runs],
        groups=shown,
        left_out=left,
        filters=FILTERS,
        counts=counts,
        style=Markup(style),
        script=Markup(script),
        policy=page_policy(live),
        live=live,
        width=charts.WIDTH,
        height=charts.HEIGHT,
    )


def _parts() -> tuple[str, str]:
    """The style and the script."""
    style, script = ((TEMPLATE / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return style, script


def page_policy(live: bool) -> str:
    """The Content-Security-Policy: this style and this script; live, the page's own server."""
    style, script = map(_hash, _parts())
    own = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; {own}style-src '{style}'; script-src '{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


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
        befores=_befores(row.law_before, steps),
        token_shades=tuple(shade(a, each) for a in row.tokens.advantage),
    )


def _befores(first: Law | None, steps: Sequence[Step]) -> tuple[Law | None, ...]:
    return (first, *(step.law for step in steps))[: len(steps)]


def verdict(outcome: float | None) -> str:
    """An outcome in a word.

    >>> [verdict(x) for x in (None, 0.0, 1.0, 0.25)]
    ['unscorable', 'wrong', 'right', 'scored 0.25']
    """
    words = {None: "unscorable", 0.0: "wrong", 1.0: "right"}
    return words.get(outcome, f"scored {outcome}")


def shade(value: float, size: float) -> int:
    """A credit on seven shades, -3 to 3, of the largest `size`; 0 within a tenth of it.

    >>> [shade(x, 1.0) for x in (-1.0, -0.05, 0.0, 0.2, 0.5, 1.0)]
    [-3, 0, 0, 1, 2, 3]
    """
    if size == 0 or abs(value) < 0.1 * size:
        return 0
    return int(math.copysign(min(3, 1 + int(abs(value) / size * 3)), value))


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


def signed(x: float | None) -> str:
    """A number with its sign, which is not said by colour alone."""
    return "--" if x is None else f"{x:+.2f}".replace("-", "\N{MINUS SIGN}")


def sign(x: float) -> str:
    """The sign as a shape."""
    if round(x, 2) == 0:
        return "\N{WHITE CIRCLE}"
    return "\N{BLACK UP-POINTING TRIANGLE}" if x > 0 else "\N{BLACK DOWN-POINTING TRIANGLE}"


def short(x: Any) -> str:
    """A number in at most four digits."""
    return "--" if x is None else f"{x:.3g}"
