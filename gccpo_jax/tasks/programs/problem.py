"""Problems of the programs suite: a function of a list and a number, one statement after the other.

    c = xs[1] + n
    d = c * 3
    e = d if d > 7 else xs[0]
    return e

Every statement counts: with another value of its variable some result is another. Constants of one
program are all different. Programs made here are run by `values`, which knows these forms
alone; what a policy writes is run by `checking.code`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
from collections.abc import Sequence

import numpy as np

NAMES = ("solve", "score", "mix", "fold", "reach", "weigh")
LISTS, NUMBERS = ("xs", "items", "row"), ("n", "k", "size")
LOCALS = tuple("abcdefghpqrstuvw")
SIZE = 3  # of the list
WORDS = {"+": "plus", "-": "minus", "*": "times"}
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
COMPARISONS = {ast.Gt: operator.gt, ast.Lt: operator.lt, ast.GtE: operator.ge, ast.LtE: operator.le}
Case = tuple[tuple[int, ...], int]  # what a function is called with


@dataclasses.dataclass(frozen=True)
class Problem:
    """A function and the cases it is tested on."""

    name: str
    arguments: tuple[str, str]  # the list, the number
    statements: tuple[str, ...]  # the last one returns
    shown: tuple[Case, ...]
    hidden: tuple[Case, ...]

    def cases(self) -> tuple[Case, ...]:
        """All cases, those that the question shows first."""
        return self.shown + self.hidden

    def results(self) -> list[int]:
        """What the function returns of each case."""
        return [values(self.statements, self.arguments, case) for case in self.cases()]


def values(statements: Sequence[str], arguments: Sequence[str], case: Case) -> int:
    """What a program of these forms returns; nothing else is run.

    >>> values(["c = xs[1] + n", "return c * 2"], ("xs", "n"), ((1, 2, 3), 4))
    12
    """
    space = dict(zip(arguments, case, strict=True))
    for line in statements:
        match _parsed(line.strip()):
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                space[target] = _value(value, space)
            case ast.Return(value=ast.expr() as value):
                return _value(value, space)
    raise ValueError(f"no statement returns: {statements!r}")


@functools.lru_cache(maxsize=1 << 12)
def _parsed(line: str) -> ast.stmt:
    return ast.parse(line).body[0]


def _value(node: ast.expr, space: dict) -> int:
    match node:
        case ast.Constant(value=int() as value):
            return value
        case ast.Name(id=name):
            return space[name]
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=index)):
            return space[name][index]
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, space), _value(right, space))
        case ast.UnaryOp(op=ast.USub(), operand=inside):
            return -_value(inside, space)
        case ast.IfExp(test=ast.Compare(left=left, ops=[op], comparators=[right])):
            holds = COMPARISONS[type(op)](_value(left, space), _value(right, space))
            return _value(node.body if holds else node.orelse, space)
    raise ValueError(f"no statement of the suite: {ast.unparse(node)}")


def draw_problem(rng: np.random.Generator, length: int, shown: int, hidden: int) -> Problem:
    """A problem of `length` statements whose every part matters to some case."""
    while True:
        problem = _draw(rng, length, shown, hidden)
        results = problem.results()
        if len({*results}) > 2 and all_matter(problem, results):
            return problem


def all_matter(problem: Problem, results: Sequence[int]) -> bool:
    """Whether another value of any one variable changes some result."""
    for n, line in enumerate(problem.statements[:-1], start=1):
        target = line.partition(" = ")[0]
        more = (*problem.statements[:n], f"{target} = {target} + 1", *problem.statements[n:])
        if dataclasses.replace(problem, statements=more).results() == [*results]:
            return False
    return True


def _draw(rng: np.random.Generator, length: int, shown: int, hidden: int) -> Problem:
    arguments = (str(rng.choice(LISTS)), str(rng.choice(NUMBERS)))
    places = [f"{arguments[0]}[{n}]" for n in range(SIZE)] + [arguments[1]]
    targets = [str(one) for one in rng.choice(LOCALS, size=length - 1, replace=False)]
    constants = [str(one) for one in rng.permutation(np.arange(2, 2 + 2 * length))]
    lines: list[str] = []
    for n, target in enumerate(targets):
        before = targets[n - 1] if n and rng.random() < 0.6 else str(rng.choice(places))
        others = [*places, constants.pop(), *targets[: max(0, n - 1)]]
        other = str(rng.choice([one for one in others if one != before]))
        if rng.random() < 0.3:
            sign, limit = rng.choice([">", "<"]), constants.pop()
            lines.append(f"{target} = {before} if {before} {sign} {limit} else {other}")
        else:
            lines.append(f"{target} = {before} {rng.choice([*WORDS])} {other}")
    last = str(rng.choice([*targets[:-1], constants.pop()]))
    lines.append(f"return {targets[-1]} {rng.choice([*WORDS])} {last}")
    cases = _cases(rng, shown + hidden)
    name = str(rng.choice(NAMES))
    return Problem(name, arguments, tuple(lines), cases[:shown], cases[shown:])


def _cases(rng: np.random.Generator, count: int) -> tuple[Case, ...]:
    drawn = rng.integers(1, 15, size=(count, SIZE + 1))
    return tuple((tuple(map(int, row[:SIZE])), int(row[SIZE])) for row in drawn)


def question(problem: Problem) -> str:
    """The problem in words, with its shown cases.

    >>> lines, case = ("c = xs[1] + n", "return c * 2"), ((1, 2, 3), 4)
    >>> problem = Problem("f", ("xs", "n"), lines, (case,), ())
    >>> print(question(problem))
    Write f(xs, n): let c be xs[1] plus n. Give c times 2.
    f([1, 2, 3], 4) == 12
    """
    told = " ".join(_sentence(line) for line in problem.statements)
    head = f"Write {problem.name}({', '.join(problem.arguments)}): "
    results = problem.results()
    tests = [
        f"{call(problem.name, case)} == {result}"
        for case, result in zip(problem.shown, results, strict=False)
    ]
    return "\n".join([head + told, *tests])


def _sentence(line: str) -> str:
    words = " ".join(WORDS.get(word, word) for word in line.split())
    if words.startswith("return "):
        return "Give " + words.removeprefix("return ") + "."
    target, _, rest = words.partition(" = ")
    return f"let {target} be {rest}."


def call(name: str, case: Case) -> str:
    """A call of the function as text."""
    return f"{name}({list(case[0])}, {case[1]})"


def header(problem: Problem) -> str:
    """The line before the statements."""
    return f"def {problem.name}({', '.join(problem.arguments)}):\n"


def special_cases(problem: Problem) -> list[str]:
    """Statements that pass the shown cases without the function: the lucky guess of code."""
    given = f"({', '.join(problem.arguments)})"
    results = problem.results()
    tests = [
        f"if {given} == ({list(case[0])}, {case[1]}): return {result}"
        for case, result in zip(problem.shown, results, strict=False)
    ]
    return [*tests, "return 0"]
