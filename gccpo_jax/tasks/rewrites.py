"""Rewrites of plain text: other first names (surface), another number (corrupt).

A name is a word of the lists below, so the rewrite is exact where it applies and
there is none where no listed name occurs. Names that are also words or dates
(Will, Mark, Rose, May, ...) are not listed. A woman's name becomes another
woman's, since the text goes on with a pronoun.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np

from gccpo_jax.tasks.base import Item, Rewriting

WOMEN = tuple(
    "Alexa Alice Allison Alyssa Amanda Amelia Amy Andrea Angela Ann Anna Anne Annie Ashley "
    "Ava Barbara Becky Bella Beth Bethany Betty Bonnie Brenda Brittany Brooke Carla Carly "
    "Caroline Carolyn Carrie Cathy Charlotte Cheryl Christina Cindy Claire Clara Courtney "
    "Cynthia Daisy Danielle Darlene Deborah Diana Diane Donna Doris Dorothy Elena Elizabeth "
    "Ella Ellen Elsa Emily Emma Erica Erin Eva Eve Fiona Gina Greta Haley Hannah Helen "
    "Isabella Ivy Jane Janet Janice Jasmine Jenna Jennifer Jenny Jessica Jill Joan Judy "
    "Julia Julie Karen Kate Katherine Katie Katy Kayla Kelly Kelsey Kendra Kim Kristin "
    "Kylie Lana Lara Laura Lauren Layla Leah Leila Lena Lily Linda Lisa Lola Louise Lucy "
    "Luna Lydia Mabel Madeline Madison Maggie Mandy Mara Marcy Margaret Maria Marie Marla "
    "Martha Mary Maya Megan Melanie Melissa Mia Michelle Milly Molly Monica Nancy Naomi "
    "Natalia Natalie Nicole Nina Nora Olivia Pam Patricia Patty Paula Peggy Polly Rachel "
    "Rebecca Rita Ruby Sally Samantha Sandra Sara Sarah Sharon Shelly Sonia Sophia Stacy "
    "Stella Stephanie Sue Susan Susie Tanya Tara Teresa Theresa Tiffany Tina Vanessa "
    "Veronica Victoria Wendy Zoe".split()
)
MEN = tuple(
    "Aaron Adam Ahmed Alan Albert Andrew Andy Anthony Arthur Barry Ben Benjamin Bert Bill "
    "Billy Bob Bobby Brad Brandon Brian Bruce Bryan Caleb Calvin Carl Carlos Charles "
    "Charlie Chris Christopher Cole Colin Connor Cory Craig Dale Dan Daniel Danny Darren "
    "Dave David Dennis Derek Dexter Diego Donald Doug Dylan Ed Eddie Edward Eli Eric Ethan "
    "Evan Fabian Felix Frank Fred Freddy Gary George Gerald Greg Hank Hans Harry Henry Hugo "
    "Ian Isaac Ivan Jack Jacob Jake James Jared Jason Jayden Jed Jeff Jeremy Jerome Jerry "
    "Jesse Jim Jimmy Joe Joel Joey John Johnny Jonah Jonathan Jose Joseph Josh Joshua Juan "
    "Jude Justin Keith Ken Kenneth Kenny Kevin Kyle Larry Leo Liam Logan Louis Lucas Luis "
    "Luke Manny Marco Marcus Mario Martin Mason Matt Matthew Maurice Michael Miguel Mike "
    "Mitchell Nathan Neil Nick Noah Oliver Omar Oscar Pablo Patrick Paul Pete Peter Phil "
    "Philip Ralph Randy Raymond Ricardo Richard Rick Rob Robert Roger Ron Ryan Sam Sammy "
    "Samuel Scott Sean Shane Simon Stan Stephen Steve Steven Ted Terry Thomas Tim Timothy "
    "Toby Todd Tom Tommy Tony Travis Trevor Tyler Victor Vincent Walter William Zach".split()
)


def rename(item: Item, steps: Sequence[str], rng: np.random.Generator) -> Rewriting:
    """The same question and steps about people of other names; None if it names nobody."""
    text = "\n".join([item.question, item.solution or "", *steps])
    words = set(re.findall(r"[A-Za-z]+", text))
    if not words & set(re.findall(r"[A-Za-z]+", item.question)) & {*WOMEN, *MEN}:
        return None
    names = {**_others(WOMEN, words, rng), **_others(MEN, words, rng)}

    def replace(text: str) -> str:
        return re.sub(r"[A-Za-z]+", lambda found: names.get(found[0], found[0]), text)

    return everywhere(item, steps, replace)


def everywhere(
    item: Item, steps: Sequence[str], replace: Callable[[str], str]
) -> tuple[Item, list[str]]:
    """The same text replaced in question, worked solution and steps."""
    solution = None if item.solution is None else replace(item.solution)
    changed = dataclasses.replace(item, question=replace(item.question), solution=solution)
    return changed, [replace(step) for step in steps]


def _others(pool: Sequence[str], words: set[str], rng: np.random.Generator) -> dict[str, str]:
    """A new name for each name of the pool that occurs; no new name occurs already."""
    used = [name for name in pool if name in words]
    free = [name for name in pool if name not in words]
    return dict(zip(used, (free[i] for i in rng.permutation(len(free))), strict=False))


NUMBER = re.compile(r"[0-9]{1,18}")
_ENUMERATION = re.compile(r"\s*[0-9]{1,3}[.)] ")


def corrupt(step: str, rng: np.random.Generator) -> str | None:
    """The step with one number replaced by another with as many digits.

    Numbers of several digits move by at most nine, so that the new one stays
    plausible. The number of the step itself ("2. ...") is no candidate. None if
    the step has no number.

    >>> corrupt("2. so 3 + 4", np.random.default_rng(0))
    '2. so 3 + 6'
    """
    prefix = _ENUMERATION.match(step)
    found = list(NUMBER.finditer(step, prefix.end() if prefix else 0))
    if not found:
        return None
    place = found[int(rng.integers(len(found)))]
    new = _other(place[0], rng)
    return step[: place.start()] + new + step[place.end() :]


def _other(number: str, rng: np.random.Generator) -> str:
    digits, old = len(number), int(number)
    low = 0 if digits == 1 or number[0] == "0" else 10 ** (digits - 1)
    nearby = range(max(low, old - 9), min(10**digits - 1, old + 9) + 1)
    return str(rng.choice([n for n in nearby if n != old])).zfill(digits)
