"""Whether an answer is right: integers exactly, open mathematics by value.

`open_math` asks math-verify, which parses what a policy wrote with SymPy; that
may take forever. So it runs in a child process (`bounded.Child`) with a deadline,
past which the answer is unscorable (None, which is not 0).
"""

from __future__ import annotations

import re

from gccpo_jax.bounded import Child

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"([+-]?[0-9]*)\.([0-9]*)")
MAX_CHARACTERS = 2000  # of a response's end; what a final answer needs, and no more


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


def open_math(gold: str, text: str, deadline_seconds: float = 5.0) -> float | None:
    """Whether a response's final answer equals `gold` as mathematics.

    Args:
        gold: LaTeX of the answer alone, for example `\\frac12`.
        text: the response; the last `MAX_CHARACTERS` characters are read, and in
            them math-verify looks for a boxed or otherwise final expression in LaTeX.
        deadline_seconds: time for this one comparison.

    Returns:
        1.0 if equal, 0.0 if not or if there is no answer that can be read, None if
        it cannot be told: time or memory ran out, or the child crashed.
    """
    request = {"gold": gold[:MAX_CHARACTERS], "text": text[-MAX_CHARACTERS:]}
    reply = _CHILD.ask(request, deadline_seconds)
    if reply == "memory":
        _CHILD.stop()  # it may hold on to what it got
    return {"0": 0.0, "1": 1.0}.get(reply or "")


_CHILD = Child(
    "verify_child.py",
    "the verifier of open mathematics",
    "install it with: pip install 'gccpo-jax[math]'",
)
