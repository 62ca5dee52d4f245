"""Trajectories of a run or of an analysis as text for a terminal, which the model's text is not."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rich.text import Text

from gccpo_jax.counterfactual.shown import Arm, Law
from gccpo_jax.report import analysis_page, page
from gccpo_jax.report.analysed import is_analysis, read_analysis
from gccpo_jax.report.document import short
from gccpo_jax.report.read import read_run
from gccpo_jax.runtime.shades import sign, signed
from gccpo_jax.runtime.terminal import plain, shaded, sparkline

_BAR = 10  # characters of a probability of 1


@dataclasses.dataclass(frozen=True)
class Entry:
    """A trajectory to choose and to read."""

    title: str  # escaped
    marks: tuple[str, ...]  # of FILTERS
    words: str  # what a search looks at
    body: Callable[[bool], Text]  # of whether interventions and branches are shown


@dataclasses.dataclass(frozen=True)
class Entries:
    """All of a directory's."""

    name: str
    filters: dict[str, str]  # {mark: what it says}
    rows: tuple[Entry, ...]


def entries_of(directory: str | pathlib.Path) -> Entries:
    """The trajectories of a run, or of an analysis.

    Raises:
      UserError: see `read_run` and `read_analysis`.
    """
    if is_analysis(directory):
        found = read_analysis(directory)
        groups = itertools.groupby(found.trajectories, analysis_page.question_of)
        cards = [card for _, rows in groups for card in analysis_page.cards_of(list(rows))]
        made, filters = map(analysed, cards), analysis_page.FILTERS
        return Entries(plain(found.name), filters, tuple(made))
    run = read_run(directory)
    disagree = page.against(run.trajectories)
    groups = itertools.groupby(run.trajectories, lambda row: (row.step, row.row))
    cards = [card for _, rows in groups for card in page.cards_of(list(rows), 0, disagree)]
    return Entries(plain(run.name), page.FILTERS, tuple(map(recorded, cards)))


def recorded(card: page.Card) -> Entry:
    """A trajectory of a run."""
    row = card.row
    title = f"step {row.step} q{row.question_id} t{row.trajectory}: {card.verdict}"
    quadrant = (row.quadrant or "").replace("_", ", ")
    words = (title, row.question, row.text, *card.marks, quadrant)
    return Entry(title, card.marks, " ".join(words).lower(), partial(recorded_body, card))


def recorded_body(card: page.Card, full: bool) -> Text:
    """All of it; `full`: its interventions and branches too."""
    row = card.row
    facts = [f"{name} {value}" for name, value in card.parts]
    facts += [f"{row.length} tokens", *([] if row.stopped else ["truncated"])]
    facts += [row.quadrant.replace("_", ", ")] if row.quadrant else []
    text = _head(row.question, row.gold, row.answer, [*facts, f"credit {signed(row.advantage)}"])
    _path(text, card.values, card.marks)
    if row.steps is None:
        text.append(plain(row.text) + "\n")
    for step, shade, before in zip(row.steps or (), card.shades, card.befores, strict=True):
        star = "" if step.robustness_measured else "*"
        scores = [f"D {signed(step.effect)}", f"R {step.robustness:.2f}{star}"]
        scores += [f"S {step.sensitivity:.2f}"] if step.sensitivity is not None else []
        scores += [f"Q {step.selectivity:.2f}"] if step.selectivity is not None else []
        head = f"{sign(step.advantage)} A {signed(step.advantage)}"
        _step(text, head, scores, step.text, shade)
        if step.labels:
            text.append(plain(f"  checker: {', '.join(step.labels)}\n"), style="dim")
        text.append(f"  Phi {step.value_before:.2f} -> {step.value_after:.2f}\n")
        if step.law and row.candidates:
            _law(text, row.candidates, before, step.law)
        if full:
            _arms(text, row.candidates, step.law, step.arms)
            for branch in step.branches:
                score = "unscorable" if branch.score is None else f"scored {short(branch.score)}"
                said = branch.text.rstrip().replace("\n", "\n    ")
                text.append(plain(f"  branch, {score}: {said}\n"), style="dim")
    return text


def analysed(card: analysis_page.Card) -> Entry:
    """A trajectory of an analysis."""
    row = card.row
    title = plain(f"question {row.id}: {card.verdict}")
    words = (title, row.question, *(step.text for step in row.steps), *card.marks)
    return Entry(title, card.marks, " ".join(words).lower(), partial(analysed_body, card))


def analysed_body(card: analysis_page.Card, full: bool) -> Text:
    """All of it; `full`: its interventions too."""
    row, interval = card.row, analysis_page.interval
    text = _head(row.question, row.gold, row.answer, [card.verdict])
    _path(text, card.values, card.marks)
    for view in card.steps:
        step = view.row
        head = f"{'' if step.D is None else sign(step.D.value) + ' '}D {interval(step.D, True)}"
        _step(text, head, [f"R {interval(step.R)}", f"S {interval(step.S)}"], step.text, view.shade)
        if step.label is not None:
            text.append(plain(f"  label: {step.label}\n"), style="dim")
        text.append(f"  Phi {interval(step.phi_before)} -> {interval(step.phi)}\n")
        _law(text, row.candidates, view.before, step.law)
        if full:
            _arms(text, row.candidates, step.law, step.arms)
    return text


def _head(question: str, gold: str | None, answer: str | None, facts: Sequence[str]) -> Text:
    text = Text(plain(question.strip()) + "\n", style="italic")
    found = Text().append_text(text)
    found.append(plain(f"right answer {gold}, says {answer}; {'; '.join(facts)}\n"), style="dim")
    return found


def _path(text: Text, values: Sequence[float], marks: Sequence[str]) -> None:
    if values:
        shown = " ".join(f"{value:.2f}" for value in values)
        text.append(f"Phi {sparkline(values)}  {shown}\n")
    if marks:
        text.append(f"[{', '.join(marks)}]\n", style="bold")
    text.append("\n")


def _step(text: Text, head: str, scores: Sequence[str], said: str, shade: int) -> None:
    text.append(head, style="bold").append(f"  {'  '.join(scores)}\n")
    text.append_text(shaded(said.rstrip("\n"), shade)).append("\n")


def _law(text: Text, candidates: Sequence[str], before: Law | None, after: Law) -> None:
    names = [*candidates, "any other"]
    width = max(map(len, names))
    for n, (name, p) in enumerate(zip(names, after, strict=True)):
        if name:
            was = "" if before is None else f"  before {before[n] or 0:.2f}"
            text.append(f"  {plain(name):<{width}} {_bar(p)} {p or 0:.2f}{was}\n")


def _arms(text: Text, candidates: Any, law: Law | None, arms: Sequence[Arm]) -> None:
    for arm in arms:
        usable = "" if arm.usable else ": not usable"
        text.append(f"  under {arm.name} ({arm.family}){usable}\n", style="bold")
        if arm.text is not None:
            text.append(plain(f"  {arm.text.rstrip()}\n"))
        if arm.law and candidates:
            _law(text, candidates, law, arm.law)


def _bar(p: float | None) -> str:
    filled = round(_BAR * min(max(p or 0.0, 0.0), 1.0))
    return "\N{FULL BLOCK}" * filled + "\N{LIGHT SHADE}" * (_BAR - filled)
