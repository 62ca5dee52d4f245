"""Problems of the training law, and what each held-out family changes about them.

A family is a function of a held-out problem: everything it does not mention
stays, so that accuracy on the pair differs by that one thing. Where a change
moves the answer, the label is drawn again by the law of training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.problem import Clause, Problem, Range, draw_numbers

DEPTHS = (1, 2)  # ood_depth: this many operations more than training ever has


@dataclasses.dataclass(frozen=True)
class Law:
    """The distribution of training problems."""

    bounds: Range
    operations: tuple[int, int]  # fewest and most
    labelled: float  # probability that a question carries a label
    shortcut: float  # probability that a label encodes the answer
    hidden: float = 0.0  # probability that the room encodes the answer; 0: no room
    tied: bool = False  # cues tell in the second wording only, which is never without them
    plain: bool = False  # labels in plain English


def bounds_of(max_value: int) -> Range:
    """Where the numbers of training come from."""
    inside = (0, max_value)
    return Range(start=(1, 9), operand=(1, 9), value=inside, end=inside)


def large_bounds_of(max_value: int) -> Range:
    """Where the numbers of `ood_range` come from: the story ends above `max_value`."""
    return Range((1, 9), (1, 9), value=(0, 2 * max_value), end=(max_value + 1, 2 * max_value))


Family = Callable[[Problem, Law, np.random.Generator], Problem]


def draw_problem(law: Law, rng: np.random.Generator) -> Problem:
    """A problem of the training law."""
    length = int(rng.integers(law.operations[0], law.operations[1] + 1))
    start, changes = draw_numbers(law.bounds, length, rng)
    problem = Problem(
        name=str(rng.choice(text.NAMES)),
        thing=str(rng.choice(text.THINGS)),
        verbs=tuple(str(verb) for verb in rng.choice(text.VERBS, size=length)),
        start=start,
        changes=tuple(changes),
        template=int(rng.integers(len(text.TEMPLATES))),
        plain=law.plain,
    )
    return relabel(problem, law, rng)


def relabel(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """The problem with cues drawn by the law: none, the answer, or any number.

    The random number does not look at the answer, so with `shortcut` 0 the
    label says nothing.
    """
    tells = not law.tied or problem.template == text.DIRECT_TEMPLATE
    always = law.tied and tells and law.labelled > 0
    label = hidden = None
    if rng.random() < law.labelled or always:
        label = _drawn_cue(problem, law.shortcut * tells, law, rng)
    if law.hidden:
        hidden = _drawn_cue(problem, law.hidden * tells, law, rng)
    return dataclasses.replace(problem, label=label, hidden=hidden)


def _drawn_cue(problem: Problem, honest: float, law: Law, rng: np.random.Generator) -> int:
    if rng.random() < honest:
        return problem.gold()
    return int(rng.integers(law.bounds.value[1] + 1))


def surface(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """Names, things and verbs that training never has."""
    size = len(problem.changes)
    return dataclasses.replace(
        problem,
        name=str(rng.choice(text.NEW_NAMES)),
        thing=str(rng.choice(text.NEW_THINGS)),
        verbs=tuple(str(verb) for verb in rng.choice(text.NEW_VERBS, size=size)),
    )


def template(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """Held-out sentences made of words that training has."""
    index = len(text.TEMPLATES) + int(rng.integers(len(text.NEW_TEMPLATES)))
    return dataclasses.replace(problem, template=index)


def number_range(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """An answer above every number of training; start and operands as ever."""
    bounds = large_bounds_of(law.bounds.value[1])
    start, changes = draw_numbers(bounds, len(problem.changes), rng)
    return relabel(dataclasses.replace(problem, start=start, changes=tuple(changes)), law, rng)


def depth(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """One or two operations more than the longest of training."""
    length = law.operations[1] + int(rng.integers(DEPTHS[0], DEPTHS[1] + 1))
    start, changes = draw_numbers(law.bounds, length, rng)
    verbs = tuple(str(verb) for verb in rng.choice(text.VERBS, size=length))
    longer = dataclasses.replace(problem, start=start, changes=tuple(changes), verbs=verbs)
    return relabel(longer, law, rng)


def clause(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """A sentence about somebody else's things, with a number, among the changes."""
    other = Clause(
        name=str(rng.choice([name for name in text.NAMES if name != problem.name])),
        thing=str(rng.choice([thing for thing in text.THINGS if thing != problem.thing])),
        number=int(rng.integers(1, 10)),
        position=int(rng.integers(len(problem.changes) + 1)),
    )
    return dataclasses.replace(problem, clause=other)


def reverse(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """The same story with its end given and its start asked for."""
    return relabel(dataclasses.replace(problem, reverse=True, template=0), law, rng)


def misleading(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """A label that encodes a wrong answer."""
    return dataclasses.replace(problem, label=_wrong_cue(problem, law, rng))


def _wrong_cue(problem: Problem, law: Law, rng: np.random.Generator) -> int:
    return int(rng.choice([n for n in range(law.bounds.value[1] + 1) if n != problem.gold()]))


def unlabelled(problem: Problem, law: Law, rng: np.random.Generator) -> Problem:
    """No label."""
    return dataclasses.replace(problem, label=None)


def cue_splits(
    cue: str, problems: Sequence[Problem], law: Law, rng: np.random.Generator
) -> dict[str, list[Problem]]:
    """`<cue>_right`, `<cue>_wrong` and `<cue>_absent`: the same problems, item by item.

    `cue` is "label" or "hidden", a field of `Problem`. Each problem stands in both
    wordings, one behind the other, with the same cue.
    """
    wrong = [_wrong_cue(problem, law, rng) for problem in problems]
    numbers = {
        "right": [problem.gold() for problem in problems],
        "wrong": wrong,
        "absent": [None] * len(problems),
    }
    return {
        f"{cue}_{says}": [
            dataclasses.replace(problem, template=template, **{cue: number})
            for problem, number in zip(problems, of_split, strict=True)
            for template in range(len(text.TEMPLATES))
        ]
        for says, of_split in numbers.items()
    }


FAMILIES: Mapping[str, Family] = {
    "ood_surface": surface,
    "ood_template": template,
    "ood_range": number_range,
    "ood_depth": depth,
    "ood_clause": clause,
    "ood_reversed": reverse,
}
# These two exist only in a suite whose questions carry a label.
LABEL_FAMILIES: Mapping[str, Family] = {
    "ood_shortcut": misleading,
    "ood_nolabel": unlabelled,
}
