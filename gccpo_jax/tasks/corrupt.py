"""The content rewrite of one step: one of its numbers becomes another."""

from __future__ import annotations

import re

import numpy as np

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
