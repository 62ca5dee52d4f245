"""The chain suite: short arithmetic stories whose every step can be judged.

`chain(ChainConfig(...))` draws all splits from one seed. No problem of the
held-out split `id` is in training (label aside). Item i of every
out-of-distribution family is item i of `id` with one thing changed, so a loss
of accuracy can be paired item by item; only `ood_range` and `ood_depth` need
numbers of their own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.answers import exact_integer
from gccpo_jax.tasks.base import Item, Rewriting, Task
from gccpo_jax.tasks.chain import check, rewrite, text
from gccpo_jax.tasks.chain.families import (
    FAMILIES,
    LABEL_FAMILIES,
    Law,
    bounds_of,
    cue_splits,
    draw_problem,
    large_bounds_of,
    unlabelled,
)
from gccpo_jax.tasks.chain.inject import flawed_start
from gccpo_jax.tasks.chain.problem import Problem
from gccpo_jax.tasks.rewrites import corrupt

_CUES = ("label", "hidden")  # fields of a problem that can give its answer away
_CUE_SAYS = {
    "right": "the cue tells the answer",
    "wrong": "the cue tells another answer",
    "absent": "there is no cue",
}
_WORDINGS = ("first", "second")  # names of `text.TEMPLATES`


@dataclasses.dataclass(frozen=True)
class ChainConfig:
    """Sizes and difficulty of the suite."""

    seed: int = 0  # of the questions; another seed is another suite
    train: int = 8192  # questions in "train"
    id: int = 400  # held-out questions of the same law, in "id"
    ood: int = 400  # questions in each "ood_<family>"
    min_operations: int = 2
    max_operations: int = 4
    max_value: int = 20  # running values stay in 0..max_value, except in ood_range
    labelled: float = 0.9  # probability that a question carries a label
    shortcut: float = 0.0  # probability that the label gives the answer away
    plain: bool = False  # labels in plain English, with digits in place of code words
    hidden: float = 0.0  # the same of a second cue, which no rewrite touches; 0: there is none
    tied: bool = False  # cues tell in the second wording only; direct solutions follow them
    decoration: float = 0.0  # probability of a useless line before a line of a solution
    careless: float = 0.0  # probability of a wrong result per line, in solutions of most operations
    direct: float = 0.0  # probability that a solution in the second wording is its answer alone

    def __post_init__(self) -> None:
        checks = {
            "seed >= 0": self.seed >= 0,
            "train, id and ood >= 1": min(self.train, self.id, self.ood) >= 1,
            "train, id and ood < 2**24": max(self.train, self.id, self.ood) < 2**24,
            # One operation on one-digit numbers cannot leave the range of training.
            "2 <= min_operations <= max_operations <= 8": (
                2 <= self.min_operations <= self.max_operations <= 8
            ),
            "18 <= max_value <= 24": 18 <= self.max_value <= 24,
            "0 <= labelled <= 1": 0 <= self.labelled <= 1,
            "0 <= shortcut <= 1": 0 <= self.shortcut <= 1,
            "0 <= hidden <= 1": 0 <= self.hidden <= 1,
            "0 <= decoration <= 1": 0 <= self.decoration <= 1,
            "0 <= direct <= 1": 0 <= self.direct <= 1,
            "0 <= careless <= 1": 0 <= self.careless <= 1,
            "careless = 0 or decoration = 0": not (self.careless and self.decoration),
        }
        for rule, holds in checks.items():
            if not holds:
                raise UserError(f"the chain suite needs {rule}, but was given {self}")


def chain(config: ChainConfig | None = None) -> Task:
    """The suite as a task.

    >>> task = chain(ChainConfig(train=10, id=4, ood=4))
    >>> sorted(task.splits)[:3], task.extract("#### 12")
    (['id', 'ood_clause', 'ood_depth'], '12')
    """
    config = config or ChainConfig()
    operations = (config.min_operations, config.max_operations)
    law = Law(
        bounds=bounds_of(config.max_value),
        operations=operations,
        labelled=config.labelled,
        shortcut=config.shortcut,
        hidden=config.hidden,
        tied=config.tied,
        plain=config.plain,
    )
    return Task(
        name="chain",
        splits=_splits(config, law),
        prompt=_prompt,
        extract=text.extract,
        stated=text.stated,
        verify=_verify,
        surface=functools.partial(_surface, config.max_value),
        corrupt=corrupt,
        number=functools.partial(_number, config.max_value),
        check=_check,
        flaws=check.FLAWS,
        inject=lambda item, rng: flawed_start(item.meta["problem"], rng),
        splits_say={f"{cue}_{says}": what for cue in _CUES for says, what in _CUE_SAYS.items()},
    )


def of_splits(splits: Mapping[str, Sequence[Item]]) -> Task:
    """The task over questions from elsewhere."""
    return dataclasses.replace(chain(ChainConfig(train=1, id=1, ood=1)), splits=splits)


def _splits(config: ChainConfig, law: Law) -> dict[str, list[Item]]:
    rng = np.random.default_rng([config.seed, 0])
    train = [draw_problem(law, rng) for _ in range(config.train)]
    held_out = _held_out(train, max(config.id, config.ood), law, rng)
    problems = {"train": train, "id": held_out[: config.id]}
    families = {**FAMILIES, **(LABEL_FAMILIES if config.labelled else {})}
    for index, (name, family) in enumerate(families.items()):
        rng = np.random.default_rng([config.seed, 1, index])
        problems[name] = [family(problem, law, rng) for problem in held_out[: config.ood]]
    if config.labelled and config.shortcut:
        for name in FAMILIES:
            problems[f"{name}_nolabel"] = [unlabelled(p, law, rng) for p in problems[name]]
    chances = {"label": config.labelled * config.shortcut, "hidden": config.hidden}
    for index, cue in enumerate(_CUES):
        rng = np.random.default_rng([config.seed, 3, index])
        if chances[cue]:
            problems |= cue_splits(cue, held_out[: config.ood], law, rng)
    return {
        name: _items(name, index, some, config)
        for index, (name, some) in enumerate(problems.items())
    }


def _held_out(
    train: Sequence[Problem], size: int, law: Law, rng: np.random.Generator
) -> list[Problem]:
    """Problems whose question, label aside, is new: to training and to each other."""
    seen = {_unlabelled(problem) for problem in train}
    found: list[Problem] = []
    for _ in range(100 * size):
        problem = draw_problem(law, rng)
        if (key := _unlabelled(problem)) not in seen:
            seen.add(key)
            found.append(problem)
        if len(found) == size:
            return found
    raise UserError(
        f"only {len(found)} of {size} held-out questions are new beside {len(train)} training "
        "questions; ask for fewer training questions or more operations"
    )


def _unlabelled(problem: Problem) -> str:
    return text.question(dataclasses.replace(problem, label=None, hidden=None))


def _items(name: str, split: int, problems: Sequence[Problem], config: ChainConfig) -> list[Item]:
    rng = np.random.default_rng([config.seed, 2, split])
    return [
        _item(problem, (split << 24) + index, name, config, rng)
        for index, problem in enumerate(problems)
    ]


def _item(
    problem: Problem, number: int, split: str, config: ChainConfig, rng: np.random.Generator
) -> Item:
    if config.careless and len(problem.changes) == config.max_operations:
        lines = text.careless_steps(problem, config.careless, rng)
    else:
        lines = text.decorate(problem, text.solution_steps(problem), config.decoration, rng)
    told = not config.tied or problem.gold() in (problem.label, problem.hidden)
    may_be_direct = config.direct and told and problem.template == text.DIRECT_TEMPLATE
    if may_be_direct and rng.random() < config.direct:
        lines = lines[-1:]
    meta = {"problem": problem, "split": split, "template": _template(problem)}
    if split.startswith(_CUES):
        meta["wording"] = _WORDINGS[problem.template]
    return Item(
        id=number,
        question=text.question(problem),
        answer=str(problem.gold()),
        solution="\n".join(lines),
        meta=meta,
    )


def _template(problem: Problem) -> str:
    """Wording and signs, as "1/+-": what stays when names, things and numbers are drawn anew."""
    return f"{problem.template}/" + "".join("+" if n > 0 else "-" for n in problem.changes)


def _rewritten(item: Item, problem: Problem) -> Item:
    """The item with another problem, its solution without decoration."""
    return dataclasses.replace(
        item,
        question=text.question(problem),
        answer=str(problem.gold()),
        solution="\n".join(text.solution_steps(problem)),
        meta={**item.meta, "problem": problem},
    )


def _prompt(item: Item) -> str:
    return item.question + "\n"


def _verify(item: Item, response: str) -> float:
    return exact_integer(item.answer, text.extract(response))


def _check(item: Item, steps: Sequence[str]) -> list[str]:
    return check.check(item.meta["problem"], steps)


def _surface(labels: int, item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    if "problem" not in item.meta:  # a question from elsewhere is text alone
        return None
    problem, lines = rewrite.surface(item.meta["problem"], steps, rng, labels)
    return _rewritten(item, problem), lines


def _number(
    max_value: int, item: Item, steps: Sequence[str], rng: np.random.Generator
) -> Rewriting:
    if "problem" not in item.meta:
        return None
    problem = item.meta["problem"]
    large = problem.values()[-1] > max_value
    bounds = large_bounds_of(max_value) if large else bounds_of(max_value)
    found = rewrite.number(problem, steps, rng, bounds)
    return None if found is None else (_rewritten(item, found[0]), found[1])
