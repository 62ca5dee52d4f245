"""Exact rewrites of statements and problems.

Nuisance: other names (`rename`). Content: one operator, comparison, constant or index of a
statement (`mutate`). Equivariance: another name, other arguments and another constant, in text,
tests and statements together (`number`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from gccpo_jax.tasks.programs.problem import LISTS, LOCALS, NAMES, NUMBERS, SIZE, Problem

_WORD = re.compile(r"[A-Za-z_]\w*")
_INTEGER = re.compile(r"(?<![\w.\[])\d+(?![\w.\]])")
_INDEX = re.compile(r"(?<=\[)\d+(?=\])")
_OPERATOR = re.compile(r"(?<= )[-+*](?= )")
_COMPARISON = re.compile(r"(?<= )(?:<=|>=|<|>)(?= )")
_OPPOSITE = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_SPECIAL = re.compile(r"\s*if .*: *return ")


def is_special(step: str) -> bool:
    """Whether a step returns at once for what it names."""
    return bool(_SPECIAL.match(step))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text with whole words replaced.

    >>> renamed("c = cc + n", {"c": "d"})
    'd = cc + n'
    """
    return _WORD.sub(lambda found: names.get(found[0], found[0]), text)


def rename(
    problem: Problem, steps: Sequence[str], rng: np.random.Generator
) -> tuple[Problem, list[str]]:
    """The same function with another name, other arguments and other locals."""
    used = {word for line in (*problem.statements, *steps) for word in _WORD.findall(line)}
    own = {line.split(" = ")[0] for line in problem.statements if " = " in line}
    own |= {step.split(" = ")[0].strip() for step in steps if " = " in step} & {*LOCALS}
    free = [name for name in LOCALS if name not in used]
    drawn = [str(name) for name in rng.permutation(free)]
    names = dict(zip(sorted(own), drawn, strict=False)) | _other_names(problem, rng)
    return _with(problem, names), [renamed(step, names) for step in steps]


def _other_names(problem: Problem, rng: np.random.Generator) -> dict[str, str]:
    """Other names of the function and its arguments."""
    pairs = zip((problem.name, *problem.arguments), (NAMES, LISTS, NUMBERS), strict=True)
    return {old: str(rng.choice([one for one in some if one != old])) for old, some in pairs}


def _with(problem: Problem, names: Mapping[str, str]) -> Problem:
    return dataclasses.replace(
        problem,
        name=names.get(problem.name, problem.name),
        arguments=tuple(names.get(one, one) for one in problem.arguments),
        statements=tuple(renamed(line, names) for line in problem.statements),
    )


def mutate(step: str, rng: np.random.Generator) -> str | None:
    """One operator, comparison, constant or index replaced; None if the step has none."""
    found: list[tuple[re.Match[str], list[str]]] = []
    for place in _OPERATOR.finditer(step):
        found.append((place, [sign for sign in "+-*" if sign != place[0]]))
    for place in _COMPARISON.finditer(step):
        found.append((place, [_OPPOSITE[place[0]]]))
    for place in _INTEGER.finditer(step):
        near = range(max(0, int(place[0]) - 3), int(place[0]) + 4)
        found.append((place, [str(n) for n in near if n != int(place[0])]))
    for place in _INDEX.finditer(step):
        found.append((place, [str(n) for n in range(SIZE) if n != int(place[0])]))
    if not found or is_special(step):
        return None
    place, others = found[int(rng.integers(len(found)))]
    return step[: place.start()] + str(rng.choice(others)) + step[place.end() :]


def _with_constant(old: str, new: str, line: str) -> str:
    if is_special(line):
        return line
    return _INTEGER.sub(lambda found: new if found[0] == old else found[0], line)


def number(
    problem: Problem, steps: Sequence[str], rng: np.random.Generator
) -> tuple[Problem, list[str]] | None:
    """Other names of function and arguments, and another constant that changes some result.

    None if there is no such constant.

    A step that special-cases the shown tests keeps its numbers: it points at the old results.
    """
    inside = {n for line in problem.statements for n in _INTEGER.findall(line)}
    pairs = [
        (a, str(b)) for a in sorted(inside, key=int) for b in range(2, 30) if str(b) not in inside
    ]
    for old, new in rng.permutation(pairs):
        changed = partial(_with_constant, str(old), str(new))
        other = dataclasses.replace(problem, statements=tuple(map(changed, problem.statements)))
        if other.results() != problem.results():
            break
    else:
        return None
    names = _other_names(problem, rng)
    return _with(other, names), [renamed(changed(step), names) for step in steps]
