"""The program that `equality.open_math` runs: lines of JSON in, `0` or `1` out.

It imports nothing of the package, so it starts without JAX.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

ROUNDING = 1e-4  # relative, of an answer in decimals
MEMORY_BYTES = 4 * 2**30  # an expression such as 9**9**9 must not take the machine along

# A number with or without a base: sign, digits, base.
_BASED = re.compile(r"(-?)([0-9A-Za-z]+)(?:_\{?([0-9]{1,2})\}?)?")


def limit_memory() -> None:
    """Caps this process's memory where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass  # the deadline still holds


def equal(gold: str, text: str) -> bool:
    """Whether the final expression of `text` has the value of `gold`."""
    from math_verify import LatexExtractionConfig, parse, verify

    # LaTeX alone, which has a grammar: expressions outside it are evaluated as Python. The
    # caller's deadline ends this process, so the library's own alarms are off.
    def read(text: str) -> list[Any]:
        return parse(text, [LatexExtractionConfig()], parsing_timeout=None)

    based = same_in_bases(gold, text)
    if based is not None:
        return based
    target, answer = read("\\boxed{" + gold + "}"), read(text)
    # [1, 2) and 1 <= x < 2 are the same, whichever of them is the gold answer.
    if not verify(target, answer, timeout_seconds=None, allow_set_relation_comp=True):
        return False
    # Beside what it parsed stands the text that it parsed.
    parsed = [[x for x in side if not isinstance(x, str)] for side in (target, answer)]
    close = all(close_enough(*pair) for pair in zip(*(side[:1] for side in parsed), strict=False))
    return close and not contradicts_itself(text, read)


def same_in_bases(gold: str, text: str) -> bool | None:
    """Whether numbers with a base (2516_8) are the same; None if this is no such pair.

    One without a base is in the gold one's, or it is decimal.
    """
    one, other = (_BASED.fullmatch(x) for x in (gold.strip(), _unboxed(text)))
    if not (one and other and (one[3] or other[3])):
        return None
    if one[3] and other[3]:
        values = [_in_base(found) for found in (one, other)]
        return None not in values and values[0] == values[1]
    if (one[1], one[2]) == (other[1], other[2]):
        return True
    based, bare = (one, other) if one[3] else (other, one)
    return bare[2].isdigit() and _in_base(based) == int(bare[1] + bare[2])


def _in_base(found: re.Match[str]) -> int | None:
    base = int(found[3])
    try:
        return int(found[1] + found[2], base) if base > 1 else None
    except ValueError:  # a digit that the base does not have, or no such base
        return None


def _unboxed(text: str) -> str:
    return text.strip().removeprefix("\\boxed{").removesuffix("}").strip()


def close_enough(one: Any, other: Any) -> bool:
    """False if both are numbers, or tuples of numbers, that differ relative to their size.

    math-verify compares numbers to an absolute precision, in which all small ones are equal.
    """
    import sympy

    if one == other:  # infinities too, whose difference is no number
        return True
    if isinstance(one, (sympy.FiniteSet, sympy.Tuple)) and isinstance(other, type(one)):
        pairs = zip(sorted(one.args, key=str), sorted(other.args, key=str), strict=True)
        if isinstance(one, sympy.Tuple):
            pairs = zip(one.args, other.args, strict=True)
        return len(one.args) != len(other.args) or all(close_enough(a, b) for a, b in pairs)
    if isinstance(one, sympy.Interval) and isinstance(other, sympy.Interval):
        return all(close_enough(*pair) for pair in zip(one.args[:2], other.args[:2], strict=True))
    numbers = [x for x in (one, other) if getattr(x, "is_number", False)]
    # A percentage is an unevaluated product, and 50 % may stand for 50.
    if len(numbers) < 2 or one.has(sympy.UnevaluatedExpr) or other.has(sympy.UnevaluatedExpr):
        return True
    if one.is_Rational and other.is_Rational:
        return one == other
    rough = one.has(sympy.Float) or other.has(sympy.Float)
    size = max(abs(complex(sympy.N(x))) for x in (one, other))
    return abs(complex(sympy.N(one - other, 30))) <= (ROUNDING if rough else 1e-12) * size


def contradicts_itself(text: str, read: Callable[[str], list[Any]]) -> bool:
    """Whether an equation (3 = 5) has two sides that are different numbers."""
    if "=" not in text or re.search(r"[<>]|\\(?:[ln]?eq?|g[et]|approx|equiv)\b|:=", text):
        return False
    sides = [read("\\boxed{" + side + "}") for side in _unboxed(text).split("=")]
    values = [side[0] for side in sides if side and getattr(side[0], "is_number", False)]
    return any(not close_enough(values[0].doit(), other.doit()) for other in values[1:])


def main() -> None:
    """Answers until standard input ends."""
    try:
        import math_verify  # noqa: F401
    except ImportError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return
    limit_memory()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # ends this process
        try:
            reply = str(int(equal(request["gold"], request["text"])))
        except MemoryError:
            reply = "memory"
        except Exception:  # whatever SymPy makes of hostile text
            reply = "0"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(reply, flush=True)


if __name__ == "__main__":
    main()
