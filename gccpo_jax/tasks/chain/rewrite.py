"""Exact rewrites of chain questions and of the steps that answer them.

`surface` changes words and leaves every number; `number` changes numbers and
leaves every word. Both work on what a policy wrote, not only on worked
solutions.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.check import StepVerdict, check, parse, read_steps
from gccpo_jax.tasks.chain.problem import Problem, Range, redraw_numbers
from gccpo_jax.tasks.rewrites import NUMBER

_BARE = 0.25  # probability that the rewrite of a labelled question has no label
_TRIES = 50  # draws of numbers before a rewrite is given up


def surface(
    problem: Problem, steps: Sequence[str], rng: np.random.Generator, labels: int
) -> tuple[Problem, list[str]]:
    """The same problem and steps in other words: names, things, verbs, wording, label.

    Words come from the training pools, one for one; the label, if there is one,
    encodes a fresh random number up to `labels`, or is left out one time in four
    (it is surface, so it no longer says anything, and a policy that needs one to
    reason is found out). Numbers outside the label are untouched, and so is the
    hidden cue: it stands for what the author of a rewrite did not know of.
    """
    words = {}
    pools = (text.NAMES, text.THINGS, text.VERBS)
    used = _words_used(problem)
    for pool, mine in zip(pools, used, strict=True):
        words |= _other_words(mine, pool, rng)
    rewritten = _rename(problem, words)
    if problem.template < len(text.TEMPLATES) and not problem.reverse:
        template = int(rng.integers(len(text.TEMPLATES)))
        rewritten = dataclasses.replace(rewritten, template=template)
    if problem.label is not None:
        label, bare = int(rng.integers(labels + 1)), rng.random() < _BARE
        rewritten = dataclasses.replace(rewritten, label=None if bare else label)
    return rewritten, [_replace_words(step, words) for step in steps]


def _words_used(problem: Problem) -> tuple[list[str], list[str], list[str]]:
    clause = problem.clause
    names = [problem.name] + ([clause.name] if clause else [])
    things = [problem.thing] + ([clause.thing] if clause else [])
    return names, things, list(dict.fromkeys(problem.verbs))


def _other_words(
    used: Sequence[str], pool: Sequence[str], rng: np.random.Generator
) -> dict[str, str]:
    """A one-to-one map into `pool` that moves every used word.

    Words of the pool that the question does not use are mapped too: a policy
    may write any of them, and two words must not become one.
    """
    sources = [*used, *(word for word in pool if word not in used)][: len(pool)]
    while True:
        targets = [pool[i] for i in rng.permutation(len(pool))]
        if all(a != b for a, b in zip(used, targets, strict=False)):
            return dict(zip(sources, targets, strict=True))


def _rename(problem: Problem, words: dict[str, str]) -> Problem:
    clause = problem.clause
    if clause is not None:
        clause = dataclasses.replace(clause, name=words[clause.name], thing=words[clause.thing])
    return dataclasses.replace(
        problem,
        name=words[problem.name],
        thing=words[problem.thing],
        verbs=tuple(words[verb] for verb in problem.verbs),
        clause=clause,
    )


def _replace_words(step: str, words: dict[str, str]) -> str:
    return re.sub(r"[A-Za-z]+", lambda found: words.get(found[0], found[0]), step)


def number(
    problem: Problem, steps: Sequence[str], rng: np.random.Generator, bounds: Range
) -> tuple[Problem, list[str]] | None:
    """Other numbers in question and steps together; words and cues stay.

    Signs, clause, label and hidden cue are kept. The new answer differs from the old
    one and from the cues' numbers, so no cue can point at it. A step that follows
    the question gets the new numbers, and a wrong result stays wrong by the
    same amount. Labels of the checker stay. None where a number of a step has no
    one origin (a wrong operand, a sentence about anything but the running value).
    """
    verdicts = read_steps(problem, steps)
    signs = np.sign(np.array(problem.changes))
    for start, changes in redraw_numbers(bounds, signs, rng)[:_TRIES]:
        new = dataclasses.replace(problem, start=start, changes=changes)
        if new.gold() in (problem.gold(), problem.label, problem.hidden):
            continue
        lines = _rewrite_steps(problem, new, steps, verdicts)
        # By coincidence of numbers a step can come to say something else.
        if lines is not None and check(new, lines) == [verdict.label for verdict in verdicts]:
            return new, lines
    return None


def _rewrite_steps(
    old: Problem, new: Problem, steps: Sequence[str], verdicts: Sequence[StepVerdict]
) -> list[str] | None:
    value, changes = new.derivation()
    golds = (old.gold(), new.gold())
    lines: list[str] = []
    seen: dict[str, str] = {}
    for step, verdict in zip(steps, verdicts, strict=True):
        key = " ".join(step.split())
        if verdict.label == "copy":
            line = _as(step, seen[key])
        elif verdict.follows:
            line, value = _rewrite_equation(step, verdict, value, changes[verdict.done])
        else:
            line = _rewrite_other(step, verdict, value, golds)
        if line is None:
            return None
        seen[key] = line
        lines.append(line)
    return lines


def _as(step: str, line: str) -> str:
    """`line` with the white space that ends `step`."""
    return line.rstrip() + step[len(step.rstrip()) :]


def _rewrite_equation(
    step: str, verdict: StepVerdict, value: int, change: int
) -> tuple[str | None, int]:
    equation = parse(step)
    assert equation is not None
    result = value + change + equation.result - (equation.left + equation.change)
    swapped = equation.left != verdict.value
    first, second = (abs(change), value) if swapped else (value, abs(change))
    return _with_numbers(step, [first, second, result]), result


def _rewrite_other(
    step: str, verdict: StepVerdict, value: int, golds: tuple[int, int]
) -> str | None:
    """A step that is not the next operation; None if its numbers cannot be traced."""
    numbers = [int(n) for n in NUMBER.findall(step)]
    if verdict.label in ("filler", "irrelevant"):
        return step
    if verdict.label == "early_answer" and numbers == [golds[0]]:
        return _with_numbers(step, [golds[1]])
    if verdict.label == "early_answer" and numbers == [verdict.value]:
        return _with_numbers(step, [value])
    if verdict.kind == "answer" and len(numbers) == 1 and verdict.label != "early_answer":
        return _with_numbers(step, [numbers[0] + value - verdict.value])
    if verdict.label == "restatement" and numbers == [verdict.value]:
        return _with_numbers(step, [value])
    return None


def _with_numbers(step: str, numbers: Sequence[int]) -> str | None:
    """`step` with its numbers replaced in order; None if one of them is negative.

    A minus sign in front of a number would be read as part of it.
    """
    if min(numbers) < 0 or len(NUMBER.findall(step)) != len(numbers) or "= -" in step:
        return None
    rest = iter(numbers)
    return NUMBER.sub(lambda _: str(next(rest)), step)
