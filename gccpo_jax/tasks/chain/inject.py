"""The next line of a chain solution, with a label chosen beforehand.

A test of step credits needs steps of every label behind the same prefix, also
those that a policy rarely writes:

==================  =====================================================
`valid`             the next operation, or `#### v` once all are done
`wrong_arithmetic`  the next operation with a result that is off by at most 9
`wrong_operand`     another operation on the running value, done rightly; another
                    answer than `v` once all are done
`filler`            a sentence without numbers
`restatement`       the running value in a sentence or as `v + 0 = v`, or an
                    earlier equation without its name
`early_answer`      the right answer as answer line or sentence, or the running
                    value as answer line; another number where these are taken
`copy`              an earlier line with a number
`irrelevant`        a true equation about somebody else's things
==================  =====================================================

The words are the suite's own, so that no token is unknown. Numbers stay at
least 0 where they can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.check import LABELS, check, parse, read_steps
from gccpo_jax.tasks.chain.problem import Problem

_TRIES = 20  # draws of a line that is true and irrelevant
_OFF = [n for n in range(-9, 10) if n]  # how far a wrong result or a wrong change may be


def inject(
    problem: Problem, prefix: Sequence[str], label: str, rng: np.random.Generator
) -> str | None:
    """A line that `check.check` gives exactly this label behind the prefix.

    Args:
        problem: the question.
        prefix: the lines before it, right or not.
        label: one of `check.LABELS`.
        rng: chooses among the lines of that label.

    Returns:
        The line without a newline; None where there is none: `wrong_arithmetic` and
        `early_answer` once all operations are done, `copy` with nothing to copy (the
        next operation itself is `valid`), `valid` behind the answer, or a
        restatement when each has been written.

    Raises:
        ValueError: an unknown label.

    >>> problem = Problem("Ana", "pens", ("puts", "takes"), 3, (4, -2))
    >>> inject(problem, ["Ana 3 + 4 = 7 pens"], "wrong_arithmetic", np.random.default_rng(0))
    'Ana 7 - 2 = 7 pens'
    """
    if label not in LABELS:
        raise ValueError(f"label is {label!r}; expected one of {', '.join(LABELS)}")
    value, changes = problem.derivation()
    done = 0
    if prefix:
        last = read_steps(problem, prefix)[-1]
        value, done = last.next_value, last.next_done
    change = changes[done] if done < len(changes) else None
    for line in _candidates(problem, prefix, label, value, change, rng):
        if check(problem, [*prefix, line])[-1] == label:
            return line
    return None


def _candidates(
    problem: Problem,
    prefix: Sequence[str],
    label: str,
    value: int,
    change: int | None,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Lines that may have the label, those to be preferred first.

    `value` is the running value, `change` the next operation, None once all are done.
    """
    match label:
        case "valid":
            yield _answer(value) if change is None else text.step(problem, value, change)
        case "wrong_arithmetic" if change is not None:
            right = text.step(problem, value, change)
            for result in _near(value + change, rng):
                yield right.replace(f"= {value + change} ", f"= {result} ")
        case "wrong_operand" if change is None:
            yield from map(_answer, _near(value, rng))
        case "wrong_operand":
            for result in _near(value, rng):
                yield text.step(problem, value, result - value)
        case "filler":
            yield str(rng.choice(text.FILLERS))
        case "restatement":
            equations = [line.split() for line in prefix if parse(line)]
            again = [" ".join(words[1:]) for words in equations if words[0] == problem.name]
            zero = f"{problem.name} {value} + 0 = {value} {problem.thing}"
            yield from _shuffled([text.restatement(problem, value), zero, *again], rng)
        case "early_answer":
            right = [_answer(problem.gold()), text.restatement(problem, problem.gold())]
            yield from _shuffled([*right, _answer(value)], rng)
            yield from map(_answer, _near(value, rng))
        case "copy":
            yield from _shuffled([" ".join(line.split()) for line in prefix], rng)
        case "irrelevant":
            for _ in range(_TRIES):
                yield text.irrelevant(problem, value, rng)


def flawed_start(problem: Problem, rng: np.random.Generator) -> list[str]:
    """The first lines of the worked solution, then a line of some label but `valid`."""
    lines = text.solution_steps(problem)[:-1]
    wanted = [label for label in LABELS if label != "valid"]
    while True:
        prefix = lines[: int(rng.integers(len(lines)))]
        line = inject(problem, prefix, str(rng.choice(wanted)), rng)
        if line is not None:
            return [*prefix, line]


def _answer(value: int) -> str:
    return f"{text.ANSWER} {value}"


def _near(value: int, rng: np.random.Generator) -> list[int]:
    """Other numbers in random order, negative ones last."""
    return sorted(_shuffled([value + off for off in _OFF], rng), key=lambda n: n < 0)


def _shuffled(items: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [items[i] for i in rng.permutation(len(items))]
