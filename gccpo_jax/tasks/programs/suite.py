"""The programs suite: the code twin of `chain`.

A question asks for a straight-line function in words and shows some of its tests; the response is
the body, a statement a line, and the answer the vector of all test results, the shown ones first.
A body that special-cases the shown tests passes those alone: the lucky guess of code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item, Rewriting, Task
from gccpo_jax.tasks.checking.code import Limits
from gccpo_jax.tasks.code.asserts import of_calls
from gccpo_jax.tasks.code.coded import Coded, coded_task, item_of, verdict
from gccpo_jax.tasks.programs import check, rewrite
from gccpo_jax.tasks.programs.problem import (
    LOCALS,
    Problem,
    draw_problem,
    header,
    question,
    special_cases,
)

INDENT = "    "
LIMITS = Limits(seconds=1.0, confirm=False)  # straight lines mean the same in both tiers


@dataclasses.dataclass(frozen=True)
class ProgramsConfig:
    """Sizes and difficulty of the suite."""

    seed: int = 0
    train: int = 4096  # questions in "train"
    id: int = 200  # held-out questions of the same law
    ood: int = 200  # questions in "ood_depth"
    min_statements: int = 3
    max_statements: int = 4
    shown: int = 2  # tests in the question
    hidden: int = 4  # tests beside them
    shortcut: float = 0.0  # probability that a training solution special-cases the shown tests
    graded: str = "all"  # what the outcome of training questions looks at: "all" or "shown"

    def __post_init__(self) -> None:
        checks = {
            "seed >= 0": self.seed >= 0,
            "1 <= train, id and ood < 2**24": 1 <= min(self.train, self.id, self.ood)
            and max(self.train, self.id, self.ood) < 2**24,
            "2 <= min_statements <= max_statements <= 7": (
                2 <= self.min_statements <= self.max_statements <= 7
            ),
            "1 <= shown and 2 <= hidden": self.shown >= 1 and self.hidden >= 2,
            "0 <= shortcut <= 1": 0 <= self.shortcut <= 1,
            "graded = 'all' or 'shown'": self.graded in ("all", "shown"),
        }
        for rule, holds in checks.items():
            if not holds:
                raise UserError(f"the programs suite needs {rule}, but was given {self}")


def programs(config: ProgramsConfig | None = None) -> Task:
    """The suite as a task."""
    config = config or ProgramsConfig()
    lengths = (config.min_statements, config.max_statements)
    sizes = {
        "train": (config.train, lengths),
        "id": (config.id, lengths),
        "ood_depth": (config.ood, (lengths[1] + 1, lengths[1] + 2)),
    }
    splits = {
        name: _items(config, split, name, *size) for split, (name, size) in enumerate(sizes.items())
    }
    of_splits = coded_task("programs", lambda item, chat: _prompt(item))
    return dataclasses.replace(
        of_splits(splits, chat=False),
        answer=lambda item, response: verdict(item, response, LIMITS).answer,
        verify=partial(_verify, config.graded == "shown"),
        surface=_surface,
        corrupt=rewrite.mutate,
        number=_number,
        check=_check,
        flaws=check.FLAWS,
        inject=_flawed_start,
    )


def of_splits(splits: Mapping[str, Sequence[Item]]) -> Task:
    """The task over questions from elsewhere."""
    return dataclasses.replace(programs(ProgramsConfig(train=1, id=1, ood=1)), splits=splits)


def _items(
    config: ProgramsConfig, split: int, name: str, size: int, lengths: tuple[int, int]
) -> list[Item]:
    rng = np.random.default_rng([config.seed, split])
    found = []
    for index in range(size):
        length = int(rng.integers(lengths[0], lengths[1] + 1))
        problem = draw_problem(rng, length, config.shown, config.hidden)
        lucky = name == "train" and rng.random() < config.shortcut
        lines = special_cases(problem) if lucky else problem.statements
        meta = {"split": name, "template": f"0/{length}"}
        found.append(item_with(problem, (split << 24) + index, lines, meta))
    return found


def item_with(problem: Problem, number: int, lines: Sequence[str], meta: Mapping) -> Item:
    """An item of a problem with these statements as its solution."""
    given = [[list(numbers), number] for numbers, number in problem.cases()]
    tests = of_calls(problem.name, [*zip(given, problem.results(), strict=True)])
    code = Coded(problem.name, tests, prompt=header(problem))
    body = "\n".join(INDENT + line for line in lines)
    return item_of(number, question(problem), body, code, {**meta, "problem": problem})


def results_of(item: Item, steps: Sequence[str]) -> str | None:
    """The results of a body of statements, as text; None: unscorable."""
    body = "".join(f"{INDENT}{step.strip()}\n" for step in steps) or f"{INDENT}pass\n"
    return verdict(item, body, LIMITS).answer


def shown_results(item: Item, steps: Sequence[str]) -> str | None:
    """The results on the shown tests alone; None: unscorable."""
    found = results_of(item, steps)
    return None if found is None else found[: len(item.meta["problem"].shown)]


def is_lucky(item: Item, answer: str) -> bool:
    """Whether results are right on the tests that are shown, and on those alone."""
    shown = len(item.meta["problem"].shown)
    return "0" not in answer[:shown] and "0" in answer[shown:]


def _prompt(item: Item) -> str:
    return f"{item.question}\n\n{item.meta['code'].prompt}"


def _verify(shown_alone: bool, item: Item, response: str) -> float | None:
    passed = verdict(item, response, LIMITS).passed
    if passed is None:
        return None
    if shown_alone and item.meta["split"] == "train":
        passed = passed[: len(item.meta["problem"].shown)]
    return float(all(passed))


def _check(item: Item, steps: Sequence[str]) -> list[str]:
    problem: Problem = item.meta["problem"]
    return check.check(
        problem.statements, steps, lambda body: "0" not in (results_of(item, body) or "0")
    )


def _flawed_start(item: Item, rng: np.random.Generator) -> list[str]:
    """The first statements of the reference, then a flawed one: what judges of steps are asked.

    One in three each: the next statement with one change (`mutate`), the shown tests' special case,
    a variable that nothing needs.
    """
    problem: Problem = item.meta["problem"]
    count = int(rng.integers(len(problem.statements)))
    match int(rng.integers(3)):
        case 0:
            flaw = rewrite.mutate(problem.statements[count], rng) or "pass"
        case 1:
            flaw = special_cases(problem)[0]
        case _:
            used = " ".join(problem.statements).split()
            name = rng.choice([one for one in LOCALS if one not in used])
            flaw = f"{name} = {problem.arguments[1]} {rng.choice(['+', '-', '*'])} 1"
    return [INDENT + line for line in (*problem.statements[:count], flaw)]


def _surface(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    problem, lines = rewrite.rename(item.meta["problem"], steps, rng)
    return item_with(problem, item.id, problem.statements, item.meta), lines


def _number(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    found = rewrite.number(item.meta["problem"], steps, rng)
    if found is None:
        return None
    return item_with(found[0], item.id, found[0].statements, item.meta), found[1]
