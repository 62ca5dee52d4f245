"""The one number that a phrase states, as a person reads it: "$1,200.00 in all", "12 * 3 = 36"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from gccpo_jax.tasks.answers import normalise_number
from gccpo_jax.tasks.stated import to_ascii

# Digits with what may stand between them; malformed ones ("3,4,5") too, which then are no number.
_DIGITS = r"\.?\d(?:[\d.,'_]*\d)?(?:\ \d{3}(?!\d))*(?:\.\d+)?(?:[eE][-+]?\d+)?"
_SIGN = r"(?:[-+]\s?)?(?:\$\s?)?(?:[-+]\s?)?"
_OPERATOR = r"\s*(?:[-+*/^:]|x(?=\s*\d))\s*"
_ITEM = re.compile(
    # a word, with its index or exponent: cm^2, x_1, H2O
    r"(?P<word>[A-Za-z][A-Za-z]*(?:\s*[_^]\s*-?\d+|\d+)*)"
    # a number, or a longer expression of which it is a part
    rf"|(?P<number>(?:[/^*]\s*){{0,3}}{_SIGN}{_DIGITS}"
    rf"(?:{_OPERATOR}{_SIGN}{_DIGITS}|\s*[/^](?!\s*[A-Za-z]))*)"
)
_NUMBER = re.compile(
    r"([-+]?)\s?\$?\s?([-+]?)\s?"
    r"((?:\d{1,3}(?:([, '_])\d{3})(?:\4\d{3})*|\d{1,2}(?:,\d{2})+,\d{3}|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:[eE]([-+]?\d{1,2}))?"
)
_FRACTION = re.compile(r"([-+]?)\s?(\d{1,18})\s*/\s*(\d{1,18})")
# How most phrases are: an integer, and maybe words that change nothing about it.
_INTEGER = (
    r"(-?)\$?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})(?:\.0+)?"
    r"(?:[\s*$%.]*|\s(?!\s*(?:hundred|thousand|(?:m|b|tr)illion))[A-Za-z ]+\.?[ \t]*)(?:\n|\Z)"
)
_PLAIN = re.compile(r"[\s*$]*" + _INTEGER)
_PLAIN_AT_END = re.compile(r"(?:(?<![-+*/^:x,\d])(?<!minus)(?<!negative) |= ?)" + _INTEGER)
_HEADING = re.compile(r"\s*(?:step|part|case|problem|question|section|phase|note)\b", re.I)
# Where a stated number is over and its reasons begin.
_REASON = re.compile(
    r"(?<=\d)[^\d\n=]*?"
    r"(?:\s\(|,(?=\s*[A-Za-z]{2})|;(?!\s*[-+$]*[\d.,]+\s*\Z)"
    r"|\s[-=]+>|\s-+\s(?=[A-Za-z])|[.!?](?=\s|$|[*_\"')])"
    r"|\b(?:because|since|as|so|which|where|when|if|therefore|thus|hence)\b).*",
    re.DOTALL,
)
_DETAIL = re.compile(
    r"(?<=\d)[^\d\n]*?\b(?:in|for|per|after|over|from|at|on|with|every|each|by)\b.*", re.DOTALL
)
_EQUALS = re.compile(r"=+|\b(?:is|equals|gives|makes)\b")
_DIGIT = re.compile(r"\d")
_UNIT = re.compile(r"%|(?<=\d)\s*([a-z]{2,})")
_LAST_DIGIT = re.compile(r".*\d", re.DOTALL)
_POWERS = {"hundred": "e2", "thousand": "e3", "million": "e6", "billion": "e9", "trillion": "e12"}
_TEXT = r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname|boxed|fbox|emph)\s*"
_LATEX = [
    (re.compile(r"\\begin\s*\{[A-Za-z]*(?:matrix|array)\}.*", re.DOTALL), " ^^ 0 "),  # not a number
    (re.compile(r"\{,\}|\\!"), lambda found: "," if found[0] == "{,}" else ""),
    (re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree"), " "),
    (re.compile(_TEXT + r"\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))"), r" \1\2/\3\4"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad|,|;|:|\s|\(|\)|\[|\]|\\)|~"), " "),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\\(?:times|cdot|ast)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\(?:approx|simeq|equiv)\b"), "="),
    (re.compile(r"\\[A-Za-z]+"), " ^ "),  # \pi, \sqrt: part of an expression
    (re.compile(r"[{}]"), ""),
]
_MARKDOWN = [
    (re.compile(r"\A(?:[^\d<>]*</?[A-Za-z]+>)+"), " "),  # <b>, <answer> before a number
    (re.compile(r"<<[^<>]*>>"), ""),  # GSM8K's calculator
    (re.compile(r"<(\s*[-+$]*[\d.,]+\s*)>"), r" \1 "),  # a place that was filled in
    (re.compile(r"(?<=\d)\*\*(?=\d)"), "^"),
    (re.compile(r"(?<=\d)\s*[x*]\s*10\s*\^\s*\(?([-+]?\d{1,2})\)?(?![\d.])"), r"e\1"),
    # "x > 42", "40 < x", "±5": not one number
    (
        re.compile(r"(?<=[A-Za-z])\s*[<>]=?\s*(?=[-+$]*\.?\d)|(?<=\d)\s+[<>]=?\s+(?=[-\w])|±"),
        " ^^ ",
    ),
    (re.compile(r"\.\.+"), " "),
    (re.compile(r"\*\*+|`+|<.*", re.DOTALL), " "),
    (re.compile(r"(?<![\w)])[*_](?=[-$\d])|(?<=\d)[*_](?![\w$ ])"), ""),
    (re.compile(r"\b(?:USD|EUR|GBP|CAD|AUD|INR|Rs\.?)\s*(?=\d)"), "$"),
    (
        re.compile(rf"(?<=\d)(?:k|\s*({'|'.join(_POWERS)}))\b", re.I),
        lambda found: _POWERS[(found[1] or "thousand").lower()],
    ),
    (re.compile(r"\b(?:minus|negative)\s+(?=[\d.$])", re.I), "-"),
]
_MARKED = re.compile(
    r"[*`<>_±]|\.\.|10\s*\^|USD|EUR|GBP|CAD|AUD|INR|Rs|minus|negative|hundred|thousand|illion|\dk",
    re.I,
)


def number_of(phrase: str) -> str | None:
    """The number that a phrase states, normalised; None if it states none, or not one.

    Of an equation, the side that is one number; of two units, the last ("3 weeks = 21 days"). A
    fraction is in lowest terms. What is only a part of something longer is no number.

    >>> [number_of(p) for p in ("$1,200.00 in all", "12 * 3 = 36", "5 or 6", "3,4,5", "2/4")]
    ['1200', '36', None, None, '1/2']
    """
    if (plain := integer_of(phrase)) is not None:
        return plain
    phrase = _REASON.sub("", clean(phrase))
    *others, last = [side for side in _EQUALS.split(phrase) if _DIGIT.search(side)] or [""]
    sides = [*others, _DETAIL.sub("", last)]
    plain = [(value, side) for side in sides if (value := _only(side)) is not None]
    # "3 = 5" says nothing; in "12 * 3 = 36" one side is a number.
    if len({value for value, _ in plain}) == 1 or _converts([side for _, side in plain]):
        return plain[-1][0]
    return None


def integer_of(text: str, start: int = 0) -> str | None:
    """The number of a phrase that begins at `start`, if it is as plain as most; else None.

    >>> integer_of("#### $1,200 in all", 4), integer_of("12 * 3 = 36")
    ('1200', None)
    """
    found = _PLAIN.match(text, start)
    return _digits(found) if found else None


def _digits(found: re.Match[str]) -> str:
    return str(int(found[1] + found[2].replace(",", "")))


def last_number(text: str) -> tuple[str | None, int] | None:
    """The number of a text that stands last, and where its word begins; None without a digit.

    >>> last_number("first 3, then $4.50."), last_number("at 10:30")
    (('4.5', 14), (None, 3))
    """
    found = _LAST_DIGIT.match(text)
    while found:
        begin = text.rfind("\n", 0, found.end()) + 1
        end = text.find("\n", begin)
        line = to_ascii(text[begin : len(text) if end < 0 else end])
        if "\\" not in line and (plain := _PLAIN_AT_END.search(line)):
            return _digits(plain), begin + plain.start() + 1
        if raw := [match for match in _ITEM.finditer(line) if match["number"]]:
            plain = clean(line)
            whole = raw if plain == line else list(_ITEM.finditer(plain))
            values = [match["number"] for match in whole if match["number"]]
            word = max(line.rfind(space, 0, raw[-1].end()) for space in " \t") + 1
            return (_value(values[-1]) if values else None), begin + min(word, raw[-1].start())
        found = _LAST_DIGIT.match(text, 0, begin)
    return None


def is_heading(phrase: str) -> bool:
    """Whether the phrase is a heading ("Step 3: add them") rather than an answer."""
    return _HEADING.match(phrase) is not None


def clean(phrase: str) -> str:
    """The phrase without LaTeX, Markdown and characters outside ASCII that stand for others."""
    phrase = to_ascii(phrase)
    if "\\" in phrase or "{" in phrase or "~" in phrase:
        for pattern, plain in _LATEX:
            phrase = pattern.sub(plain, phrase)
    if not _MARKED.search(phrase):
        return phrase
    for pattern, plain in _MARKDOWN:
        phrase = pattern.sub(plain, phrase)
    return phrase


def _only(phrase: str) -> str | None:
    """The value of the one number of a phrase; None if there are more, or fewer."""
    found = [match["number"] for match in _ITEM.finditer(phrase) if match["number"]]
    return _value(found[0]) if len(found) == 1 else None


def _converts(sides: Sequence[str]) -> bool:
    """Whether every side but the last one has a unit, and none has that of the last one."""
    *units, last = [_UNIT.findall(side.lower()) for side in sides] or [[]]
    return bool(units) and all(unit and unit != last for unit in units)


def _value(text: str) -> str | None:
    text = text.strip()
    if fraction := _FRACTION.fullmatch(text):
        whole = int(fraction[3])
        return str(Fraction(int(fraction[1] + fraction[2]), whole)) if whole else None
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign = "-" if "-" in (found[1], found[2]) else ""
    number = sign + re.sub(r"[, '_]", "", found[3])
    return normalise_number(number if found[5] is None else _shifted(number, int(found[5])))


def _shifted(number: str, exponent: int) -> str:
    """A decimal number times a power of ten, written out."""
    whole, _, fraction = number.partition(".")
    if exponent < 0:
        return f"{number}e{exponent}"
    fraction = fraction.ljust(exponent, "0")
    return f"{whole}{fraction[:exponent]}.{fraction[exponent:] or '0'}"
