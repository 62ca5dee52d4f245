"""Gradients of presets as numbers and tables, each with its interval over batches."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from gccpo_jax.analysis import gradients
from gccpo_jax.analysis.gradients import Dots, Measured, divided, dots_of, jackknife
from gccpo_jax.analysis.suites.tables import interval, table
from gccpo_jax.statistics.bootstrap import Interval

PARTS = ("trajectory", "steps")
"""What a trajectory's tokens have in common, the mean of their advantages, and what differs."""


def summarise(measured: dict[str, Measured]) -> dict[str, Any]:
    """All numbers of the page, each with an interval over batches."""
    matched = max(found.tokens for found in measured.values())
    own = {name: dots_of(found.whole, found.whole) for name, found in measured.items()}
    first = next(iter(measured))
    rows = {}
    for name, found in measured.items():
        dots, ratio = own[name], jackknife(lambda d: d.ratio, own[name])
        numbers = {
            "cosine": jackknife(lambda d: d.cosine, dots),
            "matched": gradients.cosine_at(ratio, found.tokens, matched),
            "half": gradients.tokens_for_half(ratio, found.tokens),
            "ratio": ratio,
            "norm": _root(jackknife(lambda d: d.signal, dots)),
            "variance": _positive(jackknife(lambda d: d.variance, dots)),
            "questions": jackknife(_of_questions, dots),
            "agreement": jackknife(
                gradients.expected_cosine,
                own[first],
                dots,
                dots_of(measured[first].whole, found.whole),
            ),
        }
        parts = (found.trajectory, found.whole - found.trajectory)
        for part, rows_of in zip(PARTS, parts, strict=True):
            inside = dots_of(rows_of, rows_of)
            numbers[f"{part}_ratio"] = jackknife(lambda d: d.ratio, inside)
            share = jackknife(lambda d, whole: divided(d.variance, whole.variance), inside, dots)
            numbers[f"{part}_share"] = share
        rows[name] = {"tokens": found.tokens, **{k: x.plain() for k, x in numbers.items()}}
    return {"presets": rows, "matched_tokens": matched, "first": first}


def _of_questions(dots: Dots) -> float:
    """Of the variance, what the questions add; the rest is the tapes'. NaN with one tape."""
    return divided(dots.same - dots.signal, dots.variance)


def _root(squared: Interval) -> Interval:
    """The norm from its square."""
    return Interval(*map(math.sqrt, dataclasses.astuple(_positive(squared))))


def _positive(found: Interval) -> Interval:
    """Of what is not below 0: 0 where a number is."""
    return Interval(*(max(x, 0.0) for x in dataclasses.astuple(found)))


def tables(summary: dict[str, Any]) -> str:
    """The generated part of variance.md."""
    rows, matched = summary["presets"], count(summary["matched_tokens"])
    header = ["preset", "tokens per batch", "cosine of two batches", f"cosine at {matched} tokens"]
    header += ["tokens for cosine .5", "signal to noise", "norm of the mean", "variance"]
    header += [f"cosine with the mean of {summary['first']}"]
    numbers = table(
        header,
        [
            [
                f"`{name}`",
                count(x["tokens"]),
                interval(x["cosine"], ".3f"),
                interval(x["matched"], ".3f"),
                _tokens(x["half"]),
                interval(x["ratio"], ".3f"),
                interval(x["norm"], ".2g"),
                interval(x["variance"], ".2g"),
                "" if name == summary["first"] else interval(x["agreement"]),
            ]
            for name, x in rows.items()
        ],
    )
    header = ["preset", "variance from questions"]
    header += [
        f"{what} of the {part} part" for part in PARTS for what in ("variance", "signal to noise")
    ]
    sources = table(
        header,
        [
            [
                f"`{name}`",
                interval(x["questions"]),
                *(
                    cell
                    for part in PARTS
                    for cell in (interval(x[f"{part}_share"]), interval(x[f"{part}_ratio"], ".3f"))
                ),
            ]
            for name, x in rows.items()
        ],
    )
    return "\n\n".join(
        [
            "**Signal and noise**, 95 % intervals by the jackknife over batches of questions:",
            numbers,
            "**Where the noise is**: shares of the variance. The rest of the first is the tapes' "
            "(trajectories, branches, rewrites). The trajectory part is the gradient of each "
            "trajectory's mean advantage, the step part that of what differs inside it:",
            sources,
        ]
    )


def _tokens(x: dict[str, float | None]) -> str:
    """`estimate [low, high]` in tokens; an end that is not known to exist is "none"."""
    ends = (x[name] for name in ("estimate", "low", "high"))
    estimate, low, high = ("none" if end is None else count(end) for end in ends)
    return f"{estimate} [{low}, {high}]"


def count(tokens: float) -> str:
    """Tokens in thousands."""
    return f"{tokens / 1000:.0f}k" if tokens >= 9950 else f"{tokens / 1000:.1f}k"
