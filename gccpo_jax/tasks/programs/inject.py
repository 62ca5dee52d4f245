"""Beginnings of programs that end in a flawed statement: what judges of steps are asked about."""

from __future__ import annotations

import numpy as np

from gccpo_jax.tasks.programs.problem import LOCALS, Problem, special_cases
from gccpo_jax.tasks.programs.rewrite import mutate


def flawed_start(problem: Problem, rng: np.random.Generator) -> list[str]:
    """The first statements of the reference, then a flawed one.

    One in three each: the next statement with one change (`mutate`), the shown tests' special case,
    a variable that nothing needs.
    """
    count = int(rng.integers(len(problem.statements)))
    match int(rng.integers(3)):
        case 0:
            flaw = mutate(problem.statements[count], rng) or "pass"
        case 1:
            flaw = special_cases(problem)[0]
        case _:
            used = " ".join(problem.statements).split()
            name = rng.choice([one for one in LOCALS if one not in used])
            flaw = f"{name} = {problem.arguments[1]} {rng.choice(['+', '-', '*'])} 1"
    return [*problem.statements[:count], flaw]
