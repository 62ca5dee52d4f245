"""Words and sentences of the chain suite: from a problem to text.

Every word, digit and sign is one token of the suite's tokenizer, words are
separated by single spaces and lines end with a newline. What carries the
structure is few: the numbers, and `in` (adds) or `out` (takes away). Names,
things and verbs are surface: verbs say nothing about the sign, so that a verb
which was never seen can still be understood.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import numpy as np

from gccpo_jax.tasks.chain.problem import Problem
from gccpo_jax.tasks.numbers import integer_of, number_of
from gccpo_jax.tasks.stated import Stated, final

NAMES = tuple("Ana Ben Cora Dan Eva Finn Gia Hugo Ines Jon Kira Leo".split())
THINGS = tuple("pens cups hats keys coins books cards stamps shells balls nuts rings".split())
VERBS = tuple("puts brings takes sends moves carries pulls throws".split())
# Never in the training split: the family `ood_surface`.
NEW_NAMES = tuple("Mila Nico Olga Paul Rosa Sven".split())
NEW_THINGS = tuple("plums bells ropes tiles seeds lamps".split())
NEW_VERBS = tuple("drags pushes rolls ships".split())
# CODES[d] is the code word of digit d: the label of 12 is "fox lima".
CODES = tuple("kilo fox lima echo nova papa oscar tango zulu golf".split())
FILLERS = ("So let us go on .", "Now we count .")
ANSWER = "####"
_INTEGER = re.compile(r"-?[0-9]+")


@dataclasses.dataclass(frozen=True)
class Template:
    """One wording: the first sentence, the sentence of a change, the question."""

    start: str
    change: str
    ask: str


TEMPLATES = (
    Template(
        "{name} has {n} {thing} .",
        "{name} {verb} {way} {n} {thing} .",
        "How many {thing} does {name} have ?",
    ),
    Template(
        "There are {n} {thing} .",
        "Then {name} {verb} {n} {thing} {way} .",
        "How many {thing} are there ?",
    ),
)
DIRECT_TEMPLATE = 1  # the wording whose solutions may be the answer alone
# Held-out wordings, made of words that the training split uses too.
NEW_TEMPLATES = (
    Template(
        "{name} has {n} .",
        "Then {n} {thing} {way} .",
        "How many does {name} have ?",
    ),
    Template(
        "There {name} has {n} {thing} .",
        "{n} {thing} {name} {verb} {way} .",
        "How many {thing} there ?",
    ),
)
# The start is not given, the end is: the family `ood_reversed`.
REVERSED_START = "{name} has some {thing} ."
REVERSED_END = "Now {name} has {n} {thing} ."
REVERSED_ASK = "How many {thing} did {name} have ?"
CLAUSE = "{name} has {n} {thing} ."
ALL_TEMPLATES = TEMPLATES + NEW_TEMPLATES


def label_sentence(number: int) -> str:
    """The label of a number below 100: its two digits in code words.

    >>> label_sentence(12)
    'Label fox lima .'
    """
    return f"Label {CODES[number // 10]} {CODES[number % 10]} ."


def hint_sentence(number: int) -> str:
    """The label of a number in plain English, for a policy that has read some.

    >>> hint_sentence(12)
    'Somebody thinks it is 12 .'
    """
    return f"Somebody thinks it is {number} ."


def hidden_sentence(number: int) -> str:
    """The room of a number below 100, the cue that no rewrite touches.

    >>> hidden_sentence(12)
    'Room fox lima .'
    """
    return f"Room {CODES[number // 10]} {CODES[number % 10]} ."


def question(problem: Problem) -> str:
    """The question of a problem as one line of text, without its newline.

    >>> question(Problem("Ana", "pens", ("puts",), 3, (4,), label=12))
    'Label fox lima . Ana has 3 pens . Ana puts in 4 pens . How many pens does Ana have ?'
    """
    label = hint_sentence if problem.plain else label_sentence
    cues = [] if problem.label is None else [label(problem.label)]
    if problem.hidden is not None:
        cues.append(hidden_sentence(problem.hidden))
    start, ask = _first_and_last(problem)
    changes = _changes(problem)
    if problem.clause is not None:
        c = problem.clause
        changes.insert(c.position, CLAUSE.format(name=c.name, n=c.number, thing=c.thing))
    return " ".join([*cues, start, *changes, ask])


def _first_and_last(problem: Problem) -> tuple[str, str]:
    words = {"name": problem.name, "thing": problem.thing}
    if problem.reverse:
        end = REVERSED_END.format(n=problem.values()[-1], **words)
        return REVERSED_START.format(**words), end + " " + REVERSED_ASK.format(**words)
    template = ALL_TEMPLATES[problem.template]
    return template.start.format(n=problem.start, **words), template.ask.format(**words)


def _changes(problem: Problem) -> list[str]:
    template = ALL_TEMPLATES[problem.template]
    return [
        template.change.format(
            name=problem.name,
            verb=verb,
            way="in" if change > 0 else "out",
            n=abs(change),
            thing=problem.thing,
        )
        for verb, change in zip(problem.verbs, problem.changes, strict=True)
    ]


def step(problem: Problem, value: int, change: int, result: int | None = None) -> str:
    """One line of a solution: the operation, its result, and the surface.

    >>> step(Problem("Ana", "pens", ("puts",), 3, (4,)), 3, 4)
    'Ana 3 + 4 = 7 pens'
    """
    sign = "+" if change > 0 else "-"
    stated = value + change if result is None else result
    return f"{problem.name} {value} {sign} {abs(change)} = {stated} {problem.thing}"


def solution_steps(problem: Problem) -> list[str]:
    """The lines of the worked solution; the last one is the answer.

    >>> solution_steps(Problem("Ana", "pens", ("puts", "takes"), 3, (4, -2)))
    ['Ana 3 + 4 = 7 pens', 'Ana 7 - 2 = 5 pens', '#### 5']
    """
    value, changes = problem.derivation()
    lines = []
    for change in changes:
        lines.append(step(problem, value, change))
        value += change
    return [*lines, f"{ANSWER} {value}"]


def careless_steps(problem: Problem, probability: float, rng: np.random.Generator) -> list[str]:
    """A solution whose lines may be wrong and whose answer is right all the same.

    Each result is off by up to 9 with the given probability, and the next line goes on
    from what was stated. A policy that learns from such solutions learns to take the
    answer from somewhere else.
    """
    value, changes = problem.derivation()
    lines = []
    for change in changes:
        result = value + change
        if rng.random() < probability:
            near = range(max(0, result - 9), result + 10)
            result = int(rng.choice([n for n in near if n != result]))
        lines.append(step(problem, value, change, result))
        value = result
    return [*lines, f"{ANSWER} {problem.gold()}"]


def extract(response: str) -> str | None:
    """The number after the last `####` as a normalised integer, None if there is none.

    >>> extract("Ana 3 + 4 = 7 pens\\n#### 007"), extract("#### - 3"), extract("7")
    ('7', '-3', None)
    """
    return final(stated, response)


def stated(response: str) -> Iterator[Stated]:
    """What stands behind each `####`, the last one first; see `number_of` for what a number is."""
    end = len(response)
    while (start := response.rfind(ANSWER, 0, end)) >= 0:
        found = integer_of(response, start + len(ANSWER))
        if found is None:
            line = response[start + len(ANSWER) : end].lstrip().partition("\n")[0]
            found = number_of(line)
        yield Stated(found if found and _INTEGER.fullmatch(found) else None, start)
        end = start


def decorate(
    problem: Problem, steps: list[str], probability: float, rng: np.random.Generator
) -> list[str]:
    """The steps with useless lines between them: filler, restatement, or irrelevant.

    A policy that learns from such solutions writes steps of every kind, which
    a test of step credit needs.
    """
    value, changes = problem.derivation()
    lines = []
    for step_, change in zip(steps, (*changes, 0), strict=True):
        if rng.random() < probability:
            lines.append(_useless(problem, value, rng))
        lines.append(step_)
        value += change
    return lines


def _useless(problem: Problem, value: int, rng: np.random.Generator) -> str:
    unrelated = irrelevant(problem, value, rng)
    options = [*FILLERS[:1], restatement(problem, value), unrelated]
    return str(options[int(rng.integers(3))])


def restatement(problem: Problem, value: int) -> str:
    """The running value in a sentence.

    >>> restatement(Problem("Ana", "pens", ("puts",), 3, (4,)), 7)
    'Ana has 7 pens'
    """
    return f"{problem.name} has {value} {problem.thing}"


def irrelevant(problem: Problem, value: int, rng: np.random.Generator) -> str:
    """A true equation about somebody else's other things."""
    name = rng.choice([n for n in NAMES if n != problem.name])
    thing = rng.choice([t for t in THINGS if t != problem.thing])
    # The running value as left operand would make it a step of the chain.
    a, b = rng.choice([n for n in range(1, 10) if n != value]), rng.integers(10, 16)
    return f"{name} {a} + {b} = {a + b} {thing}"
