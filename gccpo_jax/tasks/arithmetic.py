"""A process reward without a model: do the equations of a step hold?

`config.reward.process = "gccpo_jax.tasks.arithmetic:score"`. A rule rather than a judgement: it
sees a wrong result, not a wrong operation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

_NUMBER = r"\$?(?:\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.\d{1,6})?"
_SIGN = r"\s*[-+*/x×÷]\s*"
_EQUATION = re.compile(
    r"(?<![\d.,^)])(?<![-+*/×÷^)] )"  # not from the middle of a longer expression
    rf"(-?{_NUMBER}(?:{_SIGN}{_NUMBER}){{1,8}})\s*=\s*(-?{_NUMBER})"
    r"(?![\d^]|[.,]\d|\s*[*/x×÷]\s*\d)"
)


def score(question: str, steps: Sequence[str]) -> list[float]:
    """1 for a step whose equations all hold, 0 for one with a wrong one, .5 without any.

    An equation is decimal numbers joined by + - * / (also x × ÷), `=` and a number; products
    before sums, compared exactly, but a result with decimals may be rounded to them. The
    question is not used.

    >>> score("", ["3 + 4 = 7 pens", "7 - 2 = 4", "#### 4", "16 - 3 * 4 = 4", "10 / 3 = 3.33"])
    [1.0, 0.0, 0.5, 1.0, 1.0]
    """
    return [_of_step(step) for step in steps]


def _of_step(step: str) -> float:
    found = _EQUATION.findall(step.replace("−", "-"))
    if not found:
        return 0.5
    return float(all(_holds(*parts) for parts in found))


def _holds(left: str, result: str) -> bool:
    left, result = (re.sub(r"[$,]", "", text) for text in (left, result))
    value = _evaluate(left)
    _, point, decimals = result.partition(".")
    slack = Fraction(1, 2 * 10 ** len(decimals)) if point else Fraction(0)
    return value is not None and abs(value - Fraction(result)) <= slack


def _evaluate(text: str) -> Fraction | None:
    """The value of a sum of products; None where it divides by 0."""
    first, *rest = re.findall(rf"^-?{_NUMBER}|[-+*/x×÷]|{_NUMBER}", text)
    total, product = Fraction(0), Fraction(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        value = Fraction(number)
        if sign in "+-":
            total, product = total + product, value if sign == "+" else -value
        elif sign in "*x×":
            product *= value
        elif value == 0:
            return None
        else:
            product /= value
    return total + product
