r"""Spellings of answers: numbers in one form, exact integers, the last `\boxed{}`."""

from __future__ import annotations

import re

_OPEN = re.compile(r"\\boxed\s*\{")


def last_boxed(text: str) -> str | None:
    """What the last closed `\\boxed{...}` of a text holds, None if there is none.

    >>> last_boxed(r"\\boxed{1} or \\boxed{\\frac{1}{2}} or \\boxed{3")
    '\\\\frac{1}{2}'
    """
    end = len(text)
    for brace in reversed([found.end() - 1 for found in _OPEN.finditer(text)]):
        found = _braced(text, brace, end)
        if found is not None:
            return found
        end = brace  # a box that holds one which never closes does not close either
    return None


def _braced(text: str, start: int, end: int) -> str | None:
    """What the brace at `start` encloses, None if it does not close before `end`."""
    depth, index = 0, start
    while index < end:
        if text[index] == "\\":
            index += 2  # an escaped brace does not count
            continue
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return text[start + 1 : index].strip()
        index += 1
    return None


_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"([+-]?[0-9]*)\.([0-9]*)")


def normalise_number(text: str) -> str:
    """One spelling for every way to write the same plain number.

    Removes spaces, thousands separators, currency and percent signs, a final
    full stop, leading zeros and a zero fraction; anything else stays as it is.

    >>> [normalise_number(t) for t in ("007", "$1,200.00", "-0", ".50", " 3. ", "1/2")]
    ['7', '1200', '0', '0.5', '3', '1/2']
    """
    text = text.strip().strip("$").rstrip("%").replace("\\$", "").strip()
    bare = re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", text.rstrip(".")).replace(" ", "")
    bare = re.sub(r"^([+-]?)\$", r"\1", bare)
    if _INTEGER.fullmatch(bare):
        return str(int(bare))
    found = _DECIMAL.fullmatch(bare)
    if found is None or not (found[1] + found[2]).lstrip("+-") or len(bare) > 36:
        return text
    sign = "-" if found[1].startswith("-") else ""
    whole, fraction = found[1].lstrip("+-").lstrip("0") or "0", found[2].rstrip("0")
    number = whole + ("." + fraction if fraction else "")
    return number if number == "0" else sign + number


def exact_integer(gold: str, answer: str | None) -> float:
    """1.0 if both are the same integer in whatever spelling, else 0.0.

    >>> exact_integer("7", "007"), exact_integer("7", "7.5"), exact_integer("7", None)
    (1.0, 0.0, 0.0)
    """
    if answer is None:
        return 0.0
    number = normalise_number(answer)
    return float(_INTEGER.fullmatch(number) is not None and number == normalise_number(gold))
