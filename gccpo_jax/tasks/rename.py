"""The surface rewrite of word problems: people get other first names.

A name is a word of the lists below, so the rewrite is exact where it applies and
there is none where no listed name occurs. Names that are also words or dates
(Will, Mark, Rose, May, ...) are not listed. A woman's name becomes another
woman's, since the text goes on with a pronoun.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from gccpo_jax.tasks.base import Item

WOMEN = tuple(
    "Alice Alexa Amanda Amelia Amy Andrea Angela Anna Annie Ashley Barbara Becky Beth Betty "
    "Brenda Brooke Caroline Carla Cindy Claire Clara Courtney Cynthia Darlene Deborah Diana "
    "Donna Doris Elena Elizabeth Ella Ellen Emily Emma Erica Eva Gina Hannah Helen Isabella "
    "Jane Janet Janice Jasmine Jenna Jennifer Jenny Jessica Jill Judy Julia Julie Karen "
    "Kate Katie Kelly Kim Lara Laura Lauren Leah Lena Linda Lisa Lucy Lydia Madison "
    "Margaret Maria Marie Martha Mary Megan Melanie Melissa Mia Michelle Molly Monica Nancy "
    "Naomi Natalia Nicole Nina Olivia Pam Patricia Paula Rachel Rebecca Sally Samantha "
    "Sandra Sara Sarah Sharon Sophia Stacy Stella Stephanie Susan Tanya Teresa Tina Vanessa "
    "Victoria Wendy Zoe".split()
)
MEN = tuple(
    "Aaron Adam Alan Albert Andrew Andy Anthony Arthur Ben Benjamin Bob Bobby Brad Brandon "
    "Brian Bruce Bryan Carl Carlos Charles Chris Christopher Colin Connor Craig Dan Daniel "
    "Danny Darren Dave David Dennis Derek Donald Doug Dylan Ed Eddie Edward Eli Eric Ethan "
    "Evan Fred Gary George Greg Harry Henry Ian Isaac Jacob James Jason Jeff Jeremy Jerry "
    "Jim Jimmy Joe Joel John Johnny Jonathan Jose Joseph Josh Joshua Juan Justin Keith Ken "
    "Kenny Kevin Kyle Larry Liam Logan Louis Lucas Luis Luke Marco Marcus Mario Martin Matt "
    "Matthew Michael Miguel Mike Nathan Neil Nick Noah Oscar Patrick Paul Peter Phil Randy "
    "Raymond Ricardo Richard Robert Roger Ron Ryan Sam Samuel Scott Sean Simon Stan Stephen "
    "Steve Steven Terry Thomas Tim Timothy Toby Todd Tom Tommy Tony Travis Tyler Victor "
    "Vincent Walter Zach".split()
)


def rename(
    item: Item, steps: Sequence[str], rng: np.random.Generator
) -> tuple[Item, list[str]] | None:
    """The same question and steps about people of other names; None if it names nobody."""
    text = "\n".join([item.question, item.solution or "", *steps])
    words = set(re.findall(r"[A-Za-z]+", text))
    if not words & set(re.findall(r"[A-Za-z]+", item.question)) & {*WOMEN, *MEN}:
        return None
    names = {**_others(WOMEN, words, rng), **_others(MEN, words, rng)}

    def replace(text: str) -> str:
        return re.sub(r"[A-Za-z]+", lambda found: names.get(found[0], found[0]), text)

    solution = None if item.solution is None else replace(item.solution)
    changed = dataclasses.replace(item, question=replace(item.question), solution=solution)
    return changed, [replace(step) for step in steps]


def _others(pool: Sequence[str], words: set[str], rng: np.random.Generator) -> dict[str, str]:
    """A new name for each name of the pool that occurs; no new name occurs already."""
    used = [name for name in pool if name in words]
    free = [name for name in pool if name not in words]
    return dict(zip(used, (free[i] for i in rng.permutation(len(free))), strict=False))
