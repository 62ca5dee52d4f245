"""The contents of a LaTeX box."""

from __future__ import annotations


def last_boxed(text: str) -> str | None:
    """What the last closed `\\boxed{...}` of a text holds, None if there is none.

    >>> last_boxed(r"\\boxed{1} or \\boxed{\\frac{1}{2}} or \\boxed{3")
    '\\\\frac{1}{2}'
    """
    start = text.rfind("\\boxed")
    while start >= 0:
        found = _braced(text[start + len("\\boxed") :].lstrip())
        if found is not None:
            return found
        start = text.rfind("\\boxed", 0, start)
    return None


def _braced(text: str) -> str | None:
    """What the brace that opens `text` encloses."""
    if not text.startswith("{"):
        return None
    depth, index = 0, 0
    while index < len(text):
        if text[index] == "\\":
            index += 2  # an escaped brace does not count
            continue
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return text[1:index].strip()
        index += 1
    return None
