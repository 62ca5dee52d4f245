"""Exact rewrites of grade-school word problems, where they can be had; elsewhere None.

    units       dollars as euros, miles as kilometers: a unit's name alone      nuisance
    irrelevant  a clause that has nothing to do with the question, in or out    nuisance
    order       two sentences about two people change places                   nuisance
    number      a number of the question, and all that was computed from it    equivariance

A rewrite is consistent over question, worked solution and steps. It gives up on whatever it does
not understand completely: a unit that is converted, a pronoun, a number whose origin the worked
solution's marks `<<48/2=24>>` do not show.
"""

from __future__ import annotations

import ast
import dataclasses
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from gccpo_jax.tasks.base import Item, Rewrite, Rewriting
from gccpo_jax.tasks.rewrites import MEN, WOMEN, everywhere, rename

UNITS = (
    ((("dollars", "euros"), ("dollar", "euro"), ("$", "€")), r"\bcents?\b|penn(y|ies)|dime|nickel"),
    ((("miles", "kilometers"), ("mile", "kilometer")), r"\b(feet|foot|yards?|mph|meters?|km)\b"),
    ((("pounds", "kilograms"), ("pound", "kilogram")), r"\b(ounces?|oz|tons?|grams?|lbs?|kg)\b"),
)
"""Names of a unit and of another, and what says that it is converted."""

CLAUSES = (
    "The neighbour has painted three of his fences blue.",
    "It rained on two of the days before.",
    "Four of the chairs in the kitchen are older than the others.",
    "The bus to town has six windows on each side.",
)
"""True of the story or not, they change no answer."""

CONSTANTS = frozenset((7, 10, 12, 24, 30, 31, 52, 60, 100, 365, 1000))
"""Numbers that a solution may use without the question: days, months, per cent."""

_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
_DEICTIC = re.compile(
    r"\b(he|she|it|they|his|her|hers|him|their|them|its|then|after|before|also|this|that|these|"
    r"those|same|other|others|more|less|fewer|than|twice|half|first|next|rest|remaining|both|each|"
    r"now|later|another)\b",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_NUMBER = re.compile(r"(?<![\d.,])\d[\d,]*(?:\.\d+)?")
_ENUMERATION = re.compile(r"\s*\d{1,3}[.)] ")
_MARK = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def marks(worked: str) -> tuple[tuple[str, str], ...]:
    """The equations of a worked solution, as (expression, result).

    >>> marks("He has 2*3=<<2*3=6>>6 and 6+1=<<6+1=7>>7.")
    (('2*3', '6'), ('6+1', '7'))
    """
    return tuple((a.strip(), b.strip()) for a, b in _MARK.findall(worked))


def units(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    """The same with a unit by another name; None where it has none, or converts it."""
    text = "\n".join([item.question, item.solution or "", *steps])
    usable = []
    for names, converts in UNITS:
        there = any(_unit(old).search(item.question) for old, _ in names)
        taken = any(_unit(new).search(text) for _, new in names)
        if there and not taken and not re.search(converts, text, re.I):
            usable.append(names)
    if not usable:
        return None
    names = usable[int(rng.integers(len(usable)))]

    def replace(text: str) -> str:
        for old, new in names:
            capital = new[:1].upper() + new[1:]
            text = _unit(old).sub(new, text)
            text = _unit(old[:1].upper() + old[1:]).sub(capital, text)
        return text

    return everywhere(item, steps, replace)


def irrelevant(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    """A clause that changes no answer before the last sentence, or out where one stands."""
    for clause in CLAUSES:
        if clause in item.question:
            without = item.question.replace(f"{clause} ", "")
            return dataclasses.replace(item, question=without), list(steps)
    sentences = _SENTENCE.split(item.question)
    if len(sentences) < 2 or not sentences[-1].endswith("?"):
        return None
    clause = CLAUSES[int(rng.integers(len(CLAUSES)))]
    question = item.question.removesuffix(sentences[-1]) + f"{clause} {sentences[-1]}"
    return dataclasses.replace(item, question=question), list(steps)


def order(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    """Two neighbouring sentences about two people, neither of which points at another, swapped."""
    sentences = _SENTENCE.split(item.question)
    people = {*MEN, *WOMEN}
    named = [set(re.findall(r"[A-Za-z]+", sentence)) & people for sentence in sentences]
    plain = [bool(of) and not _DEICTIC.search(s) for of, s in zip(named, sentences, strict=True)]
    pairs = [
        k
        for k in range(len(sentences) - 2)  # the last one asks
        if plain[k]
        and plain[k + 1]
        and not named[k] & named[k + 1]
        and "?" not in sentences[k + 1]
        # What follows must not lean on which of them was last.
        and not re.match(r"(he|she|his|her|they|it)\b", sentences[k + 2], re.I)
    ]
    if not pairs:
        return None
    k = pairs[int(rng.integers(len(pairs)))]
    sentences[k], sentences[k + 1] = sentences[k + 1], sentences[k]
    return dataclasses.replace(item, question=" ".join(sentences)), list(steps)


def number(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    """Another number in the question, and all that the worked solution computes from it.

    None where the marks do not account for the answer, or a step has a number that they do not.
    """
    found = [equation for mark in item.meta.get("marks", ()) if (equation := _equation(*mark))]
    if not found or len(found) != len(item.meta["marks"]) or item.answer is None:
        return None
    if found[-1].result != Fraction(item.answer):
        return None
    asked = [_value(each[0]) for each in _NUMBER.finditer(item.question)]
    spelt = set(re.findall(r"[a-z]+", item.question.lower()))
    results = [equation.result for equation in found]
    leaves = {n for equation in found for n in equation.numbers} - set(results)
    free = sorted(
        int(n)
        for n in leaves
        if asked.count(n) == 1
        and n.denominator == 1
        and n > 2
        and n not in CONSTANTS
        and not (n < len(_WORDS) and _WORDS[int(n)] in spelt)
    )
    for place in rng.permutation(len(free)):
        old = Fraction(free[int(place)])
        for delta in rng.permutation([d for d in range(-9, 10) if d and old + d >= 2]):
            changed = _recomputed(found, old, old + int(delta))
            if changed is None or any(n != old and n in asked for n in changed):
                continue  # a result that the question has as well: which of the two is meant?
            new = _replaced(item, steps, changed, {*asked, *leaves, *results})
            if new is not None:
                return new
    return None


@dataclasses.dataclass(frozen=True)
class _Equation:
    tree: ast.expr
    numbers: tuple[Fraction, ...]
    result: Fraction


def _equation(left: str, right: str) -> _Equation | None:
    try:
        tree = ast.parse(left.replace("$", "").replace(",", ""), mode="eval").body
        numbers: list[Fraction] = []
        value = _evaluate(tree, lambda n: numbers.append(n) or n)
        right_value = Fraction(right.replace("$", "").replace(",", ""))
    except (SyntaxError, ValueError, ZeroDivisionError, TypeError, RecursionError):
        return None
    return _Equation(tree, tuple(numbers), value) if value == right_value else None


def _evaluate(node: ast.expr, read: Callable[[Fraction], Fraction]) -> Fraction:
    """Value of an expression of + - * / whose numbers `read` may change."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sides = _evaluate(node.left, read), _evaluate(node.right, read)
        return _OPERATORS[type(node.op)](*sides)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return read(Fraction(str(node.value)))
    raise ValueError("not plain arithmetic")


def _recomputed(
    equations: Sequence[_Equation], old: Fraction, new: Fraction
) -> dict[Fraction, Fraction] | None:
    """{what was there: what is there now}; None where a result would be of another kind."""
    changed, plain = {old: new}, set()  # numbers that were used before a result was the same
    for equation in equations:
        try:
            value = _evaluate(equation.tree, lambda n: changed.get(n, n))
        except ZeroDivisionError:
            return None
        plain |= set(equation.numbers) - set(changed)
        if equation.result in plain and value != equation.result:
            return None
        if value <= 0 or value.denominator > 1 and equation.result.denominator == 1:
            return None
        if changed.setdefault(equation.result, value) != value or not _terminates(value):
            return None
    return changed


def _replaced(
    item: Item, steps: Sequence[str], changed: Mapping[Fraction, Fraction], known: set[Fraction]
) -> Rewriting:
    texts = [item.question, *([item.solution] if item.solution else []), *steps]
    out = []
    for text in texts:
        start = prefix.end() if (prefix := _ENUMERATION.match(text)) else 0
        lines = text[start:].split("\n")
        for line in lines:
            begin = found.end() if (found := _ENUMERATION.match(line)) else 0
            if any(_value(n[0]) not in known for n in _NUMBER.finditer(line, begin)):
                return None
        out.append(text[:start] + "\n".join(_moved(line, changed) for line in lines))
    answer = changed.get(Fraction(item.answer or 0), Fraction(item.answer or 0))
    if answer.denominator != 1:
        return None
    equations = tuple(
        (_moved(left, changed), _moved(right, changed)) for left, right in item.meta["marks"]
    )
    new = dataclasses.replace(
        item,
        question=out[0],
        answer=str(answer.numerator),
        solution=out[1] if item.solution else None,
        meta={**item.meta, "marks": equations},
    )
    return new, out[len(texts) - len(steps) :]


def _moved(line: str, changed: Mapping[Fraction, Fraction]) -> str:
    begin = found.end() if (found := _ENUMERATION.match(line)) else 0

    def one(match: re.Match) -> str:
        value = _value(match[0])
        return _written(changed[value], "," in match[0]) if value in changed else match[0]

    return line[:begin] + _NUMBER.sub(one, line[begin:])


def _value(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("."))


def _written(value: Fraction, grouped: bool) -> str:
    if value.denominator == 1:
        return f"{value.numerator:,}" if grouped else str(value.numerator)
    return f"{float(value):.10f}".rstrip("0")


def _terminates(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _unit(name: str) -> re.Pattern:
    return re.compile(re.escape(name) if not name.isalpha() else rf"\b{name}\b")


SURFACES: dict[str, Rewrite] = {
    "names": rename,
    "units": units,
    "irrelevant": irrelevant,
    "order": order,
}
"""Nuisance rewrites by name; "any" is whichever applies, in an order that is drawn."""


def any_surface(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    """One of `SURFACES` that applies; None where none does."""
    rewrites = list(SURFACES.values())
    for place in rng.permutation(len(rewrites)):
        if (found := rewrites[int(place)](item, steps, rng)) is not None:
            return found
    return None


def hinted(item: Item, right: float) -> Item:
    """The question with a sentence that names an answer, the right one with chance `right`.

    A shortcut in real text: who follows the hint is right as often as it is. Drawn by the
    question's id; a wrong hint is at most nine away. The item as it is without a whole gold.

    >>> hinted(Item(3, "How many?", "7"), 1.0).question
    'How many? Somebody thinks it is 7.'
    """
    if not re.fullmatch(r"-?\d{1,18}", item.answer or ""):
        return item
    rng = np.random.default_rng([_HINT, item.id])
    gold, told = int(item.answer or 0), rng.random() < right
    offsets = [d for d in range(-9, 10) if d and (gold < 0 or gold + d >= 0)]
    said = gold if told else gold + int(rng.choice(offsets))
    return dataclasses.replace(item, question=f"{item.question} Somebody thinks it is {said}.")


_HINT = 0x41A7
"""Keeps draws of hints apart from others that are keyed by a question's id."""
