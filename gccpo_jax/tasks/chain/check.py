"""Labels of the steps of a chain trajectory.

The checker follows the trajectory through the derivation of the question: it
holds the running value `v` *that the trajectory itself stated* and the next
operation of the question. A label depends on the question and on the steps so
far, never on later ones. Who has what is not judged, except where a rule says
so: a policy that has not learnt a word writes another. In this order:

==================  =====================================================
`filler`            no number in it
`copy`              the text of an earlier step again (spaces aside), and not
                    the operation that comes next
`valid`             `v (+ or -) n = r` where the operation and `n` are the
                    question's next and `r` is right (for + also `n + v`, if it
                    names no other thing); or `#### v` once every operation
                    is done
`wrong_arithmetic`  the same with a wrong `r`; or an equation that is false or
                    cannot be read, whatever it is about
`early_answer`      `#### n` while operations remain; or a sentence that states
                    the right answer while it is not yet derived
`wrong_operand`     an equation that claims something about the chain (it starts
                    from `v`, or names the thing asked for, or does the next
                    operation and names no other thing) but is not the next
                    operation; `#### n` with `n` other than `v`; a sentence with
                    a number that neither the question nor an earlier step gives
`restatement`       an equation of an earlier step in other words, `v + 0 = v`, or
                    a sentence whose numbers are all known
`irrelevant`        any other true equation
==================  =====================================================

Two choices to know. A step that continues correctly from a wrong value is
`valid`: the mistake was made before it.
Operations count in the order of the solution: a step that skips one is
`wrong_operand`, and the chain goes on behind the operation that it did.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from gccpo_jax.tasks.chain import text
from gccpo_jax.tasks.chain.problem import Problem
from gccpo_jax.tasks.rewrites import NUMBER

LABELS = (
    "valid",
    "wrong_arithmetic",
    "wrong_operand",
    "filler",
    "restatement",
    "early_answer",
    "copy",
    "irrelevant",
)
FLAWS = ("wrong_arithmetic", "wrong_operand", "early_answer")
"""Labels of steps that are wrong."""
_SIGNED = r"(- ?)?([0-9]{1,18})"
_EQUATION = re.compile(
    rf"(?:[A-Za-z]+ )*{_SIGNED} ([+-]) ([0-9]{{1,18}}) = {_SIGNED}(?: [A-Za-z]+)*(?: \.)?"
)


_THINGS = {*text.THINGS, *text.NEW_THINGS}


@dataclasses.dataclass(frozen=True)
class Equation:
    """`left + change = result`, as a step states it."""

    left: int
    change: int
    result: int

    def true(self) -> bool:
        """Whether the arithmetic holds."""
        return self.left + self.change == self.result


@dataclasses.dataclass(frozen=True)
class StepVerdict:
    """What the checker saw in one step."""

    label: str
    kind: str  # "equation", "answer", "sentence"
    value: int  # running value before the step
    done: int  # operations done before the step
    follows: bool  # an equation that does the next operation on the running value
    next_value: int
    next_done: int


@dataclasses.dataclass
class _Follower:
    """The state between steps; local to one call of `read_steps`."""

    problem: Problem
    value: int
    changes: tuple[int, ...]
    known: set[int]
    done: int = 0
    texts: set[str] = dataclasses.field(default_factory=set)
    equations: set[Equation] = dataclasses.field(default_factory=set)

    def expected(self) -> int | None:
        return self.changes[self.done] if self.done < len(self.changes) else None


def parse(step: str) -> Equation | None:
    """The equation that a step states, None if it states none.

    >>> parse("Ana 7 - 2 = 5 pens")
    Equation(left=7, change=-2, result=5)
    """
    found = _EQUATION.fullmatch(" ".join(step.split()))
    if found is None:
        return None
    minus, left, sign, change, negative, result = found.groups()
    return Equation(
        -int(left) if minus else int(left),
        int(change) if sign == "+" else -int(change),
        -int(result) if negative else int(result),
    )


def check(problem: Problem, steps: Sequence[str]) -> list[str]:
    """One label per step, see the table above.

    >>> problem = Problem("Ana", "pens", ("puts", "takes"), 3, (4, -2))
    >>> check(problem, ["Ana 3 + 4 = 8 pens", "Ana 8 - 2 = 6 pens", "#### 6"])
    ['wrong_arithmetic', 'valid', 'valid']
    """
    return [verdict.label for verdict in read_steps(problem, steps)]


def read_steps(problem: Problem, steps: Sequence[str]) -> list[StepVerdict]:
    """What the checker saw, step by step."""
    value, changes = problem.derivation()
    state = _Follower(problem, value, changes, {value, *(abs(c) for c in changes)})
    return [_advance(state, " ".join(step.split())) for step in steps]


def _advance(state: _Follower, step: str) -> StepVerdict:
    value, done = state.value, state.done
    equation = parse(step)
    follows = equation is not None and _follows(state, equation, step)
    if not NUMBER.search(step):
        kind, label = "sentence", "filler"
    elif step in state.texts and not follows:
        kind, label = _kind(step, equation), "copy"
    elif text.ANSWER in step:
        kind, label = "answer", _judge_answer(state, step)
    elif equation is not None:
        kind, label = "equation", _judge_equation(state, equation, step, follows)
    else:
        kind, label = "sentence", _judge_sentence(state, step)
    state.texts.add(step)
    return StepVerdict(label, kind, value, done, follows, state.value, state.done)


def _kind(step: str, equation: Equation | None) -> str:
    if text.ANSWER in step:
        return "answer"
    return "sentence" if equation is None else "equation"


def _follows(state: _Follower, equation: Equation, step: str) -> bool:
    """Whether it does the next operation on the running value, right or wrong."""
    expected = state.expected()
    pairs = [(equation.left, equation.change)]
    if equation.change > 0 and not _about_another(state, step):
        pairs.append((equation.change, equation.left))
    return expected is not None and (state.value, expected) in pairs


def _judge_answer(state: _Follower, step: str) -> str:
    answer = text.extract(step)
    if state.expected() is not None:
        return "early_answer"
    return "valid" if answer == str(state.value) else "wrong_operand"


def _judge_equation(state: _Follower, equation: Equation, step: str, follows: bool) -> str:
    if follows:
        _move(state, equation, state.done + 1)
        return "valid" if equation.true() else "wrong_arithmetic"
    if equation in state.equations or (equation.change == 0 and equation.left == state.value):
        return "restatement" if equation.true() else "wrong_arithmetic"
    if _claims(state, equation, step):
        _move(state, equation, _resume_at(state, equation))
        return "wrong_operand"
    return "irrelevant" if equation.true() else "wrong_arithmetic"


def _claims(state: _Follower, equation: Equation, step: str) -> bool:
    """Whether an equation says something about the chain of the question."""
    if state.problem.thing in step.split() or equation.left == state.value:
        return True
    return equation.change == state.expected() and not _about_another(state, step)


def _about_another(state: _Follower, step: str) -> bool:
    return bool(_THINGS & set(step.split()) - {state.problem.thing})


def _move(state: _Follower, equation: Equation, done: int) -> None:
    state.value, state.done = equation.result, done
    state.known.add(equation.result)
    state.equations.add(equation)


def _resume_at(state: _Follower, equation: Equation) -> int:
    """Behind the operation that was done, or one further where it is none of them."""
    later = range(state.done, len(state.changes))
    found = [index for index in later if state.changes[index] == equation.change]
    return found[0] + 1 if found else min(state.done + 1, len(state.changes))


def _judge_sentence(state: _Follower, step: str) -> str:
    if "=" in step:
        return "wrong_arithmetic"
    numbers = {int(n) for n in NUMBER.findall(step)}
    if numbers <= state.known:
        return "restatement"
    derived = state.expected() is None
    return "early_answer" if state.problem.gold() in numbers and not derived else "wrong_operand"
