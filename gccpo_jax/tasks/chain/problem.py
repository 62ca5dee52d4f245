"""A chained-arithmetic problem as a record, and how to draw its numbers.

A problem is a start and signed changes: 3, +4, -2 asks for 5. Text is made
from it elsewhere, so a rewrite of a question is a change of the record.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Clause:
    """A sentence that is true and does not matter."""

    name: str
    thing: str
    number: int
    position: int  # it stands before the change of this index


@dataclasses.dataclass(frozen=True)
class Problem:
    """Everything that a question says.

    >>> problem = Problem("Ana", "pens", ("puts", "takes"), 3, (4, -2))
    >>> problem.values(), problem.gold()
    ((3, 7, 5), 5)
    >>> dataclasses.replace(problem, reverse=True).derivation()
    (5, (2, -4))
    """

    name: str
    thing: str
    verbs: tuple[str, ...]  # one a change
    start: int
    changes: tuple[int, ...]  # signed, never 0
    template: int = 0
    label: int | None = None  # the number that the label encodes, None without a label
    hidden: int | None = None  # the number that the room encodes, a cue that rewrites leave alone
    clause: Clause | None = None
    reverse: bool = False  # the end is given, the start is asked for
    plain: bool = False  # the label is a sentence with its number in digits

    def values(self) -> tuple[int, ...]:
        """The start and the value after each change, in the order of the story."""
        return tuple(itertools.accumulate(self.changes, initial=self.start))

    def derivation(self) -> tuple[int, tuple[int, ...]]:
        """The value a solution begins with and the changes it makes, in order."""
        if not self.reverse:
            return self.start, self.changes
        return self.values()[-1], tuple(-change for change in reversed(self.changes))

    def gold(self) -> int:
        """The right answer."""
        return self.start if self.reverse else self.values()[-1]


@dataclasses.dataclass(frozen=True)
class Range:
    """Where numbers come from; both ends of a pair are included."""

    start: tuple[int, int]
    operand: tuple[int, int]
    value: tuple[int, int]  # every running value stays inside
    end: tuple[int, int]  # the last value is inside this as well


def draw_numbers(bounds: Range, length: int, rng: np.random.Generator) -> tuple[int, list[int]]:
    """A start and `length` signed changes inside the bounds.

    The sign is a fair coin wherever both directions stay inside.
    """
    while True:
        start, changes = _walk(bounds, length, rng)
        if bounds.end[0] <= start + sum(changes) <= bounds.end[1]:
            return start, changes


def _walk(bounds: Range, length: int, rng: np.random.Generator) -> tuple[int, list[int]]:
    low, high = bounds.value
    start = value = int(rng.integers(bounds.start[0], bounds.start[1] + 1))
    changes = []
    for _ in range(length):
        operand = int(rng.integers(bounds.operand[0], bounds.operand[1] + 1))
        up = value - operand < low or (value + operand <= high and rng.random() < 0.5)
        changes.append(operand if up else -operand)
        value += changes[-1]
    return start, changes


def redraw_numbers(
    bounds: Range, signs: np.ndarray, rng: np.random.Generator, tries: int = 1024
) -> list[tuple[int, tuple[int, ...]]]:
    """Starts and changes with the given signs inside the bounds, in random order.

    >>> bounds = Range((1, 9), (1, 9), value=(0, 20), end=(0, 20))
    >>> start, changes = redraw_numbers(bounds, np.array([1, -1]), np.random.default_rng(0))[0]
    >>> changes[0] > 0 > changes[1]
    True
    """
    starts = rng.integers(bounds.start[0], bounds.start[1] + 1, size=(tries, 1))
    operands = rng.integers(bounds.operand[0], bounds.operand[1] + 1, size=(tries, len(signs)))
    rows = np.concatenate([starts, operands * signs], axis=1)
    values = np.cumsum(rows, axis=1)
    inside = ((values >= bounds.value[0]) & (values <= bounds.value[1])).all(axis=1)
    inside &= (values[:, -1] >= bounds.end[0]) & (values[:, -1] <= bounds.end[1])
    return [(int(row[0]), tuple(int(n) for n in row[1:])) for row in rows[inside]]
