"""Answers that a response states, and where.

A task's `stated(response)` yields the final answer first, then every other statement of an
answer. Its `extract` is the first of them, so what is scored and where readers stop cannot differ.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

_PROSE = re.compile(
    r"(?:\bthe\s+)?(?:\b(?:final|correct)\s+)?\banswer(?:\s+(?:to|for|of)\b[^\n\d.:]{0,60}?)?"
    r"\s*(?:\bis\b|:|=|\*\*)[\s*:]*([^\n]*)",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?:\bthe\s+)?(?:\b(?:final|correct)\s+)?\banswer(?:\s+is)?[:\s*]*)?"
    r"(?:\$+|\\[(\[])?[ \t]*\Z",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)")
_SIGNS = {
    **dict.fromkeys("−‐‑‒–—﹣", "-"),
    **dict.fromkeys("×⋅·∙∗", "*"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("≈≃≅", "="),
    **dict.fromkeys("π∞√∛", "^"),
    **dict.fromkeys("‘’′", "'"),
    **dict.fromkeys("“”″", '"'),
    "°": " ",
}


@dataclasses.dataclass(frozen=True)
class Stated:
    """One statement of an answer."""

    answer: str | None  # normalised; None: it states no one answer ("5 or 6")
    start: int  # character of the response at which it begins, its mark included
    marked: bool = True  # by a mark, a box or words; not merely the last number of a response


def final(stated: Callable[[str], Iterable[Stated]], response: str) -> str | None:
    """The final answer of a response, None if it states none."""
    first = next(iter(stated(response)), None)
    return first.answer if first else None


def field_start(stated: Iterable[Stated], same: Callable[[str, str], bool], response: str) -> int:
    """Where the answer field begins: at the first statement of the final answer.

    In whatever spelling the task calls the same, with "The answer is" or a `$` before it.
    Another answer, stated earlier and given up, is a step like any other. The response's length
    where it states nothing.
    """
    last, *others = [*stated] or [Stated(None, len(response))]
    starts = [
        other.start
        for other in others
        if other.start < last.start
        and None not in (last.answer, other.answer)
        and (other.answer == last.answer or same(last.answer, other.answer))
    ]
    return with_lead(response, min([last.start, *starts]))


def prose(response: str) -> Iterator[tuple[int, str]]:
    """Where a sentence says "answer is ..." and what it says, the last such sentence first.

    >>> list(prose("The answer is 5. So:\\nFinal answer: **6**"))
    [(21, '6**'), (0, '5')]
    """
    if "nswer" not in response and "NSWER" not in response:
        return
    for found in reversed([*_PROSE.finditer(response)]):
        yield found.start(), _SENTENCE_END.split(found[1], maxsplit=1)[0]


def with_lead(response: str, start: int) -> int:
    """`start` without "The answer is", `$` and the like in front of it.

    >>> with_lead("So the answer is $7$", 18)
    3
    """
    begin = max(0, start - 60)
    found = _LEAD.search(response[begin:start])
    return start if found is None or not found[0].strip() else begin + found.start()


def to_ascii(text: str) -> str:
    """The text with digits, signs and spaces of any script as ASCII, one character each.

    >>> to_ascii("−５ × ½")
    '-5 * /'
    """
    if text.isascii():
        return text
    return re.sub(r"[^\x00-\x7f]", lambda found: _ascii(found[0]), text)


@functools.lru_cache(maxsize=4096)
def _ascii(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    match unicodedata.category(character):
        case "Nd":
            return str(unicodedata.decimal(character))
        case "No":  # a half, a square: part of an expression
            return "/" if unicodedata.normalize("NFKC", character)[1:2] == "⁄" else "^"
        case "Zs" | "Cf":
            return " "
        case "Sc":
            return "$"
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 and plain.isascii() else character
