"""Spellings of answers: numbers in one form, exact integers, the contents of LaTeX boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator

# `\boxed{7}`, and `\boxed 7` as MATH writes it too: up to a space or the end of the formula.
_OPEN = re.compile(
    r"\\(?:boxed|fbox|framebox)(?:\s*(\{)|\s*((?:[-+.\d]|\\[A-Za-z])[^\s$]{0,80}?)"
    r"(?=[.,;]?(?:\s|\Z)|\$|\\[)\]]))"
)
_BRACE = re.compile(r"[{}]|\\.", re.DOTALL)
# Braces that hold others at most once, as in nearly every answer; each part is taken whole, so
# that what does not close costs linear time.
_SHALLOW = re.compile(
    r"\{([^{}\\]*+(?:(?:\\.|\{[^{}\\]*+(?:\\.[^{}\\]*+)*+\})[^{}\\]*+)*+)\}", re.DOTALL
)
LONGEST = 4000  # characters that a box holds, where there are several
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"([+-]?[0-9]*)\.([0-9]*)")


def boxes(text: str) -> Iterator[tuple[str, int]]:
    """Every closed `\\boxed{...}`, `\\fbox{...}` and `\\boxed 7` that is not empty.

    What it holds and where its command begins, the last one first. One of thousands of
    characters states no answer, unless it is the only one; so boxes in boxes cost linear time.

    >>> [held for held, _ in boxes(r"\\boxed{1} or \\boxed{\\frac{1}{2}} or \\boxed{3")]
    ['\\\\frac{1}{2}', '1']
    """
    last, stop = text.rfind("box"), len(text)
    if last < 0:
        return
    if held := _common(text, last):
        yield held, last - 1  # the others are looked for only if asked
        stop = last - 1
    closing = _closing(text)
    for found in reversed([*_OPEN.finditer(text, 0, stop)]):
        if found[1] is None:
            yield found[2], found.start()
            continue
        close = closing.get(found.end() - 1, -1)
        if 0 <= close - found.end() <= LONGEST and (held := text[found.end() : close].strip()):
            yield held, found.start()


def last_boxed(text: str) -> str | None:
    """What the last closed box of a text holds, None if there is none."""
    last = text.rfind("box")
    if last < 0:
        return None
    return _common(text, last) or next((held for held, _ in boxes(text)), None)


def _common(text: str, last: int) -> str | None:
    """What the last box holds if it is `\\boxed{...}`, as it mostly is; its "box" is at `last`."""
    return _braced(text, last + 5) if text.startswith("\\boxed{", last - 1) else None


def _braced(text: str, start: int) -> str | None:
    """What the brace at `start` encloses, None if it does not close."""
    if found := _SHALLOW.match(text, start):
        return found[1].strip()
    depth = 0
    for found in _BRACE.finditer(text, start):  # an escaped brace does not count
        depth += (found[0] == "{") - (found[0] == "}")
        if depth == 0:
            return text[start + 1 : found.start()].strip()
    return None


def _closing(text: str) -> dict[int, int]:
    """{where a brace opens: where it closes}, of those that close."""
    closing, opened = {}, []
    for found in _BRACE.finditer(text):
        if found[0] == "{":
            opened.append(found.start())
        elif found[0] == "}" and opened:
            closing[opened.pop()] = found.start()
    return closing


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
    if answer == gold and _INTEGER.fullmatch(answer):
        return 1.0
    number = normalise_number(answer)
    return float(_INTEGER.fullmatch(number) is not None and number == normalise_number(gold))
