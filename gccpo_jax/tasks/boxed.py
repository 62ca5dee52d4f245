"""The contents of a LaTeX box."""

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
