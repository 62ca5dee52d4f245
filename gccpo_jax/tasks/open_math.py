"""Mathematics with open answers (MATH-500 and its like), compared by value."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from gccpo_jax.tasks.answers import boxes, last_boxed
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.tasks.checking.equality import open_math
from gccpo_jax.tasks.files import Record, file_splits
from gccpo_jax.tasks.rewrites import corrupt
from gccpo_jax.tasks.stated import Stated, prose, to_ascii

INSTRUCTION = (
    "Solve it step by step, one step a line. "
    "End with a last line that holds the final answer in \\boxed{}."
)

_SYMBOLS = {
    "√": r"\sqrt ",
    "∞": r"\infty ",
    "π": r"\pi ",
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "÷": r"\div ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "±": r"\pm ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "°": r"^\circ ",
}
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+|\w))")
_GROUPED = re.compile(r"(?<=\d)(?:\\[,; ]|~)(?=\d{3}(?!\d))")
_UNCLEAN = re.compile(
    r"[^\x00-\x7f]|[~`$]|\*\*|\\[,; ()\[\]d]|[.,;\s\\]\Z|\A\s|color|\\underline"
    r"|\d \d{3}|\\overline|\\text\{[-+\d]|\\(?i:large|huge)|\d[eE][-+\d]"
)
_PAINT = re.compile(
    r"\\(?:color\s*\{[^{}]*\}|textcolor\s*\{[^{}]*\}(?=\s*\{)|underline(?=\s*\{)"
    r"|(?i:large|huge)\b)"
)
_SPACED = re.compile(r"\A[-+]?\d{1,3}(?: \d{3})+(?![\d ])")  # 1 000 000
_WORDED = re.compile(r"\A\\text\{([-+]?[\d.,]*\d)\s+[A-Za-z ]+\}\Z")  # \text{5 apples}
_POWER = re.compile(r"\A([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d{1,2})\Z")  # 1.2e3
_REPEATING = re.compile(r"(\d{0,9})\.(\d{0,9})\\overline\s*\{?(\d{1,9})\}?")  # 0.1\overline{6}
_WRAPPING = re.compile(
    r"\A(?:\s|\*\*+|`+|\$+|\\[(\[]|\\displaystyle\b)+"
    r"|(?:\s|\*\*+|`+|\$+|\\[)\]]|(?<![.\\])[.,;]|\\)+\Z"
)


def math(
    path: str,
    eval_path: str = "",
    held_out: int = 200,
    chat: bool = True,
    deadline_seconds: float = 5.0,
) -> Task:
    """The task, from files; arguments as in `gsm8k`.

    `deadline_seconds` limits one comparison; past it the response is unscorable.
    """
    return of_splits(file_splits(path, eval_path, held_out, to_item), chat, deadline_seconds)


def of_splits(
    splits: Mapping[str, Sequence[Item]], chat: bool = True, deadline_seconds: float = 5.0
) -> Task:
    """The task over items that are at hand (maybe none)."""
    return Task(
        name="math",
        splits=splits,
        prompt=lambda item: f"{item.question}\n\n{INSTRUCTION}\n",
        extract=extract,
        stated=stated,
        verify=functools.partial(_verify, deadline_seconds),
        cues=("The answer is \\boxed{", "Final answer: \\boxed{"),
        same=functools.partial(_same, deadline_seconds),
        terminator="}",
        chat=chat,
        corrupt=corrupt,
    )


def extract(response: str) -> str | None:
    """What the last box of a response holds, without what is no mathematics; None without a box.

    >>> extract(r"so \\boxed{**5.**}"), extract("5")
    ('5', None)
    """
    content = last_boxed(response)
    return None if content is None else plain(content)


def stated(response: str) -> Iterator[Stated]:
    """Boxes of a response, the last one first, and then what sentences call the answer."""
    boxed = False
    for content, start in boxes(response):
        yield Stated(plain(content), start)
        boxed = True
    if boxed:  # a sentence is not final, but a reader must not see it
        for start, phrase in prose(response):
            if answer := plain(phrase):
                yield Stated(answer, start)


def plain(answer: str) -> str:
    """An answer without Markdown, the marks of a formula, or a sentence's end.

    >>> [plain(text) for text in ("**5**", "$5.$", r"5~\\mathrm{cm}", "−5")]
    ['5', '5', '5 \\\\mathrm{cm}', '-5']
    """
    if (answer.isalnum() and answer.isascii()) or not _UNCLEAN.search(answer):
        return answer
    if not answer.isascii():
        answer = re.sub("[^\x00-\x7f]", _latex_of, _ROOT.sub(r"\\sqrt{\1\2}", answer))
    answer = _PAINT.sub("", _GROUPED.sub("", answer)).replace("~", " ")
    while (bare := _WRAPPING.sub("", answer)) != answer:
        answer = bare
    answer = _SPACED.sub(lambda found: found[0].replace(" ", ""), answer)
    answer = _POWER.sub(r"\1 \\times 10^{\2}", _WORDED.sub(r"\1", answer))
    return _REPEATING.sub(_fraction_of, answer) if "overline" in answer else answer


def _fraction_of(found: re.Match) -> str:
    """A repeating decimal as LaTeX: all of its digits less those before, over 9...90...0."""
    before, again = found[1] + found[2], found[3]
    above = int(before + again) - int(before or "0")
    return f"\\frac{{{above}}}{{{'9' * len(again)}{'0' * len(found[2])}}}"


def _latex_of(found: re.Match) -> str:
    """A character outside ASCII as LaTeX; itself where it is unknown."""
    symbol = found[0]
    if symbol in _SYMBOLS:
        return _SYMBOLS[symbol]
    digits = "".join(to_ascii(part) for part in unicodedata.normalize("NFKC", symbol))
    if unicodedata.category(symbol) != "No" or not digits.strip("/").replace("/", "").isdigit():
        return to_ascii(symbol)
    above, bar, below = digits.partition("/")
    if bar:
        return f"\\frac{{{above}}}{{{below}}}"
    return ("_" if "SUBSCRIPT" in unicodedata.name(symbol) else "^") + f"{{{digits}}}"


def to_item(record: Record, number: int) -> Item:
    """An item of a record; `answer` is LaTeX, in a box or bare."""
    answer = extract(record.answer)
    return Item(
        id=number,
        question=record.question,
        answer=plain(record.answer) if answer is None else answer,
        solution=record.solution,
        meta={**record.labels, "id": record.id},
    )


def _same(deadline_seconds: float, one: str, other: str) -> bool:
    return one == other or open_math(one, f"\\boxed{{{other}}}", deadline_seconds) == 1.0


def _verify(deadline_seconds: float, item: Item, response: str) -> float | None:
    answer = extract(response)
    if answer is None:
        return 0.0
    if answer == item.answer:
        return 1.0
    return open_math(item.answer, f"\\boxed{{{answer}}}", deadline_seconds)
