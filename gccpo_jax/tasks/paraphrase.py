"""A nuisance rewrite for any text: a writer rewords the question, kept only if nothing is lost.

    faithful   every number, word of quantity and unit is in it as often, and every name; it ends as
               the question did, states no answer, is of about its length and not the same

Steps stay as they are: they speak of what the question had, and that is what must survive. Unlike
the exact rewrites this one is only as good as its check, so its acceptance is a metric
(`surface_kept`) and the exact ones come first where a task has any.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import numpy as np

from gccpo_jax.tasks.base import Item, Rewriting, Task

Writer = Callable[[str, int, int], str]
"""(what is asked, question's id, number of the wording) -> what is said; a pure function."""

ASK = (
    "Say this problem in other words. Keep every number, unit and name, and ask the same question. "
    "Reply with the problem alone.\n\n{question}"
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?[$€£]?\d+(?:[.,/:]\d+)*%?")
_WORD = re.compile(r"[^\W\d_]+")
_QUANTITIES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million billion dozen pair couple half third quarter double triple twice "
    "thrice times first second last each every per all both none no not more less fewer than most "
    "least total sum difference product average remaining left rest percent plus minus only except "
    "without"
)
_UNITS = (
    "dollar cent penny dime nickel euro pound ounce ton gram kilogram kg g lb mile yard foot inch "
    "meter metre kilometer kilometre centimeter cm km m mm mph liter litre gallon quart pint cup "
    "hour minute day week month year degree acre square cubic"
)
_COUNTED = frozenset(f"{_QUANTITIES} {_UNITS}".split())
_PLURALS = {"feet": "foot", "inches": "inch", "pennies": "penny"}


def counted(text: str) -> collections.Counter[str]:
    """What a wording must have as often: numbers, words of quantity and units.

    >>> sorted(counted("Ann has 3 cups. Half of them cost $2.").elements())
    ['$2', '3', 'cup', 'half']
    """
    found = collections.Counter(_NUMBER.findall(text))
    for word in _WORD.findall(text.lower()):
        single = _PLURALS.get(word, word.removesuffix("s"))
        found.update([one for one in dict.fromkeys((word, single)) if one in _COUNTED][:1])
    return found


def names(text: str) -> set[str]:
    """Capitals that begin no sentence.

    >>> names("Does Ann like Bea? Then she smiles.") == {"Ann", "Bea"}
    True
    """
    capitals = [found for found in _WORD.finditer(text) if found[0][0].isupper()]
    before = [text[: found.start()].rstrip(" \n\"'(")[-1:] for found in capitals]
    return {
        one[0] for one, last in zip(capitals, before, strict=True) if last and last not in ".?!:"
    }


def faithful(task: Task, question: str, said: str) -> bool:
    """Whether a wording says what the question says, as far as its words tell."""
    if not said or said == question or task.states_answer(said):
        return False
    if not 0.5 * len(question) <= len(said) <= 2 * len(question) or "\n\n" in said:
        return False
    if question.rstrip()[-1:] != said.rstrip()[-1:] or counted(said) != counted(question):
        return False
    return names(question) <= {*_WORD.findall(said)} and names(said) <= {*_WORD.findall(question)}


def paraphrased(task: Task, write: Writer, wordings: int = 4) -> Task:
    """The task with `surface` a wording of the writer's, one of at most `wordings` a question.

    Which one is drawn from the generator that every rewrite is given, and each is a function of
    the question's text and id and of its number, so none is asked for twice.
    """

    @functools.lru_cache(maxsize=1 << 14)
    def wording(question: str, number: int, place: int) -> str | None:
        said = write(ASK.format(question=question), number, place).strip()
        return said if faithful(task, question, said) else None

    def surface(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
        said = wording(item.question, item.id, int(rng.integers(wordings)))
        return None if said is None else (dataclasses.replace(item, question=said), list(steps))

    return dataclasses.replace(task, surface=surface)
